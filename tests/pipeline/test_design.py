"""`design`: everything in one command, with a budget in MACs and with a latency table made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.helpers import printed

from singlepath.costs import LatencyTable
from singlepath.costs.table import BlockTiming, Validation
from singlepath.spaces import make

pytest.importorskip("onnxruntime")
SPACE = "mobile-small(input_size=16)"
KEYS = {
    "run", "architecture", "budget_ms", "predicted_ms", "measured_ms", "test_accuracy", "random_accuracy_mean",
    "random_accuracy_std", "relative_improvement", "baselines", "underfilled_reason", "onnx_max_abs_difference",
    "report",
}  # fmt: skip


def design(folder: Path, *more: object) -> dict[str, Any]:
    return printed(
        "design", "--quick", "--data", "digits", "--limit", 200, "--space", SPACE, "--random", 2, "--out", folder, *more
    )


def check_summary(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What every summary must say, whatever the budget is on; returns the run's result."""
    result = json.loads((folder / "result.json").read_text())
    assert found.keys() >= KEYS
    assert found["test_accuracy"] == result["accuracy"]["test"]
    rivals = [n["accuracy"] for n in result["accuracy"]["random"]["networks"]]
    assert len(rivals) == 2
    assert found["random_accuracy_mean"] == pytest.approx(sum(rivals) / 2)
    assert found["random_accuracy_std"] == pytest.approx(abs(rivals[0] - rivals[1]) / 2**0.5)
    improvement = 100 * (found["test_accuracy"] - found["random_accuracy_mean"]) / found["random_accuracy_mean"]
    assert found["relative_improvement"] == pytest.approx(improvement)
    assert set(found["baselines"]) == {"mobilenetv2", "spnasnet_100"}
    assert found["onnx_max_abs_difference"] <= 1e-4
    assert found["predicted"] <= found["budget"]
    assert found["predicted"] >= 0.9 * found["budget"] or found["underfilled_reason"]
    page = Path(found["report"]).read_text()
    assert "Final training: loss" in page, "of the found network"
    assert (folder / "export" / "source" / "model.py").is_file()
    for rival in result["accuracy"]["random"]["networks"]:
        assert 0.9 * found["budget"] <= rival["predicted"] <= found["budget"]
    return result


def test_design_with_a_budget_in_macs(tmp_path: Path) -> None:
    found = design(tmp_path / "run", "--budget", "4MMACs")
    result = check_summary(found, tmp_path / "run")
    assert found["budget_ms"] is found["predicted_ms"] is found["measured_ms"] is None
    assert "finalists" not in result["selection"] and "Finalists" not in Path(found["report"]).read_text()
    for baseline in result["accuracy"]["baselines"]:
        assert baseline["macs"] <= 4e6 and baseline["accuracy"] == found["baselines"][baseline["name"]]["accuracy"]
    assert result["data"]["test"] > 0 and set(found["seconds"]) >= {"search", "train", "export"}
    again = printed("design", "--resume", tmp_path / "run")
    assert again == found, "a design that is done is read back"
    (tmp_path / "run" / "summary.json").unlink()
    with open(tmp_path / "run" / "timing.jsonl", "a") as file:
        file.write('{"design": "train", "seconds": 1000.0}\n{"design": "tr')  # an interrupted one, and a killed one
    resumed = printed("design", "--resume", tmp_path / "run")
    assert resumed["test_accuracy"] == found["test_accuracy"]
    assert 0 <= resumed["seconds"]["train"] - found["seconds"]["train"] - 1000 < 60, "of every process"


def table_of(space_text: str) -> LatencyTable:
    """A device whose every channel costs the same, timed elsewhere: 2 % off on whole networks."""
    space = make(space_text)
    layers = {
        layer.name: {
            o.token: BlockTiming(ms=0.0 if o.is_identity else 0.01 * o.kernel * o.expansion) for o in layer.options
        }
        for layer in space.searchable
    }
    return LatencyTable(
        space=space.id, device="far-away", runtime="onnxruntime", input_size=space.input_size, rest_ms=0.4,
        layers=layers, protocol={"kind": "published"}, source="made up",
        validation=Validation(rmse_ms=0.01, mean_ms=1.0, error95=0.02, spearman=1.0, networks=9),
    )  # fmt: skip


def test_design_with_a_latency_table_of_another_device(tmp_path: Path) -> None:
    file = tmp_path / "far.json"
    file.write_text(table_of(SPACE).to_json())
    found = design(tmp_path / "run", "--device", file, "--budget", "60%")
    check_summary(found, tmp_path / "run")
    table, space = table_of(SPACE), make(SPACE)
    costs = table.costs(space)
    assert found["budget_ms"] == pytest.approx(0.6 * costs.largest)
    assert found["predicted_ms"] <= found["budget_ms"] / 1.02 + 1e-9, "the table's 95 % error is left free"
    assert found["measured_ms"] is None and found["measured_reason"]
    assert LatencyTable.load(tmp_path / "run" / "table.json") == table
    kept = json.loads((tmp_path / "run" / "architecture.json").read_text())
    indices = [layer.tokens.index(c) for layer, c in zip(space.searchable, kept["choices"], strict=True)]
    assert found["predicted_ms"] == pytest.approx(costs.of(indices))
