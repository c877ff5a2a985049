"""The default search: its decks, its two kinds of steps, its data, its budget; and the answers it reads off."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.search.helpers import SPACE, digits, problem, started
from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.costs import count_costs
from singlepath.data import Data
from singlepath.errors import UserError
from singlepath.search import METHODS, Problem, run_search
from singlepath.search import single_path as sp
from singlepath.search.scoring import Scorer
from singlepath.search.selection import select
from singlepath.spaces import make
from singlepath.supernet import Supernet, build

# -- warm-up ----------------------------------------------------------------------------------------------------------

DECKS = [
    "mobile-small(width=0.5, input_size=16)",
    "mobile-small(width=0.5, input_size=16, kernels=(3, 5, 7), se=(0, 0.25, 0.5))",
    "mobile-small(width=0.5, input_size=16, expansions=(2, 3, 4, 6))",
    "macro(width=0.25, input_size=16)",
]


@pytest.mark.parametrize("text", DECKS)
def test_warm_up_runs_every_option_in_its_exact_share_and_every_gate_is_off_a_fifth_of_the_passes(text: str) -> None:
    net = build(make(text), 0)
    rounds = [2 * _deck_length(net, i) for i in range(len(net.space.searchable))]
    drawn = [sp.warm_up_settings(net, 3, step) for step in range(max(rounds))]
    running = [running_gates(net, settings) for settings in drawn]
    for i, (layer, steps) in enumerate(zip(net.space.searchable, rounds, strict=True)):
        counter = Counter(settings[i].option(layer).token for settings in drawn[:steps])
        assert set(counter) == set(layer.tokens)
        built = {counter[t] for t in layer.tokens if t != "skip"}
        assert len(built) == 1, "every kernel and expansion equally often"
        if layer.skippable:
            assert 0.2 <= counter["skip"] / steps <= 0.34
        mine = [g.layer == i for g in net.gates]
        on = torch.stack(running[:steps]).float().mean(0)[mine]
        assert float((1 - on).min()) >= 0.2 - 1e-6


def _deck_length(net: Supernet, number: int) -> int:
    return len(sp._deck(net.space.searchable[number], number, 0, 0))


@pytest.mark.parametrize("steps", [200, 333, 405])
def test_every_gate_is_off_a_fifth_of_a_warm_up_of_any_length(steps: int) -> None:
    net = build(make("mobile-small(width=0.5, input_size=16)"), 0)
    for seed in range(3):
        on = sum(running_gates(net, sp.warm_up_settings(net, seed, step)) for step in range(steps))
        assert isinstance(on, Tensor) and float((1 - on / steps).min()) >= 0.2


def running_gates(net: Supernet, settings: list[Any]) -> Tensor:
    """1 where a gate's group takes part in the pass: a skipped block's inner gates do not."""
    on = net.effective_gates(settings)
    skipped = {i for i, s in enumerate(settings) if not s.on}
    return torch.tensor([0.0 if g.layer in skipped else float(v) for g, v in zip(net.gates, on, strict=True)])


def test_warm_up_is_a_function_of_seed_and_step_alone() -> None:
    first, second = build(SPACE, 0), build(SPACE, 1)
    torch.manual_seed(5)
    np.random.seed(5)
    a = [sp.warm_up_settings(first, 0, s) for s in range(30)]
    sp._deck.cache_clear()
    torch.manual_seed(6)
    np.random.seed(6)
    assert [sp.warm_up_settings(second, 0, s) for s in reversed(range(30))][::-1] == a
    assert [sp.warm_up_settings(first, 1, s) for s in range(30)] != a
    assert len({tuple(s) for s in a}) > 25


# -- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [2, 4, 7])
def test_one_step_in_k_decides_and_none_in_the_warm_up(every: int) -> None:
    asked = problem(every=every)
    kinds = [sp.is_decision(asked, s, 10) for s in range(10 + 40 * every)]
    assert not any(kinds[:10])
    blocks = [kinds[10 + every * b : 10 + every * (b + 1)] for b in range(40)]
    assert all(sum(b) == 1 for b in blocks)
    assert len({b.index(True) for b in blocks}) > 1, "at seeded places"
    assert kinds == [sp.is_decision(problem(every=every), s, 10) for s in range(10 + 40 * every)]
    assert kinds != [sp.is_decision(problem(every=every, seed=1), s, 10) for s in range(10 + 40 * every)]


def copied(state: dict[str, Any]) -> dict[str, Tensor]:
    weights = {k: v.clone() for k, v in state["model"].state_dict().items()}
    return weights | {f"optimiser {k}": v.clone() for k, v in state["optimiser"].items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {k for k in after if k not in before or not torch.equal(before[k], after[k])}


def test_weight_steps_never_move_thresholds_and_decision_steps_nothing_else() -> None:
    asked, state, batches = started()
    kinds = Counter(b.held_out for b in batches)
    assert kinds[True] >= 1 and kinds[False] >= 3
    for batch in batches:
        before = copied(state)
        metrics = sp.METHOD.step(asked, state, batch)
        moved = changed(before, copied(state))
        if batch.held_out:
            assert moved == {"thresholds"} and set(metrics) == {"held_out_loss"}
        else:
            assert "thresholds" not in moved and "conv_stem.weight" in moved and "bn1.running_mean" in moved
            assert set(metrics) == {"loss", "accuracy"}
        assert all(p.grad is None for p in state["model"].parameters())
        state["step"] += 1
    assert state["decisions"] == kinds[True]


def test_a_sandwich_step_teaches_the_smallest_and_two_drawn_children_what_the_largest_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, state, some = started(warm_up=1.0, sandwich=True)
    net, seen = state["model"], []
    whole = sp.train_child

    def watched(problem: Any, state: Any, batch: Any, settings: Any, target: Tensor) -> Any:
        before = copied(state)
        found = whole(problem, state, batch, settings, target)
        assert changed(before, copied(state)), "every child is trained before the next one runs"
        seen.append((net.architecture(settings), target, found[1]))
        return found

    monkeypatch.setattr(sp, "train_child", watched)
    for number in range(2):
        state["step"] = number
        sp.step(task, state, some[number])
    largest, smallest = task.space.largest(), sp.smallest(task)
    assert task.cost(smallest) == pytest.approx(task.costs.smallest)
    for number in range(2):
        four = seen[4 * number : 4 * number + 4]
        assert [a for a, _, _ in four[:2]] == [largest, smallest]
        assert torch.equal(four[0][1], some[number].images.y)
        teacher = four[0][2].softmax(1)
        assert all(torch.equal(target, teacher) for _, target, _ in four[1:])
    drawn = [seen[i][0] for i in (2, 3, 6, 7)]
    assert drawn == [net.architecture(sp.warm_up_settings(net, task.seed, i)) for i in range(4)], "the decks, in turn"


def test_a_search_without_decisions_passes_over_its_images_once_an_epoch() -> None:
    task = problem(warm_up=1.0)
    plan = sp.plan(task, sp.start(task))
    images = sum(len(b.images.y) for b in plan.batches(0, 0))
    assert abs(images - len(task.data.train)) < sp.search_recipe(task).batch_size


def test_every_gate_moves_in_a_decision_step() -> None:
    asked, state, batches = started(space=make("mobile-small(width=0.5, input_size=16, se=(0, 0.25))"))
    before = state["model"].thresholds.clone()
    for _ in range(6):
        sp.METHOD.step(asked, state, next(b for b in batches if b.held_out))
        state["step"] += 1
    moved = (state["model"].thresholds - before).abs()
    assert float(moved.min()) > 0 and float(state["model"].indicators().abs().max()) <= 4


def test_dual_ascent_brings_the_expected_cost_down_to_a_small_budget() -> None:
    asked, state, batches = started(budget="0.34MMACs")
    assert asked.budget.target < 1.1 * asked.costs.smallest
    net, batch = state["model"], next(b for b in batches if b.held_out)

    def expected() -> float:
        return float(net.expected_cost(asked.costs, torch.sigmoid(net.indicators())))

    first, multipliers = expected(), []
    for _ in range(45):
        sp.METHOD.step(asked, state, batch)
        state["step"] += 1
        multipliers.append(state["multiplier"])
    assert multipliers[0] > 0 and multipliers == sorted(multipliers), "it rises as long as the cost is above"
    assert multipliers[-1] > 10 * multipliers[0]
    assert expected() - asked.costs.smallest < 0.75 * (first - asked.costs.smallest)


def test_the_multiplier_falls_back_to_zero_under_a_large_budget_and_stays_there() -> None:
    asked, state, batches = started(budget="50MMACs")
    state["multiplier"] = 0.08
    for _ in range(5):
        sp.METHOD.step(asked, state, next(b for b in batches if b.held_out))
        state["step"] += 1
    assert state["multiplier"] == 0.0


# -- data -------------------------------------------------------------------------------------------------------------


def test_decisions_see_held_out_images_only_and_weights_training_images_only() -> None:
    asked = problem(epochs=4, warm_up=0.5)
    plan = sp.METHOD.plan(asked, sp.METHOD.start(asked))
    data, seen = digits(), {True: Counter[int](), False: Counter[int]()}
    for epoch in range(4):
        for batch in plan.batches(epoch, 0):
            images = data.val if batch.held_out else data.train
            x, y, index = batch.images.x, batch.images.y, batch.images.index
            assert torch.equal(y, images.labels[index])
            if batch.held_out:
                whole = data.preprocess.normalise(data.val.pixels[index])  # type: ignore[union-attr]
                assert torch.equal(x, whole), "held-out images come as they are, not augmented"
            seen[batch.held_out].update(index.tolist())
    assert set(seen[True]) == set(range(len(data.val)))
    assert set(seen[False]) == set(range(len(data.train)))
    assert max(seen[False].values()) - min(seen[False].values()) <= 3


def test_an_epoch_can_be_taken_up_anywhere() -> None:
    asked = problem(epochs=4, warm_up=0.5)
    plan = sp.METHOD.plan(asked, sp.METHOD.start(asked))
    for epoch in (0, 1, 2, 3):
        whole = list(plan.batches(epoch, 0))
        for first in range(plan.steps_per_epoch):
            rest = list(plan.batches(epoch, first))
            assert [b.held_out for b in rest] == [b.held_out for b in whole[first:]]
            for a, b in zip(rest, whole[first:], strict=True):
                assert torch.equal(a.images.x, b.images.x) and torch.equal(a.images.y, b.images.y), (epoch, first)


# -- whole searches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["single-path", "random"])
@pytest.mark.parametrize("budget", ["0.5MMACs", "0.9MMACs"])
def test_a_tiny_search_keeps_the_budget_and_never_opens_the_test_part(
    monkeypatch: pytest.MonkeyPatch, method: str, budget: str
) -> None:
    def opened(self: Data) -> None:
        raise AssertionError("the test part was opened")

    monkeypatch.setattr(Data, "open_test", opened)
    asked = problem(budget, candidates=8)
    found, state = run_search(asked, METHODS[method])
    cost = asked.cost(found.architecture)
    assert cost <= asked.budget.target <= asked.budget.limit
    assert SPACE.canonical(found.architecture).choices
    if method == "single-path":
        assert state["step"] == 2 * state["steps_per_epoch"] and state["decisions"] == 0
        assert found.selection["held_out_images"] == len(digits().val)
        assert math.isfinite(found.selection["score"])
    assert asked.budget.filled(cost) == (found.underfilled_reason is None)


@pytest.mark.parametrize(("settings", "share"), [({}, 1.0), ({"select": "gates"}, 0.5), ({"warm_up": 0.25}, 0.25)])
def test_gates_are_trained_where_they_are_read(settings: dict[str, Any], share: float) -> None:
    asked = problem("0.9MMACs", epochs=4, candidates=8, **settings)
    _, state = run_search(asked, METHODS["single-path"])
    decisive = sum(sp.is_decision(asked, s, round(share * state["step"])) for s in range(state["step"]))
    assert state["decisions"] == decisive and (decisive > 0) == (share < 1)


def test_the_default_search_makes_as_many_passes_with_one_child_a_step_as_with_four() -> None:
    """Of the default's epochs; a given number is kept."""
    asked = replace(problem(), epochs=None)
    one, four = (sp.plan(p, sp.start(p)) for p in (with_settings(asked, sandwich=s) for s in (False, True)))
    images = len(asked.data.train)
    assert one.epochs == max(15, math.ceil(40_000 / images)) and four.epochs == max(15, math.ceil(10_000 / images))
    assert sp.plan(problem(epochs=3), sp.start(problem())).epochs == 3


