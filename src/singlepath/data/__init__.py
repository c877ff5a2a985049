"""Where images come from, how they are split, and how they reach a network.

Example::

    data = load("digits", size=32, seed=0)
    augment = Augment(flip=data.flip, crop_padding=4)
    for batch in batches(data.train, data.preprocess, batch_size=64, seed=0, epoch=0, augment=augment):
        loss = criterion(network(batch.x), batch.y)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from singlepath.errors import UserError, user_error

from . import digits, folder, npz, parquet
from .assemble import LARGEST, Options, assemble
from .augment import Augment
from .base import ArrayImages, Data, FileImages, Images
from .loader import Batch, batch_count, batches, evaluation_batches
from .preprocess import Preprocess
from .source import Source

__all__ = [
    "BUILTIN",
    "LARGEST",
    "ArrayImages",
    "Augment",
    "Batch",
    "Data",
    "FileImages",
    "Images",
    "Preprocess",
    "batch_count",
    "batches",
    "evaluation_batches",
    "load",
]

BUILTIN: dict[str, Callable[[], Source]] = {"digits": digits.read}
"""Data sets known by name."""

READERS: dict[str, Callable[[Path], Source]] = {"npz": npz.read, "parquet": parquet.read, "folder": folder.read}
"""Readers of a path, by kind; `_kind` says which one a path is for."""


def load(
    source: str | Path,
    *,
    size: int | None = None,
    channels: int = 3,
    seed: int = 0,
    val_fraction: float = 0.2,
    limit: int | None = None,
    workers: int = 0,
) -> Data:
    """Load a data set: its training and held-out parts now, its test part when `Data.open_test` is called.

    Args:
        source: a built-in name (`BUILTIN`), a folder of class folders (with `train/`, `val/`, `test/` or without), a
            folder of Hugging Face image parquet files or one such file, a `.npz` file or a folder with one.
        size: side of the network's input, px; by default the data set's own (digits: 32), else that of the
            images, at most 224.
        channels: 1 for greyscale, 3 for RGB; an `.npz` may have any number.
        seed: of the held-out split and of `limit`. A test part that is not given is 20 % of the images, the same for
            any seed.
        val_fraction: held-out fraction of the training images, where no held-out part is given.
        limit: use so many training images in all, held-out ones included, every class in proportion, and at most as
            many test images.
        workers: threads that decode, 0 for one a core, at most 8.

    Raises:
        UserError: the source is unknown or missing, has fewer than two classes, a class without images, more than 1 %
            corrupt images or parts that do not fit together, or an extra is not installed.
    """
    options = Options(size, channels, seed, val_fraction, limit, workers)
    if isinstance(source, str) and source in BUILTIN:
        return assemble(BUILTIN[source](), options)
    path = Path(source)
    if not path.exists():
        raise _missing(str(source))
    kind, path = _kind(path)
    return assemble(READERS[kind](path.resolve()), options)


def _kind(path: Path) -> tuple[str, Path]:
    """The reader for a path that exists, and what to read."""
    if path.is_file():
        kind = path.suffix.lower().lstrip(".")
        if kind in ("npz", "parquet"):
            return kind, path
        raise user_error(f"data in the file {str(path)!r}", f"allowed: {_forms()}", "type --data FOLDER")
    if parquet.files(path):
        return "parquet", path
    arrays = sorted(path.glob("*.npz"))
    if len(arrays) == 1:
        return "npz", arrays[0]
    if arrays:
        names = ", ".join(file.name for file in arrays[:5])
        raise user_error(
            f"{str(path)!r} holds {len(arrays)} .npz files", f"one of: {names}", f"type --data {arrays[0]}"
        )
    return "folder", path


def _forms() -> str:
    return f"{', '.join(BUILTIN)} (built in), a folder of class folders, image parquet files, a .npz file"


def _missing(source: str) -> UserError:
    near = difflib.get_close_matches(source, BUILTIN, n=1, cutoff=0.0)[0]
    return user_error(
        f"no data at {source!r}: neither a built-in name nor a path that exists",
        f"allowed: {_forms()}",
        f"correct the path, or type --data {near}",
    )
