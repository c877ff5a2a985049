"""Recipes: named ones, how they fit a number of images, and learning rates over the steps."""

from __future__ import annotations

import inspect
import itertools
import math
from dataclasses import replace

import pytest
import torch
from tests.training.helpers import digits

from singlepath.data import batches
from singlepath.errors import UserError
from singlepath.training import RECIPES, Recipe, get_recipe
from singlepath.training.optim import rmsprop
from singlepath.training.recipe import learning_rate


def rates(recipe: Recipe, per_epoch: int) -> list[float]:
    return [learning_rate(recipe, s, per_epoch) for s in range(recipe.epochs * per_epoch)]


def test_the_papers_recipe_has_the_releases_constants() -> None:
    recipe = get_recipe("single-path")
    assert (recipe.epochs, recipe.batch_size, recipe.optimiser, recipe.momentum) == (350, 1024, "rmsprop", 0.9)
    assert (recipe.label_smoothing, recipe.dropout, recipe.ema, recipe.bn_momentum) == (0.1, 0.2, 0.9999, 0.01)
    assert recipe.weight_decay == 1e-5 and recipe.lr == 0.064 and recipe.warm_up == 5
    for batch in (64, 256, 4096):
        assert recipe.fitted(10**6, batch_size=batch).lr == pytest.approx(0.016 * batch / 256)
    assert inspect.signature(rmsprop).parameters["eps"].default == 1e-3
    photos = replace(digits(), preprocess=replace(digits().preprocess, size=224, resize=256))
    assert recipe.augment(photos).random_resized and recipe.augment(photos).min_area == 0.08
    assert get_recipe("base").augment(photos).min_area == 0.35


def test_the_papers_schedule_falls_by_3_percent_every_24_tenths_of_an_epoch_after_5_epochs_of_warm_up() -> None:
    recipe, per_epoch = get_recipe("single-path"), 20
    seen = rates(recipe, per_epoch)
    warm = seen[: 5 * per_epoch]
    assert warm == pytest.approx([recipe.lr * i / len(warm) for i in range(len(warm))])
    for epoch in (5.5, 7.0, 7.5, 9.5, 12.5, 50.5, 349.5):
        expected = recipe.lr * 0.97 ** math.floor(epoch / 2.4)
        assert seen[round(epoch * per_epoch)] == pytest.approx(expected, rel=1e-12), epoch
    after = seen[5 * per_epoch :]
    stairs = [i for i in range(1, len(after)) if after[i] < after[i - 1]]
    assert all(abs(b - a - 2.4 * per_epoch) <= 1 for a, b in itertools.pairwise(stairs))
    assert after[stairs[1]] / after[stairs[0]] == pytest.approx(0.97)
    assert len(stairs) == math.floor(350 / 2.4) - math.floor(5 / 2.4)


def test_in_fewer_epochs_the_papers_stairs_shrink_and_the_end_is_the_same() -> None:
    recipe = get_recipe("single-path")
    short, long = replace(recipe, epochs=35), replace(recipe, epochs=700)
    for epoch in (5.0, 12.34, 34.9):
        assert learning_rate(short, round(epoch * 100), 100) == learning_rate(recipe, round(epoch * 1000), 100)
    assert learning_rate(long, 69_900, 100) == pytest.approx(recipe.lr * 0.97 ** math.floor(699 / 2.4))


@pytest.mark.parametrize(("name", "warm_up"), [("base", 1), ("full", 3)])
def test_base_and_full_warm_up_and_go_down_a_cosine_to_zero(name: str, warm_up: int) -> None:
    recipe, top = get_recipe(name), 10 * warm_up
    seen = rates(recipe, 10)
    assert seen[0] == pytest.approx(recipe.lr / 10) and seen[:top] == sorted(seen[:top])
    assert seen[top] == recipe.lr and seen[top:] == sorted(seen[top:], reverse=True) and seen[-1] < 1e-4 * recipe.lr
    assert seen[(top + len(seen)) // 2] == pytest.approx(recipe.lr / 2, rel=0.02)


def test_a_warm_up_is_at_most_a_tenth_of_a_short_training() -> None:
    seen = rates(get_recipe("full").fitted(2000, epochs=10), 10)
    assert seen.index(max(seen)) == 10 and seen[9] < seen[10]


def test_base_has_no_tricks_and_full_has_all() -> None:
    tricks = ("ema", "label_smoothing", "dropout", "mixup", "randaugment", "erase")
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


def test_small_images_that_are_stored_larger_are_cropped_at_random_and_not_padded() -> None:
    data = digits()
    larger = replace(data, preprocess=replace(data.preprocess, size=data.preprocess.size - 4))
    augment = get_recipe("base").augment(larger)
    assert augment.window == (larger.preprocess.size, larger.preprocess.resize) and augment.crop_padding == 0
    drawn = batches(larger.train, larger.preprocess, batch_size=64, seed=0, epoch=0, augment=augment)
    batch = next(iter(drawn))
    whole = data.preprocess.normalise(larger.train.pixels[batch.index])  # type: ignore[union-attr]
    side = larger.preprocess.size
    at = {(y, x) for image, window in zip(whole, batch.x, strict=True) for y in range(5) for x in range(5)
          if torch.allclose(image[:, y : y + side, x : x + side], window, atol=2e-2)}  # fmt: skip
    assert {y for y, _ in at} == {x for _, x in at} == set(range(5))
