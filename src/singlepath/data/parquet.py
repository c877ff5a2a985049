"""Hugging Face image parquet: `train*.parquet`, `test*.parquet` and `validation*.parquet`, or one file.

An image column holds `{bytes, path}` or plain bytes; the label column holds whole numbers, which the metadata may
name, or text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.errors import optional, user_error

from .source import Labels, Source

__all__ = ["files", "read"]

_IMAGES = ("image", "img", "images", "picture")
_LABELS = ("label", "labels", "fine_label", "class", "target")
_BATCH = 512


def files(folder: Path) -> list[Path]:
    """The parquet files of a data folder: directly in it, or in its `data/` as the hub stores them."""
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))


def read(path: Path) -> Source:
    """The parts of one parquet file or of a folder of them; of test files no more than the columns' names and the
    number of rows is read here.

    Raises:
        UserError: pyarrow is not installed, no training file, no image or label column, unreadable.
    """
    if path.is_file():
        return _source(path.stem, [path], [], [])
    found = files(path)
    train, held_out, test = ([file for file in found if file.name.startswith(s)] for s in ("train", "val", "test"))
    if not train:
        raise user_error(
            f"{str(path)!r} holds {found[0].name} but no training file",
            "allowed: train*.parquet, validation*.parquet, test*.parquet",
            f"rename it, or type --data {found[0]}",
        )
    return _source(path.name, train, held_out, test)


def _source(name: str, train: Sequence[Path], held_out: Sequence[Path], test: Sequence[Path]) -> Source:
    columns = _Columns.of(train[0])
    if test and not sum(columns.open(path).metadata.num_rows for path in test):
        instead = "add images, or move it away: a test part is then split off the training images"
        raise user_error(f"{test[0].name} has no rows", "a test part needs images", instead)
    labels = Labels.of(_written(train, columns), columns.names)
    part = partial(_part, columns=columns, labels=labels)
    return Source(
        name,
        labels.classes,
        part(train),
        val=part(held_out) if held_out else None,
        test=partial(part, test) if test else None,
    )


def _open(path: Path) -> Any:
    """A `pyarrow.parquet.ParquetFile`."""
    parquet = optional("pyarrow.parquet", "data")
    with _readable(path):
        return parquet.ParquetFile(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file that cannot be read, or a damaged page inside it, is the user's to fetch again."""
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        what = f"{str(path)!r} cannot be read ({' '.join(str(error).split())[:80]})"
        raise user_error(what, "parquet files are needed", "fetch it again") from None


@dataclass(frozen=True)
class _Columns:
    """Which columns hold the images and labels, and the class names where the file gives them."""

    image: str
    label: str
    names: tuple[str, ...] | None

    @classmethod
    def of(cls, path: Path) -> _Columns:
        schema = _open(path).schema_arrow
        image = next((name for name in _IMAGES if name in schema.names), None)
        label = next((name for name in _LABELS if name in schema.names), None)
        if image is None or label is None:
            raise user_error(
                f"{path.name} has the columns {', '.join(schema.names)}",
                f"an image column ({', '.join(_IMAGES)}) and a label column ({', '.join(_LABELS)}) are needed",
                "rename the columns",
            )
        return cls(image, label, _class_names(schema.metadata or {}, label))

    def open(self, path: Path) -> Any:
        """A file that has these columns, too; none of them is read.

        Raises:
            UserError: one is missing.
        """
        file = _open(path)
        missing = [name for name in (self.image, self.label) if name not in file.schema_arrow.names]
        if missing:
            raise user_error(
                f"{path.name} lacks the column {missing[0]!r}",
                f"allowed: the columns {self.image!r} and {self.label!r} of the first training file",
                "rename the columns alike",
            )
        return file


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...] | None:
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else None
    except (KeyError, TypeError, ValueError):
        return None


def _written(paths: Sequence[Path], columns: _Columns) -> np.ndarray:
    """The label column of all files, as written."""
    tables = [_label_column(path, columns) for path in paths]
    missing = sum(table.null_count for table in tables)
    written = np.concatenate([table.to_numpy() for table in tables])
    if written.dtype == object and all(isinstance(value, str | bytes) for value in written):
        written = written.astype(str)
    if missing or written.dtype.kind not in "iuU":
        what = f"lacks {missing} labels" if missing else f"is {tables[0].type}"
        raise user_error(
            f"the column {columns.label!r} of {paths[0].name} {what}",
            "labels are whole numbers or text, none missing",
            "correct the column",
        )
    return written


def _label_column(path: Path, columns: _Columns) -> Any:
    file = columns.open(path)
    with _readable(path):
        return file.read(columns=[columns.label]).column(0)


def _part(paths: Sequence[Path], *, columns: _Columns, labels: Labels) -> ParquetPart:
    counts = [columns.open(path).metadata.num_rows for path in paths]
    encoded = labels.encode(_written(paths, columns), paths[0].name)
    return ParquetPart(tuple(paths), columns.image, encoded, np.cumsum([0, *counts]))


@dataclass(frozen=True)
class ParquetPart:
    """Images in the rows of parquet files; `starts` [files + 1] is each file's first row among all."""

    paths: tuple[Path, ...]
    column: str
    labels: np.ndarray
    starts: np.ndarray = field(repr=False)

    def raw(self, indices: np.ndarray) -> Iterator[bytes]:
        for path, start, stop in zip(self.paths, self.starts[:-1], self.starts[1:], strict=True):
            wanted = indices[(indices >= start) & (indices < stop)] - start
            if len(wanted):
                with _readable(path):
                    yield from _rows(_open(path), self.column, wanted)

    def name(self, index: int) -> str:
        file = int(np.searchsorted(self.starts, index, side="right")) - 1
        return f"{self.paths[file].name} row {index - self.starts[file]}"


def _rows(file: Any, column: str, wanted: np.ndarray) -> Iterator[bytes]:
    """The image bytes of the rows `wanted` (ascending); row groups without any are not read."""
    first = 0
    for group in range(file.num_row_groups):
        last = first + file.metadata.row_group(group).num_rows
        if ((wanted >= first) & (wanted < last)).any():
            for batch in file.iter_batches(_BATCH, row_groups=[group], columns=[column]):
                here = wanted[(wanted >= first) & (wanted < first + len(batch))] - first
                yield from map(_content, batch.column(0).take(_indices(here)).to_pylist())
                first += len(batch)
        first = last


def _indices(values: np.ndarray) -> Any:
    return optional("pyarrow", "data").array(values)


def _content(cell: Any) -> bytes:
    """The bytes of one cell; empty, hence a corrupt image, where it only names a file elsewhere."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else b""
