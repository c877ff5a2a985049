"""What a reader hands over: undecoded, labelled parts of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from singlepath.errors import user_error

from .pictures import Raw

__all__ = ["ArrayPart", "FilePart", "Labels", "Part", "Source"]


class Part(Protocol):
    """Labelled images, not decoded yet."""

    @property
    def labels(self) -> np.ndarray:
        """int64 [N]."""
        ...

    def raw(self, indices: np.ndarray) -> Iterator[Raw]:
        """The images at `indices`, which ascend."""
        ...

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        ...


@dataclass(frozen=True)
class ArrayPart:
    """Images of one array: `pixels` uint8 [N, H, W] or [N, H, W, C]."""

    pixels: np.ndarray
    labels: np.ndarray

    def raw(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        return (self.pixels[index] for index in indices)

    def name(self, index: int) -> str:
        return f"image {index}"


@dataclass(frozen=True)
class FilePart:
    """Images in files."""

    root: Path
    paths: tuple[Path, ...]
    labels: np.ndarray

    def raw(self, indices: np.ndarray) -> Iterator[Path]:
        return (self.paths[index] for index in indices)

    def name(self, index: int) -> str:
        return self.paths[index].relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Labels:
    """How the labels of a file become positions in `classes`; `values` [K] are what the file writes for them."""

    classes: tuple[str, ...]
    values: np.ndarray

    @classmethod
    def of(cls, written: np.ndarray, names: Sequence[str] | None = None) -> Labels:
        """From the training labels; `names` are those the file gives for labels 0, 1, 2, ..."""
        if names is not None:
            return cls(tuple(map(str, names)), np.arange(len(names)))
        values = np.unique(written)
        return cls(tuple(str(value) for value in values), values)

    def encode(self, written: np.ndarray, where: str) -> np.ndarray:
        """int64 positions in `classes`.

        Raises:
            UserError: a label that is no class.
        """
        known = np.isin(written, self.values)
        if not known.all():
            given = written[~known][0]
            raise user_error(
                f"{where} has the label {given}",
                f"allowed: the {len(self.classes)} classes of the training part, {self.values[0]} to {self.values[-1]}",
                "correct the label or add training images of that class",
            )
        return np.searchsorted(self.values, written).astype(np.int64)


@dataclass(frozen=True)
class Source:
    """A data set as its reader found it. Reading `test` must wait until it is called."""

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part | None = None
    test: Callable[[], Part] | None = None
    flip: bool = True
    size: int | None = None
