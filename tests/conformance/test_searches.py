"""Every search method, selection and query method, on every space: what registering one promises."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conformance.test_query_methods import VARIANTS

from singlepath.costs import count_costs, parse_budget
from singlepath.costs.budget import resolve
from singlepath.data import Data, Images, load
from singlepath.runs import Run
from singlepath.search import METHODS, Found, Problem, run_search
from singlepath.search.query_methods import QUERY_METHODS, make_method
from singlepath.search.selection import SELECTIONS, select
from singlepath.search.space_pool import query_supernet
from singlepath.spaces import SPACES, make
from singlepath.supernet import Supernet, build

SIDE = {"mobile": 32}  # of the input, px; 16 where nothing is said
CANDIDATES = 12


def no_test() -> tuple[Images, list[str]]:
    raise AssertionError("test images were read by a search")


@lru_cache(maxsize=4)
def images(side: int) -> Data:
    return replace(load("digits", size=side, channels=3, seed=0, limit=120), read_test=no_test)


def problem(space: str, seed: int = 0, error95: float = 0.0) -> Problem:
    """60 % of the largest network; `error95` as a latency table states it, which leaves so much of the budget free."""
    made = make(space, width=0.25, input_size=SIDE.get(space, 16))
    costs = replace(count_costs(made, "macs"), error95=error95)
    budget = resolve(parse_budget("60%"), lambda kind: costs, share_of="macs")
    settings = {"candidates": CANDIDATES}
    return Problem(made, images(made.input_size), budget, seed, epochs=2, batch_size=32, settings=settings)


@lru_cache(maxsize=4)
def supernet(space: str) -> Supernet:
    return build(problem(space).space, 0).eval()


def weights(method: str, state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in METHODS[method].weights(state).items()}


def kept(asked: Problem, found: Found) -> None:
    """Within the budget, or the answer says that its method keeps none; and a reason where the budget is not filled."""
    cost = asked.cost(found.architecture)
    if "over_budget" in found.selection:
        assert cost > asked.budget.limit and found.selection["method"] not in SELECTIONS
        return
    assert cost <= asked.budget.target
    assert asked.budget.filled(cost) or found.underfilled_reason


@lru_cache
def whole_search(method: str, space: str) -> tuple[Found, dict[str, Any]]:
    return run_search(problem(space), METHODS[method])


PAIRS = [(method, space) for method in METHODS for space in SPACES]


@pytest.mark.parametrize(("method", "space"), PAIRS)
def test_a_search_is_a_function_of_its_seed_and_keeps_its_budget(method: str, space: str) -> None:
    asked = problem(space)
    found, state = whole_search(method, space)
    kept(asked, found)
    again, same = run_search(asked, METHODS[method])
    assert again == found
    ours, theirs = weights(method, state), weights(method, same)
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items())
    other = problem(space, seed=1)
    another, changed = run_search(other, METHODS[method])
    kept(other, another)
    differing = [k for k, v in weights(method, changed).items() if not torch.equal(v, ours[k])]
    assert differing if ours else another.architecture != found.architecture


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("method", "space"), PAIRS)
def test_a_search_that_was_stopped_goes_on_to_the_same_bits(method: str, space: str, tmp_path: Path) -> None:
    asked = problem(space)
    whole, state = whole_search(method, space)
    seen = 0

    def stop(phase: str, step: int, total: int, values: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == max(1, total // 2):
            raise Stopped

    with Run.open(tmp_path / "run", {}) as run, pytest.raises(Stopped):
        run_search(replace(asked, progress=stop), METHODS[method], run, checkpoint_steps=1)
    with Run.open(tmp_path / "run", {}, resume=True) as run:
        found, resumed = run_search(asked, METHODS[method], run, checkpoint_steps=1)
    assert found == whole and resumed["step"] == state["step"]
    theirs = weights(method, state)
    assert all(torch.equal(v, theirs[k]) for k, v in weights(method, resumed).items())


@pytest.mark.parametrize(("name", "space"), [(name, space) for name in SELECTIONS for space in SPACES])
def test_a_selection_is_a_function_of_its_seed_and_keeps_its_budget(name: str, space: str) -> None:
    asked, net = problem(space), supernet(space)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = select(asked, net, name, CANDIDATES)
    kept(asked, found)
    assert found.selection["method"] == name and found.selection["candidates"] <= CANDIDATES
    assert select(asked, net, name, CANDIDATES) == found
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()), "the supernet stays as it is"


ON_SUPERNETS = [
    *((name, space) for name in QUERY_METHODS for space in SPACES),
    *((v, "mobile-small") for v in VARIANTS),
]


@pytest.mark.parametrize(("name", "space"), ON_SUPERNETS)
def test_a_query_method_searches_a_supernet(name: str, space: str) -> None:
    asked = problem(space)
    (found, state), again, other = (
        query_supernet(problem(space, seed), supernet(space), name, make_method(name), CANDIDATES) for seed in (0, 0, 1)
    )
    kept(asked, found)
    assert found.selection["evaluations"] == len(state["asked"]) == CANDIDATES == len(set(state["asked"]))
    assert again[0] == found and again[1]["values"] == state["values"]
    assert other[1]["values"] != state["values"]


@pytest.mark.parametrize("error", [0.1, 0.2])
@pytest.mark.parametrize("name", [*METHODS, *SELECTIONS, *QUERY_METHODS])
def test_the_error_of_a_latency_table_is_left_free(name: str, error: float) -> None:
    """Costs that are known to 10 or 20 % only: what is found stays so much below the budget, whoever chose it."""
    asked, net = problem("macro", error95=error), supernet("macro")
    assert asked.budget.target == pytest.approx(asked.budget.limit / (1 + error))
    if name in METHODS:
        kept(asked, run_search(asked, METHODS[name])[0])
    if name in SELECTIONS:
        kept(asked, select(asked, net, name, CANDIDATES))
    if name in QUERY_METHODS:
        kept(asked, query_supernet(asked, net, name, make_method(name), CANDIDATES)[0])
