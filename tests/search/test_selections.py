"""Every registered selection, on functions of the architecture whose best network is known, and on a real supernet."""

from __future__ import annotations

import copy
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tests.search.helpers import digits, problem
from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.costs import CostModel, count_costs
from singlepath.data.splits import generator
from singlepath.search import METHODS, Found, Problem, perturbation, run_search
from singlepath.search.base import search_recipe
from singlepath.search.budget import best_under
from singlepath.search.scoring import Scorer, drawn, gate_utility, in_window, least_of
from singlepath.search.selection import SELECTIONS, select
from singlepath.spaces import Layer, Space
from singlepath.supernet import Supernet, build

SCORING = sorted(set(SELECTIONS) - {"gates"})  # the gates' choice is scored only against a fuller one
COUNTING = sorted(set(SCORING) - {"score"})  # they state `evaluations`
WINDOWED = ("evolution", "weaknas")  # they score nothing outside the window


def space_of(*widths: int) -> Space:
    """A stage of two layers a width, the second skippable; no two layers are interchangeable."""
    layers, channels, side = [], 8, 16
    for stage, out in enumerate(widths):
        for index in range(2):
            stride = 2 if index == 0 and stage % 2 else 1
            layers.append(Layer(stage, index, channels, out, stride, side, (3, 5), (3.0, 6.0), skippable=index > 0))
            channels, side = out, -(-side // stride)
    return Space(f"toy{len(widths)}", tuple(layers), 16, 3, 8, 1, 32, 10)


SMALL, LARGE = space_of(8, 12, 16), space_of(8, 12, 16, 24)  # 8,000 and 160,000 networks


@lru_cache(maxsize=4)
def supernet(space: Space) -> Supernet:
    return build(space, 0)


class Truth(NamedTuple):
    """What a network's cross-entropy is: a figure an option, and one a pair of options of neighbouring layers."""

    space: Space
    effects: list[np.ndarray]
    pairs: list[np.ndarray]

    @classmethod
    def drawn(cls, space: Space, seed: int, mix: float = 0.0, size: float = 1.0) -> Truth:
        """Random figures (`mix`: the pairs' share of the effects' spread); `size` is what the largest network gains."""
        rng, costs = np.random.default_rng(seed), count_costs(space, "macs")
        gain, counts = size / (costs.largest - costs.smallest), [len(layer.options) for layer in space.searchable]
        effects = [0.05 * rng.normal(size=len(c)) - gain * np.array(c) for c in costs.layers]
        pairs = [0.05 * mix * rng.normal(size=shape) for shape in pairwise(counts)]
        return cls(space, effects, pairs)

    def of(self, indices: tuple[int, ...]) -> float:
        single = sum(e[o] for e, o in zip(self.effects, indices, strict=True))
        return 3.0 + float(single + sum(p[a, b] for p, a, b in zip(self.pairs, indices, indices[1:], strict=False)))

    def everywhere(self, costs: CostModel) -> tuple[np.ndarray, np.ndarray]:
        """(cost, cross-entropy) of every network of the space."""
        at = np.indices([len(e) for e in self.effects]).reshape(len(self.effects), -1)
        cost = costs.fixed + sum(np.array(c)[o] for c, o in zip(costs.layers, at, strict=True))
        single = sum(e[o] for e, o in zip(self.effects, at, strict=True))
        pairs = sum(p[a, b] for p, a, b in zip(self.pairs, at[:-1], at[1:], strict=True))
        return np.asarray(cost), np.asarray(3.0 + single + pairs)


def scorer_of(truth: Truth) -> tuple[Scorer, list[Architecture]]:
    """A scorer that reads the truth, and the networks that it was asked for, in order."""
    asked: list[Architecture] = []

    def measure(architecture: Architecture) -> Tensor:
        asked.append(architecture)
        return truth.of(truth.space.indices(architecture)) + 1e-6 * torch.linspace(-1, 1, 20, dtype=torch.float64)

    return Scorer(supernet(truth.space), [], [], measure=measure), asked


def asked_for(space: Space = SMALL, share: float = 0.55, seed: int = 0, **settings: Any) -> Problem:
    """A problem whose budget is a share of the largest network's MACs."""
    return problem(f"{share * count_costs(space, 'macs').largest:.5f}MMACs", space=space, seed=seed, **settings)


def selected(name: str, truth: Truth, asked: Problem, candidates: int) -> tuple[Found, float, list[Architecture]]:
    """The answer, its true cross-entropy, and what was scored for it."""
    scorer, calls = scorer_of(truth)
    found = select(asked, supernet(truth.space), name, candidates, scorer)
    return found, truth.of(truth.space.indices(found.architecture)), calls


def regret(truth: Truth, asked: Problem, value: float) -> float:
    """How far a cross-entropy lies above the best of the budget, in standard deviations of those that fill it."""
    cost, loss = truth.everywhere(asked.costs)
    fits = cost <= asked.budget.target
    return float((value - loss[fits].min()) / loss[fits & (cost >= least_of(asked))].std())


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
    inside = (cost >= least_of(asked)) & (cost <= asked.budget.target)
    assert 5 < inside.sum() < 150
    found, value, calls = selected(name, truth, asked, 400)
    assert found.selection["evaluations"] == len(calls) < 400
    assert value == pytest.approx(loss[cost <= asked.budget.target].min())


@pytest.mark.parametrize("name", WINDOWED)
def test_what_is_scored_lies_in_the_window_or_under_the_target_where_that_is_empty(name: str) -> None:
    truth, asked = Truth.drawn(SMALL, 0), asked_for()
    assert all(in_window(asked, a, least_of(asked)) for a in selected(name, truth, asked, 60)[2])
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


# -- perturbation -----------------------------------------------------------------------------------------------------

SWEEP = 1 + sum(len(layer.options) - 1 for layer in LARGE.searchable)


@pytest.mark.parametrize("seed", range(4))
def test_one_sweep_finds_the_exact_best_of_an_additive_function(seed: int) -> None:
    truth, asked = Truth.drawn(LARGE, seed), asked_for(LARGE, seed=seed)
    found, value, calls = selected("perturbation", truth, asked, SWEEP + perturbation.KEPT)
    assert len(calls) <= SWEEP + perturbation.KEPT and found.selection["layers_measured"] == len(LARGE.searchable)
    assert regret(truth, asked, value) == pytest.approx(0.0, abs=1e-6)
    assert found.selection["predicted"] == pytest.approx(value) and abs(found.selection["interplay"]) < 1e-9


def test_interplay_is_what_the_influences_do_not_add_up_to() -> None:
    truth, asked = Truth.drawn(LARGE, 3, 1.5), asked_for(LARGE)
    found, _, _ = selected("perturbation", truth, asked, SWEEP + perturbation.KEPT)
    assert abs(found.selection["interplay"]) > 1e-3


def test_layers_that_evaluations_do_not_reach_keep_the_gates_choice() -> None:
    truth, asked = Truth.drawn(LARGE, 0), asked_for(LARGE, share=3.0)
    utility = gate_utility(supernet(LARGE))
    start = best_under(utility, asked.costs, asked.budget.target)
    found, value, _ = selected("perturbation", truth, asked, 16)
    measured = found.selection["layers_measured"]
    moved = [a != b for a, b in zip(LARGE.indices(found.architecture), start or (), strict=True)]
    assert 0 < measured < len(LARGE.searchable) and 0 < sum(moved) <= measured
    assert start is not None and value < truth.of(start)


def test_a_smaller_network_of_better_options_is_taken_and_both_figures_are_given() -> None:
    found, value, _ = selected("perturbation", Truth.drawn(SMALL, 0, size=-1.0), asked_for(share=0.8), 60)
    assert found.underfilled_reason is not None and f"{value:.4f} against" in found.underfilled_reason


def test_fine_tuning_changes_the_answer_s_measurements_and_never_the_supernet() -> None:
    net = build(SMALL, 0)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with_, without = (
        select(asked_for(fine_tune=steps), net, "perturbation", 26, Scorer.of(asked_for(), net)) for steps in (2, 0)
    )
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    batch, decisions = search_recipe(asked_for()).batch_size, with_.selection["layers_measured"]
    assert decisions > 2 and with_.selection["fine_tuning_passes"] == decisions * 2 * batch
    assert without.selection["fine_tuning_passes"] == 0
    assert 0 < with_.selection["candidates"] < with_.selection["evaluations"] <= 26, "tuned networks are counted too"


def test_fine_tuned_selections_add_up_too() -> None:
    truth = Truth.drawn(SMALL, 1)
    asked = asked_for(fine_tune=1)
    found, value, calls = selected("perturbation", truth, asked, 40)
    assert regret(truth, asked, value) == pytest.approx(0.0, abs=1e-6)
    assert len(calls) == found.selection["evaluations"] <= 40


def test_fine_tuning_trains_the_child_on_training_images_and_leaves_what_it_does_not_run() -> None:
    net, asked = build(SMALL, 0), asked_for()
    smallest = SMALL.architecture([layer.tokens.index("k3_e3") for layer in SMALL.searchable])
    before = copy.deepcopy(net)
    batch = next(perturbation.training_batches(asked, 5))
    assert set(batch.index.tolist()) <= set(range(len(digits().train)))

    def loss(net: Supernet) -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(net.extract(smallest).train()(batch.x), batch.y))

    perturbation.fine_tune(asked, net, smallest, 12, 5)
    assert loss(net) < loss(before)
    assert torch.equal(net.thresholds, before.thresholds)
    for block, old in zip(net.super_blocks, before.super_blocks, strict=True):
        moved = block.conv_dw.weight != old.conv_dw.weight
        inner = round(block.layer.in_channels * block.layer.expansions[0])
        assert moved[:inner, :, 1:4, 1:4].any() and not moved[inner:].any()
        assert not moved[:, :, 0].any(), "the outer ring of 5x5 takes no part"


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
