"""Stratified subsets: every class in proportion, inside its bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from singlepath.data.splits import generator, stratified

SIZES = some.lists(some.integers(1, 40), min_size=1, max_size=8)


def given_by(sizes: Sequence[int], count: int, least: int = 0, leave: int = 0, seed: int = 0) -> np.ndarray:
    """How many positions of each class are chosen; also checks that they are distinct and ascend."""
    labels = generator(seed, "labels").permutation(np.repeat(np.arange(len(sizes)), sizes))
    chosen = stratified(labels, count, generator(seed, "choice"), least=least, leave=leave)
    assert (np.diff(chosen) > 0).all()
    return np.bincount(labels[chosen], minlength=len(sizes))


@given(SIZES, some.floats(0, 1))
def test_classes_give_in_proportion_and_the_largest_remainders_first(sizes: list[int], part: float) -> None:
    count = round(part * sum(sizes))
    shares, exact = given_by(sizes, count), count * np.array(sizes) / sum(sizes)
    assert shares.sum() == count
    assert (np.abs(shares - exact) < 1).all()
    up, down = shares > exact, shares < exact - 1e-9
    remainders = exact - np.floor(exact)
    assert not (up.any() and down.any()) or remainders[up].min() >= remainders[down].max() - 1e-9


@given(SIZES, some.integers(0, 350), some.integers(0, 3), some.integers(0, 3))
def test_bounds_are_kept_and_the_count_where_they_allow_it(
    sizes: list[int], count: int, least: int, leave: int
) -> None:
    shares = given_by(sizes, count, least, leave)
    most = np.maximum(np.array(sizes) - leave, 0)
    lowest = np.minimum(least, most)
    assert (lowest <= shares).all() and (shares <= most).all()
    assert shares.sum() == np.clip(count, lowest.sum(), most.sum())
    owed = count * np.array(sizes) / sum(sizes) - shares
    gives, takes = owed[shares > lowest], owed[shares < most]
    assert not (len(gives) and len(takes)) or takes.max() <= gives.min() + 1 + 1e-9, "one fewer there, one more here"


def test_a_class_that_gives_all_it_may_leaves_the_rest_to_the_others() -> None:
    assert given_by([2, 50, 50], 62, leave=1).tolist() == [1, 31, 30]
    assert given_by([2, 50, 50], 9, least=2).tolist() == [2, 3, 4]


def test_every_class_gives_one_unless_asked_otherwise() -> None:
    labels = np.repeat([0, 1, 2], [1, 1, 98])
    assert np.bincount(labels[stratified(labels, 5, generator(0, "choice"))]).tolist() == [1, 1, 3]


def test_which_of_a_class_is_chosen_follows_the_generator() -> None:
    labels = np.repeat([0, 1], 50)
    picks = [stratified(labels, 20, generator(seed, "choice")) for seed in (0, 0, 1, 2)]
    assert np.array_equal(picks[0], picks[1])
    assert not np.array_equal(picks[0], picks[2]) and not np.array_equal(picks[2], picks[3])
    assert stratified(np.empty(0, dtype=np.int64), 3, generator(0, "none")).tolist() == []


def test_streams_are_of_their_seed_purpose_and_epoch() -> None:
    draws = {
        generator(seed, purpose, epoch).integers(2**62)
        for seed in (0, 1, 2**40) for purpose in ("split", "choice") for epoch in (0, 1)
    }  # fmt: skip
    assert len(draws) == 12