def with_settings(asked: Problem, **settings: Any) -> Problem:
    return replace(asked, settings={**asked.settings, **settings})


def test_a_search_is_a_function_of_its_seed() -> None:
    answers = [run_search(problem(seed=s, candidates=8), METHODS["single-path"]) for s in (0, 0, 1)]
    (a, sa), (b, sb), (_, sc) = answers
    assert a == b and all(torch.equal(sa["model"].state_dict()[k], v) for k, v in sb["model"].state_dict().items())
    assert not torch.equal(sa["model"].conv_stem.weight, sc["model"].conv_stem.weight)


@pytest.mark.parametrize("method", ["score", "gates"])
def test_where_no_network_fills_the_budget_the_reason_says_so(method: str) -> None:
    asked = problem("50MMACs")
    found = select(asked, build(SPACE, 0), method, 8)
    assert found.underfilled_reason is not None
    assert "50 MMACs: no network of the space costs between 90% of the budget" in found.underfilled_reason


def test_an_unknown_selection_is_refused() -> None:
    known = "evolution, gates, perturbation, score, weaknas"
    with pytest.raises(UserError, match=f"unknown selection 'scor'; known: {known}; type --select score"):
        select(problem(), build(SPACE, 0), "scor", 8)


def scores_by(monkeypatch: pytest.MonkeyPatch, sign: float) -> None:
    """Held-out losses that depend on a network's size alone."""
    costs = count_costs(SPACE, "parameters")

    def losses(self: Scorer, architectures: Sequence[Architecture]) -> dict[Architecture, Tensor]:
        size = {a: 10 * costs.of(SPACE.indices(a)) for a in architectures}
        return {a: 2.0 + sign * s + 1e-4 * torch.arange(40) for a, s in size.items()}

    monkeypatch.setattr(Scorer, "children_losses", losses)


