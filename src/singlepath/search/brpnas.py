"""BRP-NAS: a binary relation predictor and iterative data selection (Dudziak et al., NeurIPS 2020, arXiv 2007.08668).

    g(a, b) = P(a is better than b), fitted on all pairs of asked networks
    for i = 0 ... I - 1:  ask T / I networks: alpha of them the best by g, the others uniform over the best M / 2^i
    ask the best by g until the queries are used up

The first round is uniform over all M. Comparing instead of regressing makes a predictor right about order, which is all
that a search needs, and turns n labels into n (n - 1) / 2.

Where we differ and why. g is sigmoid(f(a) - f(b)) with f in a kernel space (`predictors.pairwise`) instead of a graph
convolution: its order is transitive, so ranking M networks costs M evaluations, not M^2, and it fits in milliseconds.
No transfer from a latency predictor. T is half of the queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from singlepath.search.predictors import pairwise
from singlepath.search.queries import Pool, State
from singlepath.search.ranking import labels, ranked

__all__ = ["BrpNas"]


@dataclass(frozen=True)
class BrpNas:
    """rounds: I; training: T as a share of the queries; top: alpha; distinct, sample: as in WeakNAS."""

    rounds: int = 5
    training: float = 0.5
    top: float = 0.5
    encoding: str = ""
    distinct: bool = True
    sample: int = 0

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        asked, total = len(state["asked"]), max(2, round(self.training * state["queries"]))
        size = max(1, total // self.rounds)
        if not asked:
            return [int(i) for i in rng.permutation(pool.distinct if self.distinct else len(pool))[:size]]
        over = ranked(pool, state, rng, encoding=self.encoding, distinct=self.distinct, sample=self.sample)
        scores = pairwise(over.rows, over.asked, labels(state["values"], "raw"), rng).mean
        if asked >= total:
            order = over.best(scores, state["queries"] - asked)
        else:
            turn, best = asked // size, round(self.top * size)
            order = over.best(scores, max(size, len(over.numbers) >> turn))
            order = [*order[:best], *(int(i) for i in rng.permutation(order[best:])[: size - best])]
        return order or pool.draw(size, rng, state["asked"])
