"""The default search with a coefficient that stays: what it asks of the gates, and what its answer is."""

from __future__ import annotations

import torch
from tests.search.helpers import problem, started

from singlepath.search import single_path as sp


def test_a_fixed_coefficient_stays_and_presses_the_more_the_greater_it_is() -> None:
    expected = []
    for coefficient in (0.0, 0.05, 5.0):
        asked, state, batches = started(budget="0.34MMACs", coefficient=coefficient)
        assert sp.warm_up_share(problem(coefficient=coefficient)) == 0.5, "gates are what is read"
        batch = next(b for b in batches if b.held_out)
        for _ in range(25):
            sp.METHOD.step(asked, state, batch)
            state["step"] += 1
            assert state["multiplier"] == coefficient
        net = state["model"]
        expected.append(float(net.expected_cost(asked.costs, torch.sigmoid(net.indicators()))))
    assert expected[0] > expected[1] > expected[2]


def test_with_a_fixed_coefficient_the_network_is_what_the_gates_say() -> None:
    asked = problem("0.34MMACs", coefficient=0.5, candidates=4)
    state = sp.start(asked)
    net = state["model"]
    with torch.no_grad():
        net.thresholds.copy_(net.thresholds + torch.linspace(-2, 2, len(net.thresholds)))
    probabilities = net.option_probabilities(torch.sigmoid(net.indicators()))
    likely = asked.space.architecture([int(p.argmax()) for p in probabilities])
    found = sp.result(asked, state)
    assert found.architecture == likely and asked.cost(likely) > asked.budget.limit, "no budget is kept"
    assert "a fixed coefficient (0.5) keeps no budget" in found.selection["over_budget"]
    assert "over_budget" not in sp.result(problem("50MMACs", coefficient=0.5), state).selection
    kept = sp.result(problem("0.9MMACs", select="gates"), state).architecture
    assert asked.cost(kept) <= 0.9, "the knapsack's"
