"""How far a ranking of networks holds under another training seed.

    tau_seeds = mean over pairs of seeds of Kendall's tau between their accuracies of the same networks

"NAS evaluation is frustratingly hard" (arXiv 1912.12522, section 5.3) measures 0.48 between two seeds of 32 networks:
what a search cannot rank better than.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np

from singlepath.bench.records import Record
from singlepath.bench.stats import kendall_tau

__all__ = ["SeedRanks", "seed_matrix", "seed_ranks"]

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
