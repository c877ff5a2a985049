"""Networks with a name: their block definitions, and what a space makes of them.

The definitions are facts: `spnasnet_100` is the network of Single-Path NAS (arXiv 1904.02877), `mobilenetv2_100` arXiv
1801.04381, `mnasnet_b1` and `mnasnet_a1` (timm's mnasnet_100 and semnasnet_100) arXiv 1807.11626,
`proxylessnas_mobile` arXiv 1812.00332, `fbnetc_100` arXiv 1812.03443; all but ProxylessNAS as timm defines them.
Activations are ReLU here (MobileNetV2's own is ReLU6).

Off the shelf, a network takes the input, stem, head and number of halvings of the space it is compared in
(`network_spec`) and is scaled in width to the budget (`off_the_shelf`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from singlepath.architecture import Architecture, BlockSpec, NetworkSpec, parse_blocks
from singlepath.errors import unknown, user_error
from singlepath.spaces.base import Space
from singlepath.spaces.mobile import scaled

__all__ = ["ALIASES", "BASELINES", "NAMED", "Named", "network_spec", "off_the_shelf", "published", "resolve"]

LARGEST_FILE = 1_000_000  # bytes
WIDTHS = tuple(i / 100 for i in range(5, 801))  # what `off_the_shelf` chooses from
STEPS = 3  # how many widths above the limit single stages may be widened to


@dataclass(frozen=True)
class Named:
    """A published network at 224 px: the space that expresses it, timm block strings a stage, stem, head."""

    space: str | None
    blocks: tuple[str, ...]
    stem: int = 32
    head: int = 1280

    @property
    def string(self) -> str:
        return " | ".join(self.blocks)


NAMED: dict[str, Named] = {
    "spnasnet_100": Named("mobile", (
        "ds_r1_k3_s1_c16_noskip", "ir_r3_k3_s2_e3_c24", "ir_r1_k5_s2_e6_c40 ir_r3_k3_s1_e3_c40",
        "ir_r1_k5_s2_e6_c80 ir_r3_k3_s1_e3_c80", "ir_r1_k5_s1_e6_c96 ir_r3_k5_s1_e3_c96", "ir_r4_k5_s2_e6_c192",
        "ir_r1_k3_s1_e6_c320_noskip",
    )),
    "mnasnet_b1": Named("mobile", (
        "ds_r1_k3_s1_c16_noskip", "ir_r3_k3_s2_e3_c24", "ir_r3_k5_s2_e3_c40", "ir_r3_k5_s2_e6_c80",
        "ir_r2_k3_s1_e6_c96", "ir_r4_k5_s2_e6_c192", "ir_r1_k3_s1_e6_c320_noskip",
    )),
    "mnasnet_a1": Named(None, (
        "ds_r1_k3_s1_c16_noskip", "ir_r2_k3_s2_e6_c24", "ir_r3_k5_s2_e3_c40_se0.25", "ir_r4_k3_s2_e6_c80",
        "ir_r2_k3_s1_e6_c112_se0.25", "ir_r3_k5_s2_e6_c160_se0.25", "ir_r1_k3_s1_e6_c320",
    )),
    "mobilenetv2_100": Named(None, (
        "ds_r1_k3_s1_c16", "ir_r2_k3_s2_e6_c24", "ir_r3_k3_s2_e6_c32", "ir_r4_k3_s2_e6_c64", "ir_r3_k3_s1_e6_c96",
        "ir_r3_k3_s2_e6_c160", "ir_r1_k3_s1_e6_c320",
    )),
    "proxylessnas_mobile": Named(None, (
        "ds_r1_k3_s1_c16_noskip", "ir_r1_k5_s2_e3_c32 ir_r1_k3_s1_e3_c32",
        "ir_r1_k7_s2_e3_c40 ir_r1_k3_s1_e3_c40 ir_r2_k5_s1_e3_c40", "ir_r1_k7_s2_e6_c80 ir_r3_k5_s1_e3_c80",
        "ir_r1_k5_s1_e6_c96 ir_r3_k5_s1_e3_c96", "ir_r1_k7_s2_e6_c192 ir_r1_k7_s1_e6_c192 ir_r2_k7_s1_e3_c192",
        "ir_r1_k7_s1_e6_c320",
    )),
    "fbnetc_100": Named(None, (
        "ir_r1_k3_s1_e1_c16", "ir_r1_k3_s2_e6_c24 ir_r2_k3_s1_e1_c24",
        "ir_r1_k5_s2_e6_c32 ir_r1_k5_s1_e3_c32 ir_r1_k5_s1_e6_c32 ir_r1_k3_s1_e6_c32",
        "ir_r1_k5_s2_e6_c64 ir_r1_k5_s1_e3_c64 ir_r2_k5_s1_e6_c64", "ir_r3_k5_s1_e6_c112 ir_r1_k5_s1_e3_c112",
        "ir_r4_k5_s2_e6_c184", "ir_r1_k3_s1_e6_c352",
    ), stem=16, head=1984),
}  # fmt: skip
ALIASES = {"mobilenetv2": "mobilenetv2_100", "mnasnet_100": "mnasnet_b1", "semnasnet_100": "mnasnet_a1"}
BASELINES = ("mobilenetv2", "spnasnet_100")


def named(name: str) -> Named:
    """Raises UserError for an unknown name, with the nearest known one."""
    if (full := ALIASES.get(name, name)) not in NAMED:
        raise unknown("architecture", name, [*NAMED, *ALIASES], "--architecture")
    return NAMED[full]


def resolve(text_or_path: str | Path, space: Space) -> Architecture:
    """The architecture of `space` that a user means.

    Args:
        text_or_path: a name of `NAMED`, an architecture file or a run folder that holds one, JSON itself, a line of
            timm block strings, or a benchmark's digits.

    Raises:
        UserError: none of these, or it does not fit the space: names the first block that does not and what it may be.
    """
    text = str(text_or_path).strip()
    if text in NAMED or text in ALIASES:
        return _fitting_name(text, space)
    if text.startswith("{"):
        return _fitting(Architecture.from_json(text), space)
    if re.match(r"(ir|ds|id|skip)(_|\b)", text.lstrip("'\"[")):
        return space.parse(text)
    if space.digits and len(text) == len(space.searchable) and set(text) <= set(space.digits):
        return space.parse(text)
    path = Path(text[:4096])
    if text and path.is_dir():
        path = path / "architecture.json"
    if path.is_file():
        return _fitting(Architecture.from_json(_small_text(path)), space)
    if path.suffix == ".json" or "/" in text:
        raise user_error(
            f"no architecture file at {text}", f"allowed: a file, {', '.join(NAMED)}, or block strings",
            "type --architecture RUN/architecture.json",
        )  # fmt: skip
    raise unknown("architecture", text, [*NAMED, *ALIASES], "--architecture")


def _small_text(path: Path) -> str:
    if path.stat().st_size > LARGEST_FILE:
        raise user_error(f"{path} has {path.stat().st_size} bytes", f"allowed: {LARGEST_FILE}", "give an architecture")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise user_error(f"{path} is not text", "allowed: an architecture as JSON", "check the file") from None


def _fitting(architecture: Architecture, space: Space) -> Architecture:
    """The same choices as an architecture of `space`, whose options (classes, input size ...) may be others."""
    theirs = architecture.space.split("(")[0].strip()
    if theirs != space.name:
        raise user_error(
            f"the architecture is one of space {architecture.space}", f"this is space {space.id}",
            f"type --space '{architecture.space}'",
        )  # fmt: skip
    return space.architecture(space.indices(architecture))


def _fitting_name(name: str, space: Space) -> Architecture:
    """A named network's architecture. `Space.parse` names the first block that does not fit."""
    return space.parse(named(name).string)


