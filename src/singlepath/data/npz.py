"""Arrays in one `.npz` file: `x_train, y_train` and, where there are any, `x_val, y_val, x_test, y_test`.

Common other spellings are read as well (`train_images`, `X_train`, `images` ...). Nothing is unpickled.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.errors import user_error

from .decode import MOST_IN_MEMORY
from .source import ArrayPart, Labels, Source

__all__ = ["read"]

_ROLES = {"x": "x", "image": "x", "images": "x", "data": "x", "inputs": "x", "pixels": "x"} | dict.fromkeys(
    ("y", "label", "labels", "target", "targets"), "y"
)
_SPLITS = {"train": "train", "training": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation"), "val")
_NAMES = ("classes", "class_names", "label_names", "names")
_FORM = "allowed: x_train and y_train (uint8 images, whole-number labels), optionally x_val, y_val, x_test, y_test"


def read(path: Path) -> Source:
    """The file's parts; of the test arrays no more than shape and type is read here.

    Raises:
        UserError: not an `.npz`, arrays that are missing, too large, or of another type or shape.
    """
    keys = _roles(path, _keys(path))
    labels = Labels.of(_array(path, keys["train", "y"]).reshape(-1), _names(path))
    part = partial(_part, path, labels=labels)
    has_val, has_test = (_has(path, keys, split) for split in ("val", "test"))
    if has_test:
        _check_form(path, keys["test", "x"], keys["test", "y"])
    return Source(
        path.stem,
        labels.classes,
        part(keys["train", "x"], keys["train", "y"]),
        val=part(keys["val", "x"], keys["val", "y"]) if has_val else None,
        test=partial(part, keys["test", "x"], keys["test", "y"]) if has_test else None,
    )


def _keys(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise user_error(f"{path.name} cannot be read ({error})", _FORM, "write it with numpy.savez") from None


def _roles(path: Path, keys: Iterable[str]) -> dict[tuple[str, str], str]:
    """(split, "x" or "y") -> the key the file uses for it."""
    found: dict[tuple[str, str], str] = {}
    for key in keys:
        words = [word for word in re.split(r"[^a-z]+", key.lower()) if word]
        roles = [_ROLES[word] for word in words if word in _ROLES]
        splits = [_SPLITS[word] for word in words if word in _SPLITS]
        if len(words) == len(roles) + len(splits) and len(roles) == 1 and len(splits) <= 1:
            found.setdefault((splits[0] if splits else "train", roles[0]), key)
    if ("train", "x") not in found or ("train", "y") not in found:
        raise user_error(f"{path.name} holds the arrays {', '.join(keys) or 'none'}", _FORM, "rename the arrays")
    return found


def _has(path: Path, keys: dict[tuple[str, str], str], split: str) -> bool:
    """Whether the file has a part; images without labels, or labels without images, are a mistake."""
    found = [keys[split, role] for role in "xy" if (split, role) in keys]
    if len(found) == 1:
        other = f"{'y' if (split, 'x') in keys else 'x'}_{split}"
        raise user_error(f"{path.name} holds {found[0]} but no {other}", _FORM, f"add {other} or remove {found[0]}")
    return bool(found)


def _names(path: Path) -> list[str] | None:
    key = next((key for key in _NAMES if key in _keys(path)), None)
    return None if key is None else [str(name) for name in _array(path, key).reshape(-1)]


def _array(path: Path, key: str) -> np.ndarray:
    """One array, after what it declares was looked at."""
    _header(path, key)
    with _readable(path, key), np.load(path, allow_pickle=False) as arrays:
        return arrays[key]


def _header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """(shape, type) that an array declares; its values are not read.

    Raises:
        UserError: it is too large, needs unpickling, or cannot be read.
    """
    with _readable(path, key), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise user_error(f"{path.name}: {key} holds Python objects", _FORM, "store plain arrays")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > MOST_IN_MEMORY:
        limit = f"at most {MOST_IN_MEMORY / 2**30:.0f} GiB an array"
        raise user_error(f"{path.name}: {key} has the shape {shape}", limit, "store fewer or smaller images")
    return shape, dtype


@contextmanager
def _readable(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise user_error(f"{path.name}: {key} cannot be read ({error})", _FORM, "write it with numpy.savez") from None


def _check_form(path: Path, x: str, y: str) -> None:
    """Raise `UserError` where two arrays are no images with a label each, by what they declare."""
    (shape, pixels), (count, labels) = _header(path, x), _header(path, y)
    if pixels != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise user_error(
            f"{path.name}: {x} is {pixels} of shape {shape}",
            "images are uint8, 0 to 255, of shape [N, H, W] or [N, H, W, C]",
            "store it as such, for example (255 * x).astype('uint8'), and leave empty arrays out",
        )
    values = int(np.prod(count, dtype=object))
    if values != shape[0] or labels.kind not in "iuU":
        raise user_error(
            f"{path.name}: {y} is {labels} with {values} values for {shape[0]} images",
            "labels are one whole number or text for each image",
            "store it as such, for example y.argmax(1) for one-hot labels",
        )


def _part(path: Path, x: str, y: str, *, labels: Labels) -> ArrayPart:
    _check_form(path, x, y)
    pixels, written = _array(path, x), _array(path, y).reshape(-1)
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3, 4) and pixels.shape[3] not in (1, 3, 4):
        pixels = pixels.transpose(0, 2, 3, 1)
    return ArrayPart(pixels, labels.encode(written, f"{path.name}: {y}"))
