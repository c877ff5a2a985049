"""A search that is killed goes on as if nothing had happened; Ctrl-C leaves a run that can be resumed."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from benchmarks.resume import STEPS, differences, newest, resume, search, stop_after

from singlepath.runs import load_checkpoint, write_json


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "unbroken"
    search(folder)
    return folder


@pytest.mark.slow
def test_a_killed_search_resumes_to_the_unbroken_result_bit_for_bit(unbroken: Path, tmp_path: Path) -> None:
    step, wait = random.randrange(1, STEPS * 2 // 3), 0.2 * random.random()  # any moment, not chosen ones
    killed = stop_after(wait, tmp_path / "run", step=step)
    assert killed.status == -signal.SIGKILL and killed.step >= step
    resume(tmp_path / "run")
    assert differences(unbroken, tmp_path / "run") == [], (step, wait, killed.step)


@pytest.mark.slow
def test_ctrl_c_ends_with_130_one_line_and_a_run_to_go_on_with(unbroken: Path, tmp_path: Path) -> None:
    killed = stop_after(0.0, tmp_path / "run", signal.SIGINT, step=1)
    assert killed.status == 130, killed.stderr
    assert killed.stderr.strip().splitlines()[-1] == "singlepath: interrupted; go on with --resume RUN"
    assert "Traceback" not in killed.stderr
    resume(tmp_path / "run")
    assert differences(unbroken, tmp_path / "run") == []


def test_resuming_a_finished_search_changes_nothing(unbroken: Path) -> None:
    assert newest(unbroken) == STEPS
    names = ("architecture.json", "metrics.jsonl", "result.json")
    before = [(unbroken / n).read_bytes() for n in names]
    resume(unbroken)
    assert [(unbroken / n).read_bytes() for n in names] == before


def test_differences_are_seen(unbroken: Path, tmp_path: Path) -> None:
    """What the tests above rest on: a changed weight, row or choice counts as a difference."""
    other = shutil.copytree(unbroken, tmp_path / "other")
    assert differences(unbroken, other) == []
    saved = load_checkpoint(other, "supernet")
    assert saved is not None
    weight = saved["supernet"]["conv_stem.weight"]
    weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    torch.save({"state": saved, "step": 0, "metrics_bytes": 0}, other / "checkpoints" / "supernet-000000000.pt")
    (other / "metrics.jsonl").write_text("{}\n")
    write_json(other / "architecture.json", {})
    assert differences(unbroken, other) == [
        "architecture.json",
        "metrics.jsonl",
        "supernet.supernet.conv_stem.weight",
    ]
