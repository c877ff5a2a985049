"""Recipes: named ones, how they fit a number of images, and learning rates over the steps."""

from __future__ import annotations

import itertools
import math

import pytest
from tests.training.helpers import digits

from singlepath.errors import UserError
from singlepath.training import RECIPES, Recipe, get_recipe
from singlepath.training.recipe import learning_rate


def rates(recipe: Recipe, per_epoch: int) -> list[float]:
    return [learning_rate(recipe, s, per_epoch) for s in range(recipe.epochs * per_epoch)]


def test_the_papers_recipe_has_the_releases_constants() -> None:
    recipe = get_recipe("single-path")
    assert (recipe.epochs, recipe.batch_size, recipe.optimiser, recipe.momentum) == (350, 1024, "rmsprop", 0.9)
    assert (recipe.label_smoothing, recipe.dropout, recipe.ema, recipe.bn_momentum) == (0.1, 0.2, 0.9999, 0.01)
    assert recipe.weight_decay == 1e-5 and recipe.lr == 0.064 and recipe.warm_up == 5


def test_the_papers_schedule_falls_by_3_percent_every_24_tenths_of_an_epoch_after_5_epochs_of_warm_up() -> None:
    recipe, per_epoch = get_recipe("single-path"), 20
    seen = rates(recipe, per_epoch)
    warm = seen[: 5 * per_epoch]
    assert warm == sorted(warm) and warm[0] <= 0.1 * recipe.lr and warm[-1] > 0.95 * recipe.lr
    for epoch in (5.5, 7.0, 7.5, 9.5, 12.5, 50.5, 349.5):
        expected = recipe.lr * 0.97 ** math.floor(epoch / 2.4)
        assert seen[round(epoch * per_epoch)] == pytest.approx(expected, rel=1e-12), epoch
    after = seen[5 * per_epoch :]
    stairs = [i for i in range(1, len(after)) if after[i] < after[i - 1]]
    assert all(abs(b - a - 2.4 * per_epoch) <= 1 for a, b in itertools.pairwise(stairs))
    assert after[stairs[1]] / after[stairs[0]] == pytest.approx(0.97)
    assert len(stairs) == math.floor(350 / 2.4) - math.floor(5 / 2.4)


def test_base_goes_down_a_cosine_to_zero_and_full_warms_up_first() -> None:
    base, full = get_recipe("base"), get_recipe("full")
    seen = rates(base, 10)
    assert seen[0] == base.lr and seen == sorted(seen, reverse=True) and seen[-1] < 1e-4 * base.lr
    assert seen[150] == pytest.approx(base.lr / 2)
    seen = rates(full, 10)
    top = seen.index(max(seen))
    assert top == 30 and seen[top] == pytest.approx(full.lr) and seen[:30] == sorted(seen[:30])
    assert seen[30:] == sorted(seen[30:], reverse=True)


def test_a_warm_up_is_at_most_a_tenth_of_a_short_training() -> None:
    seen = rates(get_recipe("full").fitted(2000, epochs=10), 10)
    assert seen.index(max(seen)) == 10 and seen[9] < seen[10]


def test_base_has_no_tricks_and_full_has_all() -> None:
    tricks = ("ema", "label_smoothing", "dropout", "mixup", "randaugment", "warm_up")
    assert not any(getattr(RECIPES["base"], t) for t in tricks)
    assert all(getattr(RECIPES["full"], t) for t in tricks)
    with pytest.raises(UserError, match=r"unknown recipe 'ful'.*type --recipe full"):
        get_recipe("ful")


@pytest.mark.parametrize(("images", "batch"), [(60_000, 128), (2048, 128), (2047, 64), (1000, 32), (100, 32), (1, 32)])
def test_few_images_get_smaller_batches_and_learning_rates(images: int, batch: int) -> None:
    fitted = get_recipe("base").fitted(images)
    assert fitted.batch_size == batch
    assert fitted.lr == pytest.approx(0.1 * math.sqrt(batch / 128))
    assert fitted.epochs == 30
    own = get_recipe("base").fitted(images, epochs=7, batch_size=512)
    assert (own.batch_size, own.epochs, own.lr) == (512, 7, pytest.approx(0.2))


def test_digits_are_never_mirrored_and_the_tricks_reach_the_augmentation() -> None:
    base, full = (get_recipe(n).augment(digits()) for n in ("base", "full"))
    assert not base.flip and not full.flip
    assert base.crop_padding == 2 and base.randaugment_ops == 0 and base.erase == 0
    assert full.randaugment_ops == 2 and full.erase == 0.1 and full.magnitude == 7.0