def test_a_smaller_network_that_scores_better_is_taken_and_both_figures_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores_by(monkeypatch, +1.0)
    asked = problem("0.9MMACs")
    found = select(asked, build(SPACE, 0), "score", 96)
    assert not asked.budget.filled(asked.cost(found.architecture)) and found.underfilled_reason
    assert "the smaller network was better on held-out data" in found.underfilled_reason
    mine, rival = (float(w.rstrip(",")) for w in found.underfilled_reason.split() if w[:2] in ("2.", "3."))
    assert mine == pytest.approx(found.selection["score"], abs=1e-4) and mine < rival
    assert f"{asked.cost(found.architecture):.4g} MMACs of 0.9 MMACs" in found.underfilled_reason


def test_a_larger_network_that_scores_better_fills_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    scores_by(monkeypatch, -1.0)
    asked = problem("0.9MMACs")
    found = select(asked, build(SPACE, 0), "score", 96)
    assert asked.budget.filled(asked.cost(found.architecture)) and found.underfilled_reason is None
    assert asked.cost(found.architecture) <= asked.budget.target


def test_gates_are_logged_where_they_are_trained() -> None:
    for way, shown in (("score", False), ("gates", True)):
        asked = problem("0.9MMACs", select=way)
        state = {**sp.start(asked), "step": 1}
        logged = sp.plan(asked, state).log(state)
        assert ("gates" in logged and "expected_cost" in logged) == shown


def test_steps_of_the_warm_up_are_said_to_be() -> None:
    asked = problem("0.9MMACs", select="gates")
    state = sp.start(asked)
    plan = sp.plan(asked, state)
    steps = range(1, plan.epochs * plan.steps_per_epoch + 1)
    told = [plan.log({**state, "step": step})["warm_up"] for step in steps]
    half = len(steps) // 2
    assert told == [True] * half + [False] * half, "the page shades them"


def test_a_longer_training_is_worth_scoring_more_networks() -> None:
    short, long = (sp.candidates_of(problem(epochs=e)) for e in (1, 10_000))
    assert (short, long) == (sp.FEWEST, sp.MOST)
    counts = [sp.candidates_for(passes, 2_500) for passes in range(0, 1_000_000, 50_000)]
    assert counts == sorted(counts) and set(counts) >= {sp.FEWEST, sp.MOST}
    assert sp.candidates_for(400_000, 500) > sp.candidates_for(400_000, 2_500), "each costs less"
    assert sp.candidates_of(problem(epochs=10_000, candidates=7)) == 7
