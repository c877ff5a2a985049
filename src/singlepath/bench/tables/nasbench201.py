"""NAS-Bench-201: all 15,625 cells of four nodes, trained on CIFAR-10, CIFAR-100 and ImageNet16-120.

Source: "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search" (arXiv 2001.00326, MIT). A cell
is an operation for each of six edges: none, skip, 1x1 and 3x3 convolution, 3x3 average pooling. `nasbench201.parquet`
holds a row a cell: file version 1.1, averages over its seeds, and test accuracies of NATS-Bench 1.0 (`*_nats`).

| task | searched | judged |
|---|---|---|
| cifar10 | accuracy on 25,000 validation images, trained on the other 25,000 | on the test images, trained on 50,000 |
| cifar100, imagenet16 | accuracy on the validation half of the published test images | on the other half |

All after 200 epochs, in per cent. What a cell computes does not depend on edges that no live path uses, on where a skip
stands, or on the order of a sum, so its 15,625 codes are 4,930 functions; the table trained each code anyway, and
equal functions differ by 0.14 to 0.28 points (median of their standard deviations).

Latencies: 27 devices of HELP (arXiv 2106.08630, MIT), milliseconds, in the same row order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.errors import UserError, optional, user_error
from singlepath.runs import write_atomic
from singlepath.search.queries import Pool, one_hot

__all__ = ["COLUMNS", "FILE", "LATENCIES", "function_of", "import_published", "pool", "read_columns"]

FILE = "nasbench201/nasbench201.parquet"
LATENCIES = "latency/nasbench201_27_devices.parquet"
CELLS = 15_625
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP = 0, 1
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # from, to: node 0 is the input, node 3 the output
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # the edges of every way from the input to the output
# (searched; judged, the first that the file has)
COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cifar10": ("c10valid_val200", ("c10_test200_nats", "c10_test200")),
    "cifar100": ("c100_val200", ("c100_test200_nats", "c100_test200")),
    "imagenet16": ("in16_val200", ("in16_test200_nats", "in16_test200")),
}
MEASURES = {"mmacs": "flops_c10_M", "parameters": "params_c10"}


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a parquet file; the others are not read.

    Raises:
        UserError: no such file or column.
    """
    parquet = optional("pyarrow.parquet", "data")
    if not path.is_file():
        raise user_error(f"{path} does not exist", "needed: the published table", "give its folder as --data")
    try:
        there = set(parquet.read_schema(path).names)
        table = parquet.read_table(path, columns=[name for name in names if name in there])
    except (optional("pyarrow", "data").ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    if missing := [name for name in names if name not in there]:
        raise user_error(f"{path} has no column {missing[0]!r}", f"it has {', '.join(sorted(there))}", "name one")
    return {name: np.array(table.column(name).to_pylist()) for name in names}


def _damaged(path: Path, error: Exception) -> UserError:
    return user_error(f"{path} cannot be read ({str(error)[:120]})", "needed: the published table", "fetch it again")


def judged_column(path: Path, dataset: str) -> str:
    """The name of the test column that this file has."""
    there = set(optional("pyarrow.parquet", "data").read_schema(path).names)
    return next((name for name in COLUMNS[dataset][1] if name in there), COLUMNS[dataset][1][0])


def pool(folder: Path, cost: str = "mmacs") -> Pool:
    """All cells; `cost` is "mmacs", "parameters" or one of the 27 devices (ms). Encodings:

    "effective" [30]: one-hot, edges without a live path count as none. "paths" [40]: how many ways from the input to
    the output compute each sequence of operations, skips left out. "one-hot" [30].

    Raises:
        UserError: a file is missing or is not the whole table; an unknown cost.
    """
    columns = read_columns(folder / FILE, ["ops", *MEASURES.values()])
    try:
        codes = np.array([[int(digit) for digit in ops] for ops in columns["ops"]], np.int64)
        columns |= {name: columns[name].astype(float) for name in MEASURES.values()}
    except (TypeError, ValueError) as error:
        raise _damaged(folder / FILE, error) from None
    if codes.shape != (CELLS, len(EDGES)) or codes.max() >= len(OPERATIONS) or len(np.unique(codes, axis=0)) != CELLS:
        raise user_error(f"{folder / FILE} has {len(codes)} rows", f"the table has {CELLS} cells", "fetch it again")
    measures = {name: columns[column] for name, column in MEASURES.items()}
    if cost not in measures:
        measures |= read_columns(folder / LATENCIES, [cost])
    functions = [function_of(code) for code in codes.tolist()]
    encoders = {"effective": lambda c: one_hot(effective(c), [len(OPERATIONS)] * len(EDGES)), "paths": path_counts}
    same = np.unique(functions, return_inverse=True)[1]
    return Pool(codes, [len(OPERATIONS)] * len(EDGES), measures=measures, cost=cost, encoders=encoders, same=same)


def function_of(code: Sequence[int]) -> str:
    """What a cell computes, as text: the sum at the output; equal text, equal function."""
    edges = dict(zip(EDGES, code, strict=True))
    terms: list[list[str]] = [["x"]]
    for node in (1, 2, 3):
        found: list[str] = []
        for source in range(node):
            operation = edges[source, node]
            if operation == SKIP:
                found += terms[source]
            elif operation != NONE and terms[source]:
                found.append(f"{operation}({'+'.join(terms[source])})")
        terms.append(sorted(found))
    return "+".join(terms[3])


def effective(codes: np.ndarray) -> np.ndarray:
    """Codes [K, 6] with none on every edge that no live path from the input to the output uses."""
    alive = np.zeros(codes.shape, bool)
    for path in PATHS:
        alive[:, path] |= (codes[:, path] != NONE).all(1, keepdims=True)
    return np.where(alive, codes, NONE)


def path_counts(codes: np.ndarray) -> np.ndarray:
    """How often each sequence of convolutions and poolings leads from the input to the output, [K, 40]."""
    sequences = [s for n in range(4) for s in itertools.product(range(2, len(OPERATIONS)), repeat=n)]
    place = {sequence: i for i, sequence in enumerate(sequences)}
    out = np.zeros((len(codes), len(sequences)), np.float32)
    for row, code in zip(out, codes.tolist(), strict=True):
        for path in PATHS:
            operations = [code[edge] for edge in path]
            if NONE not in operations:
                row[place[tuple(o for o in operations if o != SKIP)]] += 1
    return out


# -- the published file -----------------------------------------------------------------------------------------------

RUNS = {  # our column: the published data set and split
    "c10valid_val200": ("cifar10-valid", "x-valid"), "c10valid_test200": ("cifar10-valid", "ori-test"),
    "c10_test200": ("cifar10", "ori-test"), "c100_val200": ("cifar100", "x-valid"),
    "c100_test200": ("cifar100", "x-test"), "in16_val200": ("ImageNet16-120", "x-valid"),
    "in16_test200": ("ImageNet16-120", "x-test"),
}  # fmt: skip


def import_published(source: Path, out: Path) -> Path:
    """Write our parquet file from the published NAS-Bench-201-v1_1-096897.pth: averages over seeds, last epoch.

    The file is a pickle. It is read by torch's restricted reader, which makes plain containers, numbers and tensors and
    refuses everything else; its 4.7 GB need several times as much memory.

    Raises:
        UserError: the file is missing, holds anything else, or is not of the published layout.
    """
    import torch

    pyarrow = optional("pyarrow", "data")
    scalar: Any = np.float64(0).__reduce__()[0]
    numbers: list[Any] = [scalar, np.dtype, *map(type, map(np.dtype, "dfq"))]
    numbers.append((scalar, "numpy.core.multiarray.scalar"))  # its name in files that numpy before 2 wrote
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(source, map_location="cpu", weights_only=True)
        rows = [published_row(i, arch, content["arch2infos"][i]) for i, arch in enumerate(content["meta_archs"])]
    except FileNotFoundError:
        raise user_error(f"{source} does not exist", "needed: NAS-Bench-201-v1_1-096897.pth", "give its path") from None
    except Exception as error:
        text = f"{source} cannot be read ({type(error).__name__}: {str(error)[:120]})"
        raise user_error(text, "allowed: the layout of NAS-Bench-201 v1.1", "fetch the file again") from error
    buffer = pyarrow.BufferOutputStream()
    optional("pyarrow.parquet", "data").write_table(pyarrow.Table.from_pylist(rows), buffer)
    return write_atomic(out, buffer.getvalue().to_pybytes())


def published_row(index: int, arch: str, info: dict[str, Any]) -> dict[str, Any]:
    """One cell: mean over its runs of 200 epochs of the last epoch's accuracy, per cent."""
    runs: dict[tuple[str, int], Any] = info["full"]["all_results"]
    first = next(run for (name, _), run in runs.items() if name == "cifar10")
    row = {
        "index": index, "arch": arch, "ops": digits_of(arch), "flops_c10_M": float(first["flop"]),
        "params_c10": round(float(first["params"]) * 1e6),
    }  # fmt: skip
    for column, (dataset, split) in RUNS.items():
        row[column] = mean(r["eval_acc1es"][f"{split}@{r['epochs'] - 1}"] for (d, _), r in runs.items() if d == dataset)
    return row


def digits_of(arch: str) -> str:
    """`|none~0|+|skip_connect~0|none~1|+...` as one digit an edge."""
    names = [edge.split("~")[0] for node in arch.split("+") for edge in node.strip("|").split("|")]
    return "".join(str(OPERATIONS.index(name)) for name in names)


def mean(values: Iterable[float]) -> float:
    return float(np.mean([float(v) for v in values]))
