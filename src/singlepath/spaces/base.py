"""What may be built: a `Space` is a declaration of layers; everything else about it follows from that.

Sampling, mutation, neighbours, one-hot encoding, enumeration, size, the block list, the plain network and the drawing
are functions of the declaration alone, so a new space is one function that returns a `Space`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from singlepath.architecture import SKIP, Architecture, BlockSpec, NetworkSpec, parse_blocks
from singlepath.errors import UserError, user_error

__all__ = ["Layer", "Option", "Space"]


@dataclass(frozen=True)
class Option:
    """What one layer may be: a kernel, an expansion and a squeeze-and-excitation ratio; kernel 0 is the identity."""

    kernel: int = 0
    expansion: float = 0.0
    se: float = 0.0

    @property
    def is_identity(self) -> bool:
        return self.kernel == 0

    @property
    def token(self) -> str:
        if self.is_identity:
            return SKIP
        return f"k{self.kernel}_e{self.expansion:g}" + (f"_se{self.se:g}" if self.se else "")


IDENTITY = Option()


@dataclass(frozen=True)
class Layer:
    """One position of the network and its choices.

    Attributes:
        stage, index: where it stands; `name` is "stage.index".
        side: height and width of its input, pixels.
        kernels, expansions, se: ascending choices; kernels at or above twice the input side are dropped (their outer
            ring touches only padding), the smallest always stays.
        skippable: the layer may be the identity. Where shapes differ (`reduces`), the identity is a strided 1x1
        convolution.
        tied: kernels[i] goes with expansions[i]; otherwise every combination is allowed.
        kind: ``ir``, or ``ds`` for a fixed depthwise-separable block.
    """

    stage: int
    index: int
    in_channels: int
    out_channels: int
    stride: int
    side: int
    kernels: tuple[int, ...]
    expansions: tuple[float, ...]
    se: tuple[float, ...] = (0.0,)
    skippable: bool = False
    tied: bool = False
    kind: str = "ir"
    activation: str = "relu"
    residual: bool = True

    def __post_init__(self) -> None:
        if not self.tied:
            usable = tuple(k for k in self.kernels if k < 2 * self.side) or self.kernels[:1]
            object.__setattr__(self, "kernels", usable)

    @property
    def name(self) -> str:
        return f"{self.stage}.{self.index}"

    @property
    def same_shape(self) -> bool:
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def reduces(self) -> bool:
        """The identity needs weights of its own: it changes the shape."""
        return self.skippable and not self.same_shape

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """Everything this layer may be; the identity, where allowed, comes last."""
        if self.tied:
            built = [Option(k, e, s) for (k, e) in zip(self.kernels, self.expansions, strict=True) for s in self.se]
        else:
            built = [Option(*c) for c in itertools.product(self.kernels, self.expansions, self.se)]
        return (*built, *([IDENTITY] if self.skippable else []))

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return tuple(o.token for o in self.options)

    @property
    def searchable(self) -> bool:
        return len(self.options) > 1

    @property
    def largest(self) -> Option:
        return Option(self.kernels[-1], self.expansions[-1], self.se[-1])

    def block(self, option: Option) -> BlockSpec | None:
        """The block of an option, None where nothing is computed."""
        if option.is_identity and self.same_shape:
            return None
        return BlockSpec(
            kind="id" if option.is_identity else self.kind, stage=self.stage, in_channels=self.in_channels,
            out_channels=self.out_channels, kernel=option.kernel or 1, stride=self.stride, side=self.side,
            expansion=option.expansion or 1.0, se=option.se, activation=self.activation,
            residual=self.residual and self.same_shape and not option.is_identity,
        )  # fmt: skip


@dataclass(frozen=True)
class Space:
    """A declared space.

    Attributes:
        id: name and options as `spaces.make` reads them back: ``mobile(width=0.5)``.
        layers: every block position, fixed ones (a single option) included.
    """

    id: str
    layers: tuple[Layer, ...]
    input_size: int
    in_channels: int
    stem_channels: int
    stem_stride: int
    head_channels: int
    classes: int
    activation: str = "relu"
    bn_eps: float = 1e-5
    padding: str = "symmetric"
    digits: str = field(default="", compare=False)  # one digit an option, where a benchmark names networks so

    @property
    def name(self) -> str:
        return self.id.split("(")[0]

    @cached_property
    def searchable(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.searchable)

    @cached_property
    def size(self) -> int:
        """How many architectures the space holds."""
        return math.prod(len(layer.options) for layer in self.searchable)

    # -- architectures ------------------------------------------------------------------------------------------------

    def architecture(self, indices: Sequence[int]) -> Architecture:
        """The architecture of one option index a searchable layer."""
        pairs = zip(self.searchable, indices, strict=True)
        return Architecture(self.id, tuple(layer.tokens[i] for layer, i in pairs))

    def indices(self, architecture: Architecture) -> tuple[int, ...]:
        """The option index of every searchable layer.

        Raises:
            UserError: the architecture does not fit the space; names the block and what it may be.
        """
        count = len(self.searchable)
        if len(architecture.choices) != count:
            raise user_error(
                f"the architecture has {len(architecture.choices)} choices",
                f"space {self.id} has {count} layers to choose",
                f"type --space {architecture.space} or give an architecture of {self.id}",
            )  # fmt: skip
        return tuple(
            self._index(layer, token) for layer, token in zip(self.searchable, architecture.choices, strict=True)
        )

    def _index(self, layer: Layer, token: str) -> int:
        if token not in layer.tokens:
            number = self.layers.index(layer)
            raise user_error(
                f"block {number} (stage {layer.stage}, layer {layer.index}) is {token!r}",
                f"space {self.id} allows {', '.join(layer.tokens)}", f"type one of these for block {number}",
            )  # fmt: skip
        return layer.tokens.index(token)

    def options(self, architecture: Architecture) -> list[Option]:
        """The option of every layer, fixed ones included."""
        chosen = iter(self.indices(architecture))
        return [layer.options[next(chosen)] if layer.searchable else layer.options[0] for layer in self.layers]

    def largest(self) -> Architecture:
        return self.architecture([layer.options.index(layer.largest) for layer in self.searchable])

    def canonical(self, architecture: Architecture) -> Architecture:
        """The one name of a network with several: identities between interchangeable layers move to the end.

        Two layers are interchangeable if they stand next to one another with equal shapes and choices (the layers of a
        stage after its first), so `k3_e3 skip k5_e6` is the network `k3_e3 k5_e6 skip`.
        """
        choices = list(architecture.choices)
        for group in self.interchangeable:
            kept = [choices[i] for i in group if choices[i] != SKIP]
            for i, token in zip(group, kept + [SKIP] * (len(group) - len(kept)), strict=True):
                choices[i] = token
        return Architecture(architecture.space, tuple(choices))

    def are_canonical(self, numbers: np.ndarray) -> np.ndarray:
        """Of architectures by their options' numbers [N, layers], whether each is its network's canonical name, [N]."""
        kept = np.ones(len(numbers), bool)
        for group in self.interchangeable:
            skip = self.searchable[group[0]].tokens.index(SKIP)
            skipped = numbers[:, group] == skip
            kept &= (skipped[:, 1:] >= skipped[:, :-1]).all(1)
        return kept

    @cached_property
    def interchangeable(self) -> list[list[int]]:
        """Groups of searchable layers, by number, whose order does not matter where some of them are skipped."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, layer in enumerate(self.searchable):
            if layer.skippable and layer.same_shape:
                groups.setdefault((layer.stage, layer.side, layer.tokens), []).append(i)
        return [g for g in groups.values() if len(g) > 1]

    # -- moving about -------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """An architecture, every option of every layer equally likely."""
        return self.architecture([int(rng.integers(len(layer.options))) for layer in self.searchable])

    def mutate(self, architecture: Architecture, rng: np.random.Generator, layers: int = 1) -> Architecture:
        """The architecture with `layers` layers changed to another of their options."""
        indices = list(self.indices(architecture))
        for i in rng.choice(len(indices), size=min(layers, len(indices)), replace=False):
            others = [j for j in range(len(self.searchable[i].options)) if j != indices[i]]
            indices[i] = int(rng.choice(others))
        return self.architecture(indices)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Every architecture that differs in exactly one layer."""
        indices = self.indices(architecture)
        for i, layer in enumerate(self.searchable):
            for j in range(len(layer.options)):
                if j != indices[i]:
                    yield self.architecture([*indices[:i], j, *indices[i + 1 :]])

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture, the last layer changing fastest."""
        for indices in itertools.product(*(range(len(layer.options)) for layer in self.searchable)):
            yield self.architecture(indices)

    def encode(self, architecture: Architecture) -> np.ndarray:
        """One-hot over the options of every searchable layer, float32 of length `encoding_size`."""
        code = np.zeros(self.encoding_size, np.float32)
        code[self._offsets + np.array(self.indices(architecture), dtype=np.int64)] = 1.0
        return code

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.cumsum([0, *(len(layer.options) for layer in self.searchable[:-1])])

    @property
    def encoding_size(self) -> int:
        return sum(len(layer.options) for layer in self.searchable)

    # -- networks and words -------------------------------------------------------------------------------------------

    def blocks(self, architecture: Architecture) -> list[BlockSpec | None]:
        """The block at every position, None where the layer is skipped."""
        return [layer.block(o) for layer, o in zip(self.layers, self.options(architecture), strict=True)]

    def network(self, architecture: Architecture) -> NetworkSpec:
        """The description of the plain network."""
        return self.spec(tuple(b for b in self.blocks(architecture) if b is not None))

    def spec(self, blocks: tuple[BlockSpec, ...]) -> NetworkSpec:
        """A network with this space's stem, head, input and padding, and the given blocks."""
        return NetworkSpec(
            blocks, self.input_size, self.in_channels, self.stem_channels, self.stem_stride, self.head_channels,
            self.classes, self.activation, self.bn_eps, self.padding,
        )  # fmt: skip

    def string(self, architecture: Architecture) -> str:
        """The network as one line of timm block strings, stages apart by ``|``, skipped layers written ``skip``."""
        stages: dict[int, list[str]] = {}
        for layer, block in zip(self.layers, self.blocks(architecture), strict=True):
            stages.setdefault(layer.stage, []).append(block.token() if block else SKIP)
        return " | ".join(" ".join(tokens) for tokens in stages.values())

    def parse(self, text: str) -> Architecture:
        """The architecture of a timm-style string, of `string`'s line, or of a benchmark's digits.

        A stage with fewer blocks than layers has its last layers skipped.

        Raises:
            UserError: the string does not fit the space; names the block and what it may be.
        """
        if self.digits and len(text) == len(self.searchable) and set(text) <= set(self.digits):
            return self.architecture([self.digits.index(c) for c in text])
        stages = parse_blocks(text)
        numbers = sorted({layer.stage for layer in self.layers})
        choices: list[str] = []
        for number, blocks in zip(numbers, stages, strict=False):
            choices += self._parse_stage([layer for layer in self.layers if layer.stage == number], blocks)
        if len(stages) != len(numbers):
            raise user_error(
                f"the string has {len(stages)} stages", f"space {self.id} has {len(numbers)}",
                "type one group of block strings a stage, apart by |",
            )  # fmt: skip
        return Architecture(self.id, tuple(choices))

    def _parse_stage(self, layers: list[Layer], blocks: list[dict]) -> Iterator[str]:
        first, count = self.layers.index(layers[0]), len(layers)
        padded = blocks[:count] + [{"kind": SKIP, "token": SKIP}] * (count - len(blocks))
        for number, (layer, block) in enumerate(zip(layers, padded, strict=True), start=first):
            token = self._match(layer, block, number)
            if layer.searchable:
                yield token
        if len(blocks) > count:
            raise user_error(
                f"block {first + count} (stage {layers[0].stage}, layer {count}) is {blocks[count]['token']!r}",
                f"space {self.id} allows {count} blocks in this stage", "leave it out",
            )  # fmt: skip

    def _match(self, layer: Layer, given: dict, number: int) -> str:
        """The token of the option that a parsed block describes."""
        for option in layer.options:
            block = layer.block(option)
            if block is None or given["kind"] == SKIP:
                if block is None and given["kind"] == SKIP:
                    return option.token
                continue
            wanted = (block.kind, block.stride, block.out_channels, block.se, block.activation)
            same = wanted == tuple(given[k] for k in ("kind", "stride", "channels", "se", "activation"))
            inner = block.kind == "id" or block.kernel == given["kernel"]
            if same and inner and (block.kind != "ir" or block.expansion == given["expansion"]):
                return option.token
        allowed = [b.token() if (b := layer.block(o)) else SKIP for o in layer.options]
        raise user_error(
            f"block {number} (stage {layer.stage}, layer {layer.index}) is {given['token']!r}",
            f"space {self.id} allows {', '.join(allowed)}", f"type one of these for block {number}",
        )  # fmt: skip

    def draw(self, architecture: Architecture) -> str:
        """The network as text, a line a block: name, block, shape."""
        lines = []
        for layer, block in zip(self.layers, self.blocks(architecture), strict=True):
            shape = f"{layer.in_channels}x{layer.side}x{layer.side}"
            body = f"{block.token():32s} {'#' * max(1, block.mid_channels // 16)}" if block else "-"
            lines.append(f"{layer.name:>5s}  {shape:>12s}  {body}")
        return "\n".join(lines)

    def fits(self, architecture: Architecture) -> bool:
        try:
            self.indices(architecture)
        except UserError:
            return False
        return True
