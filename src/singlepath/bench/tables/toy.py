"""Two small made-up tables, for tests and for trying things without data.

`toy`: 4^6 = 4,096 networks; a figure for every option and for every pair of options of neighbouring decisions, more
expensive options are better on average. `flat`: the same networks, values that have nothing to do with them, so that
no method can beat random search. What is judged is what is searched plus noise.
"""

from __future__ import annotations

import itertools

import numpy as np

from singlepath.data.splits import generator
from singlepath.search.queries import Pool

__all__ = ["pool", "values"]

DECISIONS, OPTIONS = 6, 4
NOISE = 0.1  # deviation of the judged from the searched values, per cent


def pool() -> Pool:
    """Every code; the cost of a network is the sum of its options' numbers."""
    codes = np.array(list(itertools.product(range(OPTIONS), repeat=DECISIONS)), np.int64)
    return Pool(codes, [OPTIONS] * DECISIONS, measures={"size": codes.sum(1).astype(float)}, cost="size")


def values(codes: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(searched, judged) of codes [N, 6], per cent, for "toy" or "flat"."""
    rng = generator(0, f"table {kind}")
    if kind == "flat":
        searched = 90 + rng.standard_normal(len(codes))
    else:
        single = 0.5 * np.arange(OPTIONS) + 0.7 * rng.standard_normal((DECISIONS, OPTIONS))
        pairs = 0.5 * rng.standard_normal((DECISIONS - 1, OPTIONS, OPTIONS))
        searched = 85 + sum(single[d][codes[:, d]] for d in range(DECISIONS))
        searched = searched + sum(pairs[d][codes[:, d], codes[:, d + 1]] for d in range(DECISIONS - 1))
    return np.asarray(searched), np.asarray(searched) + NOISE * rng.standard_normal(len(codes))
