"""What is timed to fill a latency table: every distinct block once, alone or in a chain, the stem, the head.

A piece is a module with the shape of its input. The clock around a piece also counts what any session costs: the call,
and bringing tensors in and out at the piece's shapes. A chain of five blocks less one block, divided by four, is free
of that; what it leaves is the overhead at that shape, half of it for the input and half for the output. These halves
are taken off the pieces that cannot be chained; the table's slope and intercept answer for what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from singlepath.architecture import BlockSpec, NetworkSpec
from singlepath.blocks import Network, activate, build, build_block, initialise, to_channels_last
from singlepath.spaces import Space

__all__ = ["CHAIN", "Head", "Piece", "Stem", "block_ms", "chained", "pieces", "signature", "signatures"]

CHAIN = 5  # blocks in the long chain
Shape = tuple[int, int]  # channels, height and width
FLOOR = 0.02  # a block is never below this share of its session's time


class Piece(NamedTuple):
    """Something to time: how to build it, and its input without the batch axis, (channels, height, width)."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]


class Stem(nn.Module):
    """The stem of a network: [N, C, S, S] -> [N, stem channels, ...]."""

    def __init__(self, network: Network):
        super().__init__()
        self.conv_stem, self.bn1, self.activation = network.conv_stem, network.bn1, network.spec.activation

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.bn1(self.conv_stem(x)), self.activation)


class Head(nn.Module):
    """The head of a network: [N, channels, s, s] -> logits [N, classes]."""

    def __init__(self, network: Network):
        super().__init__()
        self.conv_head, self.bn2, self.classifier = network.conv_head, network.bn2, network.classifier
        self.activation = network.spec.activation

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(activate(self.bn2(self.conv_head(x)), self.activation).mean((2, 3)))


def signature(block: BlockSpec) -> BlockSpec:
    """The block without its place: two blocks of one signature cost the same."""
    return replace(block, stage=0)


def signatures(space: Space) -> list[BlockSpec]:
    """Every distinct block of a space, fixed ones included, in order of first use."""
    found = (layer.block(o) for layer in space.layers for o in layer.options)
    return list(dict.fromkeys(signature(b) for b in found if b is not None))


def chained(block: BlockSpec) -> bool:
    """Whether the block's output can be its own input."""
    return block.stride == 1 and block.in_channels == block.out_channels


def pieces(space: Space) -> dict[str, Piece]:
    """Everything to time for a table but whole networks: name -> piece."""
    spec = space.network(space.architecture([0] * len(space.searchable)))
    last = spec.blocks[-1]
    found = {
        "stem": Piece(lambda: Stem(build(spec, 0)), (space.in_channels, space.input_size, space.input_size)),
        "head": Piece(lambda: Head(build(spec, 0)), (last.out_channels, last.out_side, last.out_side)),
    }
    for block in [*signatures(space), *probes(space)]:
        for length in (1, CHAIN) if chained(block) else (1,):
            found[key(block, length)] = block_piece(block, length, spec)
    return found


def key(block: BlockSpec, length: int) -> str:
    return f"{block.in_channels}x{block.side} {block.token()} x{length}"


def block_piece(block: BlockSpec, length: int, spec: NetworkSpec) -> Piece:
    return Piece(lambda: chain(block, length, spec.bn_eps, spec.padding), (block.in_channels, block.side, block.side))


def chain(block: BlockSpec, length: int, bn_eps: float, padding: str) -> nn.Module:
    """`length` blocks of one signature in a row, each with weights of its own."""
    module = nn.Sequential(*(build_block(block, bn_eps, padding) for _ in range(length)))
    initialise(module, torch.Generator().manual_seed(0))
    return to_channels_last(module)


def shapes(block: BlockSpec) -> list[Shape]:
    """The shapes at both ends of a block: (channels, side)."""
    return [(block.in_channels, block.side), (block.out_channels, block.out_side)]


def probes(space: Space) -> list[BlockSpec]:
    """Chains that no layer of the space has, one for each shape whose overhead would be unknown."""
    blocks = signatures(space)
    wanted = dict.fromkeys(shape for block in blocks for shape in shapes(block))
    known = {shapes(block)[0] for block in blocks if chained(block)}
    return [BlockSpec("ds", 0, c, c, 3, 1, side) for c, side in wanted if (c, side) not in known]


def block_ms(space: Space, times: Mapping[str, float]) -> tuple[dict[BlockSpec, float], float]:
    """Milliseconds of every signature, and of stem and head together, from the times of `pieces`.

    A difference that noise made small or negative is held above 2 % of what the session took.
    """
    blocks = signatures(space)
    found: dict[BlockSpec, float] = {}
    overheads: dict[Shape, list[float]] = {}
    for block in filter(chained, [*blocks, *probes(space)]):
        one, many = times[key(block, 1)], times[key(block, CHAIN)]
        found[block] = max((many - one) / (CHAIN - 1), FLOOR * one)
        overheads.setdefault(shapes(block)[0], []).append(max(0.0, one - found[block]))

    def alone(name: str, ends: list[Shape]) -> float:
        overhead = sum(median(overheads[shape]) for shape in ends) / len(ends)
        return max(times[name] - overhead, FLOOR * times[name])

    for block in blocks:
        if not chained(block):
            found[block] = alone(key(block, 1), shapes(block))
    last = space.layers[-1]
    stem, head = shapes(blocks[0])[0], (last.out_channels, -(-last.side // last.stride))
    return {block: found[block] for block in blocks}, alone("stem", [stem]) + alone("head", [head])
