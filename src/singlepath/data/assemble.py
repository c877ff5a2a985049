"""From a reader's `Source` to `Data`: split, limit, decode, measure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from singlepath.errors import user_error

from . import decode
from .base import Data, Images
from .preprocess import FILE_CHANNELS, Preprocess
from .source import ArrayPart, FilePart, Part, Source
from .splits import generator, stratified

__all__ = ["LARGEST", "Options", "assemble"]

_TEST_FRACTION = 0.2
_TEST_SEED = 0  # the test part must be the same for every seed, or results of different seeds could not be compared
_MEASURED = 2048
_SIZES = (8, 1024)
LARGEST = 224
"""px; the largest input that is chosen by the images' own size."""


@dataclass(frozen=True)
class Options:
    """What `load` was asked for."""

    size: int | None = None
    channels: int = 3
    seed: int = 0
    val_fraction: float = 0.2
    limit: int | None = None
    workers: int = 0

    def check(self) -> None:
        """Raise `UserError` for a value that makes no sense."""
        low, high = _SIZES
        if self.size is not None and not low <= self.size <= high:
            raise user_error(f"an image size of {self.size} px", f"allowed: {low} to {high}", "type --input-size 32")
        if not 0 < self.val_fraction < 1:
            raise user_error(
                f"a held-out fraction of {self.val_fraction}", "allowed: between 0 and 1", "give val_fraction=0.2"
            )


def assemble(source: Source, options: Options) -> Data:
    """Read the training and held-out parts of `source`.

    Raises:
        UserError: too few classes or images, a number of channels the images cannot have, too many corrupt images.
    """
    options.check()
    _check(source, options)
    chosen = _choose(source, options)
    held_out_part = source.val or source.train
    total = len(chosen.train) + len(chosen.val)
    side = decode.native_side(source.train, chosen.train)
    geometry = _geometry(options.size or source.size or min(LARGEST, max(_SIZES[0], side or LARGEST)), options)
    read = _reader(geometry, options.workers)
    train, skipped = read(source.train, chosen.train, total)
    val, also_skipped = read(held_out_part, chosen.val, total)
    skipped += also_skipped
    decode.refuse_corrupt(skipped, total)
    mean, std = _statistics(train, geometry)
    preprocess = replace(geometry, mean=mean, std=std)

    def read_test() -> tuple[Images, list[str]]:
        part, indices = chosen.test()
        images, missing = read(part, indices, len(indices))
        decode.refuse_corrupt(missing, len(indices))
        return images, missing

    fingerprint = _fingerprint(source, preprocess, train, val)
    return Data(
        source.name, source.classes, train, val, preprocess, source.flip, skipped, fingerprint, read_test, side
    )  # fmt: skip


def _check(source: Source, options: Options) -> None:
    """Raise `UserError` where there is too little to learn from."""
    if len(source.classes) < 2:
        raise user_error(
            f"the data {source.name!r} has one class ({', '.join(source.classes)})",
            "at least 2 classes are needed",
            "add images of another class",
        )
    least = 1 + (source.val is None) + (source.test is None)
    _check_classes(source, source.train, least, "training images" if least == 1 else "images")
    if source.val is not None:
        _check_classes(source, source.val, 1, "held-out images")
    lowest = 2 * len(source.classes)
    if options.limit is not None and options.limit < lowest:
        raise user_error(
            f"a limit of {options.limit} images for {len(source.classes)} classes",
            "every class needs one image to train on and one held out",
            f"type --limit {lowest} or more",
        )
    depths = _depths(source.train)
    if options.channels not in depths:
        raise user_error(
            f"{options.channels} input channels for {source.name!r}",
            f"allowed: {', '.join(map(str, depths))}",
            f"type --space 'NAME(in_channels={depths[-1]})'",
        )


def _check_classes(source: Source, part: Part, least: int, what: str) -> None:
    counts = np.bincount(part.labels, minlength=len(source.classes))
    if counts.min() < least:
        name, count = source.classes[int(counts.argmin())], int(counts.min())
        raise user_error(
            f"the class {name!r} of {source.name!r} has {count or 'no'} {what}",
            f"at least {least} are needed of every class" + " (training, held-out, test)" * (least > 1),
            "add images to it or remove the class",
        )


