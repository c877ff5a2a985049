"""`singlepath tune`: a run folder like a search's, every image pass counted, resumable, several searches at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipeline.helpers import printed, run
from tests.search.helpers import problem

from singlepath.architecture import Architecture
from singlepath.costs import count_costs
from singlepath.errors import SinglepathError, UserError
from singlepath.pipeline import trials, tuning
from singlepath.pipeline.outcome import architecture_of
from singlepath.pipeline.trials import (
    SHORT,
    Trials,
    alone,
    counted,
    epochs_within,
    finished,
    read_off,
    scored_passes,
    scorer_of,
    share_of,
    shared_epochs,
)
from singlepath.runs import Run, load_checkpoint
from singlepath.search import METHODS
from singlepath.search import single_path as sp
from singlepath.search.ledger import Ledger

SPACE = "mobile-small(width=0.5, input_size=16)"
ASKED = (
    "tune", "--space", SPACE, "--budget", "0.8MMACs", "--data", "digits", "--limit", 200, "--epochs", 8, "--trials", 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tune") / "run"
    return folder, printed(*ASKED, "--compare", "--out", folder)


def test_a_trial_is_the_last_network_that_hits_or_the_nearest_below() -> None:
    asked = problem("0.8MMACs")
    rng = np.random.default_rng(0)
    networks = [asked.space.canonical(asked.space.sample(rng)) for _ in range(400)]
    cost = {a: asked.cost(a) / asked.budget.target for a in networks}
    near = [a for a in networks if 0.97 <= cost[a] <= 1]
    below = sorted((a for a in networks if cost[a] < 0.97), key=lambda a: cost[a])
    above = sorted((a for a in networks if cost[a] > 1), key=lambda a: cost[a])
    assert len(near) > 1 and len(below) > 1 and len(above) > 1

    def read(*said: Architecture) -> Architecture:
        return read_off(asked, [asked.space.indices(a) for a in said])

    assert read(above[0], near[0], near[1], below[-1]) == near[0], "the latest that hits, not the nearest"
    assert read(above[0], below[0], below[-1], above[1]) == below[-1]
    assert read(above[-1], above[0], above[1]) == above[0]


def test_what_the_gates_said_last_is_kept_the_latest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "READ", 8)
    said: list[tuple[int, ...]] = []
    real = sp.decision_step

    def decided(asked: Any, state: Any, batch: Any) -> Any:
        metrics = real(asked, state, batch)
        said.append(asked.space.indices(sp.said_by_gates(asked, state["model"]).architecture))
        return metrics

    monkeypatch.setattr(sp, "decision_step", decided)
    asked = replace(problem(epochs=8, gate_lr=0.5), settings={**SHORT["single-path"], "gate_lr": 0.5})
    with Run.open(tmp_path / "run", {"seed": 0}) as held:
        _, state = finished(asked, "single-path", held, "search")
    assert len(said) > 8 and len(set(said[-8:])) > 1
    assert [tuple(s) for s in state["said"]] == said[:-9:-1]


def test_the_run_holds_a_network_within_the_budget_and_all_figures(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, said = tuned
    space, architecture = architecture_of(folder)
    cost = count_costs(space, "macs").of(space.indices(architecture))
    assert cost == pytest.approx(said["predicted"]) and cost <= 0.8 == said["budget"] == said["target"]
    assert space.canonical(architecture) == architecture and list(architecture.choices) == said["choices"]
    result = json.loads((folder / "result.json").read_text())
    assert result["kind"] == "tune" and result["cost"]["predicted"] == cost
    part = result["tuning"]
    assert part["trials"] == said["trials"] and len(part["trials"]) == 3
    assert part["coefficient"] == said["coefficient"] == said["settings"]["coefficient"]
    chosen = part["trials"][part["chosen"]]
    assert chosen["cost"] == cost and chosen["settings"] == said["settings"]
    assert said["gap"] == pytest.approx(cost / 0.8 - 1) and said["hit"] == (said["gap"] >= -0.03)
    below = [t for t in part["trials"] if t["cost"] <= 0.8]
    assert said["hit"] or cost == max(t["cost"] for t in below)
    assert (said["underfilled_reason"] is None) == (cost >= 0.9 * 0.8)
    for t in part["trials"]:
        mine = Architecture(space.id, tuple(t["choices"]))
        assert t["cost"] == pytest.approx(count_costs(space, "macs").of(space.indices(mine))) and t["cross_entropy"] > 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == sorted(r["step"] for r in rows) and rows[-1]["gates"]
    assert rows[-1]["multiplier"] == said["coefficient"], "a fixed coefficient"


def test_every_pass_is_in_the_ledger(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, said = tuned
    ledger = json.loads((folder / "result.json").read_text())["tuning"]["ledger"]
    assert said["ledger"] == {k: ledger[k] for k in ("total", "spent", "left")}
    assert ledger["spent"] == sum(row["passes"] for row in ledger["rows"]) <= ledger["total"]
    assert ledger["left"] == ledger["total"] - ledger["spent"] >= 0
    assert [(r["what"], r["trial"]) for r in ledger["rows"]] == [("shared warm-up", None)] + [
        ("search", i) for i in range(3)
    ]
    images = 160  # of 200, four fifths train
    epoch = images // 32 * 2 * 32  # as many decision steps as weight steps
    assert ledger["rows"][0]["passes"] == 6 * 4 * epoch, "four children a batch"
    assert all(2 * epoch < row["passes"] <= 2 * epoch + (512 + 60) / 3 + 1 for row in ledger["rows"][1:])
    assert 0 < said["direct"]["passes"] <= said["direct"]["total"] == ledger["spent"], "as much as the tuning took"
    assert said["direct"]["passes"] > 0.75 * ledger["spent"]
    assert said["direct"]["cost"] <= 0.8


def test_the_page_shows_trials_coefficient_ledger_and_the_direct_way(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, said = tuned
    page = Path(printed("report", folder)["report"]).read_text()
    section = re.search(r'<section id="tuning".*?</section>', page, re.DOTALL)
    assert section and "Tuned and direct" in section[0]
    assert f'value="{said["coefficient"]!r}" data-key="tuning.coefficient"' in section[0]
    assert f'value="{float(said["ledger"]["spent"])!r}" data-key="tuning.ledger.spent"' in section[0]
    assert section[0].count('class="mark front"') == 2 + 1 and section[0].count('class="mark found"') == 1 + 1


def test_other_commands_go_on_from_it(tuned: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = shutil.copytree(tuned[0], tmp_path / "run")
    assert printed("train", folder, "--quick", "--init", "inherited")["architecture"] == tuned[1]["architecture"]
    assert printed("front", folder, "--budgets", "0.9MMACs")["front"][0]["predicted"] <= 0.9
    again = printed("tune", "--resume", folder)
    assert again == {**tuned[1], "run": str(folder)}, "what has ended is read back"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--mode", "random"), ["unknown mode 'random'", "paper, single-path", "--mode"]),
        (("--trials", 0), ["--trials"]),
        (("--workers", 0), ["--workers"]),
        (("--passes", 100), ["--passes 100", "one trial of 8 epochs takes", "type --passes"]),
        (("--budget", "0.001MMACs"), ["below the smallest network"]),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_folder(
    tmp_path: Path, options: tuple[Any, ...], says: list[str]
) -> None:
    code, out, err = run(*ASKED, *options, "--out", tmp_path / "run")
    assert (code, out) == (2, "") and all(part in err for part in says), err
    assert err.strip().splitlines()[-1].startswith("singlepath: ")
    assert not (tmp_path / "run" / "trials").exists()


def test_what_python_is_given_is_checked_too() -> None:
    with pytest.raises(UserError, match="--workers 0; allowed: 1 or more"):
        tuning.tune(workers=0)


def test_where_every_network_is_above_the_target_it_is_said(tmp_path: Path) -> None:
    asked = ("tune", "--space", SPACE, "--budget", "0.37MMACs", "--data", "digits", "--limit", 100, "--epochs", 1)
    code, _, err = run(*asked, "--trials", 1, "--out", tmp_path / "run")
    assert code == 2 and "none of 1 trials ended with a network of 0.37 MMACs or less; they cost 1.816" in err
    assert not (tmp_path / "run" / "architecture.json").exists()


# -- interruptions and workers ----------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "singlepath", *map(str, arguments)]


def figures(folder: Path) -> list[Any]:
    """Of every trial, what must not depend on interruptions."""
    kept = json.loads((folder / "result.json").read_text())["tuning"]["trials"]
    return [[t[k] for k in ("number", "state", "settings", "cost", "cross_entropy", "choices")] for t in kept]


@pytest.mark.slow
def test_a_killed_tuning_goes_on_to_the_same_trials(tuned: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    environment = {**os.environ, "SINGLEPATH_CHECKPOINT_SECONDS": "0.2"}
    asked = [*ASKED, "--passes", 3 * tuned[1]["ledger"]["total"], "--out", folder]
    moments = ["shared/metrics.jsonl", "trials/000/metrics.jsonl", "trials/002/.lock"]
    for moment in ("trials/" + m.removeprefix("trials/") for m in moments):
        process = subprocess.Popen(command(*asked), env=environment, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while not (folder / moment).is_file() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, moment
        asked = ["tune", "--resume", folder]
    subprocess.run(command(*asked), check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert figures(folder) == figures(tuned[0])
    ledger = json.loads((folder / "result.json").read_text())["tuning"]["ledger"]
    searches = [row["passes"] for row in ledger["rows"] if row["what"] != "repeated"]
    assert sum(searches) == tuned[1]["ledger"]["spent"], "each was charged once"
    assert (folder / "architecture.json").read_bytes() == (tuned[0] / "architecture.json").read_bytes()
    a, b = (load_checkpoint(f, "supernet") for f in (folder, tuned[0]))
    assert a and b and all(torch.equal(v, b["supernet"][k]) for k, v in a["supernet"].items())


@pytest.mark.slow
def test_two_at_once_share_trials_and_ledger(tmp_path: Path) -> None:
    said = printed(*ASKED, "--trials", 4, "--workers", 2, "--out", tmp_path / "run")
    assert [t["state"] for t in said["trials"]] == ["done"] * 4
    assert said["ledger"]["spent"] <= said["ledger"]["total"] and said["predicted"] <= said["budget"]
    rows = json.loads((tmp_path / "run" / "trials" / "ledger.json").read_text())["rows"]
    assert sorted(r["trial"] for r in rows if r["trial"] is not None) == list(range(4))


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("import sys; print('no such data', file=sys.stderr); sys.exit(2)", UserError, "no such data"),
        ("import os; os.kill(os.getpid(), 9)", SinglepathError, "its process ended with status -9"),
    ],
)
def test_a_worker_that_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, kind: type[Exception], says: str
) -> None:
    monkeypatch.setattr(tuning, "WORKER", (sys.executable, "-c", script))
    with (
        Run.open(tmp_path / "run", {"threads": 1}) as held,
        pytest.raises(kind, match=f"^a search beside this one: {says}$"),
        tuning.processes(held, 1, [[]]),
    ):
        pass


def test_no_worker_outlives_what_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "WORKER", (sys.executable, "-c", "import time; time.sleep(600)"))
    started = time.monotonic()
    with (
        Run.open(tmp_path / "run", {"threads": 1}) as held,
        pytest.raises(KeyboardInterrupt),
        tuning.processes(held, 1, [[], []]),
    ):
        raise KeyboardInterrupt
    assert time.monotonic() - started < 30


# -- image passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("single-path", SHORT["single-path"]), ("single-path", {"select": "gates"}), ("single-path", {}), ("paper", {})],
)
def test_passes_are_those_that_networks_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, settings: dict[str, Any]
) -> None:
    """Images that go forward and backward through a network are counted where it is called."""
    space = "mobile-small(width=0.5, input_size=16, padding='same')" if mode == "paper" else SPACE
    from singlepath.spaces import make
    from singlepath.supernet.network import Supernet
    from singlepath.supernet.paper import PaperSupernet

    seen = 0
    for kind in (Supernet, PaperSupernet):
        real = kind.forward

        def forward(self: Any, x: torch.Tensor, *rest: Any, _real: Any = real, **more: Any) -> torch.Tensor:
            nonlocal seen
            seen += len(x) if torch.is_grad_enabled() else 0
            return _real(self, x, *rest, **more)

        monkeypatch.setattr(kind, "forward", forward)
    asked = replace(problem("0.9MMACs", make(space), epochs=4, candidates=4), settings={"candidates": 4, **settings})
    with Run.open(tmp_path / "run", {"seed": 0}) as held:
        _, state = finished(asked, mode, held, "search")
    assert state["passes"] == seen > 0
    whole = state["passes"] + scored_passes(scorer_of(asked, mode, state))
    assert whole <= alone(asked, mode) < 1.5 * whole


def test_the_most_epochs_within_a_ledger() -> None:
    for passes in (0, 9, 10, 11, 29, 30, 31, 1000, 12345):
        assert epochs_within(passes, lambda epochs: 10 * epochs) == passes // 10


def test_the_size_of_a_tuning() -> None:
    asked = replace(problem("0.9MMACs"), settings=SHORT["single-path"])
    unbounded = tuning.sized(replace(asked, epochs=None), "single-path", None, None)
    assert unbounded.trials == 40 and unbounded.epochs >= 8
    given = replace(asked, epochs=6)
    size = tuning.sized(given, "single-path", 5, None)
    assert size.epochs == 6 and size.trials == 5 and size.share == share_of(given, "single-path")
    assert size.total == 5 * size.share + (size.total - 5 * size.share) and size.total > 5 * size.share
    fewer = tuning.sized(given, "single-path", 5, size.total - 1)
    assert (fewer.trials, fewer.share, fewer.total) == (4, size.share, size.total - 1)
    as_many = tuning.sized(given, "single-path", None, size.total + size.share)
    assert as_many.trials == 6
    longer = tuning.sized(replace(asked, epochs=None), "single-path", 5, 3 * size.total)
    assert longer.epochs > 6 and longer.trials == 5 and longer.total == 3 * size.total
    spent = longer.total - tuning.sized(replace(asked, epochs=longer.epochs), "single-path", 5, None).total
    assert (
        0
        <= spent
        < tuning.sized(replace(asked, epochs=longer.epochs + 1), "single-path", 5, None).total - longer.total + spent
    )
    with pytest.raises(UserError, match="40 trials of one epoch take"):
        tuning.sized(replace(asked, epochs=None), "single-path", None, 500)


def test_trials_go_on_from_one_warm_up_that_is_charged_once(tmp_path: Path) -> None:
    asked = replace(problem("0.9MMACs", epochs=4), settings=SHORT["single-path"])
    trials, ledger = Trials(asked, "single-path", tmp_path, 1), Ledger(tmp_path / "ledger.json", 10**6)
    assert shared_epochs(asked, "single-path") == 3
    trials.warm_up(ledger)
    before = load_checkpoint(trials.shared, "search")
    assert before and before["decisions"] == 0
    seen: list[Any] = []
    method = counted(METHODS["single-path"], "single-path", before)
    for coefficient in (0.01, 5.0):
        state = method.start(replace(asked, settings={**asked.settings, "coefficient": coefficient}))
        assert state["passes"] == 0 and state["multiplier"] == coefficient
        assert state["step"] == before["step"] == 3 * sp.plan(asked, {}).steps_per_epoch
        assert all(torch.equal(v, before["model"][k]) for k, v in state["model"].state_dict().items())
        seen.append(trials.search_once(len(seen), {"coefficient": coefficient, "gate_lr": 0.2}))
    assert seen[1].cost < seen[0].cost
    assert all(o.passes <= share_of(asked, "single-path") for o in seen)
    spent = ledger.spent
    trials.warm_up(ledger)
    assert ledger.spent == spent > 0, "what is done is not charged again"
    assert trials.search_once(0, {}) == seen[0], "nor searched again"


def test_a_trial_answers_with_a_network_that_it_passed_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(problem("0.9MMACs", epochs=4), settings=SHORT["single-path"])
    made, ledger = Trials(asked, "single-path", tmp_path, 1), Ledger(tmp_path / "ledger.json", 10**6)
    made.warm_up(ledger)
    rng, real = np.random.default_rng(0), trials.finished
    drawn = [asked.space.canonical(asked.space.sample(rng)) for _ in range(300)]
    near = next(a for a in drawn if 0.97 <= asked.cost(a) / asked.budget.target <= 1)

    def passed(*given: Any) -> Any:
        found, state = real(*given)
        return found, state | {
            "said": [list(asked.space.indices(asked.space.largest())), list(asked.space.indices(near))]
        }

    monkeypatch.setattr(trials, "finished", passed)
    outcome = made.search_once(0, {"coefficient": 0.01, "gate_lr": 0.2})
    assert outcome.choices == near.choices and outcome.cost == pytest.approx(asked.cost(near))
