"""What the found network is compared with: random networks of the same budget, and off-the-shelf ones scaled to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from singlepath.architecture import NetworkSpec
from singlepath.costs import LatencyTable, macs, parameters
from singlepath.data.splits import generator
from singlepath.devices import time_networks, unmeasurable
from singlepath.errors import UserError
from singlepath.pipeline.progress import note
from singlepath.pipeline.setup import Prepared
from singlepath.search.budget import networks_of
from singlepath.spaces.named import network_spec, off_the_shelf

__all__ = ["BASELINES", "Rival", "baselines", "random_rivals"]

BASELINES = {"mobilenetv2": "mobilenetv2_100", "spnasnet_100": "spnasnet_100"}
WIDTHS_TIMED = 7


class Rival(NamedTuple):
    """A network to compare with; predicted cost in the budget's unit (for baselines on a device: timed)."""

    name: str
    spec: NetworkSpec
    predicted: float
    width: float | None = None


def random_rivals(made: Prepared, count: int, seed: int) -> list[Rival]:
    """Random networks of the budget, drawn as a search draws its candidates."""
    costs, space = made.budget.costs, made.space
    rng = generator(seed, "random networks")
    found, _ = networks_of(space, made.budget, count, rng)
    return [Rival(f"random-{i}", space.network(a), costs.of(space.indices(a))) for i, a in enumerate(found)]


def baselines(made: Prepared, found_macs: int) -> list[Rival]:
    """MobileNetV2 and spnasnet_100 with the space's stem, strides and input size, as wide as the budget allows.

    On a device that can time networks the width is chosen by timing; where latency is only a table, which knows nothing
    of other channel counts, by the found network's MACs.
    """
    kind, limit = made.budget.costs.kind, made.budget.limit
    most = made.budget.costs.largest  # a budget may be far above what the space holds
    rivals = []
    for name, full in BASELINES.items():
        if kind == "latency" and made.table is not None and not unmeasurable(made.table):
            rivals.append(widest_timed(name, full, made, made.table))
            continue
        counts = {"macs": lambda s: macs(s) / 1e6, "parameters": lambda s: parameters(s) / 1e6}
        cost = counts.get(kind, lambda s: float(macs(s)))
        try:
            spec, width = off_the_shelf(
                full, made.space, cost, min(limit, most) if kind in counts else float(found_macs)
            )
        except UserError as error:
            note(f"{name} is left out: {error}")
            continue
        rivals.append(Rival(name, spec, cost(spec) if kind in counts else float("nan"), width))
    return rivals


def widest_timed(name: str, full: str, made: Prepared, table: LatencyTable) -> Rival:
    """The widest version whose timed latency, drift divided out, is within the budget; two rounds of timing."""
    widths = distinct_widths(full, made)
    low, high = 0, len(widths) - 1
    best: tuple[float, NetworkSpec, float] | None = None
    for _ in range(2):
        picks = sorted({int(i) for i in np.linspace(low, high, WIDTHS_TIMED).round()})
        timed = time_networks({str(i): widths[i][1] for i in picks}, table, rounds=30)
        ms = {i: float(timed[str(i)].corrected_ms or 0.0) for i in picks}
        under = [i for i in picks if ms[i] <= made.budget.limit]
        if not under:
            high = max(picks[0] - 1, 0)
            continue
        top = max(under)
        best = (widths[top][0], widths[top][1], ms[top])
        low, high = top, min([i for i in picks if i > top], default=top)
        if high - low <= 1:
            break
    if best is None:  # even the narrowest is slower: it stands with its own figure
        width, spec = widths[0]
        timed = time_networks({"0": spec}, table, rounds=30)
        best = (width, spec, float(timed["0"].corrected_ms or 0.0))
    return Rival(name, best[1], best[2], best[0])


def distinct_widths(full: str, made: Prepared) -> list[tuple[float, NetworkSpec]]:
    """The distinct networks among widths 0.05 to 3, narrow to wide (channels are multiples of 8)."""
    seen: dict[NetworkSpec, float] = {}
    for step in range(1, 61):
        seen.setdefault(network_spec(full, made.space, 0.05 * step), 0.05 * step)
    return [(width, spec) for spec, width in seen.items()]


def rows(rivals: list[Rival], accuracies: dict[str, float]) -> list[dict[str, Any]]:
    """Plain values for the result."""
    return [
        {
            "name": r.name, "string": r.spec.string(), "width": r.width, "macs": macs(r.spec),
            "parameters": parameters(r.spec), "accuracy": accuracies[r.name],
            "predicted": None if np.isnan(r.predicted) else r.predicted,
        }
        for r in rivals
    ]  # fmt: skip
