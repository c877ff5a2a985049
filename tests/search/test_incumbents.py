"""The best scores so far are those of the networks a selection scored, in its order and within the budget."""

from __future__ import annotations

import numpy as np
import pytest
from tests.search.synthetic import SMALL, Truth, asked_for, scorer_of, supernet

from singlepath.search.incumbents import Incumbent, incumbents
from singlepath.search.query_methods import make_method
from singlepath.search.selection import select
from singlepath.search.space_pool import query_supernet

TRUTH = Truth.drawn(SMALL, 3)


@pytest.mark.parametrize("name", ["random", "evolution", "weaknas"])
def test_a_query_methods_are_those_of_its_history(name: str) -> None:
    asked = asked_for()
    scorer, calls = scorer_of(TRUTH)
    found, state = query_supernet(asked, supernet(SMALL), name, make_method(name), 40, scorer)
    scores = [-value for value in state["values"]]
    best = [(i + 1, s) for i, s in enumerate(scores) if s < min(scores[:i], default=np.inf)]
    got = incumbents(asked, scorer)
    assert [(each.scored, each.cross_entropy) for each in got] == best and not any(each.part for each in got)
    assert got[-1].cross_entropy == found.selection["score"] and len(calls) == 40


def test_what_the_budget_does_not_allow_is_no_incumbent() -> None:
    asked = asked_for(share=0.4)
    scorer, calls = scorer_of(TRUTH)
    found = select(asked, supernet(SMALL), "score", 40, scorer)
    costs = [asked.cost(a) for a in calls]
    assert max(costs) > asked.budget.target, "the sample is of the whole space"
    got = incumbents(asked, scorer)
    for each in got:
        assert costs[each.scored - 1] <= asked.budget.target
        so_far = [c for a, cost in zip(calls, costs, strict=True) if cost <= asked.budget.target
                  for c in [scorer.known[a]] if calls.index(a) < each.scored]  # fmt: skip
        assert each.cross_entropy == min(so_far)
    allowed = [scorer.known[a] for a, cost in zip(calls, costs, strict=True) if cost <= asked.budget.target]
    assert got[-1].cross_entropy == min(allowed) <= found.selection["score"]


def test_the_first_score_on_all_images_takes_the_place_of_those_on_a_part() -> None:
    asked = asked_for(share=1.0)
    scorer, _ = scorer_of(TRUTH)
    rng = np.random.default_rng(0)
    names = list(dict.fromkeys(SMALL.canonical(SMALL.sample(rng)) for _ in range(12)))[:6]
    first = {names[0]: (0, 1.5), names[1]: (0, 1.25), names[2]: (1, 1.75), names[3]: (1, 1.0)}
    scorer.sampled |= first
    scorer.known |= {names[4]: 1.25, names[1]: 1.5, names[5]: 1.125}
    assert incumbents(asked, scorer) == [
        Incumbent(1, 1.5, True), Incumbent(2, 1.25, True), Incumbent(4, 1.0, True), Incumbent(5, 1.25),
        Incumbent(7, 1.125),
    ]  # fmt: skip
    scorer.sampled = {name: (0, score) for name, (_, score) in first.items()}  # one part: all images, known as well
    scorer.known = {name: score for name, (_, score) in first.items()} | {names[4]: 1.25}
    assert incumbents(asked, scorer) == [Incumbent(1, 1.5), Incumbent(2, 1.25), Incumbent(4, 1.0)]
    scorer.sampled, scorer.known = {}, {}
    assert incumbents(asked, scorer) == []
