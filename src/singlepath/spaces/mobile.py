"""MobileNetV2-like spaces: `mobile`, the space of Single-Path NAS, and `mobile-small` for images of 16 to 64 pixels.

Source: Single-Path NAS (arXiv 1904.02877), the authors' release: 22 blocks, 20 searchable with {3x3, 5x5} x {e3, e6}
and a skip in every block of a stage but its first: 4^5 * 5^15 = 3.125e13 networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from singlepath.errors import user_error
from singlepath.spaces.base import Layer, Space

__all__ = ["mobile", "mobile_small"]

# (layers, stride of the first, output channels) of the searchable stages
MOBILE_STAGES = ((4, 2, 24), (4, 2, 40), (4, 2, 80), (4, 1, 96), (4, 2, 192))
SMALL_STAGES = ((3, 2, 24), (3, 2, 40), (3, 2, 80))
KERNELS, EXPANSIONS, SE_RATIOS = (3, 5), (3, 6), (0.0,)
DEEPEST = 8  # the number of networks of a deeper space is beyond what a double holds
EXAMPLES = {"kernels": "3,5,7", "expansions": "3,6", "se": "0,0.25,0.5"}


def scaled(channels: int, width: float, divisor: int = 8) -> int:
    """Channels times width, to a multiple of `divisor` and never below 90 % of the exact value (MobileNet's rule)."""
    if width == 1.0:
        return channels
    value = max(divisor, int(channels * width + divisor / 2) // divisor * divisor)
    return value + divisor if value < 0.9 * channels * width else value


def mobile(
    *, width: float = 1.0, input_size: int = 224, classes: int = 1000, in_channels: int = 3,
    kernels: Sequence[int] = KERNELS, expansions: Sequence[float] = EXPANSIONS, skip: bool = True,
    se: Sequence[float] = SE_RATIOS, activation: str = "relu", padding: str = "symmetric", depth: int = 1,
    id: str = "mobile",
) -> Space:  # fmt: skip
    """The space of Single-Path NAS (its Table 1 and release): stem 32 at stride 2, 22 blocks, head 1280.

    `depth` repeats every searchable layer so many times.
    """
    choices = checked_choices(kernels, expansions, se, activation)
    side = -(-input_size // 2)
    stem = scaled(32, width)
    fixed = {"kernels": (3,), "activation": activation, "residual": False}
    layers = [Layer(0, 0, stem, scaled(16, width), 1, side, expansions=(1.0,), kind="ds", **fixed)]
    layers += stages(MOBILE_STAGES, layers[-1].out_channels, side, width, choices, skip, depth)
    last = layers[-1]
    layers += [Layer(6, 0, last.out_channels, scaled(320, width), 1, last.side, expansions=(6.0,), **fixed)]
    head = scaled(1280, max(1.0, width))
    return Space(
        id, tuple(layers), input_size, in_channels, stem, 2, head, classes, activation, bn_eps=1e-3, padding=padding
    )


def mobile_small(
    *, width: float = 1.0, input_size: int = 32, classes: int = 10, in_channels: int = 3,
    kernels: Sequence[int] = KERNELS, expansions: Sequence[float] = EXPANSIONS, skip: bool = True,
    se: Sequence[float] = SE_RATIOS, activation: str = "relu", padding: str = "symmetric", depth: int = 1,
    id: str = "mobile-small",
) -> Space:  # fmt: skip
    """A small relative of `mobile` for 16 to 64 px: stem 16 at stride 1, 1 fixed and 9 searchable blocks, head 320.

    `depth` repeats every searchable layer so many times.
    """
    choices = checked_choices(kernels, expansions, se, activation)
    if not 16 <= input_size <= 64:
        raise user_error(f"input size {input_size}", "mobile-small takes 16 to 64 pixels", "type --space mobile")
    stem = scaled(16, width)
    layers = [
        Layer(0, 0, stem, stem, 1, input_size, (3,), (1.0,), kind="ds", activation=activation, residual=False),
        *stages(SMALL_STAGES, stem, input_size, width, choices, skip, depth),
    ]
    return Space(
        id, tuple(layers), input_size, in_channels, stem, 1, scaled(320, width), classes, activation, padding=padding
    )


def stages(
    declared: Sequence[tuple[int, int, int]],
    channels: int,
    side: int,
    width: float,
    choices: dict[str, Any],
    skip: bool,
    depth: int,
) -> list[Layer]:
    """The searchable layers, `depth` for every one declared; the first of every stage cannot be skipped, even where
    its stride is 1."""
    layers = []
    for stage, (count, first_stride, out) in enumerate(declared, start=1):
        for index in range(count * checked_depth(depth)):
            stride, skippable = (first_stride, False) if index == 0 else (1, skip)
            check_nested(channels, choices)
            layers.append(
                Layer(stage, index, channels, scaled(out, width), stride, side, skippable=skippable, **choices)
            )
            channels, side = layers[-1].out_channels, -(-side // stride)
    return layers


def checked_depth(depth: int) -> int:
    """How often a layer stands in a row.

    Raises:
        UserError: no whole number from 1 to `DEEPEST`.
    """
    if type(depth) is not int or not 1 <= depth <= DEEPEST:
        raise user_error(f"depth {depth!r}", f"allowed: whole numbers from 1 to {DEEPEST}", "type depth=2")
    return depth


def check_nested(channels: int, choices: dict[str, Any]) -> None:
    """Refuse choices that come to the same number of channels in a layer with so many inputs: no gate lies between."""
    for flag in ("expansions", "se"):
        values = [v for v in choices[flag] if v]
        counts = [max(1, round(channels * v)) for v in values]
        if len(set(counts)) < len(counts):
            shown, came = (",".join(f"{v:g}" for v in row) for row in (values, counts))
            raise user_error(
                f"{flag} {shown} come to {came} channels in a layer with {channels} inputs",
                "allowed: ratios that differ by a channel or more", f"type --{flag} {EXAMPLES[flag]}",
            )  # fmt: skip


def checked_choices(
    kernels: Sequence[int], expansions: Sequence[float], se: Sequence[float], activation: str
) -> dict[str, Any]:
    """The choices of a searchable layer, refused where the superkernel could not nest them."""
    for flag, values, allowed in (
        ("kernels", kernels, "ascending odd numbers up to 7"),
        ("expansions", expansions, "ascending numbers from 1 to 8"),
        ("se", se, "ascending ratios from 0 to 1; 0 leaves it out"),
    ):
        good = len(values) > 0 and list(values) == sorted(set(values))
        good &= all(k in (1, 3, 5, 7) for k in values) if flag == "kernels" else True
        good &= all(1 <= e <= 8 for e in values) if flag == "expansions" else True
        good &= all(0 <= r <= 1 for r in values) if flag == "se" else True
        if not good:
            shown = ",".join(f"{v:g}" for v in values)
            raise user_error(f"{flag} {shown!r}", f"allowed: {allowed}", f"type --{flag} {EXAMPLES[flag]}")
    if activation not in ("relu", "hard_swish"):
        raise user_error(f"activation {activation!r}", "allowed: relu, hard_swish", "type --activation relu")
    return {
        "kernels": tuple(kernels), "expansions": tuple(float(e) for e in expansions),
        "se": tuple(float(r) for r in se), "activation": activation,
    }  # fmt: skip
