"""Many children of a supernet on the same images: what two of them share from the stem on is computed once.

A child's layer computes the same as another's where both made the same choices up to it: its weights are a slice that
depends on its own choice only, and its BN statistics on what comes before. So children are visited in the order of
their choices, and a stack holds the activations after every layer of the one at hand. Every batch goes through on its
own: the memory is that of one batch's activations, once for every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from singlepath.architecture import Architecture
from singlepath.spaces import Option
from singlepath.supernet.network import Supernet, batch_norms, plain_block

__all__ = ["children_features"]

Path = tuple[Option | None, ...]  # None for the stem and the head
Statistics = list[dict[str, Tensor]]  # of the BN layers of one piece


class Piece(NamedTuple):
    """A part of a plain network: what it computes, and its BN layers."""

    run: Callable[[Tensor], Tensor]
    norms: list[nn.BatchNorm2d]


@torch.no_grad()
def children_features(
    supernet: Supernet, architectures: Iterable[Architecture], calibration: Iterable[Tensor], inputs: Iterable[Tensor]
) -> Iterator[tuple[int, Architecture, Tensor]]:
    """(number of the batch of `inputs`, architecture, what its classifier reads [N, head_channels]) for every batch and
    every child, eval mode.

    The numbers are those of `supernet.extract`, `recalibrate` on `calibration` and a pass in eval mode, one child at a
    time. The supernet stays as it is.

    Args:
        calibration, inputs: batches [N, C, S, S]; an architecture given twice comes once.
    """
    order = sorted(set(architectures), key=lambda a: tuple(supernet.space.indices(a)))
    if not order:
        return
    pieces, statistics = Pieces(supernet, order[0]), dict[Path, Statistics]()
    paths = [(None, *supernet.space.options(a), None) for a in order]
    for x in calibration:
        for _ in along(pieces, paths, statistics, x, training=True):
            pass
    for number, x in enumerate(inputs):
        yield from ((number, a, y) for a, y in zip(order, along(pieces, paths, statistics, x, False), strict=True))


class Pieces:
    """The plain blocks of a supernet's children, by layer and option, each made once."""

    def __init__(self, supernet: Supernet, first: Architecture):
        self.supernet, self.ends = supernet, supernet.extract(first)
        self.blocks: dict[tuple[int, Option], Piece] = {}

    def __call__(self, path: Path, depth: int) -> Piece:
        """The piece that stands at `depth` of a path: the stem, a layer's block (or nothing), the head."""
        option = path[depth]
        if option is None:
            ends = self.ends
            return Piece(ends.pool, [ends.bn2]) if depth else Piece(ends.stem, [ends.bn1])
        if (depth, option) not in self.blocks:
            block = plain_block(self.supernet, depth - 1, option)
            piece = Piece(nn.Identity(), []) if block is None else Piece(block, batch_norms(block))
            self.blocks[depth, option] = piece
        return self.blocks[depth, option]


def along(
    pieces: Pieces, paths: Sequence[Path], statistics: dict[Path, Statistics], x: Tensor, training: bool
) -> Iterator[Tensor]:
    """What the classifier reads of one batch, for every path; in training, its statistics enter the averages."""
    stack, before = list[Tensor](), Path()
    for path in paths:
        shared = next((i for i, (a, b) in enumerate(zip(path, before, strict=False)) if a != b), len(before))
        del stack[shared:]
        for depth in range(shared, len(path)):
            piece, key = pieces(path, depth), path[: depth + 1]
            if key not in statistics:
                statistics[key] = [fresh(norm) for norm in piece.norms]
            for norm, own in zip(piece.norms, statistics[key], strict=True):
                norm.momentum = None  # the equal average over batches
                norm.train(training)
                norm._buffers.update(own)  # changed in place by a training pass
            stack.append(piece.run(stack[-1] if depth else x))
        yield stack[-1]
        before = path


def fresh(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    """BN buffers that have seen nothing."""
    like = norm.weight
    return {
        "running_mean": torch.zeros_like(like), "running_var": torch.ones_like(like),
        "num_batches_tracked": torch.zeros((), dtype=torch.long, device=like.device),
    }  # fmt: skip
