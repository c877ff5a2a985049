"""Random sampling: one network drawn uniformly from those of the budget. The baseline, and the template of a method.

Nothing is trained and nothing is evaluated; its cost in passes is zero (arXiv 1912.12522: beat the average random
network first).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from singlepath.data.splits import generator
from singlepath.search.base import Found, Method, Plan, Problem, State
from singlepath.search.scoring import drawn, reason

__all__ = ["METHOD"]


def start(problem: Problem) -> State:
    return {}


def plan(problem: Problem, state: State) -> Plan:
    return Plan(epochs=1, steps_per_epoch=1, batches=lambda epoch, first: [None])


def step(problem: Problem, state: State, batch: Any) -> Mapping[str, Any]:
    return {}


def result(problem: Problem, state: State) -> Found:
    (found,), _ = drawn(problem, 1, generator(problem.seed, "random method"))
    filled = problem.budget.filled(problem.cost(found))
    return Found(found, {"method": "random", "candidates": 1}, None if filled else reason(problem, found))


METHOD = Method(start, plan, step, result)
