"""NAS-Bench-101: 423,624 cells of at most seven vertices and nine edges, trained three times on CIFAR-10.

Source: "NAS-Bench-101: Towards Reproducible Neural Architecture Search" (arXiv 1902.09635, Apache-2.0). The published
`nasbench_only108.tfrecord` (or `nasbench_full.tfrecord`) is read without TensorFlow and written once to a small file:

    python -m singlepath.bench.tables nasbench101 nasbench_only108.tfrecord DATA/nasbench101/nasbench101.npz

A record is JSON: [hash, epochs, adjacency bits row by row, operations, base64 of the message ModelMetrics]. Its last
evaluation holds the accuracies at the end of training; those after 108 epochs are kept.

A code here is 26 decisions: the 21 bits above the diagonal of a 7 x 7 adjacency matrix, column by column, and the
operation of the five inner vertices. The output is vertex 6, inner vertices stand in front without gaps, absent ones
have no edges and operation 0. Isomorphic cells are one cell; it is found by a hash that vertex order does not change.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.bench.tables.tfrecord import fields, records
from singlepath.errors import unknown, user_error
from singlepath.runs import write_atomic
from singlepath.search.queries import Pool, changed, one_hot

__all__ = ["FILE", "Table", "import_published", "load", "mean_of", "pool", "sequence"]

FILE = "nasbench101/nasbench101.npz"
EPOCHS = 108
OPERATIONS = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3")
VERTICES, MOST_EDGES = 7, 9
OUTPUT = VERTICES - 1
INNER = VERTICES - 2
ABOVE = [(row, column) for column in range(1, VERTICES) for row in range(column)]
ROWS, COLUMNS = (np.array(side) for side in zip(*ABOVE, strict=True))
OPTIONS = (2,) * len(ABOVE) + (len(OPERATIONS),) * INNER
RUNS = ("validation", "test", "seconds")  # columns with a value for every training
EVALUATIONS, PARAMETERS = 1, 2  # fields of ModelMetrics
SECONDS, VALIDATION, TEST = 2, 4, 5  # fields of EvaluationData

Table = dict[str, np.ndarray]  # codes [N, 26]; validation, test, seconds [N, runs], per cent and s; parameters [N]


# -- the published file -----------------------------------------------------------------------------------------------


def import_published(source: Path, out: Path) -> Path:
    """Write the small file from the published one.

    Raises:
        UserError: the file is missing, damaged, or holds something else; says at which record.
    """
    cells: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(records(source)):
        try:
            name, epochs, bits, operations, metrics = json.loads(record)
            if epochs != EPOCHS:
                continue
            run, parameters = run_of(base64.b64decode(metrics, validate=True))
            cell = cells.setdefault(name, {"code": code_of(bits, operations), "parameters": parameters, "runs": []})
            cell["runs"].append(run)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise user_error(
                f"record {number} of {source} is no cell of NAS-Bench-101 ({error})",
                "needed: nasbench_only108.tfrecord or nasbench_full.tfrecord as published", "fetch it again",
            ) from error  # fmt: skip
    if not cells:
        raise user_error(f"{source} has no run of {EPOCHS} epochs", "needed: nasbench_only108.tfrecord", "fetch it")
    most = max(len(cell["runs"]) for cell in cells.values())
    runs = np.full((len(cells), most, 3), np.nan)
    for row, cell in zip(runs, cells.values(), strict=True):
        row[: len(cell["runs"])] = cell["runs"]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, codes=np.array([cell["code"] for cell in cells.values()], np.int8), validation=100 * runs[..., 0],
        test=100 * runs[..., 1], seconds=runs[..., 2],
        parameters=np.array([cell["parameters"] for cell in cells.values()], np.int64),
    )  # fmt: skip
    return write_atomic(out, buffer.getvalue())


def run_of(message: bytes) -> tuple[tuple[float, float, float], int]:
    """((validation accuracy, test accuracy, seconds) at the end of training, parameters) of a ModelMetrics message."""
    found = list(fields(message))
    last: Any = dict(fields(next(value for number, value in reversed(found) if number == EVALUATIONS)))  # type: ignore[arg-type]
    parameters = next((value for number, value in found if number == PARAMETERS), 0)
    return (float(last[VALIDATION]), float(last[TEST]), float(last[SECONDS])), int(parameters)


def code_of(bits: str, operations: str) -> np.ndarray:
    """A published cell's code, [26]: `bits` is its v x v adjacency matrix row by row, `operations` are v names."""
    names = operations.split(",")
    count = len(names)
    if not 2 <= count <= VERTICES or len(bits) != count**2 or set(bits) - {"0", "1"}:
        raise ValueError(f"{len(bits)} bits for {count} vertices")
    if names[0] != "input" or names[-1] != "output":
        raise ValueError("a cell begins with input and ends with output")
    small = np.array([int(bit) for bit in bits]).reshape(count, count)
    if np.tril(small).any():
        raise ValueError("an edge runs backwards")
    place = [*range(count - 1), OUTPUT]
    matrix = np.zeros((VERTICES, VERTICES), np.int64)
    matrix[np.ix_(place, place)] = small
    inner = [OPERATIONS.index(name) for name in names[1:-1]]
    return np.concatenate([matrix[ROWS, COLUMNS], inner, np.zeros(INNER - len(inner), np.int64)]).astype(np.int64)


