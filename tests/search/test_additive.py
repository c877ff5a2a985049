"""The additive model: what it learns from networks that were scored on different images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.search.helpers import SPACE, problem

from singlepath.search import scoring
from singlepath.search.additive import additive_fit, predicted
from singlepath.search.scoring import Scorer
from singlepath.search.selection import select
from singlepath.supernet import build


def test_the_difficulty_of_a_part_does_not_enter_the_fit() -> None:
    """Networks of one part are large, those of the other small and their images much easier."""
    rng = np.random.default_rng(0)
    truth = [rng.normal(size=len(layer.options)) for layer in SPACE.searchable]
    networks = list(dict.fromkeys(SPACE.canonical(SPACE.sample(rng)) for _ in range(400)))
    value = {a: float(sum(t[i] for t, i in zip(truth, SPACE.indices(a), strict=True))) for a in networks}
    size = {a: sum(c != "skip" for c in a.choices) for a in networks}
    middle = float(np.median(list(size.values())))
    part = {a: int(size[a] + rng.normal() > middle) for a in networks}
    fair = additive_fit(SPACE, {a: (0, value[a]) for a in networks})
    split = additive_fit(SPACE, {a: (part[a], value[a] + 50.0 * part[a]) for a in networks})
    unseen = [SPACE.sample(rng) for _ in range(200)]
    own = [-float(sum(t[i] for t, i in zip(truth, SPACE.indices(a), strict=True))) for a in unseen]
    for fit in (fair, split):
        assert np.corrcoef(predicted(SPACE, fit, unseen), own)[0, 1] > 0.999


def scorer_of(batches: int = 6) -> Scorer:
    scorer = Scorer.of(problem(), build(SPACE, 0))
    scorer.held_out = (scorer.held_out * batches)[:batches]
    return scorer


def test_a_sample_is_dealt_over_the_images_and_its_passes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PART", 2 * len(scorer_of(1).held_out[0].y))
    scorer, rng = scorer_of(), np.random.default_rng(0)
    networks = list(dict.fromkeys(SPACE.canonical(SPACE.sample(rng)) for _ in range(80)))[:66]
    asked: list[tuple[int, slice]] = []
    measure = scorer.children_losses

    def seen(architectures: Any, part: slice = slice(None)) -> Any:
        asked.append((len(architectures), part))
        return measure(architectures, part)

    scorer.children_losses = seen  # type: ignore[method-assign]
    scorer.sample(networks)
    assert [n for n, _ in asked] == [22, 22, 22] and scorer.sampled.keys() == set(networks)
    batches = [i for _, part in asked for i in range(6)[part]]
    assert sorted(batches) == list(range(6)), "every batch scores one part of the networks"
    assert scorer.passes == sum(n * scorer.images(part) for n, part in asked) and not scorer.known
    scorer.sample(networks)
    assert len(asked) == 3, "what is known costs nothing"
    alone = scorer_of()
    for a in networks[:3]:
        part, value = scorer.sampled[a]
        assert value == pytest.approx(
            float(torch.cat([alone.children_losses([a], asked[part][1])[a]]).mean()), abs=1e-6
        )


def test_the_selection_counts_its_sample_and_keeps_it_for_the_next_budget() -> None:
    scorer, net = scorer_of(), build(SPACE, 0)
    first = select(problem("0.6MMACs"), net, "score", 66, scorer)
    passes = scorer.passes
    second = select(problem("0.9MMACs"), net, "score", 66, scorer)
    assert 64 < first.selection["candidates"] <= 66 and second.selection["candidates"] <= 2
    assert scorer.passes - passes == second.selection["candidates"] * scorer.images()
    assert second == select(problem("0.9MMACs"), net, "score", 66, scorer_of())._replace(selection=second.selection)
