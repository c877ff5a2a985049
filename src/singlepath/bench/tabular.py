"""Trials on tables of trained networks (`tasks`), and what a table says about itself, for the judges.

    E[random search] = E[best of n]                 exact: of n distinct networks of the table (`stats`)
    RI in the whole  = 100 (m - mu) / mu            mu: the mean of the table, without a sample's error
    hypervolume      = 100 H(asked) / H(table)      H: the area of (cost, validation) up to the dearest and the worst
    E[queries of random search to the optimum] = (N + 1) / (c + 1)      c of N networks have the best value

The judged values are read once a process, after its first search has ended; a method never meets them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.bench.protocol import RANDOM_NETWORK, name_of
from singlepath.bench.ranks import seed_ranks
from singlepath.bench.records import Cost, Entry, Point, Record, Trial
from singlepath.bench.stats import expected_best_without_replacement, hypervolume, kendall_tau, spread
from singlepath.bench.tables import nas_bench_macro
from singlepath.bench.tasks import Task, load_task, search_task
from singlepath.data.splits import generator
from singlepath.environment import environment
from singlepath.search.queries import Pool, State
from singlepath.search.query_methods import make_method
from singlepath.spaces import make

__all__ = ["MADE_UP", "RUN", "facts_of", "network_name", "opened", "protocol_of", "run_trial"]

RUN = f"{__name__}:run_trial"
MADE_UP = ("toy", "flat")  # need no data
TOP = 0.1  # share of the table in which ranking is hard
UNITS = {"mmacs": "MMACs", "parameters": "parameters", "seconds": "s", "size": "size"}  # of others, devices: ms
RANKED = 2_000  # networks that Kendall's tau is computed on


@cache
def opened(name: str, data: str, cost: str) -> Task:
    """A task whose judged values are kept once they were read."""
    task = load_task(name, data, cost)
    return replace(task, test=cache(task.test))


def protocol_of(task: Task, cost: str) -> dict[str, Any]:
    """What results depend on beside the method: the second objective, the table itself, and which of its columns
    judges (the column's values stay unread)."""
    parts = (task.pool.codes, task.validation, *task.pool.measures.values())
    content = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
    found = {"kind": "table", "cost": task.pool.cost or cost, "table": content.hexdigest()[:16]}
    return found | ({"judged": task.judged} if task.judged else {})


def network_name(pool: Pool, index: int) -> str:
    """A network of a table: the number of the option of every decision."""
    code = [str(int(option)) for option in pool.codes[index]]
    return ("" if max(pool.options) <= 10 else "-").join(code)


def run_trial(setting: Mapping[str, Any], trial: Trial) -> Record:
    """One search, or one random network; `setting` has the folder of the data and the second objective.

    Raises:
        UserError: the table or the method is not there.
    """
    task = opened(trial.task, setting["data"], setting["cost"])
    if trial.method == RANDOM_NETWORK:
        return _random_network(task, trial)
    method, queries = make_method(trial.method, **trial.settings), int(trial.budget["queries"])
    (index, value, test, spent), state = search_task(method, task, seed=trial.search_seed, queries=queries)
    tuning = _tuning(trial)
    ledger = [Entry("search", "queries", spent)]
    ledger += [Entry("tuning", "queries", tuning)] if tuning else []
    share = _hypervolume(task, _whole(trial.task, setting["data"], setting["cost"]), state["asked"])
    return Record(
        trial, network_name(task.pool, index), value, test, tuple(ledger), _curve(task, state), *_code(),
        _cost(task.pool, index), share,
    )  # fmt: skip


def _random_network(task: Task, trial: Trial) -> Record:
    """Seed i has the i-th network of one random order of the table: distinct, and the same ones however many."""
    order = generator(0, "random networks").permutation(len(task.pool))
    index = int(order[trial.search_seed % len(order)])
    name, value, test = network_name(task.pool, index), float(task.validation[index]), float(task.test()[index])
    ledger, curve = (Entry("search", "queries", 0),), (Point(0, name, value, test),)
    return Record(trial, name, value, test, ledger, curve, *_code(), _cost(task.pool, index))


def _cost(pool: Pool, index: int) -> Cost | None:
    return Cost(pool.cost, UNITS.get(pool.cost, "ms"), float(pool.costs[index])) if pool.cost else None


def _area(task: Task, networks: Sequence[int]) -> float:
    costs, values = task.pool.costs, task.validation
    return hypervolume(costs[networks], values[networks], float(costs.max()), float(values.min()))


@cache
def _whole(name: str, data: str, cost: str) -> float:
    """The area of a whole table."""
    task = opened(name, data, cost)
    return _area(task, range(len(task.pool)))


def _hypervolume(task: Task, whole: float, asked: Sequence[int]) -> float | None:
    """Per cent of the table's; None without a cost, or where all cost or are worth the same."""
    return 100 * _area(task, asked) / whole if task.pool.cost and whole > 0 else None


def _tuning(trial: Trial) -> float:
    """Queries that this trial's settings were chosen with, as the protocol states them by contender."""
    return dict(trial.protocol.get("tuning", {})).get(name_of(trial), 0)


def _curve(task: Task, state: State) -> tuple[Point, ...]:
    """The queries that improved on all before them."""
    values = np.asarray(state["values"])
    best = np.concatenate([[-np.inf], np.maximum.accumulate(values)[:-1]])
    tests, points = task.test(), []
    for i in np.flatnonzero(values > best):
        index = state["asked"][i]
        points.append(Point(int(i) + 1, network_name(task.pool, index), float(values[i]), float(tests[index])))
    return tuple(points)


@cache
def _code() -> tuple[dict[str, str], str | None]:
    """Versions and commit of the code that runs here."""
    here = environment()
    return here["versions"], here["commit"]


# -- for the judges, after the searches -------------------------------------------------------------------------------


def facts_of(task: Task, data: str, budgets: Sequence[float]) -> dict[str, Any]:
    """What a table says about itself: its optimum, its spread, and what random search finds with each of `budgets`."""
    validation, test, best = task.validation, np.asarray(task.test(), float), task.best
    optima = int((validation == validation.max()).sum())
    top = np.argsort(-validation, kind="stable")[: max(2, round(TOP * len(validation)))]
    return {
        "task": task.name, "networks": len(validation), "functions": len(task.pool.distinct),
        "optimum": {
            "network": network_name(task.pool, best), "validation": float(validation[best]), "test": float(test[best]),
            "networks": optima, "random_queries": (len(validation) + 1) / (optima + 1),
            "sentence": f"the optimum by validation has test accuracy {test[best]:.2f}",
        },
        "best_test": float(test.max()),
        "space": spread(test)._asdict(),
        "random_search": [_expected(validation, test, n) for n in sorted({min(int(b), len(test)) for b in budgets})],
        "validation_tau": {"all": _tau(validation, test), "top": _tau(validation[top], test[top]), "share": TOP},
        "seed_ranks": _seed_ranks(task, data),
    }  # fmt: skip


def _expected(validation: np.ndarray, test: np.ndarray, queries: int) -> dict[str, float]:
    """The exact mean and deviation of what random search ends with: the test value of the best validated network."""
    mean = expected_best_without_replacement(validation, queries, reads=test)
    centre = float(test.mean())  # squares of small numbers keep their digits
    second = expected_best_without_replacement(validation, queries, reads=(test - centre) ** 2)
    return {"queries": queries, "mean": mean, "sd": max(0.0, second - (mean - centre) ** 2) ** 0.5}


def _tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau, on a random part of a large table."""
    part = np.arange(len(first))
    if len(part) > RANKED:
        part = generator(0, "ranked networks").choice(part, RANKED, replace=False)
    return kendall_tau(first[part], second[part])


def _seed_ranks(task: Task, data: str) -> dict[str, Any] | None:
    """How well one training seed ranks what another one ranks; None where a table has averages only."""
    if task.name != "macro":
        return None
    rows = nas_bench_macro.load(Path(data), make("macro"))
    return seed_ranks(np.array([row.accuracies for row in rows.values()]))._asdict()
