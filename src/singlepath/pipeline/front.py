"""The accuracy-cost front of a finished search: one supernet, many budgets, any table of the same space."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from singlepath.architecture import Architecture
from singlepath.costs import Budget, CostModel, LatencyTable, parse_budget
from singlepath.costs.budget import resolve
from singlepath.data.splits import generator
from singlepath.errors import user_error
from singlepath.pipeline.outcome import architecture_of, read_result, update_result
from singlepath.pipeline.progress import note, progress
from singlepath.pipeline.searching import problem_of, searched_data
from singlepath.pipeline.setup import best_device, cost_models, set_threads
from singlepath.runs import begun_by, load_checkpoint, read_json
from singlepath.search.base import Problem
from singlepath.search.score_model import PartScore
from singlepath.search.scoring import Scorer, drawn
from singlepath.search.selection import select
from singlepath.search.single_path import candidates_of
from singlepath.spaces import Space
from singlepath.supernet import Supernet

__all__ = ["front_of", "supernet_of"]

SHARES = (30, 40, 50, 60, 70, 80, 90)  # of the largest network, %
RANDOM, RANDOM_EACH = 60, 10  # uniformly drawn networks kept to compare with: in all, and of one budget


def supernet_of(run: Path, space: Any) -> Supernet:
    """The trained supernet that a search kept.

    Raises:
        UserError: the run has none (it has not finished, or its method trains none).
    """
    saved = load_checkpoint(run, "supernet")
    if saved is None or "thresholds" not in saved["supernet"]:
        raise user_error(
            f"{run} holds no supernet", "a finished search of --mode single-path keeps one",
            f"type: singlepath {begun_by(read_result(run)['options'])} --config {run} --mode single-path --out NEW",
        )  # fmt: skip
    supernet = Supernet(space)
    supernet.load_state_dict(saved["supernet"])
    return supernet.to(best_device())


def scores_of(run: Path, space: Space) -> dict[Architecture, PartScore]:
    """The sample of networks that a search scored at its end; empty where it kept none."""
    kept = read_json(run / "scores.json") if (run / "scores.json").is_file() else []
    return {Architecture(space.id, tuple(choices)): (part, score) for choices, part, score in kept}


def front_of(
    run: Path, options: dict[str, Any], budgets: list[str] | None, table: LatencyTable | None, share_of: str,
) -> dict[str, Any]:  # fmt: skip
    """The best network of every budget: one sample of scored networks serves all, so further budgets cost little.

    `share_of` is the cost kind that a budget in % is a share of. Where no budgets are given, those of `SHARES` that
    some network keeps.
    """
    set_threads(options["threads"])
    space, data = searched_data(run, options)
    costs = cost_models(space, table)
    budgets = kept_shares(costs(share_of)) if budgets is None else budgets
    resolved = [resolve(parse_budget(text), costs, share_of, "--budgets") for text in budgets]
    resolved.sort(key=lambda b: -b.limit)
    check_one_unit(resolved)
    supernet, started = supernet_of(run, space), time.monotonic()
    with progress("front") as report:
        alone = {**options, "finalists": 1}  # a front trains nothing
        problems = [replace(problem_of(space, data, budget, alone), progress=report) for budget in resolved]
        scorer = Scorer.of(problems[0], supernet)
        scorer.sampled |= scores_of(run, space)
        rows = [row(p, supernet, scorer) for p in problems]
        beside = random_rows(problems, scorer)
        chosen = scored(problems[0], scorer, architecture_of(run)[1])
    seconds = round(time.monotonic() - started, 1)
    front = sorted(rows, key=lambda r: r["budget"])
    update_result(run, front=front, front_random=beside, front_chosen=chosen)
    return {
        "run": str(run), "front": front, "front_random": beside, "front_chosen": chosen,
        "networks_scored": len(scorer.known), "seconds": seconds,
    }  # fmt: skip


def kept_shares(costs: CostModel) -> list[str]:
    """Those of `SHARES` of the largest network's cost that the smallest one keeps."""
    kept = [share for share in SHARES if share * costs.largest >= 100 * costs.smallest]
    if left := [f"{share}%" for share in SHARES if share not in kept]:
        note(f"left out {', '.join(left)}: the smallest network takes {100 * costs.smallest / costs.largest:.0f}%")
    return [f"{share}%" for share in kept]


def check_one_unit(budgets: list[Budget]) -> None:
    """Costs of different kinds have no order and share no axis.

    Raises:
        UserError: no budget, or budgets in several units.
    """
    units = sorted({b.costs.unit for b in budgets})
    if len(units) != 1:
        given = f"budgets in {' and '.join(units)}" if units else "no budget"
        raise user_error(given, "allowed: budgets of one kind, apart by commas", "type --budgets 20%,40%,60%")


def random_rows(problems: list[Problem], scorer: Scorer) -> list[dict[str, float]]:
    """Uniformly random networks of every budget with their scores."""
    each = min(RANDOM_EACH, max(1, RANDOM // len(problems)))
    found: dict[Architecture, Problem] = {}
    for problem in problems:
        networks, _ = drawn(problem, each, generator(problem.seed, "front"))
        found |= dict.fromkeys(networks, problem)
    scorer.score(list(found)[:RANDOM])
    return [scored(problem, scorer, architecture) for architecture, problem in list(found.items())[:RANDOM]]


def scored(problem: Problem, scorer: Scorer, architecture: Architecture) -> dict[str, float]:
    return {"predicted": problem.cost(architecture), "held_out_cross_entropy": scorer(architecture)}


def row(problem: Problem, supernet: Supernet, scorer: Scorer) -> dict[str, Any]:
    found = select(problem, supernet, "score", candidates_of(problem), scorer)
    return {
        "text": problem.budget.text, "budget": problem.budget.limit, "unit": problem.costs.unit,
        "predicted": problem.cost(found.architecture), "held_out_cross_entropy": found.selection["score"],
        "architecture": problem.space.string(found.architecture), "choices": list(found.architecture.choices),
        "underfilled_reason": found.underfilled_reason,
    }  # fmt: skip
