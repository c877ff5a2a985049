"""`score`: random networks of the whole space are scored, and an additive fit of the scores chooses, exactly.

    CE(a) ~ b + sum over layers of w[layer, option of a]           ridge regression (`additive`)
    answer = argmin of the fit over all networks of the budget     a multiple-choice knapsack (`budget`)

Why the fit and not the lowest score: a supernet is wrong about single networks by more than the images show, so that
the lowest of many scores is low by error; the fit averages over all networks with the same option. Why random networks
of the *whole* space, whatever they cost: those of one budget trade one layer against another, which says little of
each. One sample serves every budget. Measured on NAS-Bench-Macro (docs/results.md).

The fit's best network and its best that fills the budget are scored too: a network that leaves more than a tenth of
the budget unused must be better beyond noise.
"""

from __future__ import annotations

from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.search.additive import additive_fit
from singlepath.search.base import Found, Problem
from singlepath.search.budget import best_under, random_networks
from singlepath.search.scoring import Scorer, concluded, least_of, no_network
from singlepath.supernet import Supernet

__all__ = ["by_score"]

FINALISTS = 2


def by_score(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    sample = drawn_anywhere(problem, max(0, candidates - FINALISTS))
    before, new = len(scorer.known), [a for a in sample if a not in scorer.known and a not in scorer.sampled]
    problem.progress("select", 0, candidates, {})
    scorer.sample(sample)
    few = finalists(problem, scorer, sample)[: max(1, candidates)]
    new += [a for a in few if a not in scorer.known]
    scorer.score(few)
    problem.progress("select", candidates, candidates, {})
    return concluded(problem, scorer, "score", before, few, candidates=len(new))


def drawn_anywhere(problem: Problem, count: int) -> list[Architecture]:
    """Distinct random networks of the whole space; the same for every budget of a seed."""
    rng = generator(problem.seed, "candidates")
    return random_networks(problem.space, problem.costs, 0.0, problem.costs.largest, count, rng)


def finalists(problem: Problem, scorer: Scorer, sample: list[Architecture]) -> list[Architecture]:
    """By the fit: the best network that fills the budget, where one does, and the best that fits it."""
    fit, target = additive_fit(problem.space, {a: scorer.sampled[a] for a in sample}), problem.budget.target
    found = (best_under(fit, problem.costs, target, least) for least in (least_of(problem), 0.0))
    names = (scorer.name(problem.space.architecture(indices)) for indices in found if indices is not None)
    few = [a for a in dict.fromkeys(names) if problem.cost(a) <= target]
    if not few:
        raise no_network(problem)
    return few
