"""Small problems for the search tests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from singlepath.costs import count_costs, parse_budget
from singlepath.costs.budget import resolve
from singlepath.data import Data, load
from singlepath.search import Problem
from singlepath.search import single_path as sp
from singlepath.spaces import Space, make

SPACE = make("mobile-small(width=0.5, input_size=16)")


@lru_cache(maxsize=2)
def digits(limit: int = 200) -> Data:
    return load("digits", size=16, channels=3, seed=0, limit=limit)


def problem(budget: str = "0.6MMACs", space: Space = SPACE, seed: int = 0, epochs: int = 2, **settings: Any) -> Problem:
    resolved = resolve(parse_budget(budget), lambda kind: count_costs(space, kind))
    return Problem(space, digits(), resolved, seed, epochs, settings=settings)


def started(**how: Any) -> tuple[Any, dict[str, Any], list[sp.SearchBatch]]:
    """A problem, its state after the first weight steps, and an epoch's batches after the warm-up."""
    asked = problem(**{"warm_up": 0.0, **how})
    state = sp.METHOD.start(asked)
    plan = sp.METHOD.plan(asked, state)
    state |= {"step": 0, "steps_per_epoch": plan.steps_per_epoch}
    batches = list(plan.batches(0, 0))
    assert len(batches) == plan.steps_per_epoch
    return asked, state, batches
