"""Regularised evolution (Real et al., AAAI 2019, arXiv 1802.01548, algorithm 1), on tables and on trained supernets.

    H = P random networks
    repeat:  parent = the best of S networks drawn from the last P of H;   H = H + {a mutation of the parent}

The population is the P youngest: each cycle the *oldest* goes, not the worst, so a network stays only through children
that score well again.

Where we differ and why. A network's value never changes, so one that was asked before is drawn again instead of asked
again, and every cycle is one query. One mutation can be too small to reach any other network of a narrow window, so
where it finds none one decision more is changed, and where all fail too a random network takes the child's place. P and
S are smaller than the paper's 100 and 25, for a few hundred queries, not 20,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from singlepath.search.base import Found, Problem
from singlepath.search.queries import Pool, State
from singlepath.search.scoring import Scorer
from singlepath.search.space_pool import query_supernet
from singlepath.supernet import Supernet

__all__ = ["Evolution", "by_evolution"]


@dataclass(frozen=True)
class Evolution:
    """population: P, at most a third of the queries; tournament: S."""

    population: int = 24
    tournament: int = 6

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        founders = max(1, min(self.population, state["queries"] // 3))
        if not state["asked"]:
            return pool.draw(founders, rng)
        youngest = state["asked"][-founders:]
        values = state["values"][-founders:]
        drawn = rng.choice(len(youngest), size=min(self.tournament, len(youngest)), replace=False)
        parent = youngest[max(drawn, key=lambda i: (values[i], -i))]
        asked = set(state["asked"])
        for distance in range(1, len(pool.options) + 1):
            children = [int(i) for i in pool.neighbours(parent, rng, distance) if int(i) not in asked]
            if children:
                return [int(rng.choice(children))]
        return pool.draw(1, rng, state["asked"])


def by_evolution(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    `selection` states `evaluations`, the networks scored, and `population`.

    Raises:
        UserError: nothing fits the budget.
    """
    method = Evolution()
    found, state = query_supernet(problem, supernet, "evolution", method, candidates, scorer)
    found.selection["population"] = max(1, min(method.population, state["queries"] // 3))
    return found
