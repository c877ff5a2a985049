"""Every benchmark's last line of standard output, as DESIGN section 7 states it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def run(name: str, *options: str) -> tuple[int, str, str]:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    return done.returncode, done.stdout, done.stderr


def result(name: str, *options: str) -> tuple[int, dict[str, Any]]:
    """(exit status, the last line) of a benchmark, the contract checked."""
    status, out, err = run(name, "--json", *options)
    assert out, err
    found = json.loads(out.splitlines()[-1])
    assert found["quick"] is True
    assert found["checks"], "no promise was checked"
    for check in found["checks"]:
        assert set(check) == {"name", "value", "limit", "holds"}
        assert math.isfinite(check["value"])
    assert found["holds"] == all(c["holds"] for c in found["checks"])
    return status, found


def named(found: dict[str, Any], part: str) -> list[float]:
    return [c["value"] for c in found["checks"] if part in c["name"]]


def test_search_step() -> None:
    status, found = result("search_step")
    assert status == (3 if found["inconclusive"] else 0 if found["holds"] else 1)
    assert len(found["checks"]) == 6  # time, launches and memory at 64 and at 32 px
    assert max(named(found, "launches")) <= 1.25  # counted, so as true in a short run
    assert max(named(found, "memory")) <= 1.02
    for figures in found["results"]:
        multi = figures["beside"]["multi-path, 5 operations"]
        assert multi["memory"] > 1.5
        assert figures["beside"]["75% closed: sliced, no probe"]["memory"] < 0.8


def test_gates() -> None:
    status, found = result("gates")
    assert status == (0 if found["holds"] else 1)
    assert max(named(found, "zero gradients")) == 0
    assert min(named(found, "sigmoid'")) >= 0.1
    assert max(named(found, "sliced against masked")) <= 1e-10
    assert found["paper"]["frozen"] > 0
    assert all("skipped" in s or s["decision_steps"] > 0 for s in found["studies"])


BEST = (89.38, 91.51, 92.17, 92.57, 93.06)  # per cent, of the best networks under 30, 40, 50, 60 and 75 MMACs
REGRETS = {"most layers": (0.43, 0.50, 0.57, 0.44, 0.83), "largest MACs": (4.59, 0.50, 1.42, 2.52, 0.64)}


def test_macro_regret(shared_data: Path, tmp_path: Path) -> None:
    places = ("--data", str(shared_data), "--out", str(tmp_path / "out"), "--supernets", str(tmp_path / "supernets"))
    status, found = result("macro_regret", *places)
    assert status == (0 if found["holds"] else 1)
    assert named(found, "over budget") == [0, 0]
    for contenders in found["results"].values():
        rows = [r for c in contenders.values() for seed in c["seeds"] for r in seed["rows"]]
        assert min(r["regret"] for r in rows) >= 0
        assert not any(r["over"] for r in rows)
        scored = [[r["scored"] for r in contenders[c]["seeds"][0]["rows"]] for c in ("ours", "random search")]
        assert scored[0] == scored[1]  # both pay for as many networks
    five = found["results"]["named"]
    for name, regrets in REGRETS.items():
        assert five[name]["by_budget"] == pytest.approx(regrets, abs=0.01)
    shown = [r["accuracy"] + r["regret"] for r in five["ours"]["seeds"][0]["rows"]]
    assert shown == pytest.approx(BEST, abs=0.006)
    cost = five["ours"]["cost"]
    assert cost["training"] > 0
    assert cost["scoring"] > 0
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "out").iterdir()}
    assert result("macro_regret", *places)[1]["results"] == found["results"]  # read back
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "out").iterdir()} == files


def test_search_cost(shared_data: Path, tmp_path: Path) -> None:
    status, found = result("search_cost", "--data", str(shared_data), "--out", str(tmp_path))
    assert status == (3 if found["inconclusive"] else 0 if found["holds"] else 1)
    assert len(named(found, "pass / pass of the largest child")) == 2
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["shares"]["decision"] == pytest.approx(0.125, abs=0.02)  # one in four after the warm-up
    assert found["selection"]["regret"] >= 0
    assert not found["selection"]["over"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said_in_one_line() -> None:
    status, out, err = run("search_step", "--device", "cuda")
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "--device cpu" in err
