"""Opening image files and image bytes that somebody else made."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["SUFFIXES", "CorruptImage", "Raw", "open_picture"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})

# An explicit list: some of Pillow's other formats start external programs (PostScript).
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")

_NO_RANGE = ("F", "LAB")  # floating point; and what Pillow cannot convert

Raw = np.ndarray | bytes | Path
"""An image before it is decoded: pixels uint8 [H, W] or [H, W, 3 or 4], a file's content, or a file's path."""


class CorruptImage(Exception):
    """The image cannot be decoded, or it is larger than is sensible."""


def open_picture(raw: Raw, *, header_only: bool = False) -> Image.Image:
    """Decode one image (its first frame); `header_only` leaves the pixels unread, which is enough to know its size.

    Raises:
        CorruptImage: for whatever reason it cannot be decoded.
    """
    if isinstance(raw, np.ndarray):
        return Image.fromarray(raw[..., 0] if raw.shape[-1] == 1 and raw.ndim == 3 else raw)
    try:
        image = Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw, formats=_FORMATS)
        if image.mode in _NO_RANGE:
            raise CorruptImage(f"pixels of kind {image.mode} have no range of 0 to 255")
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise CorruptImage(f"{image.width}x{image.height} px is more than {limit} pixels")
        if not header_only:
            image.load()
        return image
    except (CorruptImage, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise CorruptImage(str(error)) from error
