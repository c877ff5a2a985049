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
from singlepath.errors import UserError, unknown, user_error
from singlepath.search.queries import Pool
from singlepath.spaces import Space

__all__ = ["FILE", "Row", "load", "pool", "regret"]

FILE = "nas_bench_macro/nas-bench-macro_cifar10.json"
SOURCE = "github.com/xiusu/NAS-Bench-Macro, nas-bench-macro_cifar10.json"
TRAININGS = 3  # of every network


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
        UserError: the file is not there, or is not the published one.
    """
    path = folder / FILE
    if not path.is_file():
        raise user_error(f"{path} does not exist", "needed: the published table", f"fetch it from {SOURCE}")
    rows: dict[Architecture, Row] = {}
    try:
        for name, value in json.loads(path.read_text("utf-8")).items():
            architecture = space.canonical(space.parse(name))
            accuracies = tuple(map(float, value["test_acc"]))
            row = Row(name, float(value["flops"]) / 1e6, int(value["params"]), accuracies)
            if len(row.accuracies) != TRAININGS:
                raise ValueError(f"{name} has {len(row.accuracies)} accuracies")
            rows.setdefault(architecture, row)
        if not rows:
            raise ValueError("it is empty")
    except (UserError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        text = f"{path} is not the published table ({type(error).__name__}: {str(error)[:120]})"
        raise user_error(text, f"needed: {Path(FILE).name}", f"fetch it again from {SOURCE}") from None
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
