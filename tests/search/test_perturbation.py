"""Selection by perturbation: influences, pairs of changes, fine-tuning."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests.search.helpers import digits
from tests.search.synthetic import LARGE, SMALL, Truth, asked_for, regret, scorer_of, selected, supernet

from singlepath.search import Problem, perturbation
from singlepath.search.base import search_recipe
from singlepath.search.budget import best_under
from singlepath.search.scoring import Scorer, gate_utility
from singlepath.search.selection import select
from singlepath.supernet import Supernet, build

SWEEP = 1 + sum(len(layer.options) - 1 for layer in LARGE.searchable)


@pytest.mark.parametrize("seed", range(4))
def test_one_sweep_finds_the_exact_best_of_an_additive_function(seed: int) -> None:
    truth, asked = Truth.drawn(LARGE, seed), asked_for(LARGE, seed=seed)
    found, value, calls = selected("perturbation", truth, asked, SWEEP + perturbation.KEPT)
    assert len(calls) <= SWEEP + perturbation.KEPT and found.selection["layers_measured"] == len(LARGE.searchable)
    assert regret(truth, asked, value) == pytest.approx(0.0, abs=1e-6)
    assert found.selection["predicted"] == pytest.approx(value) and abs(found.selection["interplay"]) < 1e-9


def test_an_option_of_which_nothing_is_known_is_never_worth_anything() -> None:
    """Of a layer that was not measured, the option of a random base is unknown: so is what the others are worth."""
    asked, (scorer, _) = asked_for(LARGE), scorer_of(Truth.drawn(LARGE, 0))
    base = tuple(0 for _ in LARGE.searchable)
    probe = perturbation.Probe(scorer)
    probe([LARGE.architecture(base)])
    utility = [[-np.inf, *[0.0] * (len(layer.options) - 1)] for layer in LARGE.searchable]
    for row in perturbation.expansion(asked, probe, base, utility):
        assert row[0] == 0.0 and all(change == np.inf for change in row[1:])


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


@pytest.mark.parametrize("candidates", [40, 140])
def test_fine_tuned_selections_add_up_too(candidates: int) -> None:
    truth = Truth.drawn(SMALL, 1)
    asked = asked_for(fine_tune=1)
    found, value, calls = selected("perturbation", truth, asked, candidates)
    assert regret(truth, asked, value) == pytest.approx(0.0, abs=1e-6)
    assert len(calls) == found.selection["evaluations"] <= candidates
    assert (found.selection["pairs"] > 0) == (candidates == 140)


# -- pairs ------------------------------------------------------------------------------------------------------------


ALL_PAIRS = 450  # evaluations that are enough for all pairs of `LARGE`


def planted(truth: Truth, asked: Problem, i: int) -> tuple[int, int]:
    """Make the cheapest options of layer i and of the next good together, and alone so bad that no base holds one."""
    pair = tuple(int(np.argmin(asked.costs.layers[layer])) for layer in (i, i + 1))
    while True:
        best = perturbation.best_in_budget(asked, [(-e).tolist() for e in truth.effects])
        held = [layer for layer, option in zip((i, i + 1), pair, strict=True) if best[layer] == option]
        if not held:
            break
        for layer in held:
            truth.effects[layer][pair[layer - i]] += 0.02
    start = perturbation.best_in_budget(asked, gate_utility(supernet(truth.space)))
    assert start[i] != pair[0] and start[i + 1] != pair[1]
    truth.pairs[i][pair] = -1.0
    return pair[0], pair[1]


@pytest.mark.parametrize("seed", range(3))
def test_options_that_only_pay_together_are_found_by_pairs_alone(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    i, truth, asked = 2, Truth.drawn(LARGE, seed), asked_for(LARGE, seed=seed)
    o, p = planted(truth, asked, i)
    monkeypatch.setattr(perturbation, "BASES", 2)
    found, value, calls = selected("perturbation", truth, asked, ALL_PAIRS)
    indices = LARGE.indices(found.architecture)
    assert (indices[i], indices[i + 1]) == (o, p)
    assert regret(truth, asked, value) == pytest.approx(0.0, abs=1e-6)
    assert asked.cost(found.architecture) <= asked.budget.target
    assert len(calls) == len(set(calls)) == found.selection["evaluations"] <= ALL_PAIRS
    assert found.selection["pairs"] > 0 and found.selection["interaction"] == pytest.approx(1.0, abs=1e-6)
    monkeypatch.setattr(perturbation, "CHANGES", 0)
    single, missed, _ = selected("perturbation", truth, asked, ALL_PAIRS)
    assert single.selection["pairs"] == 0 and single.selection["interaction"] is None
    assert missed > value + 0.5, "the influences alone see two bad options"


def all_pairs(truth: Truth, asked: Problem, base: tuple[int, ...]) -> tuple[list[list[float]], perturbation.Pairs, int]:
    """(effects of single changes, interactions, evaluations) around a base with everything affordable."""
    probe = perturbation.Probe(scorer_of(truth)[0])
    flat = [[0.0] * len(layer.options) for layer in truth.space.searchable]
    pairs = perturbation.interactions(asked, probe, base, flat, 1_000)
    return perturbation.expansion(asked, probe, base, flat), pairs, probe.spent


def test_the_second_order_expansion_is_exact_for_a_function_of_pairs() -> None:
    truth, asked = Truth.drawn(SMALL, 4, 1.0), asked_for(share=3.0)
    rng = np.random.default_rng(0)
    base, other = ((SMALL.indices(SMALL.sample(rng))) for _ in range(2))
    single, pairs, spent = all_pairs(truth, asked, base)
    counts = [len(layer.options) - 1 for layer in SMALL.searchable]
    assert len(pairs) == (sum(counts) ** 2 - sum(n * n for n in counts)) // 2, "every pair of different layers"
    assert spent == 1 + sum(counts) + len(pairs)
    for ((i, o), (j, p)), value in pairs.items():
        table = truth.pairs[i] if j == i + 1 else np.zeros((5, 5))
        apart = table[o, base[j]] + table[base[i], p]
        assert value == pytest.approx(table[o, p] - apart + table[base[i], base[j]], abs=1e-9)
    for _ in range(30):
        x = SMALL.indices(SMALL.sample(rng))
        moved = truth.of(x) - truth.of(base)
        assert perturbation.quadratic(single, pairs, x) == pytest.approx(moved, abs=1e-9)
    assert other != base


@pytest.mark.parametrize("share", [0.3, 0.45, 0.7])
def test_what_pairs_propose_is_within_the_budget_and_ordered_by_the_expansion(share: float) -> None:
    truth, asked = Truth.drawn(SMALL, 5, 2.0), asked_for(share=share)
    base = best_under(gate_utility(supernet(SMALL)), asked.costs, asked.budget.target)
    assert base is not None
    single, pairs, _ = all_pairs(truth, asked, base)
    proposed = perturbation.proposals(asked, single, pairs)
    values = [perturbation.quadratic(single, pairs, x) for x in proposed]
    assert len(proposed) > 5 and values == sorted(values)
    assert all(asked.costs.of(x) <= asked.budget.target for x in proposed)
    additive = perturbation.proposals(asked, single, {})
    assert len(additive) == 1 and values[0] <= perturbation.quadratic(single, pairs, additive[0])


def test_pairs_that_a_smaller_influence_could_bring_into_the_choice_come_first() -> None:
    truth, asked = Truth.drawn(LARGE, 0), asked_for(LARGE)
    utility = [(-e).tolist() for e in truth.effects]
    base = perturbation.best_in_budget(asked, utility)
    order = perturbation.ranked(asked, base, utility)

    def lost(change: perturbation.Change) -> float:
        best = best_under(perturbation.held(utility, [change]), asked.costs, asked.budget.target, asked.budget.least)
        return truth.of(best) - truth.of(base) if best is not None else np.inf

    losses = [lost(change) for change in order]
    assert losses == pytest.approx(sorted(losses)) and min(losses) >= -1e-9
    probe = perturbation.Probe(scorer_of(truth)[0])
    few = perturbation.interactions(asked, probe, base, utility, 12)
    assert few and probe.spent <= 12
    assert {c for pair in few for c in pair} <= set(order[:8])


@pytest.mark.parametrize("candidates", [90, 130, 200])
def test_what_pairs_propose_is_always_scored(candidates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[tuple[int, ...]]] = []
    real = perturbation.proposals

    def recorded(*given: Any) -> list[tuple[int, ...]]:
        made.append(real(*given))
        return made[-1]

    monkeypatch.setattr(perturbation, "proposals", recorded)
    for seed in range(3):
        _, _, calls = selected("perturbation", Truth.drawn(LARGE, seed, 1.0), asked_for(LARGE, seed=seed), candidates)
        assert {LARGE.architecture(x) for x in made[-1][: perturbation.PROPOSED]} <= set(calls)
        assert len(calls) <= candidates


@pytest.mark.parametrize("mix", [0.5, 1.0])
def test_pairs_choose_better_than_influences_at_equal_evaluations(mix: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def mean_regret() -> float:
        drawn = [(Truth.drawn(SMALL, seed, mix), asked_for(seed=seed)) for seed in range(8)]
        return float(np.mean([regret(t, a, selected("perturbation", t, a, 150)[1]) for t, a in drawn]))

    with_pairs = mean_regret()
    monkeypatch.setattr(perturbation, "CHANGES", 0)
    assert with_pairs < 0.6 * mean_regret()


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
