"""What predictor-based methods share: which networks are ranked, labels, and how a batch is taken off a ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from singlepath.errors import unknown
from singlepath.search.predictors import Prediction, Rows
from singlepath.search.queries import Pool, State

__all__ = ["LABELS", "Ranked", "labels", "log_expected_improvement", "ranked", "starters"]

LABELS = ("log-rank", "rank", "raw")
TAIL = -20.0  # deviations below the best at which the improvement is taken from its asymptote, 0.7 % off
PARENTS = 16  # the best so far, whose neighbours join a sampled pool


class Ranked:
    """The networks that predictors rank.

    Attributes:
        numbers: a candidate for each, [M].
        rows: their encodings.
        asked: where in `numbers` the networks of the history stand, in its order.
        free: which were not asked, [M] of bool.
    """

    def __init__(self, numbers: np.ndarray, rows: Rows, asked: np.ndarray) -> None:
        self.numbers, self.rows, self.asked = numbers, rows, asked
        self.free = np.ones(len(numbers), bool)
        self.free[asked] = False

    def best(self, scores: np.ndarray, count: int) -> list[int]:
        """At most `count` candidates that were not asked, best first; equal ones in the order of `numbers`."""
        return self._top(np.where(self.free, scores, -np.inf), min(count, int(self.free.sum())))

    def inside(self, scores: np.ndarray, count: int) -> list[int]:
        """Those of the best `count` networks, asked ones among them, that were not asked."""
        asked = set(self.numbers[self.asked].tolist())
        return [i for i in self._top(scores, min(count, len(scores))) if i not in asked]

    def _top(self, scores: np.ndarray, count: int) -> list[int]:
        if count == 0:
            return []
        scores = np.round(scores.astype(np.float64), 6)  # so that the last bits of a product decide nothing
        near = np.flatnonzero(scores >= np.partition(scores, len(scores) - count)[len(scores) - count])
        return self.numbers[near[np.argsort(-scores[near], kind="stable")]][:count].tolist()


def ranked(
    pool: Pool, state: State, rng: np.random.Generator, *, encoding: str = "", distinct: bool = True, sample: int = 0
) -> Ranked:
    """The networks to rank: all of the pool, or `sample` random ones and the neighbours of the best so far.

    `distinct` takes one candidate, the cheapest, for all that compute the same function.
    """
    order = np.argsort(-np.asarray(state["values"]), kind="stable")[:PARENTS]
    best = [state["asked"][i] for i in order]
    pool.grow(best, rng)
    around = [pool.neighbours(i, rng) for i in best] if sample else []  # first: they may join the pool
    same = pool.same if distinct else np.arange(len(pool))
    every = pool.distinct if distinct else same
    if not sample or sample >= len(every):
        key = ("rows", encoding, distinct)
        size, rows = pool.scratch.get(key, (0, None))
        if size != len(pool):  # a pool that grew: what was worked out for the smaller one is let go
            rows = Rows(pool.encoding(encoding)[every])
            pool.scratch[key] = len(pool), rows
        return Ranked(every, rows, same[state["asked"]])
    near = [every[same[found]] for found in around]
    drawn = rng.choice(every, size=sample, replace=False)
    numbers = np.unique(np.concatenate([every[same[state["asked"]]], drawn, *near]))
    position = np.full(len(every), -1)
    position[same[numbers]] = np.arange(len(numbers))
    return Ranked(numbers, Rows(pool.encoding(encoding)[numbers]), position[same[state["asked"]]])


def starters(pool: Pool, count: int, largest: float, distinct: bool, rng: np.random.Generator) -> list[int]:
    """Networks to begin with, uniform over the share `largest` of greatest cost: a warm start that asks nothing."""
    every = pool.distinct if distinct else np.arange(len(pool))
    among = every[np.argsort(-pool.costs[every], kind="stable")[: max(count, math.ceil(largest * len(every)))]]
    return [int(i) for i in rng.choice(among, size=min(count, len(among)), replace=False)]


def labels(values: Sequence[float], kind: str) -> np.ndarray:
    """What is predicted, mean 0 and deviation 1: the values (raw), their ranks, or -log of the place from the top.

    The last tells the first from the second as far apart as the tenth from the twentieth: a weak predictor is to be
    right near the top. Equal values have equal labels.
    """
    y = np.asarray(values, np.float64)
    if kind not in LABELS:
        raise unknown("labels", kind, LABELS)
    if kind != "raw":
        _, inverse, counts = np.unique(-y, return_inverse=True, return_counts=True)
        place = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # 1 is the best; the mean place of equal ones
        y = -np.log(place) if kind == "log-rank" else -place
    return (y - y.mean()) / max(float(y.std()), 1e-12)


def log_expected_improvement(predicted: Prediction, best: float) -> np.ndarray:
    """log E[max(f - best, 0)] for f ~ N(mean, std^2), [M]; exact in its far tail too, where the value itself is zero
    and would leave nothing to choose by."""
    assert predicted.std is not None
    mean, std = predicted.mean.astype(np.float64), np.maximum(predicted.std.astype(np.float64), 1e-9)
    u = (mean - best) / std
    below = 0.5 * np.vectorize(math.erfc, otypes=[float])(-np.maximum(u, TAIL) / math.sqrt(2))
    density = np.exp(-0.5 * np.maximum(u, TAIL) ** 2) / math.sqrt(2 * math.pi)
    near = np.log(np.maximum(u, TAIL) * below + density)
    far = -0.5 * u**2 - 2 * np.log(np.maximum(-u, 1)) - 0.5 * math.log(2 * math.pi)
    return np.log(std) + np.where(u > TAIL, near, far)