def _depths(part: Part) -> tuple[int, ...]:
    """The numbers of channels the images can be given."""
    depth = part.pixels.shape[3] if isinstance(part, ArrayPart) and part.pixels.ndim == 4 else 1
    return FILE_CHANNELS if depth in (1, 3) else (*FILE_CHANNELS, 4) if depth == 4 else (depth,)


@dataclass(frozen=True)
class _Choice:
    """Indices, ascending, into the training part (`val`: into the held-out part where the source has one)."""

    train: np.ndarray
    val: np.ndarray
    test: Callable[[], tuple[Part, np.ndarray]]


def _choose(source: Source, options: Options) -> _Choice:
    pool = np.arange(len(source.train.labels))
    labels = source.train.labels
    read_part = source.test
    if read_part is None:
        count = round(_TEST_FRACTION * len(pool))
        held_back = stratified(labels, count, generator(_TEST_SEED, "test"), leave=2)
        pool = np.setdiff1d(pool, held_back)
        limited = held_back[_limited(labels[held_back], options.limit, generator(_TEST_SEED, "limit test"))]

        def test() -> tuple[Part, np.ndarray]:
            return source.train, limited
    else:

        def test() -> tuple[Part, np.ndarray]:
            part = read_part()
            return part, _limited(part.labels, options.limit, generator(_TEST_SEED, "limit test"))

    random = generator(options.seed, "split")
    if source.val is None:
        pool = pool[_limited(labels[pool], options.limit, random, least=2)]
        val = pool[stratified(labels[pool], round(options.val_fraction * len(pool)), random, leave=1)]
        return _Choice(np.setdiff1d(pool, val), val, test)
    train_limit, val_limit = _divide(options.limit, len(pool), len(source.val.labels))
    train = pool[_limited(labels[pool], train_limit, random)]
    return _Choice(train, _limited(source.val.labels, val_limit, random), test)


def _divide(limit: int | None, train: int, val: int) -> tuple[int | None, int | None]:
    """The limits of a training and a held-out part that are given, in proportion to their sizes."""
    if limit is None or limit >= train + val:
        return None, None
    held_out = round(limit * val / (train + val))
    return limit - held_out, held_out


def _limited(labels: np.ndarray, limit: int | None, random: np.random.Generator, *, least: int = 1) -> np.ndarray:
    """All positions of `labels`, or `limit` of them."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    return stratified(labels, limit, random, least=least)


def _geometry(size: int, options: Options) -> Preprocess:
    """Size and resize; mean and std follow once the images are read."""
    resize = size if size <= 64 else round(size / 0.875)
    return Preprocess(size, resize, (0.5,) * options.channels, (0.5,) * options.channels, options.channels)


def _reader(geometry: Preprocess, workers: int) -> Callable[[Part, np.ndarray, int], tuple[Images, list[str]]]:
    """Reads a part's indices; files into memory where `total` fit, so that parts to be joined are of one kind."""

    def read(part: Part, indices: np.ndarray, total: int) -> tuple[Images, list[str]]:
        fits = total * geometry.channels * geometry.resize**2 <= decode.FILES_IN_MEMORY
        return decode.read_part(
            part, indices, geometry, in_memory=fits or not isinstance(part, FilePart), workers=workers
        )

    return read


def _statistics(train: Images, geometry: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel over at most `_MEASURED` training images, four digits."""
    step = max(1, -(-len(train) // _MEASURED))  # over all of them: images stand class by class
    chunks = list(torch.arange(0, len(train), step).split(64))
    count = torch.zeros((), dtype=torch.float64)
    total, squares = torch.zeros(2, geometry.channels, dtype=torch.float64)
    for pixels in train.stream(chunks, geometry, None, 0):
        values: Tensor = pixels.transpose(0, 1).flatten(1).double() / 255
        count += values.shape[1]
        total += values.sum(1)
        squares += values.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=0.01)
    return tuple(round(value, 4) for value in mean.tolist()), tuple(round(value, 4) for value in std.tolist())


def _fingerprint(source: Source, preprocess: Preprocess, train: Images, val: Images) -> str:
    facts = [source.name, source.classes, preprocess.as_dict(), train.fingerprint(), val.fingerprint()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
