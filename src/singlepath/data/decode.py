"""From undecoded parts to `ArrayImages` or `FileImages`, with corrupt images left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from singlepath.errors import user_error

from .base import ArrayImages, FileImages, Images
from .checked import readable
from .pictures import CorruptImage, Raw, open_picture
from .preprocess import FILE_CHANNELS, Preprocess
from .source import FilePart, Part

__all__ = ["FILES_IN_MEMORY", "MOST_IN_MEMORY", "native_side", "read_part", "refuse_corrupt"]

FILES_IN_MEMORY = 512 * 2**20
"""Bytes of decoded image files that are held in memory; more are decoded each time they are used."""
MOST_IN_MEMORY = 4 * 2**30
"""Bytes of decoded images from arrays and parquet files; more is refused."""

_CORRUPT_FRACTION = 0.01
_IN_FLIGHT = 2048
_MEASURED = 64
_T = TypeVar("_T")


def native_side(part: Part, indices: np.ndarray) -> int | None:
    """The median shorter edge of up to `_MEASURED` of the images, px; None where none of them can be read."""
    edges = []
    step = max(1, -(-len(indices) // _MEASURED))  # over all of them: images may stand class by class
    for raw in part.raw(indices[::step]):
        if isinstance(raw, np.ndarray):
            edges.append(min(raw.shape[:2]))
            continue
        try:
            edges.append(min(open_picture(raw, header_only=True).size))
        except CorruptImage:
            continue
    return int(np.median(edges)) if edges else None


def read_part(
    part: Part, indices: np.ndarray, preprocess: Preprocess, *, in_memory: bool, workers: int
) -> tuple[Images, list[str]]:
    """The images at `indices` (ascending) and the names of those that cannot be decoded, which are left out.

    `in_memory` decodes to arrays at `preprocess.resize` px; otherwise files are decoded once to see that they can be,
    and what was seen is remembered (`checked`).

    Raises:
        UserError: the arrays would need more than `MOST_IN_MEMORY` bytes.
    """
    side = preprocess.resize
    if isinstance(part, FilePart) and not in_memory:
        pixels = None
        good = readable(part, indices, lambda new: list(_in_threads(_readable, part.raw(new), workers)))
    else:
        _refuse_large(len(indices), preprocess)
        pixels, good = np.zeros((len(indices), preprocess.channels, side, side), np.uint8), [True] * len(indices)
        for place, result in enumerate(_in_threads(partial(_square, preprocess), part.raw(indices), workers)):
            good[place] = result is not None
            if result is not None:
                pixels[place] = result
    skipped = [part.name(int(index)) for index, fine in zip(indices, good, strict=True) if not fine]
    keep = np.asarray(good, dtype=bool)
    labels = torch.from_numpy(part.labels[indices[keep]])
    if pixels is None:
        assert isinstance(part, FilePart)
        return FileImages(tuple(part.paths[index] for index in indices[keep]), labels), skipped
    return ArrayImages(torch.from_numpy(pixels if keep.all() else pixels[keep]), labels), skipped


def refuse_corrupt(skipped: list[str], total: int) -> None:
    """Stop where more than 1 % of `total` images are corrupt.

    Raises:
        UserError: names how many, and the first of them.
    """
    if len(skipped) > _CORRUPT_FRACTION * total:
        first = ", ".join(skipped[:3]) + ", ..." * (len(skipped) > 3)
        raise user_error(
            f"{len(skipped)} of {total} images cannot be decoded ({first})",
            f"at most {_CORRUPT_FRACTION:.0%} are skipped",
            "remove or replace these files",
        )


def _refuse_large(count: int, preprocess: Preprocess) -> None:
    needed = count * preprocess.channels * preprocess.resize**2
    if needed > MOST_IN_MEMORY:
        raise user_error(
            f"{count} images at {preprocess.resize} px need {needed / 2**30:.1f} GiB",
            f"at most {MOST_IN_MEMORY / 2**30:.0f} GiB are held in memory",
            "type a smaller --limit or --input-size, or give a folder of class folders",
        )


def _square(preprocess: Preprocess, raw: Raw) -> np.ndarray | None:
    """uint8 [C, resize, resize], None where the image is corrupt."""
    if isinstance(raw, np.ndarray) and preprocess.channels not in FILE_CHANNELS:
        return _square_planes(preprocess, raw)
    try:
        return preprocess.square(open_picture(raw))
    except CorruptImage:
        return None


def _square_planes(preprocess: Preprocess, raw: np.ndarray) -> np.ndarray:
    """An array with a number of channels that no image file has, plane by plane."""
    plane = Preprocess(preprocess.size, preprocess.resize, (0.5,), (0.5,), 1)
    return np.concatenate([plane.square(open_picture(raw[..., c])) for c in range(raw.shape[2])])


def _readable(raw: Raw) -> bool:
    try:
        open_picture(raw)
    except CorruptImage:
        return False
    return True


def _in_threads(function: Callable[[Raw], _T], items: Iterable[Raw], workers: int) -> Iterator[_T]:
    """`map` in threads, in order, with a bounded number of items in memory."""
    items = iter(items)
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        while chunk := list(islice(items, _IN_FLIGHT)):
            yield from pool.map(function, chunk)
