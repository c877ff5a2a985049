"""What happens to an image between the file and the network's first layer, outside training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .geometry import centre_crop

__all__ = ["FILE_CHANNELS", "Preprocess", "convert"]

_ORIENTATION = 0x0112
_MODES = {1: "L", 3: "RGB"}
_LONGEST = 8  # short edges that a picture may be long: enlarged whole, a thin one would take gigabytes
FILE_CHANNELS = tuple(_MODES)
"""Numbers of channels an image file can be converted to."""


def convert(image: Image.Image, channels: int) -> Image.Image:
    """`image` upright (EXIF orientation applied) in greyscale (`channels` 1) or RGB (3); transparency is dropped.

    Raises:
        ValueError: `channels` is neither 1 nor 3.
    """
    if channels not in _MODES:
        raise ValueError(f"an image file has 1 or 3 channels, not {channels}")
    image = _upright(image)
    if image.mode.startswith("I;16"):  # Pillow clips 16-bit grey at 255 instead of scaling it
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "I":  # what 16-bit grey is in some formats
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    return image if image.mode == _MODES[channels] else image.convert(_MODES[channels])


def _upright(image: Image.Image) -> Image.Image:
    """`image` turned as its EXIF orientation says; metadata that cannot be read is no reason to lose an image."""
    try:
        return image if image.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    except Exception:
        return image


def _middle(image: Image.Image) -> Image.Image:
    """`image` without the ends of one much longer than wide; its centre square is not touched."""
    longest = _LONGEST * min(image.size)
    left, top = (max(0, side - longest) // 2 for side in image.size)
    if (left, top) == (0, 0):
        return image
    return image.crop((left, top, image.width - left, image.height - top))


@dataclass(frozen=True)
class Preprocess:
    """The evaluation path of an image: resize, centre crop, normalise.

    Attributes:
        size: side of the network's square input, px.
        resize: side the image's shorter edge is resized to before the centre crop, px; at least `size`.
        mean, std: of every channel, of pixels scaled to 0..1.
        channels: 1 (greyscale) or 3 (RGB) for image files; arrays may have any number.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ValueError(f"size {self.size} must be positive and at most resize {self.resize}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need {self.channels} values, one a channel")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_dict` reads it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of `as_dict`.

        Raises:
            KeyError: a field is missing.
            ValueError: the values do not fit together.
        """
        known = {field.name: values[field.name] for field in fields(cls)}
        known["mean"], known["std"] = tuple(map(float, known["mean"])), tuple(map(float, known["std"]))
        return cls(**known)

    def square(self, image: Image.Image) -> np.ndarray:
        """The centre square of `image` at `resize` px: uint8 [C, resize, resize]."""
        image = _middle(convert(image, self.channels))
        width, height = image.size
        side = self.resize
        if min(width, height) != side:
            scale = side / min(width, height)
            width, height = max(side, round(width * scale)), max(side, round(height * scale))
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - side) // 2, (height - side) // 2
        if (width, height) != (side, side):
            image = image.crop((left, top, left + side, top + side))
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def image(self, image: Image.Image) -> Tensor:
        """What the network sees of `image` before normalisation: uint8 [C, size, size]."""
        return centre_crop(torch.from_numpy(self.square(image).copy()), self.size)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(pixels / 255 - mean) / std for pixels of 0..255 [N, C, H, W]: float32, channels_last."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, -1, 1, 1)
        scaled = pixels.to(torch.float32, memory_format=torch.channels_last)
        return torch.addcmul(-mean / std, scaled, 1 / (255 * std)).contiguous(memory_format=torch.channels_last)
