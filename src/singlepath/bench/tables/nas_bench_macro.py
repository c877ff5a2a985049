"""NAS-Bench-Macro: the trained accuracy of all 6,561 networks of the space `macro` on CIFAR-10, three seeds each.

Source: "Prioritized Architecture Sampling with Monto-Carlo Tree Search" (arXiv 2103.11922),
nas-bench-macro_cifar10.json of the authors' repository xiusu/NAS-Bench-Macro (Apache-2.0). A network is named by eight
digits; identities inside a stage may stand anywhere, so 3,969 networks have 6,561 names. Accuracies are per cent on the
test set, best epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from singlepath.architecture import Architecture
from singlepath.errors import unknown, user_error
from singlepath.search.queries import Pool
from singlepath.spaces import Space

__all__ = ["FILE", "Row", "load", "pool", "regret"]

FILE = "nas_bench_macro/nas-bench-macro_cifar10.json"


@dataclass(frozen=True)
class Row:
    """One network: its name, MMACs, parameters, and accuracies in per cent."""

    name: str
    mmacs: float
    parameters: int
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.accuracies))


def load(folder: Path, space: Space) -> dict[Architecture, Row]:
    """The distinct networks by their canonical architecture.

    Raises:
        UserError: the file is not there.
    """
    path = folder / FILE
    if not path.is_file():
        raise user_error(
            f"{path} does not exist", "needed: the published table", "see docs/results.md for where to get it"
        )
    rows: dict[Architecture, Row] = {}
    for name, value in json.loads(path.read_text()).items():
        architecture = space.canonical(space.parse(name))
        row = Row(name, value["flops"] / 1e6, value["params"], tuple(value["test_acc"]))
        rows.setdefault(architecture, row)
    return rows


def regret(rows: Iterable[Row], chosen: Row, budget: float) -> float:
    """Accuracy points between the best network within `budget` MMACs and the chosen one."""
    return max(r.accuracy for r in rows if r.mmacs <= budget) - chosen.accuracy


def pool(rows: dict[Architecture, Row], space: Space, cost: str = "mmacs") -> Pool:
    """The distinct networks, in the order of `rows`; `cost` is "mmacs" or "parameters".

    Raises:
        UserError: an unknown cost.
    """
    measures = {
        "mmacs": np.array([row.mmacs for row in rows.values()]),
        "parameters": np.array([float(row.parameters) for row in rows.values()]),
    }
    if cost not in measures:
        raise unknown("cost", cost, measures, "--cost")

    def canonical(codes: np.ndarray) -> np.ndarray:
        return np.array([space.indices(space.canonical(space.architecture(code))) for code in codes.tolist()])

    codes = np.array([space.indices(architecture) for architecture in rows], np.int64)
    options = [len(layer.options) for layer in space.searchable]
    return Pool(codes, options, measures=measures, cost=cost, canonical=canonical)
