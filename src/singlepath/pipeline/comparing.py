"""What the found network is compared with: random networks of the same budget, and off-the-shelf ones scaled to it."""

from __future__ import annotations

from bisect import bisect_right
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
FIRST_TIMED = (0.5, 1.0, 2.0)  # versions' MACs over the found network's
MOST_TIMED = 12


class Rival(NamedTuple):
    """A network to compare with; predicted cost in the budget's unit (baselines: timed, or None)."""

    name: str
    spec: NetworkSpec
    predicted: float | None
    width: float | None = None


def random_rivals(made: Prepared, count: int, seed: int) -> list[Rival]:
    """Random networks of the budget: uniform over those that fill it, or over all that fit where none does."""
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
            rivals.append(widest_timed(name, full, made, made.table, found_macs))
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
        rivals.append(Rival(name, spec, cost(spec) if kind in counts else None, width))
    return rivals


def widest_timed(name: str, full: str, made: Prepared, table: LatencyTable, found_macs: int) -> Rival:
    """The widest version timed whose latency, drift divided out, is within the budget; the narrowest timed if none is.

    First versions around the found network's MACs are timed, then the three where the budget seems to be spent, until
    these have been timed or `MOST_TIMED` have.
    """
    widths, limit = distinct_widths(full, made), made.budget.limit
    ms: dict[int, float] = {}

    def at(size: float) -> int:  # the widest version of at most so many MACs; of a few widths only are they counted
        return max(bisect_right(widths, size, key=lambda pair: macs(pair[1])) - 1, 0)

    picks = {at(share * found_macs) for share in FIRST_TIMED}
    while picks and len(ms) < MOST_TIMED:
        timed = time_networks({str(i): widths[i][1] for i in sorted(picks)}, table, rounds=30)
        ms |= {i: float(timed[str(i)].corrected_ms or 0.0) for i in picks}
        guess = at(macs_at(limit, [(macs(widths[i][1]), ms[i]) for i in sorted(ms)]))
        picks = {i for i in (guess - 1, guess, guess + 1) if 0 <= i < len(widths)} - ms.keys()
    best = max((i for i in ms if ms[i] <= limit), default=min(ms))
    width, spec = widths[best]
    return Rival(name, spec, ms[best], width)


def macs_at(limit: float, timed: list[tuple[int, float]]) -> float:
    """MACs at a latency of `limit` ms: among the timed (MACs, ms) by interpolation, beyond them in proportion."""
    sizes = [size for size, _ in timed]
    times = np.maximum.accumulate([ms for _, ms in timed])  # a wider version is not faster, whatever the noise
    if times[0] <= limit <= times[-1]:
        return float(np.interp(limit, times, sizes))
    end = 0 if limit < times[0] else -1
    return float(sizes[end] * limit / times[end])


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
            "predicted": r.predicted,
        }
        for r in rivals
    ]  # fmt: skip
