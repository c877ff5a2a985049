"""A folder of class folders: `ROOT/CLASS/*.jpg`, or `ROOT/train/CLASS/*.jpg`, with or without `val/` and `test/` beside
them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from singlepath.errors import user_error

from .pictures import SUFFIXES
from .source import FilePart, Source

__all__ = ["read"]

_PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}


def read(root: Path) -> Source:
    """The folder's parts. Of `test/` only names are read here, to find out now that it holds images.

    Raises:
        UserError: no class folders, no images, or parts whose classes differ.
    """
    parts = _parts(root)
    train = parts.get("train", root)
    classes = tuple(name for name in _class_names(train) if train / name not in parts.values())
    if not classes:
        raise user_error(
            f"the data folder {str(train)!r} has no class folders",
            "every class is a folder of its images, ROOT/CLASS/*.jpg",
            "move the images into one folder a class",
        )
    part = _some(_list(root, train, classes), train)
    held_out, test = parts.get("val"), parts.get("test")
    for other in (held_out, test):
        if other is not None:
            _same_classes(classes, other, "the root" if train == root else f"{train.name}/")
    if test is not None:
        _some(_list(root, test, classes), test)
    return Source(
        root.name,
        classes,
        part,
        val=None if held_out is None else _some(_list(root, held_out, classes), held_out),
        test=None if test is None else partial(_list, root, test, classes),
    )


def _some(part: FilePart, folder: Path) -> FilePart:
    """The part; `UserError` where it has no files."""
    if len(part.paths) == 0:
        raise user_error(
            f"the class folders of {str(folder)!r} hold no images",
            f"allowed: {', '.join(sorted(SUFFIXES))}",
            "type --data with the folder that holds the images",
        )
    return part


def _parts(root: Path) -> dict[str, Path]:
    """The folders of the parts that there are. Without one of training images the classes stand in the root, and a part
    is what holds folders of the same names."""
    found = {part: folder for part in _PARTS if (folder := _part_folder(root, part))}
    if "train" in found:
        return found
    beside = {name.casefold() for name in _class_names(root)}
    return {
        part: folder for part, folder in found.items() if beside & {name.casefold() for name in _class_names(folder)}
    }


def _part_folder(root: Path, part: str) -> Path | None:
    """The folder of a part, upper or lower case. One of images that stands beside classes is a class of that name."""
    names = {name.lower(): name for name in reversed(_class_names(root))}
    found = next((root / names[name] for name in _PARTS[part] if name in names), None)
    alone = names.keys() <= {name for each in _PARTS.values() for name in each}
    return found if found and (alone or _class_names(found)) else None


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def _same_classes(classes: tuple[str, ...], folder: Path, train: str) -> None:
    """Raise `UserError` unless `folder` has exactly the class folders of the training images, which are in `train`."""
    differ = sorted(set(classes) ^ set(_class_names(folder)))
    if differ:
        where = train if differ[0] in classes else f"{folder.name}/"
        raise user_error(
            f"{str(folder.parent)!r} has the class {differ[0]!r} in {where} only",
            f"{train} and {folder.name}/ must hold the same class folders ({len(differ)} differ)",
            "rename, add or remove class folders until they agree",
        )


def _list(root: Path, folder: Path, classes: tuple[str, ...]) -> FilePart:
    """Every image file below the class folders, ordered by name.

    Raises:
        UserError: the folder cannot be read any more.
    """
    paths: list[Path] = []
    labels: list[int] = []
    if not folder.is_dir():
        raise user_error(f"the data folder {str(folder)!r} is gone", "it was there at the start", "put it back")
    for label, name in enumerate(classes):
        found = sorted(_images_below(folder / name))
        paths += found
        labels += [label] * len(found)
    return FilePart(root, tuple(paths), np.asarray(labels, dtype=np.int64))


def _images_below(folder: Path) -> list[Path]:
    return [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    ]
