"""Augmentations do what their names say, to the right images."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from singlepath.data import Augment, Preprocess
from singlepath.data.geometry import crop_boxes, resized_crop
from singlepath.data.operations import OPERATIONS, randaugment

PLAIN = Preprocess(12, 12, (0.0,) * 3, (1.0,) * 3, 3)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(1, 256, (200, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def applied(augment: Augment, pixels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Pixels 0..255 after augmentation."""
    return augment.apply(pixels, augment.table(len(pixels), seed, 0), PLAIN) * 255


def test_flip_mirrors_about_half(pixels: torch.Tensor) -> None:
    out = applied(Augment(), pixels).round()
    mirrored = (out == pixels.flip(3)).flatten(1).all(1)
    same = (out == pixels).flatten(1).all(1)
    assert bool((mirrored ^ same).all()) and 70 < int(mirrored.sum()) < 130
    assert torch.equal(applied(Augment(flip=False), pixels).round(), pixels.float())


def test_padding_crop_shifts_by_every_offset_and_fills_with_zero(pixels: torch.Tensor) -> None:
    padding = 2
    augment = Augment(flip=False, crop_padding=padding)
    out = applied(augment, pixels).round()
    padded = torch.nn.functional.pad(pixels.float(), (padding,) * 4)
    seen = set()
    for image, wide in zip(out, padded, strict=True):
        windows = {(r, c): wide[:, r : r + 12, c : c + 12] for r in range(5) for c in range(5)}
        seen |= {place for place, window in windows.items() if torch.equal(window, image)}
    assert seen == {(r, c) for r in range(5) for c in range(5)}


def test_boxes_stay_inside_and_have_the_area_asked_for() -> None:
    shape = Augment(random_resized=True, min_area=0.2).table(5000, 0, 0)["crop"]
    left, top, right, bottom = crop_boxes(shape, 120, 80).unbind(1)
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 120.001 and bottom.max() <= 80.001
    area = (right - left) * (bottom - top) / (120 * 80)
    assert 0.19 < area.min() < 0.25 and area.max() > 0.9
    aspect = ((right - left) / (bottom - top))[area < 0.5]
    assert 0.74 < aspect.min() < 0.78 and 1.28 < aspect.max() < 1.34


def test_a_resized_crop_is_the_crop_resized() -> None:
    ramp = torch.arange(16.0).mul(10).expand(1, 3, 16, 16).to(torch.uint8)  # value = 10 x column
    whole = resized_crop(ramp, torch.tensor([[0.0, 0.0, 16.0, 16.0]]), 16)
    assert torch.equal(whole, ramp)
    half = resized_crop(ramp, torch.tensor([[4.0, 0.0, 12.0, 16.0]]), 8)
    assert torch.equal(half[0, 0, 0], ramp[0, 0, 0, 4:12])
    down = resized_crop(ramp.transpose(2, 3).contiguous(), torch.tensor([[0.0, 4.0, 16.0, 12.0]]), 8)
    assert torch.equal(down[0, 0, :, 0], ramp[0, 0, 0, 4:12])


def test_erasing_puts_the_mean_in_a_box_of_some_images(pixels: torch.Tensor) -> None:
    preprocess = Preprocess(12, 12, (0.4, 0.5, 0.6), (0.2,) * 3, 3)
    augment = Augment(flip=False, erase=0.5)
    out = augment.apply(pixels, augment.table(200, 0, 0), preprocess)
    changed = out != preprocess.normalise(pixels)
    assert bool((out[changed] == 0).all())
    touched = changed.flatten(1).any(1)
    assert 70 < int(touched.sum()) < 130
    share = changed[touched].float().mean((1, 2, 3))
    assert share.max() < 0.45 and 0.1 < share.mean() < 0.25


@pytest.mark.parametrize("number", range(1, len(OPERATIONS)))
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_change_images_only_where_chosen(number: int, channels: int, pixels: torch.Tensor) -> None:
    images = (pixels[:8, :channels] // 2) + 40
    chosen = torch.zeros(8, 1, dtype=torch.int64)
    chosen[::2] = number
    out = randaugment(images, chosen, torch.full((8, 1), 0.9))
    assert out.dtype == torch.uint8 and torch.equal(out[1::2], images[1::2])
    grey_saturation = channels == 1 and OPERATIONS[number].__name__ == "saturation"
    assert torch.equal(out[::2], images[::2]) == grey_saturation


@pytest.mark.parametrize(
    "name", ["brightness", "contrast", "saturation", "sharpness", "rotate", "translate_x", "shear_y"]
)
def test_no_strength_is_no_change(name: str, pixels: torch.Tensor) -> None:
    operation = next(operation for operation in OPERATIONS if operation.__name__ == name)
    torch.testing.assert_close(operation(pixels.float(), torch.zeros(200)), pixels.float(), atol=1e-2, rtol=0)


def test_operations_agree_with_pillow(pixels: torch.Tensor) -> None:
    import numpy as np
    from PIL import Image, ImageEnhance, ImageOps

    image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    factor = 1 + 0.9 * 0.5
    expected = {
        "brightness": ImageEnhance.Brightness(image).enhance(factor),
        "contrast": ImageEnhance.Contrast(image).enhance(factor),
        "saturation": ImageEnhance.Color(image).enhance(factor),
        "autocontrast": ImageOps.autocontrast(image),
        "posterize": ImageOps.posterize(image, 6),
        "solarize": ImageOps.solarize(image, 128),
    }
    for number, operation in enumerate(OPERATIONS):
        if operation.__name__ in expected:
            out = randaugment(pixels[:1], torch.tensor([[number]]), torch.tensor([[0.5]]))[0].permute(1, 2, 0)
            difference = np.abs(out.numpy().astype(int) - np.asarray(expected[operation.__name__]).astype(int))
            exact = operation.__name__ in ("posterize", "solarize")
            assert difference.max() <= (0 if exact else 2), operation.__name__


def test_one_kind_of_draw_does_not_move_another() -> None:
    alone, together = Augment().table(50, 7, 2), Augment(crop_padding=4, erase=0.3).table(50, 7, 2)
    assert torch.equal(alone["flip"], together["flip"])


@pytest.mark.parametrize(
    "option", [{}, {"crop_padding": 2}, {"random_resized": True}, {"randaugment_ops": 2}, {"erase": 0.5}]
)
def test_every_draw_differs_by_seed_and_epoch(option: dict[str, Any]) -> None:
    augment = Augment(**{"flip": not option, **option})
    first = augment.table(100, 0, 0)
    assert first
    for other in (augment.table(100, 1, 0), augment.table(100, 0, 1)):
        assert all(not torch.equal(first[name], other[name]) for name in first)
    assert all(torch.equal(values, augment.table(100, 0, 0)[name]) for name, values in first.items())


def test_small_images_are_augmented_fast() -> None:
    """10,000 images a second on one thread is promised; several times that is usual."""
    preprocess = Preprocess(32, 32, (0.5,) * 3, (0.25,) * 3, 3)
    pixels = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8)
    augment = Augment(crop_padding=4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = min(_seconds(augment, pixels, preprocess) for _ in range(5))
    finally:
        torch.set_num_threads(threads)
    assert len(pixels) / best > 10_000


def _seconds(augment: Augment, pixels: torch.Tensor, preprocess: Preprocess) -> float:
    start = time.perf_counter()
    draws = augment.table(len(pixels), 0, 0)
    for chunk in torch.arange(len(pixels)).split(128):
        augment.apply(pixels[chunk], {name: rows[chunk] for name, rows in draws.items()}, preprocess)
    return time.perf_counter() - start