# -- plain networks ---------------------------------------------------------------------------------------------------


def published(name: str) -> NetworkSpec:
    """A named network as published: 224 px, 1000 classes, its own stem, strides and head."""
    given = named(name)
    blocks = _blocks(given, _stage_channels(given, 1.0), given.stem, 112, 0)
    return NetworkSpec(blocks, 224, 3, given.stem, 2, given.head, 1000)


def network_spec(name: str, space: Space, width: float = 1.0) -> NetworkSpec:
    """A named network under a space's conditions, whether or not the space can express it.

    Input size, input channels, stem (channels and stride), head channels, classes, BN epsilon and padding are the
    space's; stem and head do not follow `width`, as they are equal for all networks of a space. Blocks, kernels,
    expansions, squeeze-and-excitation and activations are the network's own, its channels times `width` by MobileNet's
    rule (multiples of 8, at least 8). Strides: the network keeps as many strides of 2 as the space's own layers have,
    the last ones; earlier ones become 1, as is customary for small images. It never gets more than it was published
    with.
    """
    return _under(named(name), space, _stage_channels(named(name), width))


def _stage_channels(given: Named, width: float) -> tuple[int, ...]:
    by_stage = {b["stage"]: b["channels"] for b in _parsed(given)}
    return tuple(scaled(channels, width) for channels in by_stage.values())


