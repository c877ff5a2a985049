"""A pool of 81 candidates with one peak, for the tests of what asks."""

from __future__ import annotations

import itertools

import numpy as np

from singlepath.search.queries import Pool, QueryMethod, State, begin, run_queries

CODES = np.array(list(itertools.product(range(3), repeat=4)))
SIZES = CODES.sum(1).astype(float)


def pool(same: np.ndarray | None = None) -> Pool:
    return Pool(CODES, [3] * 4, measures={"size": SIZES}, cost="size", same=same)


def bowl(index: int) -> float:
    """One peak, at 2121."""
    return -float(((CODES[index] - [2, 1, 2, 1]) ** 2).sum())


def searched(method: QueryMethod, queries: int, seed: int = 0, value=bowl, over: Pool | None = None) -> State:
    return run_queries(method, over or pool(), value, begin(seed, queries))


def number(*code: int) -> int:
    return int(np.flatnonzero((np.array(code) == CODES).all(1))[0])
