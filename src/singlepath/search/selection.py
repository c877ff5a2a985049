"""Reading an architecture off a trained supernet: the selections by name, one file each.

| selection | file | how it chooses |
|---|---|---|
| `score` | `by_score` | random networks are scored; a model of the scores in layers and pairs of layers chooses |
| `gates` | `by_gates` | the most probable network under the gates, a knapsack; scores one that underfills the budget |
| `evolution` | `evolution` | regularised evolution (arXiv 1802.01548) |
| `weaknas` | `weaknas` | a sequence of weak predictors (arXiv 2102.10490) |
| `perturbation` | `perturbation` | what options of layers, and pairs of them, do to the loss (arXiv 2108.04392) |

All score networks through one `scoring.Scorer`; all but `gates` take their answer by the same rule,
`scoring.concluded`.
"""

from __future__ import annotations

from collections.abc import Callable

from singlepath.errors import unknown
from singlepath.search.base import Found, Problem
from singlepath.search.by_gates import by_gates
from singlepath.search.by_score import by_score
from singlepath.search.evolution import by_evolution
from singlepath.search.perturbation import by_perturbation
from singlepath.search.scoring import Scorer
from singlepath.search.weaknas import by_weaknas
from singlepath.supernet import Supernet

__all__ = ["SELECTIONS", "Selection", "select"]

Selection = Callable[[Problem, Supernet, int, Scorer | None], Found]

SELECTIONS: dict[str, Selection] = {
    "score": by_score, "gates": by_gates, "evolution": by_evolution, "weaknas": by_weaknas,
    "perturbation": by_perturbation,
}  # fmt: skip


def select(
    problem: Problem, supernet: Supernet, method: str, candidates: int, scorer: Scorer | None = None
) -> Found:  # fmt: skip
    """The architecture that `method` reads off the supernet; within the budget by construction.

    A scorer that other selections on this supernet have used is reused: its scores count for nothing new.
    """
    if method not in SELECTIONS:
        raise unknown("selection", method, SELECTIONS, "--select")
    return SELECTIONS[method](problem, supernet, candidates, scorer)
