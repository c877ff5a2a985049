"""Crops and warps of a whole batch, each sample with its own parameters.

Everything here is element-wise over samples: what happens to an image does not depend on the batch it is in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["centre_crop", "crop_boxes", "quantise", "resized_crop", "shift_and_flip", "warp"]


def quantise(pixels: Tensor) -> Tensor:
    """Float pixels rounded and clipped to uint8."""
    return pixels.round().clamp_(0, 255).to(torch.uint8)


def centre_crop(pixels: Tensor, size: int) -> Tensor:
    """The centre [..., size, size] of [..., H, W]; a view."""
    top, left = (pixels.shape[-2] - size) // 2, (pixels.shape[-1] - size) // 2
    return pixels[..., top : top + size, left : left + size]


def crop_boxes(shape: Tensor, width: int, height: int) -> Tensor:
    """Boxes [N, 4] (left, top, right, bottom), px, inside a `width` x `height` image.

    `shape` [N, 4] holds, for every sample, the area as a fraction of the image, the aspect ratio (width / height) and
    the position from left and from top as fractions of the room there is. A box is no wider or higher than the image.
    """
    area, aspect, x, y = (shape[:, column] for column in range(4))
    wide = (area * aspect * (width * height)).sqrt().clamp(1, width)
    high = (area / aspect * (width * height)).sqrt().clamp(1, height)
    left, top = x * (width - wide), y * (height - high)
    return torch.stack([left, top, left + wide, top + high], dim=1)


def resized_crop(pixels: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Each sample's box of uint8 [N, C, H, W], resized bilinearly to uint8 [N, C, size, size]."""
    height, width = pixels.shape[-2:]
    steps = (torch.arange(size, device=pixels.device, dtype=torch.float32) + 0.5) / size
    x = (boxes[:, 0:1] + steps * (boxes[:, 2:3] - boxes[:, 0:1])) * (2 / width) - 1
    y = (boxes[:, 1:2] + steps * (boxes[:, 3:4] - boxes[:, 1:2])) * (2 / height) - 1
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=3)
    return quantise(F.grid_sample(pixels.float(), grid.float(), padding_mode="border", align_corners=False))


def shift_and_flip(pixels: Tensor, padding: int, shift: Tensor | None, flip: Tensor | None) -> Tensor:
    """Zero-padded random crop and horizontal flip of uint8 [N, C, H, W] in one gather; same shape.

    `shift` [N, 2] are the crop's row and column, 0..2*padding, in the padded image; `flip` [N] says which are mirrored.
    """
    count, _, height, width = pixels.shape
    rows = torch.arange(height, device=pixels.device).expand(count, -1)
    columns = torch.arange(width, device=pixels.device).expand(count, -1)
    if flip is not None:
        columns = torch.where(flip[:, None], width - 1 - columns, columns)
    if shift is not None:
        pixels = F.pad(pixels, (padding,) * 4)
        rows, columns = rows + shift[:, :1], columns + shift[:, 1:]
    sample = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def warp(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Float [N, C, S, S] sampled bilinearly at `matrix` [N, 2, 3] @ (x, y, 1), coordinates -1..1; zero outside."""
    side = pixels.shape[-1]
    line = (torch.arange(side, device=pixels.device, dtype=torch.float32) * 2 + 1) / side - 1
    x, y = line[None, None, :], line[None, :, None]
    grid = [m[:, 0, None, None] * x + m[:, 1, None, None] * y + m[:, 2, None, None] for m in matrix.unbind(1)]
    return F.grid_sample(pixels, torch.stack(grid, dim=3), padding_mode="zeros", align_corners=False)
