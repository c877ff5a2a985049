r"""WeakNAS on a trained supernet: a sequence of weak predictors (Wu et al., NeurIPS 2021, arXiv 2102.10490).

    S_0 = networks of the budget, uniformly at random
    repeat:  f_k = fit(S_k);   P_k = the top N of the pool by f_k;   S_{k+1} = S_k + a batch, uniform over P_k \ S_k

No predictor has to be good over the whole space: each only has to be better than the one before near the top. The
uniform draw inside the top N is what explores.

Where we differ and why. The predictor is the ridge regression on one-hot codes that also smooths `score` (released: an
MLP of 4 x 1000), for it is fitted on dozens of networks, not hundreds. The pool cannot be the whole space: it is
`POOL` random networks of the budget and, each round, mutations of the best so far. N shrinks from `TOP` to the batch
(released: 100 throughout), so that the last round takes what is predicted best; the released result adds the
predicted best without counting it, here everything that is scored counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.search.base import Found, Problem
from singlepath.search.scoring import Scorer, affordable, concluded, drawn, in_window, predicted
from singlepath.supernet import Supernet

__all__ = ["by_weaknas"]

POOL = 1_000  # random networks that predictors choose from
TOP = 64  # N of the first round
FIRST, ROUNDS = 0.3, 8  # share of the evaluations that is uniformly random; batches for the rest
PARENTS, MUTANTS = 16, 512  # the best so far, and how many mutations of them join the pool of a round


def by_weaknas(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    `selection` states `evaluations`, the networks scored, and `predictors`, how many were fitted.

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    before, rng = len(scorer.known), generator(problem.seed, "weaknas")
    pool, least = drawn(problem, max(POOL, candidates), rng)
    for architecture in pool[: max(1, min(candidates, max(2, round(FIRST * candidates))))]:  # one cannot be fitted
        scorer(architecture)
    rounds = 0
    for turn, ahead in enumerate(range(ROUNDS, 0, -1)):
        size = math.ceil((candidates - (len(scorer.known) - before)) / ahead)
        offered = unscored(scorer, [*pool, *mutants(problem, scorer, least, rng)])
        if size <= 0 or not offered or len(scorer.known) < 2:
            break
        rounds += 1
        for architecture in picked(scorer, offered, size, top_of(turn, size), rng):
            scorer(architecture)
        problem.progress("select", len(scorer.known) - before, candidates, {})
    evaluations = len(scorer.known) - before
    return concluded(problem, scorer, "weaknas", before, evaluations=evaluations, predictors=rounds)


def top_of(turn: int, size: int) -> int:
    """N of a round: geometrically from `TOP` in the first to the batch in the last."""
    return max(size, round(TOP * (size / TOP) ** (turn / (ROUNDS - 1))))


def picked(
    scorer: Scorer, offered: list[Architecture], size: int, top: int, rng: np.random.Generator
) -> list[Architecture]:
    """`size` networks, uniform over the `top` that an additive fit of everything scored predicts best."""
    best = np.argsort(-predicted(scorer, offered), kind="stable")[:top]
    return [offered[i] for i in rng.permutation(best)[:size]]


def unscored(scorer: Scorer, networks: Iterable[Architecture]) -> list[Architecture]:
    """Distinct networks without a score, in order."""
    return [a for a in dict.fromkeys(networks) if a not in scorer.known]


def mutants(problem: Problem, scorer: Scorer, least: float, rng: np.random.Generator) -> list[Architecture]:
    """Networks of the window one or two mutations from the best so far, by canonical name."""
    space = problem.space
    best = sorted(affordable(problem, scorer), key=lambda a: (scorer.known[a], a.choices))[:PARENTS]
    found = [space.canonical(space.mutate(best[i % len(best)], rng, 1 + i % 2)) for i in range(MUTANTS if best else 0)]
    return [a for a in found if in_window(problem, a, least)]
