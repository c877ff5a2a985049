"""Every benchmark's last line of standard output, as DESIGN section 7 states it."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from singlepath.search import single_path

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


def test_the_long_run_of_gates_trains_them_whatever_a_search_does_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    for study in importlib.import_module("gates").FULL:
        share = single_path.warm_up_share(cast(Any, SimpleNamespace(settings=study.settings)))
        assert share < 1, f"{study.name}: no decision step would follow the warm-up"


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
    five = found["results"]["named"]
    ours, other = (five[c]["cost"]["scoring"] for c in ("ours", "random search"))
    assert 0.5 * ours < other <= ours, "random search has the same passes, rounded down to whole networks"
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


@pytest.fixture
def regret(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("macro_regret")


def test_networks_trained_in_full_are_no_worse_than_counting(regret: Any, shared_data: Path) -> None:
    truth = regret.Truth.load(shared_data)
    entries = regret.trained_in_full(truth, truth.space, 300, regret.NAMED[1:3], 0, 1)
    assert len(entries) == 3, "one for each of the table's trainings"
    assert len({row["network"] for e in entries for row in e["rows"]}) > 2, "they differ"
    found = regret.summary(entries)
    assert found["over"] == 0
    assert 0 <= found["mean"] < sum(REGRETS["most layers"][1:3]) / 2


def test_a_selection_without_a_model_has_no_shortlist() -> None:
    status, _, err = run("macro_regret", "--shortlist", "3", "--select", "evolution")
    assert status == 2
    assert "--select evolution" in err.splitlines()[-1]


def test_finalists_are_chosen_by_one_training_and_judged_by_the_others(regret: Any, shared_data: Path) -> None:
    found = importlib.import_module("finalists")
    truth = regret.Truth.load(shared_data)
    inside = truth.within(40.0)
    best = int(inside[truth.accuracy[inside].argmax()])
    order = np.random.default_rng(0).permutation(inside)[:10]
    case = found.Case(order, np.linspace(0, 0.09, 10), best)

    own = found.read(truth, [[case]], 1, found.alone, 0.0)
    assert own["mean"] == pytest.approx(truth.accuracy[best] - truth.accuracy[order[0]]), "of one there is no choice"
    taken = found.read(truth, [[case]], 10, found.alone, 0.0)
    regrets = []
    for training in range(3):
        i = order[truth.trainings[order, training].argmax()]
        judge = np.delete(truth.trainings, training, axis=1).mean(1)
        regrets.append(judge[best] - judge[i])
    assert taken["mean"] == pytest.approx(np.mean(regrets)), "not by the training that chose it"
    far = case._replace(behind=np.array([0.0, *[9.0] * 9]))
    assert found.read(truth, [[far]], 10, found.summed(0.03), 0.5) == own, "the search is sure of it"
    values = np.random.default_rng(1).normal(size=len(inside))
    few = found.among(truth, inside, values)
    assert few.best == best and few.behind[0] == 0 and (np.diff(few.behind) >= 0).all()
    assert truth.index(truth.networks[few.names[0]]) == inside[values.argmax()]
    near = case._replace(behind=np.zeros(10))
    assert found.read(truth, [[near]], 10, found.summed(0.03), 0.0) == taken, "it knows no difference"
    noisy = found.read(truth, [[near] * 20], 10, found.alone, 5.0)
    assert noisy["mean"] > taken["mean"], "a choice by luck is worse"


def test_finalists(shared_data: Path, tmp_path: Path) -> None:
    places = ("--data", str(shared_data), "--out", str(tmp_path / "out"), "--supernets", str(tmp_path / "supernets"))
    status, found = result("finalists", "--tuning", *places)
    assert status == (0 if found["holds"] else 1)
    assert set(found["results"]) == {"tuning", *(f"tuning, among 1 in {n}" for n in (2, 5, 12))}
    for rows in found["results"].values():
        assert len(rows) == 1 + 4 * 3 * 5 and all(r["max"] >= r["mean"] for r in rows.values())


def test_search_cost(shared_data: Path, tmp_path: Path) -> None:
    status, found = result("search_cost", "--data", str(shared_data), "--out", str(tmp_path))
    assert status == (3 if found["inconclusive"] else 0 if found["holds"] else 1)
    assert len(named(found, "pass / pass of the largest child")) == 2
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["shares"]["decision"] == pytest.approx(0.125, abs=0.02)  # one in four after the warm-up
    assert found["selection"]["regret"] >= 0
    assert not found["selection"]["over"]


def test_search_cost_study(shared_data: Path, tmp_path: Path) -> None:
    places = ("--study", "--data", str(shared_data), "--out", str(tmp_path))
    status, found = result("search_cost", *places)
    assert status == (0 if found["holds"] else 1)
    rows = found["rows"]
    assert [(r["seed"], r["probe"]) for r in rows] == [(s, p) for s in (0, 1) for p in (1.0, 0.5, 0.2)]
    assert named(found, "over budget") == [0]
    every, fifth = ([r["regret"] for r in rows if r["probe"] == p] for p in (1.0, 0.2))
    check = next(c for c in found["checks"] if c["name"] == "probe 0.2: regret above every step's")
    assert check["value"] == pytest.approx((sum(fifth) - sum(every)) / 2)
    assert check["limit"] == pytest.approx(max(abs(r[0] - r[1]) / 2**0.5 for r in (every, fifth)))
    assert all(r["decisions"] == rows[3 * r["seed"]]["decisions"] > 0 for r in rows)
    taus = [r["tau_in_deciles"] for r in rows if r["seed"] == 0]
    assert len(set(taus)) == 3, "the settings share what comes before the gates, not the gates"
    files = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.pt")}
    assert result("search_cost", *places)[1]["rows"] == rows  # read back
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.pt")} == files


def test_se_study(shared_data: Path, tmp_path: Path) -> None:
    places = ("--contrast", "1", "--repeats", "2", "--data", str(shared_data), "--out", str(tmp_path))
    status, found = result("se_study", *places)
    assert status == (0 if found["holds"] else 1)
    assert named(found, "over budget") == [0]
    rows, changed = found["rows"], {"found, SE removed", "found, SE everywhere"}
    for row in rows:
        assert row["over"] == (row["ms"] > found["budget_ms"])
        assert (row["se_ms"] != 0) == bool(row["se"])  # a quick table's noise may put SE below nothing
    for space in ("with SE", "without SE"):
        mine = {r["name"]: r for r in rows if r["space"] == space and r["repeat"] == 0}
        assert set(mine) - changed == {"found", "random 0", "random 1"}
        assert all(0.9 * found["budget_ms"] <= r["ms"] for n, r in mine.items() if n.startswith("random"))
        random = [100 * r["accuracy"] for n, r in mine.items() if n.startswith("random")]
        mean = sum(random) / len(random)
        (check,) = named(found, f"RI {space}, ")
        assert check == pytest.approx(100 * (100 * mine["found"]["accuracy"] - mean) / mean)
    with_se, bare, full = (next(r for r in rows if r["name"] == n) for n in ("found", *sorted(changed, reverse=True)))
    assert bare["se"] == {} and bare["layers"] == with_se["layers"] == len(full["se"])
    assert bare["ms"] == pytest.approx(with_se["ms"] - with_se["se_ms"])
    assert with_se["se"].items() <= full["se"].items()
    assert not any(r["se"] for r in rows if r["space"] == "without SE")
    trained = {n: [r for r in rows if r["name"] == n and r["space"] == "with SE"] for n in ("found", *changed)}
    assert all(len({r["cross_entropy"] for r in both}) == 2 for both in trained.values()), "from two seeds"
    means = {n: 100 * sum(r["accuracy"] for r in both) / 2 for n, both in trained.items()}
    for name, contrast in found["contrasts"].items():
        assert contrast["mean"] == pytest.approx(means["found"] - means[name])
    files = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.suffix in (".pt", ".json", ".safetensors")}
    assert result("se_study", *places)[1]["rows"] == rows  # read back
    assert {f: f.stat().st_mtime_ns for f in files} == files


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said_in_one_line() -> None:
    status, out, err = run("search_step", "--device", "cuda")
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "--device cpu" in err
