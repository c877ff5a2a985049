"""`singlepath tune`: a run folder like a search's, every image pass counted, resumable, several searches at once; with
more trials what a tuning of so many from the start makes, or a refusal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.pipeline.helpers import printed, run

from singlepath.architecture import Architecture
from singlepath.costs import count_costs
from singlepath.errors import SinglepathError, UserError
from singlepath.pipeline import more_trials, tuning
from singlepath.pipeline.outcome import architecture_of
from singlepath.runs import Run, load_checkpoint

SPACE = "mobile-small(width=0.5, input_size=16)"
BUDGET = 1.5  # MMACs of at most 1.8: among two trials one is below, whatever a processor's rounding makes of them
ASKED = (
    "tune", "--space", SPACE, "--budget", f"{BUDGET}MMACs", "--data", "digits", "--limit", 120, "--epochs", 8,
)  # fmt: skip
KEPT = ("result.json", "summary.json", "tuning.json", "architecture.json", "metrics.jsonl", "trials/ledger.json")
Tuned = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tune") / "run"
    return folder, printed(*ASKED, "--trials", 3, "--compare", "--out", folder)


def test_the_run_holds_a_network_within_the_budget_and_all_figures(tuned: Tuned) -> None:
    folder, said = tuned
    space, architecture = architecture_of(folder)
    cost = count_costs(space, "macs").of(space.indices(architecture))
    assert cost == pytest.approx(said["predicted"]) and cost <= BUDGET == said["budget"] == said["target"]
    assert space.canonical(architecture) == architecture and list(architecture.choices) == said["choices"]
    result = json.loads((folder / "result.json").read_text())
    assert result["kind"] == "tune" and result["cost"]["predicted"] == cost
    part = result["tuning"]
    assert part["trials"] == said["trials"] and len(part["trials"]) == 3
    assert part["coefficient"] == said["coefficient"] == said["settings"]["coefficient"]
    chosen = part["trials"][part["chosen"]]
    assert chosen["cost"] == cost and chosen["settings"] == said["settings"]
    assert said["gap"] == pytest.approx(cost / BUDGET - 1) and said["hit"] == (said["gap"] >= -0.03)
    below = [t for t in part["trials"] if t["cost"] <= BUDGET]
    assert said["hit"] or cost == max(t["cost"] for t in below)
    assert (said["underfilled_reason"] is None) == (cost >= 0.9 * BUDGET)
    for t in part["trials"]:
        mine = Architecture(space.id, tuple(t["choices"]))
        assert t["cost"] == pytest.approx(count_costs(space, "macs").of(space.indices(mine))) and t["cross_entropy"] > 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == sorted(r["step"] for r in rows) and rows[-1]["gates"]
    assert rows[-1]["multiplier"] == said["coefficient"], "a fixed coefficient"


def test_every_pass_is_in_the_ledger(tuned: Tuned) -> None:
    folder, said = tuned
    ledger = json.loads((folder / "result.json").read_text())["tuning"]["ledger"]
    assert said["ledger"] == {k: ledger[k] for k in ("total", "spent", "left")}
    assert ledger["spent"] == sum(row["passes"] for row in ledger["rows"]) <= ledger["total"]
    assert ledger["left"] == ledger["total"] - ledger["spent"] >= 0
    assert [(r["what"], r["trial"]) for r in ledger["rows"]] == [("shared warm-up", None)] + [
        ("search", i) for i in range(3)
    ]
    images, held_out = 96, 24  # of 120, four fifths train
    steps = images // 32
    assert ledger["rows"][0]["passes"] == 6 * 4 * 2 * steps * 32, "six epochs of four children, no decision steps"
    search = 2 * steps * (32 + held_out)  # two epochs, as many decision steps as weight steps
    scored = (images + held_out) / 3
    assert all(search < row["passes"] <= search + scored + 1 for row in ledger["rows"][1:])
    assert 0 < said["direct"]["passes"] <= said["direct"]["total"] == ledger["spent"], "as much as the tuning took"
    assert said["direct"]["passes"] > 0.75 * ledger["spent"]
    assert said["direct"]["cost"] <= BUDGET


def test_the_page_shows_trials_coefficient_ledger_and_the_direct_way(tuned: Tuned) -> None:
    folder, said = tuned
    page = Path(printed("report", folder)["report"]).read_text()
    section = re.search(r'<section id="tuning".*?</section>', page, re.DOTALL)
    assert section and "Tuned and direct" in section[0]
    assert f'value="{said["coefficient"]!r}" data-key="tuning.coefficient"' in section[0]
    assert f'value="{float(said["ledger"]["spent"])!r}" data-key="tuning.ledger.spent"' in section[0]
    assert section[0].count('class="mark front"') == 2 + 1 and section[0].count('class="mark found"') == 1 + 1


def test_other_commands_go_on_from_it(tuned: Tuned, tmp_path: Path) -> None:
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
    assert f"type: singlepath tune --resume {tmp_path / 'run'} --trials 2," in err
    code, _, err = run("tune", "--resume", tmp_path / "run", "--trials", 2)
    assert code == 2 and "none of 2 trials" in err, "two were made"
    code, _, err = run(*asked, "--passes", 2000, "--out", tmp_path / "bounded")
    assert code == 2 and "none of" in err and "--resume" not in err and "larger --budget" in err
    code, _, err = run("tune", "--resume", tmp_path / "bounded", "--trials", 60)
    assert code == 2 and "--passes 2000 bounds the run" in err and "--trials 60 --out NEW --passes MORE" in err


# -- more trials -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials, and a front."""
    folder = tmp_path_factory.mktemp("ended") / "run"
    printed(*ASKED, "--trials", 2, "--compare", "--out", folder)
    printed("front", folder, "--budgets", "0.9MMACs")
    return folder


