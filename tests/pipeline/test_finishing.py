"""A measurement put into a result: whether it keeps the budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from singlepath.devices import Measured
from singlepath.pipeline.design import against_budget
from singlepath.pipeline.finishing import keep_measured
from singlepath.pipeline.outcome import update_result


@pytest.mark.parametrize(
    ("kind", "measured", "holds"),
    [
        ("latency", Measured(0.9, drift=1.0, corrected_ms=0.99), True),
        ("latency", Measured(0.9, drift=1.0, corrected_ms=1.0), True),
        ("latency", Measured(0.9, drift=1.0, corrected_ms=1.018), False),
        ("latency", Measured(None, reason="a table, not a device at hand"), None),
        ("macs", Measured(0.9, drift=1.0, corrected_ms=0.99), None),
    ],
)
def test_whether_the_measured_latency_keeps_the_budget(
    tmp_path: Path, kind: str, measured: Measured, holds: bool | None
) -> None:
    update_result(
        tmp_path,
        options={},
        architecture={},
        cost={"kind": kind, "budget": 1.0, "predicted": 0.97, "measured_holds": None},
    )
    cost = keep_measured(tmp_path, measured)["cost"]
    assert cost["measured_holds"] is holds and cost["measured"] == measured.corrected_ms
    assert cost["predicted"] == 0.97


def test_how_a_network_was_chosen_is_said_anew(tmp_path: Path) -> None:
    update_result(tmp_path, selection={"method": "paper", "over_budget": "1.2 ms"}, cost={"predicted": 1.2})
    result = update_result(tmp_path, selection={"method": "score"}, cost={"budget": 1.0})
    assert result["selection"] == {"method": "score"} and result["cost"] == {"predicted": 1.2, "budget": 1.0}


def test_the_measured_latency_beside_the_budget_in_words() -> None:
    assert against_budget({"measured": 1.018, "budget": 1.0, "measured_holds": False}).startswith("1.8 % above")
    assert against_budget({"measured": 0.96, "budget": 1.0, "measured_holds": True}).startswith("4.0 % below")