# -- the table --------------------------------------------------------------------------------------------------------


def load(folder: Path) -> Table:
    """The imported table.

    Raises:
        UserError: it has not been imported, or is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise user_error(
            f"{path} does not exist", "needed: the published table, imported",
            f"type: python -m singlepath.bench.tables nasbench101 nasbench_only108.tfrecord {path}",
        )  # fmt: skip
    try:
        with np.load(path, allow_pickle=False) as content:
            table = {name: content[name] for name in ("codes", *RUNS, "parameters")}
        count, runs = len(table["codes"]), table["validation"].shape
        if (
            table["codes"].shape != (count, len(OPTIONS)) or table["parameters"].shape != (count,)
            or len(runs) != 2 or any(table[name].shape != (count, runs[1]) for name in RUNS)
        ):  # fmt: skip
            raise ValueError("its arrays do not belong together")
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise user_error(
            f"{path} cannot be read ({str(error)[:120]})", "needed: the published table, imported",
            "delete it and import it again",
        ) from None  # fmt: skip
    return table


def mean_of(table: Table, column: str) -> np.ndarray:
    """Per cent, mean over a cell's runs, [N]."""
    return np.nanmean(table[column], axis=1)


def pool(table: Table, cost: str = "parameters") -> Pool:
    """All cells; `cost` is "parameters" or "seconds" (of training). Encodings: "sequence" [45], "one-hot".

    Raises:
        UserError: an unknown cost.
    """
    measures = {"parameters": table["parameters"].astype(float), "seconds": mean_of(table, "seconds")}
    if cost not in measures:
        raise unknown("cost", cost, measures, "--cost")
    codes = table["codes"].astype(np.int64)
    return Pool(
        codes, OPTIONS, measures=measures, cost=cost, encoders={"sequence": sequence}, canonical=named(codes),
        around=around,
    )  # fmt: skip


