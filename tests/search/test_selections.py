"""Every registered selection, on functions of the architecture whose best network is known, and on a real supernet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.search.helpers import digits, problem
from tests.search.synthetic import LARGE, SMALL, Truth, asked_for, regret, scorer_of, selected, supernet

from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.search import METHODS, run_search
from singlepath.search.scoring import Scorer, drawn, in_window
from singlepath.search.selection import SELECTIONS, select, selection_settings

SCORING = sorted(set(SELECTIONS) - {"gates"})  # the gates' choice is scored only against a fuller one
COUNTING = sorted(set(SCORING) - {"score"})  # they state `evaluations`
WINDOWED = ("evolution", "weaknas")  # they score nothing outside the window


# -- what every selection keeps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.35, 0.6, 0.9, 3.0])
@pytest.mark.parametrize("name", sorted(SELECTIONS))
def test_the_budget_is_kept_and_a_reason_given_where_it_is_not_filled(name: str, share: float) -> None:
    asked = asked_for(share=share)
    for size in (1.0, -1.0):
        found, _, _ = selected(name, Truth.drawn(SMALL, 1, 0.5, size), asked, 40)
        cost = asked.cost(found.architecture)
        assert cost <= asked.budget.target
        assert asked.budget.filled(cost) == (found.underfilled_reason is None)
        assert found.selection["method"] == name


@pytest.mark.parametrize("share", [0.2, 0.35, 0.6, 3.0])
def test_finalists_are_the_answer_and_what_the_model_puts_next(share: float) -> None:
    plain = asked_for(share=share)
    asked = replace(plain, settings={**plain.settings, "finalists": 5})
    for size in (1.0, -1.0):
        truth = Truth.drawn(SMALL, 1, 0.5, size)
        found, _, calls = selected("score", truth, asked, 300)
        alone, _, same = selected("score", truth, plain, 300)
        assert found.architecture == alone.architecture and calls == same, "nothing more is scored"
        rows = found.selection["finalists"]
        names = [Architecture(SMALL.id, tuple(row["choices"])) for row in rows]
        behind = [row["behind"] for row in rows]
        assert names[0] == found.architecture and behind[0] == 0 and behind[1:] == sorted(behind[1:])
        cost, _ = truth.everywhere(asked.costs)
        filled = int(((cost >= asked.budget.least) & (cost <= asked.budget.target)).sum())
        assert len(names) == len(set(names)) and len(names) == min(5, filled or len(cost))
        assert all(asked.cost(a) <= asked.budget.target for a in names)
        assert all(asked.budget.filled(asked.cost(a)) for a in names[1:]) or not filled
        worse = [truth.of(SMALL.indices(a)) - truth.of(SMALL.indices(names[0])) for a in names]
        assert np.abs(np.array(worse) - behind).max() < 0.15, "about what it is"
        assert "finalists" not in alone.selection


def test_options_of_a_selection_reach_it() -> None:
    asked = problem(**selection_settings("perturbation(candidates=9, fine_tune=2)"))
    found, _ = run_search(asked, METHODS["single-path"])
    assert found.selection["method"] == "perturbation" and 0 < found.selection["candidates"] <= 9
    assert found.selection["fine_tuning_passes"] > 0
    assert selection_settings("gates") == {"select": "gates"}


@pytest.mark.parametrize("name", sorted(SELECTIONS))
def test_the_answer_is_a_function_of_the_seed(name: str) -> None:
    truth = Truth.drawn(LARGE, 0, 0.5)
    (a, _, first), (b, _, again), (_, _, other) = (
        selected(name, truth, asked_for(LARGE, seed=seed), 40) for seed in (3, 3, 4)
    )
    assert a == b and first == again
    assert name == "gates" or first != other


@pytest.mark.parametrize("candidates", [4, 17, 60, 150])
@pytest.mark.parametrize("name", SCORING)
def test_evaluations_are_counted_exactly_and_never_more_than_asked_for(name: str, candidates: int) -> None:
    found, _, calls = selected(name, Truth.drawn(LARGE, 2, 0.5), asked_for(LARGE), candidates)
    assert len(calls) == len(set(calls)) == found.selection["candidates"] <= candidates
    assert found.architecture in calls, "the answer was scored itself"
    if name in COUNTING:
        assert found.selection["evaluations"] == len(calls)
    if name in WINDOWED:
        assert len(calls) == candidates, "all that may be spent is"


@pytest.mark.parametrize("name", COUNTING)
def test_one_evaluation_is_enough_for_an_answer(name: str) -> None:
    asked = asked_for()
    found, _, calls = selected(name, Truth.drawn(SMALL, 2), asked, 1)
    assert len(calls) == 1 == found.selection["evaluations"] and asked.cost(found.architecture) <= asked.budget.target


@pytest.mark.parametrize("candidates", [1, 2, 3])
def test_where_there_is_no_model_random_networks_of_the_budget_are_scored(candidates: int) -> None:
    asked, seen = asked_for(LARGE), set()
    for seed in range(4):
        found, _, calls = selected("score", Truth.drawn(LARGE, 2), replace(asked, seed=seed), candidates)
        assert len(calls) <= candidates
        assert asked.budget.least <= asked.cost(found.architecture) <= asked.budget.target
        seen.add(found.architecture)
    assert len(seen) == 4, "not the space's first networks"


@pytest.mark.parametrize("name", SCORING)
def test_what_a_scorer_knows_already_costs_nothing(name: str) -> None:
    truth, asked = Truth.drawn(LARGE, 2, 0.5), asked_for(LARGE)
    scorer, calls = scorer_of(truth)
    select(asked, supernet(LARGE), "score", 60, scorer)
    before = len(calls)
    found = select(asked, supernet(LARGE), name, 60, scorer)
    spent = len(calls) - before
    assert spent == found.selection["candidates"] <= 60
    assert scorer.known[found.architecture] <= min(
        v for a, v in scorer.known.items() if asked.budget.filled(asked.cost(a))
    )


@pytest.mark.parametrize("name", COUNTING)
def test_a_window_that_is_used_up_ends_the_selection(name: str) -> None:
    truth, asked = Truth.drawn(SMALL, 0), asked_for(share=0.3)
    cost, loss = truth.everywhere(asked.costs)
    inside = (cost >= asked.budget.least) & (cost <= asked.budget.target)
    assert 5 < inside.sum() < 150
    found, value, calls = selected(name, truth, asked, 400)
    assert found.selection["evaluations"] == len(calls) < 400
    assert value == pytest.approx(loss[cost <= asked.budget.target].min())


@pytest.mark.parametrize("name", WINDOWED)
def test_what_is_scored_lies_in_the_window_or_under_the_target_where_that_is_empty(name: str) -> None:
    truth, asked = Truth.drawn(SMALL, 0), asked_for()
    assert all(in_window(asked, a, asked.budget.least) for a in selected(name, truth, asked, 60)[2])
    beyond = asked_for(share=3.0)
    assert drawn(beyond, 3, np.random.default_rng(0))[1] == 0.0
    found, _, calls = selected(name, truth, beyond, 60)
    assert len(calls) == 60 and all(beyond.cost(a) <= beyond.budget.target for a in calls)
    assert found.underfilled_reason is not None and "no network of the space" in found.underfilled_reason


# -- what they find ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SCORING)
def test_the_best_network_of_an_additive_function_is_found(name: str, seed: int) -> None:
    truth, asked = Truth.drawn(SMALL, seed), asked_for(seed=seed)
    _, value, _ = selected(name, truth, asked, 300)
    assert regret(truth, asked, value) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", SCORING)
def test_interacting_layers_are_searched_better_than_at_random(name: str) -> None:
    """Mean regret over seeds at equal evaluations, at most half of random sampling's."""
    mine, random = [], []
    for seed in range(6):
        truth, asked = Truth.drawn(LARGE, seed, 0.5), asked_for(LARGE, seed=seed)
        mine.append(regret(truth, asked, selected(name, truth, asked, 120)[1]))
        sampled, _ = drawn(asked, 120, generator(seed, "sampled"))
        random.append(regret(truth, asked, min(truth.of(LARGE.indices(a)) for a in sampled)))
    assert np.mean(mine) < 0.5 * np.mean(random)


# -- on a real supernet -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COUNTING)
def test_a_tiny_search_ends_with_a_network_of_the_budget(name: str) -> None:
    answers = [run_search(problem(select=name, candidates=12), METHODS["single-path"]) for _ in range(2)]
    (found, state), (again, _) = answers
    asked = problem()
    assert found == again
    assert asked.cost(found.architecture) <= asked.budget.target
    assert found.selection["method"] == name and 0 < found.selection["evaluations"] <= 12
    assert found.selection["held_out_images"] == len(digits().val)
    fresh = Scorer.of(problem(seed=0), state["model"])
    assert fresh(found.architecture) == pytest.approx(found.selection["score"], abs=1e-6)
