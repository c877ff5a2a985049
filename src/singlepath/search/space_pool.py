"""A pool of a trained supernet's networks: a sample of those of the budget, which grows as a method looks around.

The whole window cannot be listed. The pool begins with random networks of the budget and takes in every network of the
window that a method asks about (`find`, `neighbours`), by its canonical name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.search.base import Found, Problem
from singlepath.search.queries import Pool, QueryMethod, State, begin, mutants, run_queries
from singlepath.search.scoring import Scorer, concluded, drawn, in_window
from singlepath.supernet import Supernet

__all__ = ["SpacePool", "query_supernet"]

SAMPLE = 1_000  # random networks of the budget
MUTANTS = 64  # draws of 8 mutations of the best so far that join for the next round


class SpacePool(Pool):
    """Networks of a problem's window; `sampled` says how many of the first ones are a uniform sample.

    Raises:
        UserError: nothing fits the budget.
    """

    def __init__(self, problem: Problem, count: int, rng: np.random.Generator) -> None:
        self.problem = problem
        networks, self.least = drawn(problem, count, rng)
        names = dict.fromkeys(problem.space.canonical(a) for a in networks)
        codes = np.array([problem.space.indices(a) for a in names], np.int64)
        options = [len(layer.options) for layer in problem.space.searchable]
        super().__init__(codes, options, measures={"cost": np.array([problem.cost(a) for a in names])}, cost="cost")
        self.sampled = len(self)

    def architecture(self, index: int) -> Architecture:
        return self.problem.space.architecture([int(o) for o in self.codes[index]])

    def find(self, codes: np.ndarray) -> np.ndarray:
        """Distinct numbers of those codes [K, decisions] that lie in the window; new ones join the pool."""
        space = self.problem.space
        names = dict.fromkeys(space.canonical(space.architecture([int(o) for o in code])) for code in codes)
        found = {
            np.array(space.indices(a), np.int64).tobytes(): a for a in names if in_window(self.problem, a, self.least)
        }
        new = {key: a for key, a in found.items() if key not in self._number}
        if new:
            self._number.update({key: len(self) + i for i, key in enumerate(new)})
            self.codes = np.concatenate([self.codes, [np.frombuffer(key, np.int64) for key in new]])
            costs = np.array([self.problem.cost(a) for a in new.values()])
            self.measures["cost"] = np.concatenate([self.measures["cost"], costs])
            self.same = self.distinct = np.arange(len(self))
        return np.array(sorted(self._number[key] for key in found), np.int64)

    def draw(self, count: int, rng: np.random.Generator, but: Sequence[int] = ()) -> list[int]:
        """At most `count` candidates not in `but`, from the uniform sample first."""
        taken = set(but)
        parts = (rng.permutation(self.sampled), rng.permutation(np.arange(self.sampled, len(self))))
        return [int(i) for part in parts for i in part if int(i) not in taken][:count]

    def grow(self, best: Sequence[int], rng: np.random.Generator) -> None:
        """Mutations of the given networks join, a half in one layer, a half in two."""
        if best:
            near = [mutants(self.codes[best[i % len(best)]], self.options, 1 + i % 2, rng) for i in range(MUTANTS)]
            self.find(np.concatenate(near))


def query_supernet(
    problem: Problem, supernet: Supernet, name: str, method: QueryMethod, candidates: int, scorer: Scorer | None = None
) -> tuple[Found, State]:
    """Run a method on the sub-networks of a supernet: values are negative held-out cross-entropy.

    At most `candidates` networks are scored; those a given scorer knows already are history that costs nothing.

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    before, space = len(scorer.known), problem.space
    pool = SpacePool(problem, max(SAMPLE, candidates), generator(problem.seed, name))
    state: State = begin(problem.seed, max(1, candidates))
    for architecture in list(scorer.known):
        for index in pool.find(np.array([space.indices(architecture)])):
            state["asked"].append(int(index))
            state["values"].append(-scorer(architecture))
    state["queries"] += len(state["asked"])

    def ask(index: int) -> float:
        scorer.score(pool.architecture(i) for i in state["pending"])  # together they cost less
        problem.progress("select", len(scorer.known) - before, candidates, {})
        return -scorer(pool.architecture(index))

    run_queries(method, pool, ask, state)
    stated: dict[str, Any] = {"evaluations": len(scorer.known) - before}
    return concluded(problem, scorer, name, before, **stated), state
