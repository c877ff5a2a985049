"""`singlepath bench` on images: the same supernet and cost for every method, and figures that nothing changes."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.helpers import printed, run

from singlepath import training
from singlepath.bench.records import Record, read
from singlepath.costs import LatencyTable
from singlepath.costs.table import BlockTiming
from singlepath.data import Data
from singlepath.data.splits import generator
from singlepath.errors import UserError
from singlepath.pipeline import image_trials
from singlepath.search import Problem
from singlepath.search.budget import random_networks
from singlepath.search.scoring import Scorer
from singlepath.spaces import Space, make

IMAGES = [
    "bench", "--task", "digits", "--limit", 200, "--search-epochs", 1, "--epochs", 1, "--networks", 3, "--seeds", 2,
    "--queries", 12, "--space", "mobile-small(width=0.25, input_size=16)", "--budget", "60%",
]  # fmt: skip
METHODS = ["--methods", "single-path,random,weaknas"]
HERE = ["--workers", 0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished comparison, made by two processes."""
    folder = tmp_path_factory.mktemp("bench-images") / "first"
    return folder, printed(*IMAGES, *METHODS, "--workers", 2, "--out", folder)


def records_of(folder: Path) -> list[Record]:
    """Of the networks that were trained."""
    return [record for record in read(folder / "records") if record.validation is not None]


def comparable(folder: Path) -> dict[str, str]:
    return {p.name: re.sub(r'"commit": [^,]*, ', "", p.read_text()) for p in (folder / "records").glob("*.jsonl")}


def accuracy(records: list[Record]) -> float:
    return float(np.mean([r.test for r in records if r.test is not None]))


def test_every_method_has_the_same_supernets_budget_and_training(made: tuple[Path, dict[str, Any]]) -> None:
    folder, found = made
    space = make("mobile-small(width=0.25, input_size=16)")
    by_method: dict[str, list[Record]] = {}
    for record in records_of(folder):
        by_method.setdefault(record.trial.method, []).append(record)
        assert record.trial.protocol["name"] == "reduced, changed" and 0 <= (record.test or 0.0) <= 100
        cost = image_trials.costs_of(space, "macs", "").of(space.indices(space.parse(record.network)))
        assert 0.9 * record.trial.protocol["limit"] <= cost <= record.trial.protocol["limit"]
        assert record.cost is not None and record.cost.amount == pytest.approx(cost) and record.cost.unit == "MMACs"
        assert record.spent("passes", "training") == record.trial.protocol["training_images"]
    networks = by_method.pop("random-network")
    assert len({r.network for r in networks}) == 3 and not any(r.spent("passes", "search") for r in networks)
    assert set(by_method) == {"single-path", "random", "weaknas"}
    assert len({r.spent("passes", "search") for rows in by_method.values() for r in rows}) == 1
    assert all(0 < r.queries <= 12 and r.spent("forward") > 0 for rows in by_method.values() for r in rows)
    assert len(list((folder / "supernets").glob("*.pt"))) == 2, "one a search seed"
    assert {r.trial.training_seed for rows in by_method.values() for r in rows} == {1000, 1001}
    rows = {m["method"]: m for m in found["tasks"][0]["methods"]}
    for name, trials in by_method.items():
        ri = 100 * (accuracy(trials) / accuracy(networks) - 1)
        assert rows[name]["ri"]["value"] == pytest.approx(ri) and rows[name]["verdict"]
        assert rows[name]["ledger"]["search_passes"] == by_method["random"][0].spent("passes", "search")
        assert "regret" not in rows[name], "what luck of training the best had is no yardstick"


def test_a_search_records_the_best_scores_of_its_supernet(made: tuple[Path, dict[str, Any]]) -> None:
    folder, found = made
    summary = json.loads((folder / "bench.json").read_text())
    curves = {m["method"]: m["curve"] for m in summary["tasks"][0]["methods"]}
    assert set(curves) == {"single-path", "random", "weaknas"}
    for record in records_of(folder):
        best, trial = record.incumbents, record.trial
        if trial.method == "random-network":
            assert best == ()
            continue
        scores = [each.cross_entropy for each in best]
        assert scores == sorted(scores, reverse=True) and best[-1].scored <= record.queries
        task = image_trials.opened("digits", "", json.dumps(trial.protocol["asked"]))
        problem = task.problem(trial.search_seed)
        scorer = Scorer.of(problem, image_trials.supernet_of(problem, trial, folder / "supernets")[0])
        answer = scorer(task.space.parse(record.network))
        assert scores[-1] == pytest.approx(answer) if trial.method != "single-path" else scores[-1] <= answer + 1e-9
        curve = curves[trial.method]
        assert curve["low"][-1] <= scores[-1] <= curve["high"][-1]
    for name, curve in curves.items():
        of_it = [r for r in records_of(folder) if r.trial.method == name]
        ends = [r.incumbents[-1].cross_entropy for r in of_it]
        allowed = range(10, 13) if name == "single-path" else [12]  # its two finalists may be of its sample
        assert curve["queries"][-1] == max(r.queries for r in of_it) in allowed
        assert curve["cross_entropy"][-1] == pytest.approx(np.mean(ends)) and curve["low"][-1] == min(ends)
    assert not any("curve" in m for m in found["tasks"][0]["methods"]), "too long for a line"


