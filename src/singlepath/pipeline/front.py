"""The accuracy-cost front of a finished search: one supernet, many budgets, any table of the same space."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from singlepath.costs import LatencyTable, parse_budget
from singlepath.costs.budget import resolve
from singlepath.errors import user_error
from singlepath.pipeline.outcome import update_result
from singlepath.pipeline.progress import progress
from singlepath.pipeline.searching import problem_of, searched_data
from singlepath.pipeline.setup import best_device, cost_models, set_threads
from singlepath.runs import load_checkpoint
from singlepath.search.base import Problem
from singlepath.search.selection import Scorer, select
from singlepath.supernet import Supernet

__all__ = ["front_of", "supernet_of"]

FIRST, LATER = 128, 24  # networks scored for the first budget, and for each further one


def supernet_of(run: Path, space: Any) -> Supernet:
    """The trained supernet that a search kept.

    Raises:
        UserError: the run has none (it has not finished, or its method trains none).
    """
    saved = load_checkpoint(run, "supernet")
    if saved is None or "thresholds" not in saved["supernet"]:
        raise user_error(f"{run} holds no supernet", "a finished search keeps one", "type: singlepath search --out NEW")
    supernet = Supernet(space)
    supernet.load_state_dict(saved["supernet"])
    return supernet.to(best_device())


def front_of(run: Path, options: dict[str, Any], budgets: list[str], table: LatencyTable | None, share_of: str
) -> dict[str, Any]:  # fmt: skip
    """The best network of every budget, largest budget first: scores are shared, so later budgets cost little.

    `share_of` is the cost kind that a budget in % is a share of.
    """
    set_threads(options["threads"])
    space, data = searched_data(run, options)
    costs = cost_models(space, table)
    resolved = [resolve(parse_budget(text), costs, share_of) for text in budgets]
    supernet, started = supernet_of(run, space), time.monotonic()
    rows: list[dict[str, Any]] = []
    with progress("front") as report:
        scorer: Scorer | None = None
        for budget in sorted(resolved, key=lambda b: -b.limit):
            problem = replace(problem_of(space, data, budget, options), progress=report)
            scorer = scorer or Scorer.of(problem, supernet)
            rows.append(row(problem, supernet, LATER if rows else FIRST, scorer))
    seconds = round(time.monotonic() - started, 1)
    front = sorted(rows, key=lambda r: r["budget"])
    update_result(run, front=front)
    return {"run": str(run), "front": front, "networks_scored": len(scorer.known) if scorer else 0, "seconds": seconds}


def row(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer) -> dict[str, Any]:
    found = select(problem, supernet, "score", candidates, scorer)
    return {
        "text": problem.budget.text, "budget": problem.budget.limit, "unit": problem.costs.unit,
        "predicted": problem.cost(found.architecture), "held_out_cross_entropy": found.selection["score"],
        "architecture": problem.space.string(found.architecture), "choices": list(found.architecture.choices),
        "underfilled_reason": found.underfilled_reason,
    }  # fmt: skip
