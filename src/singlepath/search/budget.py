"""Choosing and sampling under a budget, exactly, by dynamic programming on a grid of costs.

Costs are rounded up to cells of (limit - smallest cost) / `CELLS`. The grid of `best_under` goes a cell a layer
beyond the limit, and what is found is checked by its exact cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from singlepath.architecture import SKIP, Architecture
from singlepath.costs import Budget, CostModel
from singlepath.spaces import Space

__all__ = ["best_under", "networks_of", "random_networks"]

CELLS = 10_000
REJECTIONS = 2_000  # draws before the exact sampler takes over
EACH = 8  # draws of that for each network that is asked for
TOGETHER = 500  # of them at once


def _cells(costs: CostModel, limit: float) -> tuple[list[np.ndarray], float, float]:
    """(cells of every option of every layer above that layer's cheapest, base cost, size of a cell)."""
    base = costs.smallest
    size = max(limit - base, limit * 1e-9) / CELLS
    extra = [np.asarray(layer) - min(layer) for layer in costs.layers]
    return [np.ceil(e / size - 1e-9).astype(np.int64) for e in extra], base, size


def best_under(
    utility: Sequence[Sequence[float]], costs: CostModel, limit: float, least: float = 0.0
) -> tuple[int, ...] | None:
    """The option indices with the greatest summed utility whose cost is within [least, limit]; None where none was
    found.

    A multiple-choice knapsack: best[c] = max over options o of best[c - cells(o)] + utility(o), layer by layer. The
    grid goes a cell a layer beyond the limit, because costs are rounded up; what is returned is checked against the
    limit. A cell keeps its best choice alone: one just above the limit may hide one just below it, ten-thousandths of
    the range away.
    """
    cells, _, _ = _cells(costs, limit)
    top = CELLS + len(cells)
    best = np.full(top + 1, -np.inf)
    best[0] = 0.0
    choices: list[np.ndarray] = []
    for layer, values in zip(cells, utility, strict=True):
        candidates = np.full((len(layer), top + 1), -np.inf)
        for o, (c, u) in enumerate(zip(layer, values, strict=True)):
            if c <= top:
                candidates[o, c:] = best[: top + 1 - c] + u
        choices.append(candidates.argmax(0))
        best = candidates.max(0)
    for cell in np.argsort(-best, kind="stable"):
        if best[cell] == -np.inf:
            return None
        indices = _backtrack(int(cell), cells, choices)
        if least <= costs.of(indices) <= limit:
            return indices
    return None


def _backtrack(cell: int, cells: Sequence[np.ndarray], choices: Sequence[np.ndarray]) -> tuple[int, ...]:
    indices = []
    for layer, choice in zip(reversed(cells), reversed(choices), strict=True):
        option = int(choice[cell])
        indices.append(option)
        cell -= int(layer[option])
    return tuple(reversed(indices))


def random_networks(
    space: Space, costs: CostModel, least: float, most: float, count: int, rng: np.random.Generator
) -> list[Architecture]:
    """Distinct random networks, uniform over those with cost in [least, most]: by rejection, then exactly on the cost
    grid.

    A network with several names (identities inside a stage) counts once. Fewer than `count` come back where the space
    holds fewer, or hardly more. Asking for more of them gives the same first ones.
    """
    found: dict[Architecture, None] = {}

    def offer(architecture: Architecture) -> None:
        fits = least <= costs.of(space.indices(architecture)) <= most
        if fits and len(found) < count and space.canonical(architecture) == architecture:
            found.setdefault(architecture)

    for _ in range(REJECTIONS):
        if len(found) == count:
            return list(found)
        offer(space.sample(rng))
    cells, low = _window(costs, least, most)
    slots = _slots(space)
    completions = _completions(slots, cells, low)
    left = max(REJECTIONS, EACH * count) if completions[0][0, 0] else 0
    while left and len(found) < count:
        before, many = rng.bit_generator.state, min(TOGETHER, left)
        drawn = _draws(slots, completions, cells, rng.random((many, len(slots))))
        for number, indices in enumerate(drawn.tolist(), start=1):
            offer(space.architecture(indices))
            if len(found) == count:  # the generator goes on as if they had been drawn one by one
                rng.bit_generator.state = before
                rng.random((number, len(slots)))
                break
        left -= many
    return list(found)


def networks_of(
    space: Space, budget: Budget, count: int, rng: np.random.Generator
) -> tuple[list[Architecture], float]:  # fmt: skip
    """(at most `count` distinct random networks that aim at a budget, what they cost at least): that fill the target,
    or, where no network does, of all that fit; none where nothing fits."""
    found, least = list[Architecture](), 0.0
    for least in (budget.least, 0.0):
        found = random_networks(space, budget.costs, least, budget.target, count, rng)
        if found:
            break
    return found, least


def _window(costs: CostModel, least: float, most: float) -> tuple[list[np.ndarray], int]:
    cells, base, size = _cells(costs, most)
    slack = len(cells)  # rounding up moves a network by at most one cell a layer
    return cells, max(0, int((least - base) / size) - slack)


class _Slot(NamedTuple):
    """A layer in the order that networks are drawn in: interchangeable ones after one another.

    Attributes:
        skip: the option that, once taken, the rest of its group has to take, so that only canonical names are drawn;
            None for a layer that is not interchangeable with others.
        last: the next layer is of no group or of another.
    """

    layer: int
    skip: int | None
    last: bool


def _slots(space: Space) -> list[_Slot]:
    groups = space.interchangeable
    inside = {i for group in groups for i in group}
    alone = [_Slot(i, None, True) for i in range(len(space.searchable)) if i not in inside]
    skip = [space.searchable[group[0]].tokens.index(SKIP) for group in groups]
    return alone + [_Slot(i, s, i == group[-1]) for group, s in zip(groups, skip, strict=True) for i in group]


def _next(slot: _Slot, skipped: int, option: int) -> int | None:
    """Whether the group has skipped a layer after this one, 0 or 1; None where the option names no network anew."""
    if slot.skip is None:
        return 0
    if skipped and option != slot.skip:
        return None
    return int(option == slot.skip and not slot.last)


def _completions(slots: list[_Slot], cells: list[np.ndarray], low: int) -> list[np.ndarray]:
    """completions[i][s, c]: in how many ways the slots i... can be filled so that a network at cell c, whose group has
    skipped a layer (s = 1) or not, ends inside the window."""
    top = CELLS + len(cells)  # what costs `most` may be rounded up to here
    ways = np.zeros((2, top + 1))
    ways[:, low:] = 1.0
    table = [ways]
    for slot in reversed(slots):
        before = np.zeros((2, top + 1))
        for skipped in (0, 1):
            for option, c in enumerate(cells[slot.layer]):
                after = _next(slot, skipped, option)
                if after is not None and c <= top:
                    before[skipped, : top + 1 - c] += table[0][after, c:]
        table.insert(0, before)
    return table


def _draws(
    slots: list[_Slot], completions: list[np.ndarray], cells: list[np.ndarray], chances: np.ndarray
) -> np.ndarray:
    """Networks of the window by their options' numbers, [N, layers], from uniform numbers [N, slots]: every option is
    taken in proportion to the ways in which what is left can be filled after it."""
    many, width = len(chances), completions[0].shape[1]
    cell, skipped, numbers = np.zeros(many, int), np.zeros(many, int), np.zeros((many, len(slots)), int)
    for slot, rest, chance in zip(slots, completions[1:], chances.T, strict=True):
        extra = cells[slot.layer]
        following = [[_next(slot, s, o) for o in range(len(extra))] for s in (0, 1)]
        after = np.array([[-1 if a is None else a for a in row] for row in following])[skipped]
        end = cell[:, None] + extra
        ways = np.where((after >= 0) & (end < width), rest[np.maximum(after, 0), np.minimum(end, width - 1)], 0.0)
        share = np.cumsum(ways, axis=1)
        option = (share / share[:, -1:] <= chance[:, None]).sum(1)
        numbers[:, slot.layer] = option
        cell += extra[option]
        skipped = after[np.arange(many), option]
    return numbers
