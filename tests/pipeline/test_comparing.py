"""The off-the-shelf networks a result is compared with are as wide as the budget allows, by the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.pipeline.test_design import SPACE, table_of

from singlepath.architecture import NetworkSpec
from singlepath.costs import macs, parameters
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


def prepared(kind: str, limit: float, table: object) -> Any:
    space = make(SPACE)
    costs = SimpleNamespace(kind=kind, largest=1e9)
    return SimpleNamespace(space=space, table=table, budget=SimpleNamespace(limit=limit, costs=costs))


@pytest.mark.parametrize(
    ("kind", "table", "reason", "timed"),
    [("latency", True, "", True), ("latency", True, "another machine", False), ("macs", True, "", False),
     ("parameters", True, "", False), ("macs", False, "", False)],
)  # fmt: skip
def test_widths_are_timed_where_latency_is_the_budget_and_the_device_is_here(
    monkeypatch: pytest.MonkeyPatch, kind: str, table: bool, reason: str, timed: bool
) -> None:
    """Elsewhere they fill the budget's MACs or parameters, or have the MACs of the found network and no latency."""
    monkeypatch.setattr(comparing, "unmeasurable", lambda _: reason)
    timed_at = comparing.network_spec("mobilenetv2_100", make(SPACE), 0.5)
    monkeypatch.setattr(comparing, "widest_timed", lambda name, *_: comparing.Rival(name, timed_at, 1.5))
    size = {"macs": lambda s: macs(s) / 1e6, "parameters": lambda s: parameters(s) / 1e6, "latency": macs}[kind]
    found_macs = 5_000_000
    limit = {"macs": 7.0, "parameters": 0.2, "latency": float(found_macs)}[kind]
    made = prepared(kind, limit, table_of(SPACE) if table else None)
    rivals = comparing.baselines(made, found_macs)
    assert [r.name for r in rivals] == list(comparing.BASELINES)
    for rival in rivals:
        if timed:
            assert (rival.spec, rival.predicted) == (timed_at, 1.5)
            continue
        assert rival.predicted == (None if kind == "latency" else size(rival.spec)) and rival.width is not None
        assert size(rival.spec) <= limit
        wider = comparing.network_spec(comparing.BASELINES[rival.name], made.space, 1.2 * rival.width)
        assert size(wider) > limit, "as wide as that allows"


def test_one_that_is_too_large_at_any_width_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(comparing, "note", said.append)
    assert comparing.baselines(prepared("macs", 0.001, None), 1) == []
    assert [text.split(" is left out")[0] for text in said] == list(comparing.BASELINES)
