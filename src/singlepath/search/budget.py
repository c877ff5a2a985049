"""Choosing and sampling under a budget, exactly, by dynamic programming on a grid of costs.

Costs are rounded up to cells of limit / `CELLS`, so that what fits on the grid fits the budget; the price is at most
one cell a layer (0.2 % of the budget for 20 layers).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from singlepath.architecture import Architecture
from singlepath.costs import Budget, CostModel
from singlepath.spaces import Space

__all__ = ["best_under", "networks_of", "random_networks"]

CELLS = 10_000
REJECTIONS = 2_000  # draws before the exact sampler takes over, at least
EACH = 8  # draws for each network that is asked for


def _cells(costs: CostModel, limit: float) -> tuple[list[np.ndarray], float, float]:
    """(cells of every option of every layer above that layer's cheapest, base cost, size of a cell)."""
    base = costs.smallest
    size = max(limit - base, limit * 1e-9) / CELLS
    extra = [np.asarray(layer) - min(layer) for layer in costs.layers]
    return [np.ceil(e / size - 1e-9).astype(np.int64) for e in extra], base, size


def best_under(
    utility: Sequence[Sequence[float]], costs: CostModel, limit: float, least: float = 0.0
) -> tuple[int, ...] | None:
    """The option indices with the greatest summed utility whose cost is within [least, limit]; None where there are
    none.

    A multiple-choice knapsack: best[c] = max over options o of best[c - cells(o)] + utility(o), layer by layer. The
    grid goes a cell a layer beyond the limit, because costs are rounded up; what is returned is checked against the
    limit.
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
    holds fewer, or hardly more.
    """
    found: dict[Architecture, None] = {}

    def offer(architecture: Architecture) -> None:
        fits = least <= costs.of(space.indices(architecture)) <= most
        if fits and len(found) < count and space.canonical(architecture) == architecture:
            found.setdefault(architecture)

    draws = max(REJECTIONS, EACH * count)
    for _ in range(draws):
        if len(found) == count:
            return list(found)
        offer(space.sample(rng))
    cells, low = _window(costs, least, most)
    completions = _completions(cells, low)
    for _ in range(draws if completions[0][0] else 0):
        if len(found) == count:
            break
        offer(space.architecture(_draw(completions, cells, rng)))
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


def _completions(cells: list[np.ndarray], low: int) -> list[np.ndarray]:
    """completions[i][c]: how many ways layers i... can be chosen so that a network at cell c ends inside the window."""
    top = CELLS + len(cells)  # what costs `most` may be rounded up to here
    ways = np.zeros(top + 1)
    ways[low:] = 1.0
    table = [ways]
    for layer in reversed(cells):
        before = np.zeros(top + 1)
        for c in layer:
            if c <= top:
                before[: top + 1 - c] += table[0][c:]
        table.insert(0, before)
    return table


def _draw(completions: list[np.ndarray], cells: list[np.ndarray], rng: np.random.Generator) -> list[int]:
    cell, indices = 0, []
    for i, layer in enumerate(cells):
        after = completions[i + 1]
        ways = np.cumsum([float(after[cell + c]) if cell + c < len(after) else 0.0 for c in layer])
        option = int(np.searchsorted(ways / ways[-1], rng.random(), side="right"))  # as rng.choice, in half the time
        indices.append(option)
        cell += int(layer[option])
    return indices
