"""How far a ranking of networks holds: under another training seed, and at another depth.

    tau_seeds = mean over pairs of seeds of Kendall's tau between their accuracies of the same networks
    tau_depth = Kendall's tau between the accuracies of the same networks at two depths

"NAS evaluation is frustratingly hard" (arXiv 1912.12522, section 5.3) measures 0.48 between two seeds of 32 networks
and 0.54 between 8 and 20 cells: what a search cannot rank better than.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np

from singlepath.bench.records import Record
from singlepath.bench.stats import kendall_tau

__all__ = ["DepthGap", "SeedRanks", "depth_gap", "seed_matrix", "seed_ranks"]

TOP = 0.1


class SeedRanks(NamedTuple):
    """Two training seeds compared, the mean over all pairs of seeds.

    Attributes:
        tau, tau_top: over all networks; over the tenth that the first of the two seeds puts on top.
        best_place: where one seed's best network stands for the other, 1 is best.
        difference, most: of one network's accuracies, mean and largest, points.
    """

    networks: int
    seeds: int
    tau: float
    tau_top: float
    best_place: float
    difference: float
    most: float


class DepthGap(NamedTuple):
    """The same networks at two depths: Kendall's tau, the largest shift of a rank, and the mean gain in points."""

    shallow: float
    deep: float
    networks: int
    tau: float
    most_ranks: int
    gain: float


def seed_ranks(accuracies: np.ndarray) -> SeedRanks:
    """What seeds do to the ranking of networks; `accuracies` [networks, seeds], per cent.

    Raises:
        ValueError: fewer than two networks or seeds.
    """
    table = np.asarray(accuracies, float)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"two networks and two seeds are needed, got the shape {table.shape}")
    taus, tops, places, differences = [], [], [], []
    count = max(2, round(TOP * len(table)))
    for i, j in combinations(range(table.shape[1]), 2):
        first, second = table[:, i], table[:, j]
        taus.append(kendall_tau(first, second))
        differences.append(np.abs(first - second))
        for a, b in ((first, second), (second, first)):
            top = np.argsort(-a, kind="stable")[:count]
            tops.append(kendall_tau(a[top], b[top]))
            places.append(1 + int((b > b[np.argmax(a)]).sum()))
    each = np.concatenate(differences)
    return SeedRanks(
        table.shape[0], table.shape[1], float(np.mean(taus)), float(np.mean(tops)), float(np.mean(places)),
        float(each.mean()), float(each.max()),
    )  # fmt: skip


def seed_matrix(records: Iterable[Record]) -> tuple[list[str], np.ndarray]:
    """Test accuracies by network and training seed, [networks, seeds]; networks without all seeds are left out."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        seed = record.trial.training_seed
        if seed is not None and record.test is not None:
            found.setdefault(record.network, {})[seed] = record.test
    seeds = sorted({seed for row in found.values() for seed in row})
    names = sorted(name for name, row in found.items() if len(row) == len(seeds))
    return names, np.array([[found[name][seed] for seed in seeds] for name in names]).reshape(len(names), len(seeds))


def depth_gap(
    records: Iterable[Record], depth: Callable[[Record], float] = lambda record: record.trial.protocol["depth"]
) -> list[DepthGap]:
    """Every pair of depths at which the same networks were trained; a network's accuracy is the mean over seeds.

    Networks that were trained at one of the two only are left out, and so is a pair with fewer than two networks.
    """
    found: dict[float, dict[str, list[float]]] = {}
    for record in records:
        if record.test is not None:
            found.setdefault(depth(record), {}).setdefault(record.network, []).append(record.test)
    gaps = []
    for shallow, deep in combinations(sorted(found), 2):
        names = sorted(found[shallow].keys() & found[deep].keys())
        if len(names) < 2:
            continue
        a, b = (np.array([np.mean(found[level][name]) for name in names]) for level in (shallow, deep))
        shift = int(np.abs(_places(a) - _places(b)).max())
        gaps.append(DepthGap(shallow, deep, len(names), kendall_tau(a, b), shift, float((b - a).mean())))
    return gaps


def _places(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-values, kind="stable"), kind="stable")
