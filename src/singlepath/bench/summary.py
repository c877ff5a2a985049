"""What the records of a comparison say: means with intervals, curves, tests with Holm's correction, the ledger.

Two families of tests, each corrected as a whole over all tasks: of test accuracy (every method against the random
networks, and methods against one another) and of queries to the optimum (methods against one another). A search that
did not reach the optimum counts with its budget, and how many did not is said; two methods of which no search did are
not compared in it, though their test (p = 1) counts in the correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from singlepath.bench import stats
from singlepath.bench.image_ranks import image_ranks
from singlepath.bench.per_search import accuracies, cost_of, interval, per_search
from singlepath.bench.protocol import RANDOM, RANDOM_NETWORK, is_beside, name_of
from singlepath.bench.ranks import seed_matrix, seed_ranks
from singlepath.bench.records import Record, compare, trace
from singlepath.search.incumbents import Incumbent

__all__ = ["WITHIN", "summarise"]

POINTS = 90  # of a curve
WITHIN = 3.0  # standard errors between random search and its expectation
NETWORKS = "random networks"
Groups = dict[str, list[Record]]


def summarise(
    records: Sequence[Record], facts: Mapping[str, Mapping[str, Any]], *, against: str | None = None
) -> dict[str, Any]:
    """The comparison as plain values, by task in the records' order.

    Args:
        facts: what tables say about themselves (`tabular.facts_of`), by task; none of a task without a table.
        against: the one contender that all others are tested against (an ablation); None: all pairs.

    Raises:
        UserError: the recipes differ.
    """
    compare(records)
    tasks: dict[str, Groups] = {}
    beside: dict[str, list[Record]] = {}
    for record in records:
        if is_beside(record.trial):
            beside.setdefault(record.trial.task, []).append(record)
        else:
            tasks.setdefault(record.trial.task, {}).setdefault(name_of(record.trial), []).append(record)
    accuracy, queries = _tests(tasks, facts, against)
    return {
        "alpha": stats.ALPHA, "level": stats.LEVEL,
        "tasks": [
            _task(name, groups, facts.get(name), accuracy)
            | image_ranks(groups.get(RANDOM_NETWORK, []), beside.get(name, []))
            for name, groups in tasks.items()
        ],
        "tests": [*accuracy, *queries],
    }  # fmt: skip


# -- tests ------------------------------------------------------------------------------------------------------------


def _tests(
    tasks: Mapping[str, Groups], facts: Mapping[str, Mapping[str, Any]], against: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    accuracy, queries, never = [], [], set[tuple[str, str]]()
    for task, groups in tasks.items():
        names = [name for name in groups if name != RANDOM_NETWORK]
        tests = {name: accuracies(groups[name]) for name in groups}
        if RANDOM_NETWORK in groups:
            accuracy += [(task, name, NETWORKS, tests[name], tests[RANDOM_NETWORK]) for name in names]
        pairs = [(a, b) for b, a in combinations(names, 2)]
        if against is not None:
            pairs = [(name, against) for name in names if name != against]
        accuracy += [(task, a, b, tests[a], tests[b]) for a, b in pairs]
        if (table := facts.get(task)) is not None:
            spent, reached = zip(*(_to_optimum(groups[name], table) for name in names), strict=True)
            by_name = dict(zip(names, spent, strict=True))
            queries += [(task, a, b, by_name[a], by_name[b]) for a, b in pairs]
            never |= {(task, name) for name, ended in zip(names, reached, strict=True) if not ended.any()}
    judged = _judged("queries", queries, "queries", False)
    for row in judged:
        if {(row["task"], row["first"]), (row["task"], row["second"])} <= never:
            row["different"] = None
            row["sentence"] = f"{row['first']} and {row['second']} cannot be compared: neither reached it"
    return _judged("accuracy", accuracy, "points", True), judged


def _judged(of: str, samples: list[tuple[str, str, str, Any, Any]], unit: str, higher: bool) -> list[dict[str, Any]]:
    tests = [stats.welch(ours, theirs) for *_, ours, theirs in samples]
    corrected = stats.holm([test.p for test in tests]) if tests else []
    rows = []
    for (task, first, second, *_), test, p in zip(samples, tests, map(float, corrected), strict=True):
        sentence = stats.verdict(first, second, test, p, unit=unit, higher_is_better=higher)
        rows.append(
            {
                "of": of, "task": task, "first": first, "second": second, "difference": test.difference, "p": test.p,
                "holm": p, "different": bool(p <= stats.ALPHA) if p == p else None, "sentence": sentence,
            }
        )  # fmt: skip
    return rows


# -- one task ---------------------------------------------------------------------------------------------------------


def _task(name: str, groups: Groups, table: Mapping[str, Any] | None, accuracy: list[dict[str, Any]]) -> dict[str, Any]:
    networks = groups.get(RANDOM_NETWORK, [])
    sampled = accuracies(networks)
    verdicts = {row["first"]: row for row in accuracy if row["task"] == name and row["second"] == NETWORKS}
    best = table["optimum"]["validation"] if table else _best(groups)
    rows = [
        _method(label, group, sampled, best, table, verdicts.get(label))
        for label, group in groups.items()
        if label != RANDOM_NETWORK
    ]
    drawn = networks and {**stats.spread(sampled)._asdict(), "interval": interval(sampled), **cost_of(networks)}
    return {
        "task": name, "queries": next(iter(groups.values()))[0].trial.budget["queries"], "table": dict(table or {}),
        "random_networks": drawn or None,
        "random_search": _against_expectation(groups.get(RANDOM, []), table), "methods": rows,
        "seed_ranks": _seeds(groups, table),
    }  # fmt: skip


def _best(groups: Groups) -> float | None:
    """The best validated of all; None where every network had a training of its own, whose luck it would be."""
    every = [record for group in groups.values() for record in group]
    return None if any(r.trial.training_seed is not None for r in every) else max(_validations(every))


def _validations(group: Sequence[Record]) -> list[float]:
    return [r.validation for r in group if r.validation is not None]


def _method(
    label: str, group: list[Record], sampled: np.ndarray, best: float | None, table: Mapping[str, Any] | None,
    verdict: Mapping[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    tests = accuracies(group)
    found = stats.spread(tests)
    searched, tuned = (float(np.mean([r.spent("queries", phase) for r in group])) for phase in ("search", "tuning"))
    row: dict[str, Any] = {
        "method": label, "runs": found.runs, "test": found.mean, "test_interval": interval(tests),
        "test_sd": found.sample_sd, "test_low": found.low, "test_high": found.high,
        "validation": float(np.mean(_validations(group))),
        "ledger": {"search": searched, "tuning": tuned, "total": searched + tuned, **_passes(group)},
        "settings": dict(group[0].trial.settings), **cost_of(group),
    }  # fmt: skip
    shares = per_search(group, lambda r: r.hypervolume)
    if len(shares) == found.runs:
        row["hypervolume"] = {"mean": float(shares.mean()), "interval": interval(shares)}
    if best is not None:
        row["regret"], row["curve"] = float(best - row["validation"]), _curve(group, best)
    elif (scores := _scores(group)) is not None:
        row["curve"] = scores
    if len(sampled):
        row["ri"] = dict(stats.relative_improvement(tests, sampled)._asdict())
        row["ri"]["holm"] = verdict["holm"] if verdict else float("nan")
        row["verdict"] = verdict["sentence"] if verdict else ""
    if table:
        mean, low_high = table["space"]["mean"], stats.mean_interval(tests)
        low, high = (100 * (bound - mean) / mean for bound in low_high)
        row["ri_exact"] = {"value": 100 * (found.mean - mean) / mean, "low": low, "high": high}
        row["random_at_equal_cost"] = _expected(table, searched + tuned)
        row["to_optimum"] = _queries(group, table)
    return row


def _passes(group: list[Record]) -> dict[str, float]:
    """Image passes of a search and of the training after it, means over the searches; none on a table."""
    kinds = {
        "search_passes": ("passes", "search"),
        "forward": ("forward", "search"),
        "training": ("passes", "training"),
    }
    spent = {name: float(np.mean([r.spent(*kind) for r in group])) for name, kind in kinds.items()}
    return spent if any(spent.values()) else {}


def _queries(group: list[Record], table: Mapping[str, Any]) -> dict[str, Any]:
    """Queries until the best validated network of the table was asked; a search that ended before counts with its
    budget, the cap."""
    spent, reached = _to_optimum(group, table)
    return {
        "mean": float(spent.mean()), "interval": interval(spent), "median": float(np.median(spent)),
        "reached": int(reached.sum()), "at_cap": int((~reached).sum()), "cap": group[0].trial.budget["queries"],
    }  # fmt: skip


def _to_optimum(group: list[Record], table: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(queries, whether it was reached) of every search."""
    best, cap = table["optimum"]["validation"], [r.trial.budget["queries"] for r in group]
    first = [next((p.queries for p in r.curve if p.validation >= best), None) for r in group]
    spent = [float(limit if n is None else n) for n, limit in zip(first, cap, strict=True)]
    return np.array(spent), np.array([n is not None for n in first])


