"""On a machine slower than when its table was timed, the table is timed again, once, and the network chosen anew."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.helpers import run
from tests.pipeline.test_design import SPACE, design, table_of

from singlepath.costs import LatencyTable
from singlepath.devices import Measured
from singlepath.spaces import make

designing = importlib.import_module("singlepath.pipeline.design")  # the package's `design` is the command


def timed(share: float) -> LatencyTable:
    """The device at so much of its latency, four threads at once."""
    table = table_of(SPACE)
    layers = {n: {t: replace_ms(b, share) for t, b in layer.items()} for n, layer in table.layers.items()}
    return table.model_copy(update={"layers": layers, "rest_ms": share * table.rest_ms, "threads": 4})


def replace_ms(block: Any, share: float) -> Any:
    return block.model_copy(update={"ms": share * block.ms})


@pytest.fixture
def drifting(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`drift` of the machine; `asked`, what new tables were to be timed with."""
    state: dict[str, Any] = {"drift": 1.5, "asked": []}

    def measure(*_: Any, **asked: Any) -> LatencyTable:
        state["asked"].append(asked)
        return timed(state["drift"])

    monkeypatch.setattr(designing, "unmeasurable", lambda _: "")
    monkeypatch.setattr(designing, "measure_network", lambda *_: Measured(1.0, drift=state["drift"]))
    monkeypatch.setattr(designing, "measure", measure)
    monkeypatch.setattr(designing.finishing, "export_all", lambda *_: {"onnx": {"max_abs_difference": 0.0}})
    return state


def given(folder: Path) -> Path:
    file = folder / "given.json"
    file.write_text(timed(1.0).to_json())
    return file


def test_a_budget_in_ms_is_kept_on_the_machine_as_it_is_now(tmp_path: Path, drifting: dict[str, Any]) -> None:
    folder, file = tmp_path / "run", given(tmp_path)
    limit = 0.7 * timed(1.0).costs(make(SPACE)).largest
    found = design(folder, "--device", file, "--budget", f"{limit}ms")
    space, architecture = make(SPACE), json.loads((folder / "architecture.json").read_text())
    indices = [layer.tokens.index(c) for layer, c in zip(space.searchable, architecture["choices"], strict=True)]
    assert timed(1.5).costs(space).of(indices) == pytest.approx(found["predicted"]) and found["predicted"] <= limit
    assert LatencyTable.load(folder / "table.json") == timed(1.5)
    assert LatencyTable.load(folder / "table-first.json") == timed(1.0), "nothing is lost"
    (asked,) = drifting["asked"]
    assert (asked["runtime"], asked["threads"], asked["batch"]) == ("onnxruntime", 4, timed(1.0).batch)
    drifting["drift"] = 4.0
    (folder / "summary.json").unlink()
    assert design_again(folder)["architecture"] == found["architecture"], "once"


def test_a_random_network_is_one_of_the_new_budget(tmp_path: Path, drifting: dict[str, Any]) -> None:
    drifting["drift"] = 1.3
    limit = 0.6 * timed(1.0).costs(make(SPACE)).largest
    found = design(tmp_path / "run", "--device", given(tmp_path), "--budget", f"{limit}ms", "--mode", "random")
    assert 0.9 * limit <= found["predicted"] <= limit


def test_what_is_being_compared_stays(tmp_path: Path, drifting: dict[str, Any]) -> None:
    """Killed in the trainings and gone on with when the machine is busier: the networks are those that were begun."""
    drifting["drift"] = 1.05
    folder, file = tmp_path / "run", given(tmp_path)
    found = design(folder, "--device", file, "--budget", "70%")
    (folder / "summary.json").unlink()
    file.unlink()  # the run has its own
    drifting["drift"] = 3.0
    assert design_again(folder)["architecture"] == found["architecture"] and not drifting["asked"]
    assert LatencyTable.load(folder / "table.json") == timed(1.0)


def test_finalists_that_are_being_trained_stay(tmp_path: Path, drifting: dict[str, Any]) -> None:
    drifting["drift"] = 1.05
    folder, file = tmp_path / "run", given(tmp_path)
    found = design(folder, "--device", file, "--budget", "70%", "--finalists", 2)
    (folder / "summary.json").unlink()
    (folder / "baselines.json").unlink()  # none was chosen yet
    drifting["drift"] = 3.0
    assert design_again(folder)["architecture"] == found["architecture"] and not drifting["asked"]


def test_a_budget_that_cannot_be_kept_any_more_leaves_the_first_table(tmp_path: Path, drifting: dict[str, Any]) -> None:
    drifting["drift"] = 30.0
    folder, file = tmp_path / "run", given(tmp_path)
    limit = 0.7 * timed(1.0).costs(make(SPACE)).largest
    asked = ("design", "--quick", "--data", "digits", "--limit", 200, "--space", SPACE, "--random", 2)
    code, _, err = run(*asked, "--device", file, "--budget", f"{limit}ms", "--out", folder)
    assert code == 2 and "below the smallest network" in err
    assert LatencyTable.load(folder / "table.json") == timed(1.0)
    drifting["drift"] = 1.0
    assert design_again(folder)["predicted"] <= limit, "on a calmer machine it goes on"


def design_again(folder: Path) -> dict[str, Any]:
    code, out, err = run("design", "--resume", folder, "--json")
    assert code == 0, err
    return json.loads(out.splitlines()[-1])
