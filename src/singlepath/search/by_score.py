"""`score`: networks of the budget are scored, an additive fit of the scores proposes better ones.

Half of the candidates are drawn uniformly, beside the gates' choice. A ridge regression on (layer, option)
indicators smooths the scores; being additive, its best architecture under the budget is a knapsack too. The
regression's choices join the candidates, the neighbourhood of the best is tried, and the lowest smoothed
cross-entropy wins (`scoring.smoothed`).
"""

from __future__ import annotations

import numpy as np

from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.search.base import Found, Problem
from singlepath.search.budget import best_under, random_networks
from singlepath.search.scoring import Scorer, additive_fit, affordable, concluded, gate_utility, least_of, smoothed
from singlepath.supernet import Supernet

__all__ = ["by_score"]

ROUNDS = 4  # of fitting and refining


def by_score(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (beside those a given scorer knows already) and take the best under the
    budget."""
    scorer = scorer or Scorer.of(problem, supernet)
    before = len(scorer.known)
    scorer.score(starters(problem, supernet, candidates // 2))
    for turn in range(ROUNDS):
        problem.progress("select", len(scorer.known) - before, candidates, {})
        wanted = before + candidates * (turn + 1 + ROUNDS) // (2 * ROUNDS) - len(scorer.known)
        scorer.score(refinements(problem, scorer, turn)[: max(0, wanted)])
    return concluded(problem, scorer, "score", before, smoothed(scorer))


def starters(problem: Problem, supernet: Supernet, count: int) -> list[Architecture]:
    """The gates' choice, then uniformly random networks of the budget."""
    space, budget = problem.space, problem.budget
    low, utility = least_of(problem), gate_utility(supernet)
    choices = [best_under(utility, problem.costs, budget.target, least) for least in (low, 0.0)]
    first = [space.architecture(c) for c in choices if c is not None]
    rng = generator(problem.seed, "candidates")
    return first + random_networks(space, problem.costs, low, budget.target, max(0, count - len(first)), rng)


def refinements(problem: Problem, scorer: Scorer, turn: int) -> list[Architecture]:
    """The additive fit's best network, networks drawn near it, and mutations of the best so far, all within the
    budget."""
    space, costs, budget = problem.space, problem.costs, problem.budget
    rng, found = generator(problem.seed, "refine", turn), []
    if len(scorer.known) < 2:
        return []
    fit, noise = additive_fit(scorer), float(np.std(list(scorer.known.values()))) / 4
    for scale in (0.0, *([noise] * 12)):
        utility = [[u + scale * rng.gumbel() for u in layer] for layer in fit]
        indices = best_under(utility, costs, budget.target)
        found += [space.architecture(indices)] if indices is not None else []
    best = sorted(affordable(problem, scorer), key=lambda a: scorer.known[a])[:5]
    mutants = [space.mutate(best[i % len(best)], rng, 1 + i % 2) for i in range(200 if best else 0)]
    kept = [m for m in mutants if least_of(problem) <= costs.of(space.indices(m)) <= budget.target]
    return list(dict.fromkeys(space.canonical(a) for a in found + kept[:24] if space.canonical(a) not in scorer.known))
