"""Augmentation of whole batches. Every random draw is a function of (seed, epoch, sample index) and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .geometry import crop_boxes, shift_and_flip
from .operations import OPERATIONS, randaugment
from .preprocess import Preprocess
from .splits import generator

__all__ = ["Augment", "Draws"]

Draws = Mapping[str, Tensor]
"""Random draws by purpose, each [N, ...] with a row for every sample."""

_CROP_ASPECT = (3 / 4, 4 / 3)
_ERASE_ASPECT = (0.3, 1 / 0.3)
_ERASE_AREA = (0.02, 1 / 3)
_JITTER = 0.5


@dataclass(frozen=True)
class Augment:
    """How training images are varied; the default only mirrors them.

    Attributes:
        flip: mirror half of the images.
        crop_padding: pad by as many zero pixels and crop a random window; 0 for none.
        random_resized: crop a random box of area `min_area`..1 and aspect 3/4..4/3, resized to the input size.
        min_area: smallest box of `random_resized`, as a fraction of the image (0.08 is usual for ImageNet).
        window: (input side, stored side): crop a random window out of squares that are stored larger than the input;
            (0, 0) for none.
        randaugment_ops: operations of `operations.OPERATIONS` applied to each image in turn.
        magnitude: of these operations, 0 to 10; each draw varies by a normal deviate of 0.5.
        erase: probability that a random box of the image is replaced by the mean.
    """

    flip: bool = True
    crop_padding: int = 0
    random_resized: bool = False
    min_area: float = 0.35
    window: tuple[int, int] = (0, 0)
    randaugment_ops: int = 0
    magnitude: float = 9.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_padding < 0 or self.randaugment_ops < 0:
            raise ValueError("crop_padding and randaugment_ops must not be negative")
        if not (0 < self.min_area <= 1 and 0 <= self.magnitude <= 10 and 0 <= self.erase <= 1):
            raise ValueError("min_area is in (0, 1], magnitude in 0..10 and erase in 0..1")

    def table(self, count: int, seed: int, epoch: int) -> Draws:
        """The draws of `count` samples for one epoch; switching one kind on or off leaves the others as they are."""
        draws: dict[str, np.ndarray] = {}
        if self.flip:
            draws["flip"] = generator(seed, "flip", epoch).random(count) < 0.5
        if self.crop_padding:
            draws["shift"] = generator(seed, "shift", epoch).integers(0, 2 * self.crop_padding + 1, (count, 2))
        if self.random_resized:
            draws["crop"] = _boxes(generator(seed, "crop", epoch), count, (self.min_area, 1.0), _CROP_ASPECT)
        elif self.window[1] > self.window[0]:
            draws["crop"] = _windows(generator(seed, "window", epoch), count, *self.window)
        if self.randaugment_ops:
            random, shape = generator(seed, "operations", epoch), (count, self.randaugment_ops)
            draws["operation"] = random.integers(0, len(OPERATIONS), shape)
            size = np.clip(self.magnitude + _JITTER * random.standard_normal(shape), 0, 10) / 10
            draws["strength"] = (size * random.choice([-1.0, 1.0], shape)).astype(np.float32)
        if self.erase:
            random = generator(seed, "erase", epoch)
            draws["erased"] = random.random(count) < self.erase
            draws["hole"] = _boxes(random, count, _ERASE_AREA, _ERASE_ASPECT)
        return {name: torch.from_numpy(values) for name, values in draws.items()}

    def apply(self, pixels: Tensor, draws: Draws, preprocess: Preprocess) -> Tensor:
        """Vary and normalise a batch.

        Args:
            pixels: uint8 [N, C, S, S]; random resized crops were done where the images were read.
            draws: the rows of `table` for these samples, on the device of `pixels`.

        Returns:
            float32 [N, C, S, S], channels_last.
        """
        shift, flip = draws.get("shift"), draws.get("flip")
        if shift is not None or flip is not None:
            pixels = shift_and_flip(pixels, self.crop_padding, shift, flip)
        if "operation" in draws:
            pixels = randaugment(pixels, draws["operation"], draws["strength"])
        inputs = preprocess.normalise(pixels)
        if "erased" in draws:
            inputs.masked_fill_(_holes(draws["erased"], draws["hole"], pixels.shape[-1]), 0.0)
        return inputs


def _boxes(
    random: np.random.Generator, count: int, area: tuple[float, float], aspect: tuple[float, float]
) -> np.ndarray:
    """Shapes for `crop_boxes` [count, 4]: area uniform, aspect log-uniform, position uniform."""
    uniform = random.random((count, 4))
    low, high = np.log(aspect)
    uniform[:, 0] = area[0] + uniform[:, 0] * (area[1] - area[0])
    uniform[:, 1] = np.exp(low + uniform[:, 1] * (high - low))
    return uniform.astype(np.float32)


def _windows(random: np.random.Generator, count: int, size: int, stored: int) -> np.ndarray:
    """Shapes for `crop_boxes` [count, 4]: windows of `size` px on whole pixels of squares of `stored` px."""
    room = stored - size
    shapes = np.ones((count, 4), np.float32)
    shapes[:, 0] = (size / stored) ** 2
    shapes[:, 2:] = random.integers(0, room + 1, (count, 2)) / room
    return shapes


def _holes(erased: Tensor, shape: Tensor, side: int) -> Tensor:
    """bool [N, 1, side, side]: the pixels to erase."""
    left, top, right, bottom = crop_boxes(shape, side, side).unbind(1)
    line = torch.arange(side, device=shape.device) + 0.5
    columns = (line >= left[:, None]) & (line < right[:, None]) & erased[:, None]
    rows = (line >= top[:, None]) & (line < bottom[:, None])
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
