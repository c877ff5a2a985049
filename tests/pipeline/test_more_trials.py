"""`singlepath tune --resume RUN --trials MORE`: what a tuning of so many trials from the start makes, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.pipeline.helpers import printed, run

from singlepath.pipeline import more_trials, tuning
from singlepath.runs import load_checkpoint

SPACE = "mobile-small(width=0.5, input_size=16)"
ASKED = (
    "tune", "--space", SPACE, "--budget", "1MMACs", "--data", "digits", "--limit", 120, "--epochs", 8, "--compare",
)  # fmt: skip
KEPT = ("result.json", "summary.json", "tuning.json", "architecture.json", "metrics.jsonl", "trials/ledger.json")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials, and a front."""
    folder = tmp_path_factory.mktemp("ended") / "run"
    printed(*ASKED, "--trials", 2, "--out", folder)
    printed("front", folder, "--budgets", "0.9MMACs")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials from the start."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    printed(*ASKED, "--trials", 3, "--out", folder)
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


def test_they_are_those_of_a_tuning_of_so_many_from_the_start(ended: Path, whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ended, tmp_path / "run")
    more = printed("tune", "--resume", folder, "--trials", 3)
    assert said(folder) == said(whole) and same_weights(folder, whole)
    for name in ("result.json", "summary.json"):
        assert (folder / "before-1" / name).read_bytes() == (ended / name).read_bytes(), "nothing is lost"
    assert json.loads((folder / "before-1" / "result.json").read_text())["front"]
    assert printed("tune", "--resume", folder) == more == printed("tune", "--resume", folder, "--trials", 3)
    assert not (folder / "before-2").exists()


@pytest.mark.parametrize("moment", ["config.yaml is written", "tuning.json is written", "half is put aside"])
def test_killed_on_its_way_it_is_gone_on_with(
    ended: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
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
    assert said(folder) == said(whole) and same_weights(folder, whole)


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
