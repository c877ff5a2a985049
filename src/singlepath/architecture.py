"""Architectures and network descriptions: frozen values, with a JSON form and a timm-style string.

An `Architecture` is one choice for every searchable layer of a space. A `NetworkSpec` is what a space makes of it:
every block with its channels, kernel and stride, enough to build the network without the space. Neither imports torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from singlepath.errors import user_error

__all__ = ["Architecture", "BlockSpec", "NetworkSpec", "format_blocks", "parse_blocks"]

FORMAT = "singlepath.architecture/1"
SKIP = "skip"
ACTIVATIONS = {"relu": "re", "hard_swish": "hs"}


@dataclass(frozen=True)
class Architecture:
    """One choice for every searchable layer of a space.

    Attributes:
        space: the space it belongs to, with its options, as `spaces.make` reads it: ``mobile(width=0.5)``.
        choices: one option token a searchable layer, in order: ``("k3_e3", "k5_e6", "skip", ...)``.
    """

    space: str
    choices: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))

    def as_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "space": self.space, "choices": list(self.choices)}

    def to_json(self) -> str:
        return json.dumps(self.as_dict())

    @classmethod
    def from_dict(cls, value: Any) -> Architecture:
        """The architecture of a JSON object.

        Raises:
            UserError: not an object of this format.
        """
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices) or "space" not in value:
            raise user_error(
                "this JSON is not an architecture", f'allowed: {{"format": "{FORMAT}", "space", "choices"}}',
                "type --architecture RUN/architecture.json",
            )  # fmt: skip
        if value.get("format", FORMAT) != FORMAT:
            raise user_error(f"architecture format {value['format']!r}", f"allowed: {FORMAT!r}", "write it again")
        return cls(str(value["space"]), tuple(choices))

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise user_error(f"not JSON ({error})", "allowed: an architecture as JSON", "check the file") from None
        return cls.from_dict(value)

    def diff(self, other: Architecture) -> list[tuple[int, str, str]]:
        """The layers where two architectures of one space differ: (layer index, here, there)."""
        pairs = zip(self.choices, other.choices, strict=True)
        return [(i, a, b) for i, (a, b) in enumerate(pairs) if a != b]


@dataclass(frozen=True)
class BlockSpec:
    """One block of a network.

    Attributes:
        kind: ``ir`` inverted residual (MBConv), ``ds`` depthwise-separable, ``id`` strided 1x1 convolution with BN.
        stage: which stage it belongs to, from 0.
        in_channels, out_channels, kernel, stride: as in a convolution.
        expansion: middle channels over input channels (``ir`` only).
        se: squeeze-and-excitation bottleneck over *input* channels, 0 for none (timm's convention).
        residual: whether the input is added to the output.
        side: height and width of the input, pixels.
    """

    kind: str
    stage: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    side: int
    expansion: float = 1.0
    se: float = 0.0
    residual: bool = False
    activation: str = "relu"

    @property
    def mid_channels(self) -> int:
        return round(self.in_channels * self.expansion)

    @property
    def se_channels(self) -> int:
        return max(1, round(self.in_channels * self.se)) if self.se else 0

    @property
    def out_side(self) -> int:
        return -(-self.side // self.stride)

    def token(self) -> str:
        """timm's block string with one repeat: ``ir_r1_k5_s2_e6_c40_se0.25``."""
        parts = [self.kind, "r1", f"k{self.kernel}", f"s{self.stride}"]
        parts += [f"e{self.expansion:g}"] * (self.kind == "ir")
        parts += [f"c{self.out_channels}"] + [f"se{self.se:g}"] * bool(self.se)
        same_shape = self.stride == 1 and self.in_channels == self.out_channels
        parts += ["noskip"] * (same_shape and not self.residual)
        return "_".join(parts + [f"n{ACTIVATIONS[self.activation]}"] * (self.activation != "relu"))


@dataclass(frozen=True)
class NetworkSpec:
    """A whole network: stem 3x3 convolution, stages of blocks, 1x1 head convolution, pooling, classifier.

    Attributes:
        blocks: the blocks that are computed, in order (skipped ones are absent).
        input_size: height and width of the input, pixels.
        padding: ``symmetric`` (PyTorch) or ``same`` (TensorFlow: more on the right and bottom at stride 2).
    """

    blocks: tuple[BlockSpec, ...]
    input_size: int
    in_channels: int
    stem_channels: int
    stem_stride: int
    head_channels: int
    classes: int
    activation: str = "relu"
    bn_eps: float = 1e-5
    padding: str = "symmetric"

    @property
    def stages(self) -> list[list[BlockSpec]]:
        numbers = sorted({b.stage for b in self.blocks})
        return [[b for b in self.blocks if b.stage == n] for n in numbers]

    @property
    def timm(self) -> list[list[str]]:
        """The block definitions as timm's builder takes them, a list a stage."""
        return [_repeats([b.token() for b in stage]) for stage in self.stages]

    def string(self) -> str:
        return format_blocks(self.timm)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> NetworkSpec:
        return cls(**{**value, "blocks": tuple(BlockSpec(**b) for b in value["blocks"])})


def format_blocks(stages: Iterable[Iterable[str]]) -> str:
    """Stages of block strings as one line: blocks apart by a space, stages by ``|``."""
    return " | ".join(" ".join(stage) for stage in stages)


def _repeats(tokens: list[str]) -> list[str]:
    """Merge equal neighbours into one string with a repeat count, as timm writes them.

    A first block that differs from its repeats only in its stride counts as one of them: timm's builder applies the
    stride to the first repeat alone.
    """
    merged: list[tuple[str, int]] = []
    for token in tokens:
        if merged and token in (merged[-1][0], _stride_one(merged[-1][0])):
            merged[-1] = (merged[-1][0], merged[-1][1] + 1)
        else:
            merged.append((token, 1))
    return [t.replace("_r1", f"_r{n}", 1) for t, n in merged]


def _stride_one(token: str) -> str:
    return re.sub(r"_s\d+", "_s1", token, count=1)


_FIELD = re.compile(r"(se|[rksec])(\d+(?:\.\d+)?)$")


def parse_blocks(text: str) -> list[list[dict[str, Any]]]:
    """Read `format_blocks`' line (or timm strings apart by spaces, commas or ``|``): stages of single blocks.

    A stage ends at ``|`` or where the output channels change. Every block is a dict with ``kind``, ``kernel``,
    ``stride``, ``expansion``, ``channels``, ``se``, ``activation`` and ``token``; a skipped layer has ``kind`` "skip".

    Raises:
        UserError: a token that is not a block string.
    """
    stages: list[list[dict[str, Any]]] = []
    for part in text.split("|"):
        stage: list[dict[str, Any]] = []
        for token in re.split(r"[\s,]+", part.strip()):
            for block in _parse_block(token) if token else ():
                last = next((b for b in reversed(stage) if b["kind"] != SKIP), None)
                if last and block["kind"] != SKIP and block["channels"] != last["channels"]:
                    stages.append(stage)
                    stage = []
                stage.append(block)
        if stage:
            stages.append(stage)
    return stages


def _parse_block(token: str) -> list[dict[str, Any]]:
    kind, *fields = token.strip("'\"[]").split("_")
    names = {"r": "repeats", "k": "kernel", "s": "stride", "e": "expansion", "c": "channels", "se": "se"}
    block: dict[str, Any] = {"kind": kind, "kernel": 3, "stride": 1, "expansion": 1.0, "channels": 0, "se": 0.0}
    block |= {"activation": "relu", "token": token, "repeats": 1}
    for field in fields:
        match = _FIELD.match(field)
        if match:
            number = float(match[2])
            block[names[match[1]]] = number if match[1] in ("e", "se") else int(number)
        elif field in ("nre", "nhs"):
            block["activation"] = "relu" if field == "nre" else "hard_swish"
        elif field != "noskip":
            kind = ""
    if kind not in ("ir", "ds", "id", SKIP) or not 1 <= block["repeats"] <= 64:
        raise user_error(
            f"{token!r} is not a block string",
            "allowed: kind_rN_kN_sN_eN_cN[_seX][_noskip] with kind ir, ds, id or skip",
            "type for example ir_r3_k5_s2_e6_c40",
        )  # fmt: skip
    repeats = block.pop("repeats")
    return [block] + [{**block, "stride": 1}] * (repeats - 1)
