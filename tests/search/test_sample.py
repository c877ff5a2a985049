"""The networks that `score` begins with: of every size, whatever the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.search.helpers import problem

from singlepath.architecture import Architecture
from singlepath.costs import count_costs
from singlepath.search.budget import random_networks
from singlepath.search.by_score import BINS, drawn_anywhere
from singlepath.spaces import Space, make

MACRO, LARGE = make("macro"), make("mobile")
COUNT = 400


def sizes(space: Space, networks: Sequence[Architecture]) -> np.ndarray:
    """MMACs, [N]."""
    macs = count_costs(space, "macs")
    return np.array([macs.of(space.indices(a)) for a in networks])


def spread(space: Space, networks: Sequence[Architecture]) -> np.ndarray:
    """How many there are in each twelfth of the range of log MACs."""
    macs = count_costs(space, "macs")
    edges = np.geomspace(macs.smallest, macs.largest, BINS + 1)
    return np.histogram(sizes(space, networks), np.append(edges[:-1], np.inf))[0]


@pytest.fixture(scope="module")
def every() -> list[Architecture]:
    """All networks of the table's space."""
    return sorted({MACRO.canonical(a) for a in MACRO.enumerate()}, key=lambda a: a.choices)


def test_all_sizes_are_there_and_the_usual_ones_more_often() -> None:
    counts = spread(LARGE, drawn_anywhere(LARGE, 0, COUNT))
    assert counts.sum() == COUNT and counts.min() >= 0.9 * COUNT / 2 / BINS
    most = count_costs(LARGE, "macs").largest
    uniform = random_networks(LARGE, count_costs(LARGE, "macs"), 0.0, most, COUNT, np.random.default_rng(0))
    usual = spread(LARGE, uniform) / COUNT
    assert usual.min() == 0, "else this says nothing"
    assert np.abs(counts / COUNT - (1 / BINS + usual) / 2).max() < 0.05


def test_a_size_with_few_networks_gives_all_and_the_others_make_up_for_it(every: list[Architecture]) -> None:
    sample, small = drawn_anywhere(MACRO, 0, COUNT), sizes(MACRO, every) <= 24
    assert len(set(sample)) == COUNT and all(MACRO.canonical(a) == a for a in sample)
    has, holds = spread(MACRO, sample), spread(MACRO, every)
    poor = np.flatnonzero(holds < COUNT / 2 / BINS)
    assert len(poor) > 2 and (has[poor] == holds[poor]).all()
    held = {a for a, s in zip(every, small, strict=True) if s}
    assert len(held) == 52 and len(held & set(sample)) > 40


def test_any_stretch_of_it_is_like_the_whole() -> None:
    """Each part of the held-out images scores a stretch or every n-th of it."""
    sample = drawn_anywhere(LARGE, 1, COUNT)
    whole = spread(LARGE, sample)[: BINS // 2].sum() / COUNT
    for part in (sample[: COUNT // 4], sample[-COUNT // 4 :], sample[::2], sample[1::3], sample[::4]):
        assert abs(spread(LARGE, part)[: BINS // 2].sum() / len(part) - whole) < 0.12


def test_it_is_a_function_of_the_seed_and_of_nothing_a_budget_says() -> None:
    a, again, other = (drawn_anywhere.__wrapped__(LARGE, seed, 60) for seed in (0, 0, 1))
    assert a == again and set(a) != set(other)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 13])
def test_as_many_as_are_asked_for(count: int) -> None:
    assert len(set(drawn_anywhere(LARGE, 0, count))) == count


def test_a_small_space_gives_as_many_as_it_has() -> None:
    few = replace(problem().space, layers=problem().space.layers[:4])
    names = {few.canonical(a) for a in few.enumerate()}
    assert set(drawn_anywhere(few, 0, len(names) + 10)) == names
    some = drawn_anywhere(few, 0, len(names) * 3 // 4)
    assert len(set(some)) == len(some) == len(names) * 3 // 4, "though the outer sizes keep some to themselves"
