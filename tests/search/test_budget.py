"""Choosing and sampling under a budget, against brute force."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singlepath.costs import Budget, CostModel, LatencyTable, count_costs
from singlepath.search import budget
from singlepath.search.budget import best_under, networks_of, random_networks
from singlepath.spaces import Space, make

figures = st.floats(0.0, 10.0, allow_nan=False)
LAYERS = st.lists(st.lists(st.tuples(figures, st.floats(-5.0, 5.0)), min_size=1, max_size=4), min_size=1, max_size=5)


@given(LAYERS, figures, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_the_knapsack_is_brute_forces_best_within_the_window(
    layers: list[list[tuple[float, float]]], fixed: float, upper: float, lower: float
) -> None:
    """Up to the grid: a network within one cell a layer of an end of the window may be passed over, none outside."""
    costs = CostModel("macs", "MMACs", fixed, tuple(tuple(c for c, _ in layer) for layer in layers))
    utility = [[u for _, u in layer] for layer in layers]
    limit = costs.smallest + upper * (costs.largest - costs.smallest) + 1e-6
    least = lower * limit if lower > 0.2 else 0.0
    slack = len(layers) * (limit - costs.smallest) / budget.CELLS + 1e-9
    everything = list(itertools.product(*(range(len(layer)) for layer in layers)))
    value = {i: sum(u[o] for u, o in zip(utility, i, strict=True)) for i in everything}
    inner = [i for i in everything if least + slack <= costs.of(i) <= limit - slack]
    found = best_under(utility, costs, limit, least)
    if found is None:
        assert not inner
        return
    assert least <= costs.of(found) <= limit
    assert all(value[found] >= value[i] - 1e-9 for i in inner)


def test_the_smallest_network_alone_fits_a_budget_of_its_own_size() -> None:
    costs = CostModel("macs", "MMACs", 1.0, ((1.0, 2.0), (0.5, 0.0)))
    assert best_under([[0, 9], [9, 0]], costs, costs.smallest) == (0, 1)
    assert best_under([[0, 9], [9, 0]], costs, costs.smallest * 0.99) is None
    assert best_under([[0, 9], [9, 0]], costs, 100.0) == (1, 0)
    assert best_under([[0, 0], [0, 0]], costs, 100.0, least=50.0) is None


def test_a_space_of_3e13_networks_is_searched_exactly() -> None:
    """Utility = cost: the best network under a limit uses it to within the grid, and never exceeds it."""
    space = make("mobile")
    costs = LatencyTable.load("pixel1").costs(space)
    for limit in (31.0, 45.0, 80.0, 130.0):
        found = best_under(costs.layers, costs, limit)
        assert found is not None
        assert limit - 20 * limit / budget.CELLS - 0.05 <= costs.of(found) <= limit


# -- random networks --------------------------------------------------------------------------------------------------

MACRO = make("macro")
MACRO_COSTS = count_costs(MACRO, "macs")


def window(space: Space, costs: CostModel, networks: int, start: float) -> tuple[float, float, set[tuple[str, ...]]]:
    """A window of costs that holds about so many distinct networks, the first one at quantile `start`; and which."""
    totals = np.array([costs.fixed])
    for layer in costs.layers:
        totals = (totals[:, None] + np.asarray(layer)[None]).ravel()
    sizes = [len(layer) for layer in costs.layers]
    names, kept = set(), []
    for flat in np.argsort(totals, kind="stable")[int(start * len(totals)) :]:
        architecture = space.architecture([int(i) for i in np.unravel_index(flat, sizes)])
        if space.canonical(architecture) == architecture:
            kept.append(float(totals[flat]))
            names.add(architecture.choices)
            if len(names) == networks:
                break
    least, most = kept[0] - 1e-9, kept[-1] + 1e-9
    for flat in np.flatnonzero((totals >= least) & (totals <= most)):
        architecture = space.architecture([int(i) for i in np.unravel_index(flat, sizes)])
        if space.canonical(architecture) == architecture:
            names.add(architecture.choices)
    return least, most, names


def chi_square(seen: Counter[tuple[str, ...]], names: set[tuple[str, ...]], draws: int) -> float:
    """The statistic in standard deviations from its mean under uniformity."""
    assert set(seen) <= names
    expected = draws / len(names)
    freedom = len(names) - 1
    return (sum((seen[n] - expected) ** 2 / expected for n in names) - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("rejections", [budget.REJECTIONS, 0], ids=["by rejection", "on the grid"])
def test_random_networks_are_uniform_over_distinct_networks_of_the_window(
    monkeypatch: pytest.MonkeyPatch, rejections: int
) -> None:
    monkeypatch.setattr(budget, "REJECTIONS", rejections)
    least, most, names = window(MACRO, MACRO_COSTS, 60, 0.4)
    rng, seen, draws = np.random.default_rng(0), Counter[tuple[str, ...]](), 1500
    for _ in range(draws):
        (found,) = random_networks(MACRO, MACRO_COSTS, least, most, 1, rng)
        seen[found.choices] += 1
    assert abs(chi_square(seen, names, draws)) < 5


def test_a_window_that_one_in_100_000_hits_is_drawn_from_uniformly(monkeypatch: pytest.MonkeyPatch) -> None:
    space = make("mobile-small")
    costs = count_costs(space, "macs")
    least, most, names = window(space, costs, 10, 0.02)
    assert len(names) / space.size < 8e-5
    tries: list[int] = []
    sample = Space.sample
    monkeypatch.setattr(Space, "sample", lambda self, rng: (tries.append(1), sample(self, rng))[1])
    monkeypatch.setattr(budget, "REJECTIONS", 400)
    rng, seen, draws = np.random.default_rng(1), Counter[tuple[str, ...]](), 250
    for _ in range(draws):
        (found,) = random_networks(space, costs, least, most, 1, rng)
        seen[found.choices] += 1
    assert sum(tries) > 0.9 * 400 * draws, "rejection alone would not have found them"
    assert abs(chi_square(seen, names, draws)) < 5


DEEP = ["mobile-small(width=0.5, depth=4)", "mobile(width=0.5, depth=2, input_size=32)", "macro(depth=3)"]


@pytest.mark.parametrize("text", DEEP)
def test_a_deep_space_has_networks_though_nearly_every_name_is_another_ones(text: str) -> None:
    space = make(text)
    costs = count_costs(space, "macs")
    for least, most in ((0.54 * costs.largest, 0.6 * costs.largest), (0.0, costs.largest)):
        found = random_networks(space, costs, least, most, 100, np.random.default_rng(0))
        assert len(set(found)) == 100 and all(space.canonical(a) == a for a in found)
        assert all(least <= costs.of(space.indices(a)) <= most for a in found)


def test_asking_for_more_networks_gives_the_same_first_ones() -> None:
    space = make("mobile-small(width=0.5)")
    costs = count_costs(space, "macs")
    few, many = (
        random_networks(space, costs, 0.54 * costs.largest, 0.6 * costs.largest, count, np.random.default_rng(0))
        for count in (260, 900)
    )
    assert many[:260] == few and len(many) == 900


def test_drawn_together_they_are_those_drawn_one_by_one_and_so_is_what_comes_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = make("mobile(width=0.5, depth=2, input_size=32)")
    costs, drawn = count_costs(space, "macs"), []
    for together in (1, budget.TOGETHER):
        monkeypatch.setattr(budget, "TOGETHER", together)
        rng = np.random.default_rng(0)
        found = random_networks(space, costs, 0.3 * costs.largest, 0.33 * costs.largest, 40, rng)
        drawn.append((found, rng.random()))
    assert len(drawn[0][0]) == 40 and drawn[0] == drawn[1]


def test_all_come_back_where_the_window_holds_fewer_than_asked_for() -> None:
    space = make("mobile-small")
    costs = count_costs(space, "macs")
    least, most, names = window(space, costs, 12, 0.02)
    found = random_networks(space, costs, least, most, 100, np.random.default_rng(0))
    assert {a.choices for a in found} == names and len(found) == len(names)
    assert random_networks(space, costs, costs.largest * 1.01, costs.largest * 2, 3, np.random.default_rng(0)) == []


def test_every_network_of_a_small_space_comes_back_however_rare_the_last_are() -> None:
    every = {MACRO.canonical(a) for a in MACRO.enumerate()}
    found = random_networks(MACRO, MACRO_COSTS, 0.0, MACRO_COSTS.largest, len(every), np.random.default_rng(0))
    assert len(found) == len(set(found)) > 0.97 * len(every) and set(found) <= every


@pytest.mark.parametrize("share", [0.85, 0.95])
def test_random_networks_of_a_budget_aim_where_a_search_aims(share: float) -> None:
    """A latency table's error is kept free by both, so that they are networks of one budget."""
    goal = Budget("40MMACs", 40.0, 40.0 * share, MACRO_COSTS)
    found, least = networks_of(MACRO, goal, 50, np.random.default_rng(0))
    costs = [MACRO_COSTS.of(MACRO.indices(a)) for a in found]
    assert len(found) == 50 and 0.9 * goal.target <= least == goal.least <= min(costs) and max(costs) <= goal.target


def test_where_no_network_fills_a_budget_random_ones_are_drawn_of_all_that_fit() -> None:
    most = 2 * MACRO_COSTS.largest
    found, least = networks_of(MACRO, Budget("all", most, most, MACRO_COSTS), 20, np.random.default_rng(0))
    assert len(found) == 20 and least == 0.0
    few = Budget("none", 0.1, 0.1, MACRO_COSTS)
    assert networks_of(MACRO, few, 20, np.random.default_rng(0))[0] == []


def test_random_networks_are_distinct_as_networks_and_within_the_window() -> None:
    found = random_networks(MACRO, MACRO_COSTS, 36.0, 40.0, 100, np.random.default_rng(0))
    assert len(found) == 100 == len({MACRO.network(a) for a in found})
    assert all(36.0 <= MACRO_COSTS.of(MACRO.indices(a)) <= 40.0 for a in found)
    again = random_networks(MACRO, MACRO_COSTS, 36.0, 40.0, 100, np.random.default_rng(0))
    other = random_networks(MACRO, MACRO_COSTS, 36.0, 40.0, 100, np.random.default_rng(1))
    assert found == again and found != other
