"""The off-the-shelf networks a result is compared with are as wide as the budget allows, by the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.pipeline.test_design import SPACE, table_of

from singlepath.architecture import NetworkSpec
from singlepath.costs import macs
from singlepath.devices import Measured
from singlepath.pipeline import comparing
from singlepath.spaces import make


@pytest.mark.parametrize("name", comparing.BASELINES)
@pytest.mark.parametrize("overhead", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 1.4, 6.0])
def test_the_widest_version_within_the_budget_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, overhead: float, share: float
) -> None:
    """On a device whose latency is an overhead and a time for every block, whatever the size of the found network."""
    timed: list[NetworkSpec] = []

    def latency(spec: NetworkSpec) -> float:
        return overhead + sum(b.mid_channels * (b.in_channels + b.out_channels) * b.side**2 for b in spec.blocks) / 1e6

    def clock(networks: dict[str, NetworkSpec], *_: object, **__: object) -> dict[str, Measured]:
        timed.extend(networks.values())
        return {key: Measured(0.0, corrected_ms=latency(spec)) for key, spec in networks.items()}

    monkeypatch.setattr(comparing, "time_networks", clock)
    space = make(SPACE)
    largest = space.network(space.largest())
    limit = overhead + share * (latency(largest) - overhead)
    made = cast(Any, SimpleNamespace(space=space, budget=SimpleNamespace(limit=limit)))
    full = comparing.BASELINES[name]
    found = comparing.widest_timed(name, full, made, table_of(SPACE), macs(largest) // 2)
    within = [(w, s) for w, s in comparing.distinct_widths(full, made) if latency(s) <= limit]
    expected = within[-1] if within else comparing.distinct_widths(full, made)[0]
    assert (found.width, found.spec) == expected and found.predicted == latency(found.spec)
    assert len({*timed}) == len(timed) <= comparing.MOST_TIMED + 2, "each is timed once"