def named(codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The function that gives cells the code by which a table of `codes` names them; others keep their own."""
    number = {int(key): i for i, key in enumerate(keys(codes))}

    def canonical(given: np.ndarray) -> np.ndarray:
        there = [number.get(int(key), -1) for key in keys(given)]
        return np.stack([codes[i] if i >= 0 else code for i, code in zip(there, given, strict=True)])

    return canonical


def matrices(codes: np.ndarray) -> np.ndarray:
    """Adjacency matrices [K, 7, 7] of codes [K, 26]."""
    out = np.zeros((len(codes), VERTICES, VERTICES), np.int64)
    out[:, ROWS, COLUMNS] = codes[:, : len(ABOVE)]
    return out


def pruned(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(matrices [K, 7, 7], present [K, 7]) without the vertices that lie on no path from the input to the output."""
    edges = matrices(codes)
    reach = np.eye(VERTICES, dtype=np.int64) + edges
    for _ in range(3):  # paths of up to 8 edges
        reach = np.minimum(reach @ reach, 1)
    present = (reach[:, 0, :] > 0) & (reach[:, :, OUTPUT] > 0)
    return edges * present[:, :, None] * present[:, None, :], present


def keys(codes: np.ndarray) -> np.ndarray:
    """A number for what each cell [K, 26] computes, [K] uint64: equal for isomorphic cells.

    Every vertex begins with a hash of its operation and repeatedly takes in those before and after it
    (Weisfeiler-Lehman); sums make vertex order irrelevant.
    """
    edges, present = pruned(codes)
    edges = edges.astype(np.uint64)
    labels = np.concatenate([np.full((len(codes), 1), 3), codes[:, len(ABOVE) :], np.full((len(codes), 1), 4)], axis=1)
    state = mixed(labels.astype(np.uint64))
    for _ in range(VERTICES):
        before = np.einsum("kij,ki->kj", edges, mixed(state + np.uint64(1)))
        after = np.einsum("kij,kj->ki", edges, mixed(state + np.uint64(2)))
        state = mixed(state + mixed(before + np.uint64(3)) + mixed(after + np.uint64(4)))
    return np.where(present, mixed(state + np.uint64(5)), np.uint64(0)).sum(1, dtype=np.uint64)


def mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: a bijection of 64-bit numbers that scatters them."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def around(code: np.ndarray) -> np.ndarray:
    """Codes one change away [K, 26]: an edge more or less, another operation, a new vertex between two others."""
    found = [changed(code, OPTIONS)]
    matrix, operations = matrices(code[None])[0], code[len(ABOVE) :]
    count = 1 + int(matrix[1:OUTPUT].any(1).sum())  # vertices before the output
    if count <= INNER:
        place = [*range(count), OUTPUT]
        for first, last in itertools.combinations(place, 2):
            moved = [v if v <= first or v == OUTPUT else v + 1 for v in place]
            new = np.zeros_like(matrix)
            new[np.ix_(moved, moved)] = matrix[np.ix_(place, place)]
            new[first, first + 1] = new[first + 1, last if last == OUTPUT else last + 1] = 1
            for operation in range(len(OPERATIONS)):
                inner = np.insert(operations, first, operation)[:INNER]
                found.append(np.concatenate([new[ROWS, COLUMNS], inner])[None])
    return np.concatenate(found)


def sequence(codes: np.ndarray) -> np.ndarray:
    """The 45 numbers of NAO and WeakNAS, [K, 45]: for vertices 1, 2, ... the column of edges into it and its operation
    (1x1, 3x3, pooling, output) one-hot; the output stands directly behind the last inner vertex."""
    edges, present = pruned(codes)
    inner = present[:, 1:OUTPUT].sum(1)
    kinds = one_hot(np.concatenate([codes[:, len(ABOVE) :], np.full((len(codes), 1), 3)], axis=1), [4] * OUTPUT)
    kinds = kinds.reshape(len(codes), OUTPUT, 4)
    out = np.zeros((len(codes), len(ABOVE) + 4 * OUTPUT), np.float32)
    start = [0, *itertools.accumulate(column + 4 for column in range(1, VERTICES))]
    for count in range(INNER + 1):
        rows = np.flatnonzero(inner == count)
        for column in range(1, count + 2):
            source = OUTPUT if column == count + 1 else column
            at = start[column - 1]
            out[rows, at : at + column] = edges[rows, :column, source]
            out[rows, at + column : at + column + 4] = kinds[rows, source - 1]
    return out
