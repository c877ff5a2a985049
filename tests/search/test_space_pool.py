"""Methods that search by asking, on supernets: every one keeps the budget, counts exactly, and uses what is known."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.search.helpers import digits

from singlepath.architecture import Architecture
from singlepath.costs import CostModel, count_costs, parse_budget
from singlepath.costs.budget import resolve
from singlepath.data.splits import generator
from singlepath.search import Problem, space_pool
from singlepath.search.query_methods import QUERY_METHODS, make_method
from singlepath.search.ranking import ranked
from singlepath.search.scoring import Scorer, in_window
from singlepath.search.space_pool import SpacePool, query_supernet
from singlepath.spaces import Space, make

SPACES = ("macro", "mobile", "mobile-small")


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_pool, "SAMPLE", 120)


@lru_cache
def space_costs(name: str) -> tuple[Space, CostModel]:
    space = make(name)
    return space, count_costs(space, "macs")


def asked_for(name: str, share: float = 0.6, seed: int = 0) -> Problem:
    space, costs = space_costs(name)
    budget = resolve(parse_budget(f"{share * costs.largest:.6f}MMACs"), lambda kind: costs)
    return Problem(space, digits(), budget, seed)


def scorer_of(problem: Problem) -> tuple[Scorer, list[Architecture]]:
    """A scorer of an additive function of the options, and what it was asked for."""
    space, calls = problem.space, list[Architecture]()
    effects = [np.random.default_rng(i).normal(size=len(layer.options)) for i, layer in enumerate(space.searchable)]

    def measure(architecture: Architecture) -> torch.Tensor:
        calls.append(architecture)
        value = sum(e[o] for e, o in zip(effects, space.indices(architecture), strict=True))
        return torch.full((4,), 10.0 + float(value), dtype=torch.float64)

    stub = cast(Any, SimpleNamespace(space=space))  # only the space of a supernet is looked at
    return Scorer(stub, [], [], measure=measure), calls


@pytest.mark.parametrize("name", QUERY_METHODS)
@pytest.mark.parametrize("space", SPACES)
def test_every_method_runs_on_every_space(space: str, name: str) -> None:
    problem = asked_for(space)
    (scorer, calls), (again, repeated) = (scorer_of(problem) for _ in range(2))
    found, state = query_supernet(problem, scorer.supernet, name, make_method(name), 40, scorer)
    assert query_supernet(problem, again.supernet, name, make_method(name), 40, again) == (found, state)
    assert repeated == calls
    assert len(calls) == len(set(calls)) == found.selection["evaluations"] == 40
    assert all(in_window(problem, a, problem.budget.least) for a in calls)
    assert found.architecture in calls
    assert problem.cost(found.architecture) <= problem.budget.target
    assert state["values"] == [-scorer.known[a] for a in calls]


def best_score(method: str, seed: int) -> float:
    problem = asked_for("mobile-small", seed=seed)
    scorer, _ = scorer_of(problem)
    query_supernet(problem, scorer.supernet, method, make_method(method), 80, scorer)
    return min(scorer.known.values())


@pytest.mark.parametrize("name", sorted(set(QUERY_METHODS) - {"random"}))
def test_they_find_better_networks_than_random_ones(name: str) -> None:
    found = {}
    for method in (name, "random"):
        found[method] = np.mean([best_score(method, seed) for seed in range(3)])
    assert found[name] < found["random"]


def test_networks_of_the_window_join_by_their_canonical_name() -> None:
    problem = asked_for("macro")
    pool = SpacePool(problem, 50, generator(0, "test"))
    space, before = problem.space, len(pool)
    every = np.array([space.indices(a) for a in space.enumerate()])
    found = pool.find(every)
    inside = {space.canonical(a) for a in space.enumerate() if in_window(problem, a, problem.budget.least)}
    assert before == pool.sampled == 50
    assert len(found) == len(pool) == len(inside)
    assert {pool.architecture(i) for i in range(len(pool))} == inside
    assert pool.costs.tolist() == pytest.approx([problem.cost(pool.architecture(i)) for i in range(len(pool))])
    assert np.array_equal(pool.find(every), found), "and only once"
    assert len(pool.distinct) == len(pool.same) == len(pool.encoding()) == len(pool)


def test_what_was_worked_out_for_a_smaller_pool_is_let_go() -> None:
    pool, rng = SpacePool(asked_for("mobile-small"), 30, generator(0, "test")), np.random.default_rng(0)
    sizes = []
    for best in range(3):
        over = ranked(pool, {"asked": [best], "values": [0.0]}, rng)
        assert len(over.rows.x) == len(pool.distinct)
        sizes.append(len(pool))
    assert sizes[0] < sizes[-1]
    assert sum(isinstance(key, tuple) and key[0] == "rows" for key in pool.scratch) == 1


def test_draws_take_the_uniform_sample_first() -> None:
    pool = SpacePool(asked_for("mobile-small"), 30, generator(0, "test"))
    pool.grow([0, 1, 2], np.random.default_rng(0))
    assert len(pool) > 40
    drawn = pool.draw(len(pool), np.random.default_rng(0), but=[3])
    assert set(drawn[:29]) == set(range(30)) - {3}
    assert sorted(drawn) == [i for i in range(len(pool)) if i != 3]


def test_what_is_known_is_history() -> None:
    problem = asked_for("mobile-small")
    scorer, calls = scorer_of(problem)
    for name in ("random", "weaknas"):
        before = len(calls)
        found, state = query_supernet(problem, scorer.supernet, name, make_method(name), 30, scorer)
        assert len(calls) - before == found.selection["evaluations"] == 30
        assert len(state["asked"]) == len(calls)
