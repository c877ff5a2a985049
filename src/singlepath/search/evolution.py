"""Regularised evolution on a trained supernet (Real et al., AAAI 2019, arXiv 1802.01548, algorithm 1).

A population of P networks. Each cycle draws S of them, mutates the best of these S, scores the child, adds it, and
removes the *oldest* (not the worst: a network stays only through children that score well again).

Where we differ and why. Networks are scored by the supernet, not trained; the score of a network never changes, so one
that was here before is drawn again instead of scored again, and every cycle is one evaluation. Founders and children
are within the budget. A child that is not is drawn again; one mutation can be too small to reach any other network of
a narrow window, so each run of `PATIENCE` failures changes one layer more, and where that fails too a random network of
the budget takes the child's place. P and S are smaller than the paper's 100 and 25, for a few hundred evaluations, not
20,000.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.search.base import Found, Problem
from singlepath.search.scoring import Scorer, concluded, drawn, in_window
from singlepath.supernet import Supernet

__all__ = ["by_evolution"]

POPULATION, TOURNAMENT = 24, 6  # P, S
PATIENCE = 8  # children drawn before one layer more is changed


def by_evolution(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    `selection` states `evaluations`, the networks scored, and `population`.

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    before, rng = len(scorer.known), generator(problem.seed, "evolution")
    spare, least = drawn(problem, max(1, candidates), rng)
    founders = spare[: max(1, min(POPULATION, candidates // 3))]
    population, seen = deque(founders, maxlen=len(founders)), set(founders)
    for founder in founders:
        scorer(founder)
    while len(scorer.known) - before < candidates:
        parent = winner(scorer, population, rng)
        child = offspring(problem, parent, seen, least, rng) or next((a for a in spare if a not in seen), None)
        if child is None:  # the window is used up
            break
        scorer(child)
        seen.add(child)
        population.append(child)
        problem.progress("select", len(scorer.known) - before, candidates, {})
    evaluations = len(scorer.known) - before
    return concluded(problem, scorer, "evolution", before, evaluations=evaluations, population=len(founders))


def winner(scorer: Scorer, population: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
    """The lowest cross-entropy of `TOURNAMENT` networks drawn from the population."""
    chosen = rng.choice(len(population), size=min(TOURNAMENT, len(population)), replace=False)
    return min((population[i] for i in chosen), key=lambda a: (scorer(a), a.choices))


def offspring(
    problem: Problem, parent: Architecture, seen: set[Architecture], least: float, rng: np.random.Generator
) -> Architecture | None:
    """A new network of the window, as few mutations from the parent as reach one; None where none was found."""
    space = problem.space
    for layers in range(1, len(space.searchable) + 1):
        for _ in range(PATIENCE):
            child = space.canonical(space.mutate(parent, rng, layers))
            if child not in seen and in_window(problem, child, least):
                return child
    return None
