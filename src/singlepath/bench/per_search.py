"""Figures of several records of one method: the trainings of what one search found are averaged, they are one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from singlepath.bench import stats
from singlepath.bench.records import Record

__all__ = ["accuracies", "by_search", "cost_of", "interval", "per_search"]

Figure = Callable[[Record], float | None]


def accuracies(group: Sequence[Record]) -> np.ndarray:
    """Test accuracy of every search."""
    return per_search(group, lambda record: record.test)


def per_search(group: Sequence[Record], figure: Figure) -> np.ndarray:
    """A figure of every search that has it, the mean over its trainings."""
    return np.array(list(by_search(group, figure).values()), float)


def by_search(group: Sequence[Record], figure: Figure) -> dict[int, float]:
    """The same by search seed; a random network's is its number."""
    found: dict[int, list[float]] = {}
    for record in group:
        if (value := figure(record)) is not None:
            found.setdefault(record.trial.search_seed, []).append(value)
    return {seed: float(np.mean(each)) for seed, each in found.items()}


def cost_of(group: Sequence[Record]) -> dict[str, Any]:
    """The mean cost of the networks found; nothing where a record has none (an older one) or they count another."""
    costs = [record.cost for record in group]
    kinds = {(cost.of, cost.unit) if cost else None for cost in costs}
    if len(kinds) != 1 or (kind := kinds.pop()) is None:
        return {}
    amounts = per_search(group, lambda record: record.cost.amount if record.cost else None)
    of, unit = kind
    return {"cost": {"of": of, "unit": unit, "mean": float(amounts.mean()), "interval": interval(amounts)}}


def interval(values: np.ndarray) -> list[float]:
    return list(stats.mean_interval(values))