def said(folder: Path) -> dict[str, Any]:
    """What a run came to, but for where it lies."""
    found = {name: (folder / name).read_text().replace(str(folder), "RUN") for name in KEPT}
    return found | {"options": yaml.safe_load((folder / "config.yaml").read_text())["options"]}


def everything(folder: Path) -> dict[Path, bytes]:
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != ".lock"}


def same_weights(a: Path, b: Path) -> bool:
    mine, theirs = (load_checkpoint(folder, "supernet") for folder in (a, b))
    assert mine and theirs
    return all(torch.equal(v, theirs["supernet"][k]) for k, v in mine["supernet"].items())


def test_they_are_those_of_a_tuning_of_so_many_from_the_start(ended: Path, tuned: Tuned, tmp_path: Path) -> None:
    folder = shutil.copytree(ended, tmp_path / "run")
    more = printed("tune", "--resume", folder, "--trials", 3)
    assert said(folder) == said(tuned[0]) and same_weights(folder, tuned[0])
    for name in ("result.json", "summary.json"):
        assert (folder / "before-1" / name).read_bytes() == (ended / name).read_bytes(), "nothing is lost"
    assert json.loads((folder / "before-1" / "result.json").read_text())["front"]
    assert printed("tune", "--resume", folder) == more == printed("tune", "--resume", folder, "--trials", 3)
    assert not (folder / "before-2").exists()


@pytest.mark.parametrize("moment", ["config.yaml is written", "tuning.json is written", "half is put aside"])
def test_killed_on_its_way_it_is_gone_on_with(
    ended: Path, tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder, real = shutil.copytree(ended, tmp_path / "run"), more_trials.put_aside

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    def half(run: Path, names: Any) -> None:
        real(run, names[:-1])
        raise KeyboardInterrupt

    where = (tuning, "make_room") if moment.startswith("config") else (more_trials, "put_aside")
    with monkeypatch.context() as patched:
        patched.setattr(*where, half if moment.startswith("half") else killed)
        assert run("tune", "--resume", folder, "--trials", 3)[0] == 130
    printed("tune", "--resume", folder)
    assert said(folder) == said(tuned[0]) and same_weights(folder, tuned[0])


def trained(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"")


def begun(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "mine").mkdir()
    (folder / "mine" / "config.yaml").write_text(yaml.safe_dump(config | {"options": {"network": "ds_r1"}}))


def met(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    result["tuning"]["trials"] = [{"cost": result["tuning"]["target"]}] * 4
    (folder / "result.json").write_text(json.dumps(result))


def bounded(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["options"]["passes"] = 2000
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def cold(folder: Path) -> None:
    shutil.rmtree(folder / "trials" / "shared" / "checkpoints")


@pytest.mark.parametrize(
    ("state", "options", "says"),
    [
        (None, ("--trials", 1), ["--trials 1; the run in", "has 2; allowed: more; type --trials 3"]),
        (None, ("--trials", 3, "--data", "nowhere"), ["no data at 'nowhere'"]),
        (None, ("--trials", 3, "--budget", "0.9MMACs"), ["budget", "0.9MMACs"]),
        (trained, ("--trials", 3), ["has begun", "tune --config", "--trials 3 --out NEW"]),
        (begun, ("--trials", 3), ["has begun", "tune --config", "--trials 3 --out NEW"]),
        (met, ("--trials", 3), ["4 networks", "hit the target", "--seed OTHER"]),
        (bounded, ("--trials", 1), ["--passes 2000 bounds the run", "--passes MORE"]),
        (cold, ("--trials", 3), ["has lost the weights", "--trials 3 --out NEW"]),
    ],
)
def test_refused_nothing_changes(ended: Path, tmp_path: Path, state: Any, options: tuple[Any, ...], says: Any) -> None:
    folder = shutil.copytree(ended, tmp_path / "run")
    if state is not None:
        state(folder)
    before = everything(folder)
    code, out, err = run("tune", "--resume", folder, *options)
    assert (code, out) == (2, "") and all(part in err for part in says), err
    assert err.strip().splitlines()[-1].startswith("singlepath: ")
    assert everything(folder) == before


def test_as_many_as_there_are_by_default_are_not_more(ended: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ended, tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["options"]["trials"] = None  # begun without --trials
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    before = everything(folder)
    assert printed("tune", "--resume", folder, "--trials", 2)["trials"]
    assert everything(folder) == before


# -- interruptions and workers ----------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "singlepath", *map(str, arguments)]


def figures(folder: Path) -> list[Any]:
    """Of every trial, what must not depend on interruptions."""
    kept = json.loads((folder / "result.json").read_text())["tuning"]["trials"]
    return [[t[k] for k in ("number", "state", "settings", "cost", "cross_entropy", "choices")] for t in kept]


@pytest.mark.slow
def test_a_killed_tuning_goes_on_to_the_same_trials(tuned: Tuned, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    environment = {**os.environ, "SINGLEPATH_CHECKPOINT_SECONDS": "0.2"}
    asked = [*ASKED, "--trials", 3, "--passes", 3 * tuned[1]["ledger"]["total"], "--out", folder]
    moments = ["shared/metrics.jsonl", "trials/002/.lock"]
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
