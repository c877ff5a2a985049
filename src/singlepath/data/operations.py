"""RandAugment-like operations on whole batches, in torch.

Cubuk et al., "RandAugment" (2020); ranges as in timm's `rand-m9`. Every operation takes float pixels 0..255
[n, C, S, S] and a signed strength -1..1 [n] and gives pixels of the same shape; sums over an image are of whole
numbers, so that the result for an image is the same to the bit in any batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .geometry import quantise, warp

__all__ = ["OPERATIONS", "randaugment"]


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _blend(base: Tensor, pixels: Tensor, strength: Tensor) -> Tensor:
    """From `base` (factor 0) through `pixels` (factor 1) and beyond: factor 1 + 0.9 strength."""
    return base + (pixels - base) * _column(1 + 0.9 * strength)


def _grey(pixels: Tensor) -> Tensor:
    """Luma [n, 1, S, S], rounded to whole numbers; the mean where there are not three channels."""
    if pixels.shape[1] != 3:
        return pixels.mean(1, keepdim=True).round()
    red, green, blue = pixels.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).round().unsqueeze(1)


def identity(pixels: Tensor, strength: Tensor) -> Tensor:
    return pixels


def brightness(pixels: Tensor, strength: Tensor) -> Tensor:
    return _blend(torch.zeros_like(pixels), pixels, strength)


def contrast(pixels: Tensor, strength: Tensor) -> Tensor:
    grey = _grey(pixels)
    mean = grey.to(torch.int64).sum((1, 2, 3)).double() / grey[0].numel()
    return _blend(_column(mean.round().float()).expand_as(pixels), pixels, strength)


def saturation(pixels: Tensor, strength: Tensor) -> Tensor:
    return _blend(_grey(pixels).expand_as(pixels), pixels, strength)


def sharpness(pixels: Tensor, strength: Tensor) -> Tensor:
    around = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    return _blend((9 * around + 4 * pixels) / 13, pixels, strength)


def autocontrast(pixels: Tensor, strength: Tensor) -> Tensor:
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    return torch.where(high > low, (pixels - low) * (255 / (high - low).clamp(min=1)), pixels)


def posterize(pixels: Tensor, strength: Tensor) -> Tensor:
    step = _column(2.0 ** (4 * strength.abs()).round())
    return (pixels / step).floor() * step


def solarize(pixels: Tensor, strength: Tensor) -> Tensor:
    return torch.where(pixels < _column(256 * (1 - strength.abs())), pixels, 255 - pixels)


def _affine(x_row: tuple[Tensor, Tensor, Tensor], y_row: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The matrices [n, 2, 3] of two rows of their entries [n]."""
    return torch.stack([torch.stack(x_row, dim=1), torch.stack(y_row, dim=1)], dim=1)


def _ones_and_zeros(strength: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(strength), torch.zeros_like(strength)


def rotate(pixels: Tensor, strength: Tensor) -> Tensor:
    angle, zero = strength * (torch.pi / 6), torch.zeros_like(strength)
    return warp(pixels, _affine((angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero)))


def translate_x(pixels: Tensor, strength: Tensor) -> Tensor:
    one, zero = _ones_and_zeros(strength)
    return warp(pixels, _affine((one, zero, 0.9 * strength), (zero, one, zero)))


def translate_y(pixels: Tensor, strength: Tensor) -> Tensor:
    one, zero = _ones_and_zeros(strength)
    return warp(pixels, _affine((one, zero, zero), (zero, one, 0.9 * strength)))


def shear_x(pixels: Tensor, strength: Tensor) -> Tensor:
    one, zero = _ones_and_zeros(strength)
    return warp(pixels, _affine((one, 0.3 * strength, zero), (zero, one, zero)))


def shear_y(pixels: Tensor, strength: Tensor) -> Tensor:
    one, zero = _ones_and_zeros(strength)
    return warp(pixels, _affine((one, zero, zero), (0.3 * strength, one, zero)))


OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    identity,
    brightness,
    contrast,
    saturation,
    sharpness,
    autocontrast,
    posterize,
    solarize,
    rotate,
    translate_x,
    translate_y,
    shear_x,
    shear_y,
)


def randaugment(pixels: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    """Apply to each image of uint8 [N, C, S, S] its row of operations in turn; a new uint8 tensor.

    `chosen` [N, k] are positions in `OPERATIONS`, `strength` [N, k] their signed strengths.
    """
    pixels = pixels.clone()
    for turn in range(chosen.shape[1]):
        for number, operation in enumerate(OPERATIONS):
            rows = (chosen[:, turn] == number).nonzero().flatten()
            if len(rows) and operation is not identity:
                pixels[rows] = quantise(operation(pixels[rows].float(), strength[rows, turn]))
    return pixels
