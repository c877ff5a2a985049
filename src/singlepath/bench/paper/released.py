"""Reader of the raw results behind "NAS evaluation is frustratingly hard" (arXiv 1912.12522).

The folder is `Plots/data` of the authors' repository antoyang/NAS-Benchmark:

    performance/{CIFAR10,CIFAR100,Sport8,MIT67,Flowers102}.csv   a column "Random M" and a column "M" for each method
    performance/Augmentation.csv                                 a column for each training protocol
    modified_search_space/*.npy                                  networks x test accuracy after each epoch
    cell_sensitivity/cell_n_*.npy                                the same for each number of cells
    correlation_{cells,seeds}/*.npy                              networks x two trainings

Accuracies are per cent. Columns are found by their header, because not every file has the same order; what reading by
position would give is kept beside it. Arrays are mapped without unpickling, so that a file cannot run code or ask for
more memory than it has bytes.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singlepath.bench.paper.published import CELLS, DATA, METHODS, NARROW, TRICKS
from singlepath.errors import UserError, user_error

__all__ = ["Pair", "Performance", "Release", "load"]

Array = NDArray[np.float64]
MOST_BYTES = 64 << 20
WANTED = "needed: the folder of raw results of NAS-Benchmark (Plots/data of the authors' repository)"
FIX = "type --data path/to/nas_benchmark"


@dataclass(frozen=True)
class Pair:
    """Test accuracies of the random networks of a method's space, and of the networks that the method found."""

    random: Array
    method: Array


@dataclass(frozen=True)
class Performance:
    """One data set.

    Attributes:
        by_header: a method's runs as the header names them, two at least; none where its column is empty.
        by_position: the same read as if every file had the order of `METHODS`.
        order: the methods in the file's order.
        columns: the header as it is written.
    """

    by_header: dict[str, Pair]
    by_position: dict[str, Pair]
    order: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """All results; arrays of curves are networks x epochs, those of two trainings networks x 2."""

    performance: dict[str, Performance]
    tricks: dict[str, Array]
    networks: dict[str, Array]
    cells: dict[int, Array]
    seeds: Array
    depth: Array


def load(folder: Path) -> Release:
    """Read the whole folder.

    Raises:
        UserError: it is not there, a file is missing, or a file holds something else than numbers.
    """
    if not folder.is_dir():
        raise user_error(f"{folder} is not a folder", WANTED, FIX)
    return Release(
        {name: _performance(folder / "performance" / f"{name}.csv") for name in DATA},
        _tricks(folder / "performance" / "Augmentation.csv"),
        {name: _array(folder / "modified_search_space" / f"{name}.npy") for name in NARROW},
        {n: _array(folder / "cell_sensitivity" / f"cell_n_{n}.npy") for n in CELLS},
        _array(folder / "correlation_seeds" / "different_seed_24.npy", columns=2),
        _array(folder / "correlation_cells" / "8_to_20_cells.npy", columns=2),
    )


def _performance(path: Path) -> Performance:
    columns = _csv(path)
    names, values = [name for name, _ in columns], [column for _, column in columns]
    if len(columns) != 2 * len(METHODS):
        raise _broken(path, f"has {len(columns)} columns, expected {2 * len(METHODS)}")
    found: dict[str, dict[str, Array]] = {"random": {}, "method": {}}
    order = []
    for name, column in columns:
        kind, method = ("random", name.removeprefix("Random ")) if name.startswith("Random ") else ("method", name)
        method = method.partition("-")[0]  # one file says MANAS-LS
        if method not in METHODS or method in found[kind]:
            raise _broken(path, f"has a column {name!r} that is unknown or repeated")
        found[kind][method] = column
        order += [method] if kind == "method" else []
    by_header = {m: Pair(found["random"][m], found["method"][m]) for m in METHODS}
    by_position = {m: Pair(values[2 * i], values[2 * i + 1]) for i, m in enumerate(METHODS)}
    for method, pair in by_header.items():
        if len(pair.random) < 2 or len(pair.method) == 1:
            raise _broken(path, f"has fewer than two runs of {method} or of its random networks")
    return Performance(by_header, by_position, tuple(order), tuple(names))


def _tricks(path: Path) -> dict[str, Array]:
    columns = dict(_csv(path))
    for name in TRICKS:
        if len(columns.get(name, ())) < 2:
            raise _broken(path, f"has no column {name!r} with two runs")
    return {name: columns[name] for name in TRICKS}


def _csv(path: Path) -> list[tuple[str, Array]]:
    """Columns with their stripped names; empty cells are left out."""
    _readable(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, f"is not a table of text ({error})") from None
    if len(lines) < 2 or any(len(row) != len(lines[0]) for row in lines):
        raise _broken(path, "is empty or has rows of different lengths")
    return [(name.strip(), _numbers(path, name.strip(), cells)) for name, *cells in zip(*lines, strict=True)]


def _numbers(path: Path, name: str, cells: list[str]) -> Array:
    try:
        values = [float(cell) for cell in cells if cell.strip()]
    except ValueError as error:
        raise _broken(path, f"column {name!r} holds something else than numbers ({error})") from None
    if not all(math.isfinite(v) for v in values):
        raise _broken(path, f"column {name!r} holds a value that is not finite")
    return np.array(values)


def _array(path: Path, columns: int | None = None) -> Array:
    _readable(path)
    try:  # mapped: an announced size that the file does not have is refused before memory is asked for
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
        raise _broken(path, f"is not an array of numbers ({type(error).__name__})") from None
    shape = getattr(mapped, "shape", ())
    if (
        len(shape) != 2
        or shape[0] < 2
        or shape[1] < 1
        or columns not in (None, shape[1])
        or mapped.dtype.kind not in "fiu"
    ):
        wanted = f"networks x {columns or 'epochs'}"
        raise _broken(path, f"has the shape {shape}, expected numbers, {wanted}")
    array = np.array(mapped, dtype=np.float64)
    if not np.isfinite(array).all():
        raise _broken(path, "holds a value that is not finite")
    return array


def _readable(path: Path) -> None:
    if not path.is_file():
        raise user_error(f"{path} does not exist", WANTED, FIX)
    if path.stat().st_size > MOST_BYTES:
        raise _broken(path, f"has more than {MOST_BYTES >> 20} MiB")


def _broken(path: Path, what: str) -> UserError:
    return user_error(f"{path} {what}", WANTED, FIX)