def test_a_stopped_one_goes_on_to_the_same_figures(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = made
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    kept = sorted((again / "records").glob("*.jsonl"))
    for path in kept[::3]:
        path.unlink()
    next((again / "supernets").glob("*.pt")).unlink()
    shutil.rmtree(next(p for p in (again / "supernets").iterdir() if p.is_dir()))
    printed("bench", "--resume", again, *HERE)
    assert comparable(again) == comparable(folder), "in this process as in two others"


def test_the_test_part_is_read_after_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order: list[str] = []

    def seen(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            order.append(name)
            if name == "train":
                assert kwargs["images"] is args[1].train, "the held-out part says how good it is"
            return function(*args, **kwargs)

        return called

    monkeypatch.setattr(image_trials, "train_network", seen("train", image_trials.train_network))
    monkeypatch.setattr(image_trials, "query_supernet", seen("search", image_trials.query_supernet))
    monkeypatch.setattr(Data, "open_test", seen("test", Data.open_test))
    image_trials.opened.cache_clear()
    once = [2 if value == 3 else 1 if value == 2 else value for value in IMAGES]
    printed(*once, "--methods", "random", *HERE, "--out", tmp_path / "run")
    assert order == ["search", "train", "test", "train", "test", "train", "test"]


def test_trainings_of_one_network_are_one_search(tmp_path: Path) -> None:
    found = printed(*IMAGES, "--methods", "random", "--trainings", 2, *HERE, "--out", tmp_path / "run")
    (row,) = found["tasks"][0]["methods"]
    assert row["runs"] == 2 and found["trials"] == 2 * (2 + 3) + 2
    summary = json.loads((tmp_path / "run/bench.json").read_text())
    assert summary["tasks"][0]["seed_ranks"]["networks"] == 3 and summary["tasks"][0]["seed_ranks"]["seeds"] == 2
    mine = [r for r in records_of(tmp_path / "run") if r.trial.method == "random"]
    assert len({r.network for r in mine if r.trial.search_seed == 0}) == 1
    assert len({r.trial.training_seed for r in mine}) == 4
    for search in (0, 1):
        first, second = ((r.validation, r.test) for r in mine if r.trial.search_seed == search)
        assert first != second, "other weights to begin with, another order"


def test_random_networks_are_the_same_ones_however_many(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    record = records_of(folder)[0]
    task = image_trials.opened("digits", "", json.dumps(record.trial.protocol["asked"]))
    networks = [image_trials.random_network(task, number) for number in range(40)]
    costs, limit = task.budget.costs, task.budget.limit
    together = random_networks(task.space, costs, 0.9 * limit, limit, 40, generator(0, "random networks"))
    assert networks == together and len(set(networks)) == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "digits,toy"], "tables or images"),
        (["--task", "no-such"], "no-such"),
        (["--task", "toy", "--epochs", 2], "--epochs with toy"),
        (["--task", "toy", "--methods", "single-path"], "needs a supernet"),
        (["--task", "digits", "--methods", "single-path(select='gates')"], "select=score"),
        (["--task", "digits", "--protocol", "fast"], "reduced"),
        (["--task", "digits", "--budget", "80ms"], "without a latency table"),
        (["--task", "digits", "--budget", "0.001MMACs"], "below the smallest"),
        (["--task", "digits", "--epochs", 0], "--epochs 0"),
        (["--task", "digits", "--networks", 100_000], "allowed: 2 to 10000"),
        (["--task", "digits", "--seed", 100_000], "allowed: 0 to 10000"),
        (["--task", "digits", "--space", "macro", "--budget", "25%", "--networks", 99], "type --seed 0 --networks 28"),
        (["--task", "digits", "--methods", "weaknas(encoding='paths')"], "one-hot, pairs"),
        (["--task", "digits", "--ablate", "weaknas(encoding='paths')"], "one-hot, pairs"),
        (["--task", "digits(colour=3)"], "colour"),
        (["--task", "digits", "--space", "no-space"], "no-space"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def trained(*_: Any) -> Any:
        raise AssertionError("it is said after a supernet was trained")

    monkeypatch.setattr(image_trials, "trained", trained)
    code, out, err = run("bench", *arguments, "--out", tmp_path / "run", *HERE)
    assert code == 2 and not out and said in err.splitlines()[-1] and "Traceback" not in err


def table_of(space: Space, path: Path, ms: float) -> Path:
    """A latency table by which every option takes so many ms for each of its places."""
    layers = {
        layer.name: {token: BlockTiming(ms=ms * (1 + i)) for i, token in enumerate(layer.tokens)}
        for layer in space.searchable
    }
    table = LatencyTable(
        space=space.id, device="board", runtime="none", input_size=space.input_size, rest_ms=1.0, layers=layers
    )
    path.write_text(table.to_json())
    return path


def test_another_latency_table_is_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = make("mobile-small(width=0.25, input_size=16)")
    path = table_of(space, Path("board.json"), 1.0)
    arguments = [1 if value == 2 else 2 if value == 3 else value for value in IMAGES]
    first = printed(*arguments, "--methods", "random", "--cost", path, *HERE, "--out", "run")
    before = records_of(Path("run"))
    costs = LatencyTable.load(path).costs(space)
    for record in before:
        cost = record.cost
        assert cost is not None and (cost.of, cost.unit) == ("latency", "ms")
        assert cost.amount == pytest.approx(costs.of(space.indices(space.parse(record.network))))
        assert cost.amount <= record.trial.protocol["limit"] and str(tmp_path) not in str(record.trial.protocol)
    assert {m["cost"]["unit"] for m in first["tasks"][0]["methods"]} == {"ms"}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the table is found from any folder
    assert printed("bench", "--resume", "../run", *HERE)["tasks"] == first["tasks"]
    assert len(records_of(tmp_path / "run")) == len(before) == 3
    table_of(space, tmp_path / "board.json", 2.0)
    with pytest.raises(UserError, match="holds another table now"):
        image_trials.run_trial({"data": None, "supernets": "s", "cost": str(tmp_path / "board.json")}, before[0].trial)
    again = printed("bench", "--resume", "../run", *HERE)
    assert len(records_of(tmp_path / "run")) == 6, "no trial of the old table counts for the new one"
    ratio = again["tasks"][0]["random_networks"]["cost"]["mean"] / first["tasks"][0]["random_networks"]["cost"]["mean"]
    assert 1.5 < ratio < 2


def test_a_trial_runs_on_the_device_of_its_record(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next(r for r in records_of(made[0]) if r.trial.method == "weaknas")
    setting = {"data": None, "supernets": str(tmp_path)}
    other = replace(record.trial, protocol={**record.trial.protocol, "compute": "cuda"})
    monkeypatch.setattr(image_trials, "best_device", lambda: "cpu")
    with pytest.raises(UserError, match=r"a trial on cuda where there is only cpu; .*; type --gpus 1"):
        image_trials.run_trial(setting, other)
    used: list[str] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            used.append(kwargs["device"])
            return function(*args, **kwargs | {"device": "cpu"})

        return called

    def supernet(problem: Problem, *_: Any) -> Any:
        used.append(problem.device)
        raise Ended

    class Ended(Exception):
        pass

    for device, best in (("cpu", "cuda"), ("cuda", "cuda")):
        used.clear()
        monkeypatch.setattr(image_trials, "best_device", lambda best=best: best)
        for name in ("train_network", "evaluate"):
            monkeypatch.setattr(image_trials, name, noted(getattr(training, name)))
        protocol = {**record.trial.protocol, "compute": device}
        image_trials.run_trial(setting, replace(record.trial, method="random-network", settings={}, protocol=protocol))
        monkeypatch.setattr(image_trials, "supernet_of", supernet)
        with pytest.raises(Ended):
            image_trials.run_trial(setting, replace(record.trial, protocol=protocol))
        assert used == [device] * 4


@pytest.mark.browser
def test_the_page_in_a_browser(made: tuple[Path, dict[str, Any]]) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    if (program := next((path for name in names if (path := shutil.which(name))), None)) is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    folder, found = made
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1240, "height": 900})
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((folder / "report.html").resolve().as_uri())
        text = page.inner_text("body")
        wide = page.evaluate("document.documentElement.scrollWidth")
        curves = page.locator("#task-1 svg.bench path.curve").count()
        browser.close()
    assert not problems and wide <= 1240 and curves == 3 and "held-out cross-entropy, nats" in text
    for method in found["tasks"][0]["methods"]:
        assert method["method"] in text and f"{method['ri']['value']:.2f}".replace("-", "\u2212")[-4:] in text
    assert "reduced, changed" in text and "not different" in text and "Image passes of the supernet" in text
    assert "Supernet's ranking" in text and "mean of 2" in text and "3 networks are too few to say" in text


def test_a_process_gives_back_what_it_no_longer_uses() -> None:
    code = """
import sys
from pathlib import Path
from singlepath.pipeline.setup import keep_memory, return_memory
keep_memory()
mb = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
blocks = [bytearray(b"1") * 100_000 for _ in range(3_000)]
last = bytearray(b"1") * 100_000
del blocks
before = mb()
return_memory()
print(before - mb())
"""
    if not Path("/proc/self/statm").is_file() or platform.libc_ver()[0] != "glibc":
        pytest.skip("glibc's own")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) > 200, "of the 300 MB that are free"