def _curve(group: list[Record], best: float) -> dict[str, list[float]]:
    """Mean regret of validation over queries, points, and the bounds of its interval."""
    grid = _grid(group)
    regret = stats.regret_curve([trace(r) for r in group], best, grid)
    return {
        "queries": grid.tolist(), "regret": regret.mean.tolist(), "low": regret.low.tolist(),
        "high": regret.high.tolist(),
    }  # fmt: skip


def _grid(group: list[Record]) -> np.ndarray:
    """Numbers of queries, up to the budget, closer to one another where they are few."""
    return np.unique(np.round(np.geomspace(1, max(r.trial.budget["queries"] for r in group), POINTS)))


def _scores(group: list[Record]) -> dict[str, Any] | None:
    """The best held-out cross-entropy so far over the networks that the supernet scored, nats: mean over searches, the
    lowest and the highest; from where every search has one to where the longest ends. `part`: some are on a part of the
    held-out images. None where a search has none: it scored nothing, or was recorded before they were."""
    searches = {r.trial.search_seed: r.incumbents for r in group}  # its trainings are of one search
    if not all(searches.values()):
        return None
    grid = _grid(group)
    grid = np.unique(np.minimum(grid, max(r.queries for r in group)))
    every = np.stack([_best_scores(found, grid) for found in searches.values()])
    begun = ~np.isnan(every).any(0)
    grid, every = grid[begun], every[:, begun]
    return {
        "queries": grid.tolist(), "cross_entropy": every.mean(0).tolist(), "low": every.min(0).tolist(),
        "high": every.max(0).tolist(), "part": any(each.part for found in searches.values() for each in found),
    }  # fmt: skip


