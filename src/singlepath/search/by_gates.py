"""`gates`: the most probable architecture under the budget, sum of log P(option) over layers, an exact knapsack."""

from __future__ import annotations

from singlepath.search.base import Found, Problem
from singlepath.search.budget import best_under
from singlepath.search.scoring import Scorer, gate_utility, no_network, reason
from singlepath.supernet import Supernet

__all__ = ["by_gates"]


def by_gates(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    indices = best_under(gate_utility(supernet), problem.costs, problem.budget.target)
    if indices is None:
        raise no_network(problem)
    chosen = problem.space.architecture(indices)
    selection = {"method": "gates", "candidates": 0}
    if problem.budget.filled(problem.cost(chosen)):
        return Found(chosen, selection)
    scorer = scorer or Scorer.of(problem, supernet)
    filled = best_under(gate_utility(supernet), problem.costs, problem.budget.target, problem.budget.least)
    rival = problem.space.architecture(filled) if filled else None
    scorer(chosen)
    if rival and (scorer(rival) < scorer(chosen) or not scorer.better(chosen, rival)):
        chosen = rival
    filled = problem.budget.filled(problem.cost(chosen))
    return Found(chosen, selection, None if filled else reason(problem, chosen, rival, scorer))
