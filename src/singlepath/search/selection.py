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
from typing import Any

from singlepath.errors import unknown, user_error
from singlepath.search.base import Found, Problem
from singlepath.search.by_gates import by_gates
from singlepath.search.by_score import by_score
from singlepath.search.evolution import by_evolution
from singlepath.search.perturbation import by_perturbation
from singlepath.search.scoring import Scorer
from singlepath.search.weaknas import by_weaknas
from singlepath.spaces import parse_id
from singlepath.supernet import Supernet

__all__ = ["SELECTIONS", "Selection", "select", "selection_settings"]

Selection = Callable[[Problem, Supernet, int, Scorer | None], Found]

SELECTIONS: dict[str, Selection] = {
    "score": by_score, "gates": by_gates, "evolution": by_evolution, "weaknas": by_weaknas,
    "perturbation": by_perturbation,
}  # fmt: skip


OPTIONS = {"gates": (), "perturbation": ("candidates", "fine_tune")}  # others: candidates


def selection_settings(text: str) -> dict[str, Any]:
    """A search's settings by `--select`: a name, or one with options such as ``perturbation(fine_tune=20)``.

    `candidates` are the networks it scores at most, `fine_tune` the steps after each decision (arXiv 2108.04392).

    Raises:
        UserError: an unknown selection or option, or a value that is no whole number of at least 1.
    """
    name, given = parse_id(text, "select")
    if name not in SELECTIONS:
        raise unknown("select", name, SELECTIONS, "--select")
    known = OPTIONS.get(name, ("candidates",))
    if given and not known:
        raise user_error(f"select {text!r}", f"{name} takes no options", f"type --select {name}")
    for key, value in given.items():
        if key not in known:
            raise unknown(f"option of selection {name}", key, known, "--select")
        if type(value) is not int or value < 1:
            raise user_error(
                f"{key} {value!r} of selection {name}", "allowed: 1 or more", f"type --select '{name}({key}=100)'"
            )
    return {"select": name, **given}


def select(
    problem: Problem, supernet: Supernet, method: str, candidates: int, scorer: Scorer | None = None
) -> Found:  # fmt: skip
    """The architecture that `method` reads off the supernet; within the budget by construction.

    A scorer that other selections on this supernet have used is reused: its scores count for nothing new.
    """
    if method not in SELECTIONS:
        raise unknown("selection", method, SELECTIONS, "--select")
    return SELECTIONS[method](problem, supernet, candidates, scorer)