def _under(given: Named, space: Space, channels: tuple[int, ...]) -> NetworkSpec:
    halvings = round(math.log2(math.prod(layer.stride for layer in space.layers)))
    dropped = max(0, sum(b["stride"] > 1 for b in _parsed(given)) - halvings)
    side = -(-space.input_size // space.stem_stride)
    return replace(space.spec(_blocks(given, channels, space.stem_channels, side, dropped)), activation="relu")


def _parsed(given: Named) -> Iterator[dict[str, Any]]:
    for number, stage in enumerate(given.blocks):
        for blocks in parse_blocks(stage):
            yield from ({**b, "stage": number} for b in blocks)


def _blocks(given: Named, widths: tuple[int, ...], channels: int, side: int, dropped: int) -> tuple[BlockSpec, ...]:
    """The blocks in order, `widths` channels a stage; the first `dropped` strides of 2 become 1."""
    blocks: list[BlockSpec] = []
    for b in _parsed(given):
        stride, out = b["stride"], widths[b["stage"]]
        if stride > 1 and dropped:
            stride, dropped = 1, dropped - 1
        block = BlockSpec(
            b["kind"], b["stage"], channels, out, b["kernel"], stride, side, b["expansion"], b["se"],
            residual=stride == 1 and channels == out and "noskip" not in b["token"], activation=b["activation"],
        )  # fmt: skip
        blocks.append(block)
        channels, side = out, block.out_side
    return tuple(blocks)


def off_the_shelf(
    name: str, space: Space, costs_of: Callable[[NetworkSpec], float], limit: float
) -> tuple[NetworkSpec, float]:
    """A named network under a space's conditions (`network_spec`), as wide as the limit allows.

    The widest of a bisection over the widths 0.05 to 8 that costs at most `limit`; then, as multiples of 8 are coarse
    for narrow networks, stages are widened to the next widths' channels one at a time, the last stage first, while the
    limit holds.

    Args:
        name: "mobilenetv2" or "spnasnet_100", the baselines; any name works.
        costs_of: predicted cost of a network, in the unit of `limit`.

    Returns:
        The network and the bisection's width.

    Raises:
        UserError: even the narrowest costs more.
    """
    given = named(name)
    widths: dict[tuple[int, ...], float] = {}
    for width in WIDTHS:
        widths.setdefault(_stage_channels(given, width), width)
    ladder = list(widths)

    def fits(channels: tuple[int, ...]) -> bool:
        return costs_of(_under(given, space, channels)) <= limit

    low, high = -1, len(ladder)  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(ladder[middle]) else (low, middle)
    if low < 0:
        raise user_error(
            f"{name} costs {costs_of(_under(given, space, ladder[0])):.4g} at its narrowest in space {space.id}",
            f"allowed: at most {limit:.4g}", "raise the budget",
        )  # fmt: skip
    channels = ladder[low]
    for wider in ladder[high : high + STEPS]:
        for stage in reversed(range(len(channels))):
            tried = (*channels[:stage], wider[stage], *channels[stage + 1 :])
            if tried != channels and fits(tried):
                channels = tried
    return _under(given, space, channels), widths[ladder[low]]