def _best_scores(found: Sequence[Incumbent], grid: np.ndarray) -> np.ndarray:
    """The incumbent's score after each number of networks; NaN before the first."""
    at = np.searchsorted([each.scored for each in found], grid, side="right") - 1
    return np.where(at >= 0, np.array([each.cross_entropy for each in found])[at], np.nan)


def _against_expectation(group: list[Record], table: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Random search beside its exact expectation, in standard errors of that many searches."""
    if not table or not group:
        return None
    exact, tests = _expected(table, group[0].queries), accuracies(group)
    if exact is None:
        return None
    error = exact["sd"] / len(tests) ** 0.5
    away = float((tests.mean() - exact["mean"]) / error) if error else 0.0
    return {
        "mean": float(tests.mean()), "expected": exact["mean"], "standard_error": error, "standard_errors": away,
        "holds": abs(away) <= WITHIN,
    }  # fmt: skip


def _expected(table: Mapping[str, Any], queries: float) -> dict[str, float] | None:
    spent = min(int(queries), table["networks"])
    return next((dict(row) for row in table["random_search"] if row["queries"] == spent), None)


def _seeds(groups: Groups, table: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What training seeds do to the ranking: of the whole table, or of the networks that were trained with several."""
    if table and table["seed_ranks"]:
        return dict(table["seed_ranks"])
    networks = groups.get(RANDOM_NETWORK) or [r for group in groups.values() for r in group]
    names, accuracies = seed_matrix(networks)
    return seed_ranks(accuracies)._asdict() if len(names) > 1 and accuracies.shape[1] > 1 else None
