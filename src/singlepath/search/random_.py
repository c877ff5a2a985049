"""Random sampling: one network drawn uniformly from those of the budget. The baseline, and the template of a method.

Nothing is trained and nothing is evaluated; its cost in passes is zero (arXiv 1912.12522: beat the average random
network first).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from singlepath.data.splits import generator
from singlepath.errors import user_error
from singlepath.search.base import Found, Method, Plan, Problem, State
from singlepath.search.budget import random_networks

__all__ = ["METHOD"]


def start(problem: Problem) -> State:
    return {}


def plan(problem: Problem, state: State) -> Plan:
    return Plan(epochs=1, steps_per_epoch=1, batches=lambda epoch, first: [None])


def step(problem: Problem, state: State, batch: Any) -> Mapping[str, Any]:
    budget, rng = problem.budget, generator(problem.seed, "random method")
    found = random_networks(problem.space, problem.costs, budget.least, budget.target, 1, rng)
    if not found:
        raise user_error(
            f"no network of {problem.space.id} costs {budget.least:.4g} to {budget.target:.4g} {problem.costs.unit}",
            f"the space goes from {problem.costs.smallest:.4g} to {problem.costs.largest:.4g}", "type another --budget",
        )  # fmt: skip
    state["choices"] = list(found[0].choices)
    return {}


def result(problem: Problem, state: State) -> Found:
    architecture = problem.space.architecture(
        [layer.tokens.index(c) for layer, c in zip(problem.space.searchable, state["choices"], strict=True)]
    )
    return Found(architecture, {"method": "random", "candidates": 1})


METHOD = Method(start, plan, step, result)
