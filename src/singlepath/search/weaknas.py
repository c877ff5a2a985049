r"""WeakNAS: a sequence of weak predictors (Wu et al., NeurIPS 2021, arXiv 2102.10490), on tables and on supernets.

    S_0 = a few networks at random
    repeat:  f_k = fit(S_k);   P_k = the top N by f_k;   S_{k+1} = S_k + a batch, uniform over P_k \ S_k

No predictor has to be good over the whole space: each only has to be better than the one before near the top. With N
above the batch the uniform draw inside the top N explores; the released code's other sampling takes the batch of
greatest expected improvement, from the mean and deviation of an ensemble.

Where we differ and why (figures: `benchmarks/weaknas_queries.py --ablation`). Released: an MLP of 4 x 1000 on one-hot
codes, 10 first networks, 10 a round, N = 100, labels scaled by the mean and deviation of the whole space. Here:

- a Gaussian process, linear and exponential, on what the network computes: operations that reach no output do not
  count, and networks that compute the same function are one, asked once;
- labels are -log of the place from the top among what was asked, so no statistic of the space is needed;
- batches of 2, the best predicted (N = 2): a fit costs milliseconds, a query costs a training;
- the first networks are drawn from the fifth of greatest cost: larger networks are better more often, and saying so
  asks nothing;
- searches that get stuck (a good first network in a lesser region) look elsewhere: after `patience` queries without
  a better network every second one is the best of mean + beta std, beta growing by 1 every `patience` further queries.

On a space too large to list, `sample` random networks and the neighbours of the best are ranked; on a supernet the pool
itself is such a sample, and rounds are larger, for networks that are scored together share their first layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from singlepath.errors import unknown, user_error
from singlepath.search.base import Found, Problem
from singlepath.search.predictors import PREDICTORS, Prediction, ensemble
from singlepath.search.queries import Pool, State
from singlepath.search.ranking import LABELS, Ranked, labels, log_expected_improvement, ranked, starters
from singlepath.search.scoring import Scorer
from singlepath.search.space_pool import query_supernet
from singlepath.supernet import Supernet

__all__ = ["SAMPLINGS", "WeakNas", "by_weaknas"]

SAMPLINGS = ("uniform", "ei")
FIRST, BATCH = 20, 8  # on a supernet


@dataclass(frozen=True)
class WeakNas:
    """Settings of the sequence.

    Attributes:
        predictor: a name of `predictors.PREDICTORS`.
        encoding: a name of the pool's encodings; empty: its first.
        labels: what is predicted, one of `ranking.LABELS`.
        first: networks asked before the first fit.
        largest: these are uniform over this share of the networks, that of greatest cost; 1.0: over all.
        batch: networks asked a round.
        top: N, from which the batch is uniform; up to the batch: the best predicted are taken.
        sampling: "uniform", or "ei": the batch of greatest expected improvement over all.
        patience: queries without a better network after which half of a batch is taken by an upper confidence bound;
            0: never. Needs a predictor that knows a deviation, and `top` up to the batch.
        members: predictors of an ensemble.
        explore: share of the rounds whose batch is uniform over everything.
        distinct: candidates that compute the same function are one network, asked once.
        sample: so many random networks, and neighbours of the best, are ranked; 0: all.
        scale: (mean, deviation) that raw labels are scaled by; None: of what was asked.

    Raises:
        UserError: a name that is not registered; "ei" with a predictor that knows no deviation.
    """

    predictor: str = "gp"
    encoding: str = ""
    labels: str = "log-rank"
    first: int = 10
    largest: float = 0.2
    batch: int = 2
    top: int = 0
    sampling: str = "uniform"
    patience: int = 10
    members: int = 1
    explore: float = 0.0
    distinct: bool = True
    sample: int = 0
    scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("predictor", self.predictor, PREDICTORS), ("labels", self.labels, LABELS),
            ("sampling", self.sampling, SAMPLINGS),
        ):  # fmt: skip
            if name not in known:
                raise unknown(kind, name, known)
        if min(self.first, self.batch, self.members) < 1:
            given = f"first={self.first}, batch={self.batch}, members={self.members}"
            raise user_error(given, "allowed: 1 or more each", "type first=10, batch=2, members=1")
        if self.sampling == "ei" and self.members == 1 and self.predictor not in ("gp", "forest"):
            raise user_error(
                f"sampling='ei' with one {self.predictor}", "expected improvement needs a deviation", "type members=5"
            )

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        if not state["asked"]:
            return starters(pool, self.first, self.largest, self.distinct, rng)
        over = self.ranked(pool, state, rng)
        if rng.random() < self.explore:
            free = over.numbers[over.free]
            found = [int(i) for i in rng.permutation(free)[: self.batch]]
        else:
            found = self.taken(over, self.predict(over, state, rng), state, rng)
        return found or pool.draw(self.batch, rng, state["asked"])

    def ranked(self, pool: Pool, state: State, rng: np.random.Generator) -> Ranked:
        return ranked(pool, state, rng, encoding=self.encoding, distinct=self.distinct, sample=self.sample)

    def predict(self, over: Ranked, state: State, rng: np.random.Generator) -> Prediction:
        """f_k of all ranked networks."""
        y = self.targets(state)
        return ensemble(PREDICTORS[self.predictor], over.rows, over.asked, y, rng, self.members)

    def targets(self, state: State) -> np.ndarray:
        """What is predicted of the networks asked so far."""
        if self.scale is None:
            return labels(state["values"], self.labels)
        return (np.asarray(state["values"]) - self.scale[0]) / self.scale[1]

    def taken(self, over: Ranked, predicted: Prediction, state: State, rng: np.random.Generator) -> list[int]:
        """A batch: of the greatest expected improvement; uniform over those of the top N that were not asked; or the
        best predicted, half of them by an upper confidence bound where the search is stuck."""
        if self.sampling == "ei":
            best = float(self.targets(state).max())
            return over.best(log_expected_improvement(predicted, best), self.batch)
        inside = over.inside(predicted.mean, self.top) if self.top > self.batch else []
        if len(inside) >= self.batch:
            return [int(i) for i in rng.permutation(inside)[: self.batch]]
        order = over.best(predicted.mean, self.batch)
        waited = len(state["values"]) - 1 - int(np.argmax(state["values"]))
        if not 0 < self.patience < waited or self.top > self.batch or predicted.std is None:
            return order
        bound = over.best(predicted.mean + (waited / self.patience - 1) * predicted.std, 2 * self.batch)
        firm = order[: (self.batch + len(state["asked"]) % 2) // 2]  # one a round: every second round
        return [*firm, *(i for i in bound if i not in firm)][: self.batch]


def by_weaknas(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    `selection` states `evaluations`, the networks scored.

    Raises:
        UserError: nothing fits the budget.
    """
    return query_supernet(problem, supernet, "weaknas", WeakNas(first=FIRST, batch=BATCH), candidates, scorer)[0]
