"""The paper's search: its padding, what it trains, and what children inherit from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from singlepath.search import METHODS, run_search
from singlepath.search.paper import schedule_of
from singlepath.spaces import make
from singlepath.supernet import Supernet, build

from .helpers import problem


@pytest.mark.parametrize(
    "text",
    ["mobile-small(width=0.5, input_size=16, padding='same')", "macro(width=0.25, input_size=16, padding='same')"],
)
def test_a_search_with_tensorflows_padding_and_the_weights_it_leaves(text: str) -> None:
    space = make(text)
    asked = replace(problem("100MMACs", space, epochs=2), batch_size=64)
    method = METHODS["paper"]
    found, state = run_search(asked, method)
    assert found.architecture.space == space.id
    left = method.weights(state)
    supernet = Supernet(space)
    supernet.load_state_dict(left)
    assert not bool(supernet.thresholds.any())
    now, first = state["model"].net.conv_stem.weight, build(space, asked.seed).conv_stem.weight
    mean = supernet.conv_stem.weight
    assert not torch.equal(mean, now) and not torch.equal(mean, first)  # between where it began and where it ended
    assert (mean - first).norm() < (now - first).norm()
    child = supernet.extract(found.architecture).eval()
    assert child.conv_stem.symmetric is (space.stem_stride == 1)
    assert child(torch.zeros(1, 3, 16, 16)).shape == (1, 10)
    assert schedule_of(asked).batch == 64


def test_a_search_leaves_a_supernet_and_random_search_none() -> None:
    asked = problem(epochs=1)
    _, state = run_search(asked, METHODS["random"])
    assert METHODS["random"].weights(state) == {}
    state = METHODS["single-path"].start(asked)
    assert METHODS["single-path"].weights(state).keys() == Supernet(asked.space).state_dict().keys()
