"""A search that is killed goes on as if nothing had happened; Ctrl-C leaves a run that can be resumed."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from benchmarks.resume import differences, resume, search, stop_after

from singlepath.runs import load_checkpoint, write_json

Unbroken = tuple[Path, float]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    folder = tmp_path_factory.mktemp("resume") / "unbroken"
    return folder, search(folder)


def stopped(unbroken: Unbroken, folder: Path, share: float, sent: int) -> tuple[int, str]:
    """Stop a search at a share of the time an unbroken one takes; sooner where this one was done by then."""
    for attempt in range(4):
        run = folder / f"run-{attempt}"
        killed = stop_after(unbroken[1] * share / 2**attempt, run, sent)
        if killed.status != 0:
            run.rename(folder / "run")
            return killed.status, killed.stderr
    raise AssertionError("no search was caught while it ran")


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(3))
def test_a_killed_search_resumes_to_the_unbroken_result_bit_for_bit(
    unbroken: Unbroken, tmp_path: Path, moment: int
) -> None:
    share = 0.1 + 0.7 * random.random()  # of all moments, not of chosen ones
    status, _ = stopped(unbroken, tmp_path, share, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert not (tmp_path / "run" / "result.json").exists(), "it was in the middle"
    resume(tmp_path / "run")
    assert differences(unbroken[0], tmp_path / "run") == [], share


@pytest.mark.slow
def test_ctrl_c_ends_with_130_one_line_and_a_run_to_go_on_with(unbroken: Unbroken, tmp_path: Path) -> None:
    status, stderr = stopped(unbroken, tmp_path, 0.6, signal.SIGINT)
    assert status == 130
    assert stderr.strip().splitlines()[-1] == "singlepath: interrupted; go on with --resume RUN"
    assert "Traceback" not in stderr
    resume(tmp_path / "run")
    assert differences(unbroken[0], tmp_path / "run") == []


def test_resuming_a_finished_search_changes_nothing(unbroken: Unbroken) -> None:
    names = ("architecture.json", "metrics.jsonl", "result.json")
    before = [(unbroken[0] / n).read_bytes() for n in names]
    resume(unbroken[0])
    assert [(unbroken[0] / n).read_bytes() for n in names] == before


def test_differences_are_seen(unbroken: Unbroken, tmp_path: Path) -> None:
    """What the tests above rest on: a changed weight, row or choice counts as a difference."""

    other = shutil.copytree(unbroken[0], tmp_path / "other")
    assert differences(unbroken[0], other) == []
    saved = load_checkpoint(other, "supernet")
    assert saved is not None
    weight = saved["supernet"]["conv_stem.weight"]
    weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(9.0))
    torch.save({"state": saved, "step": 0, "metrics_bytes": 0}, other / "checkpoints" / "supernet-000000000.pt")
    (other / "metrics.jsonl").write_text("{}\n")
    write_json(other / "architecture.json", {})
    assert differences(unbroken[0], other) == [
        "architecture.json",
        "metrics.jsonl",
        "supernet.supernet.conv_stem.weight",
    ]
