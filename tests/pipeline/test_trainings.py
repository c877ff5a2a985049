"""Trainings in processes of their own: the same results, from any script, and none outlives what started it."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.helpers import digits, spec

from singlepath.errors import SinglepathError, UserError
from singlepath.pipeline import trainings
from singlepath.pipeline.trainings import Job, recipe_for, train_all, train_one

LONG = 5000  # epochs that no test waits for


def jobs(folder: Path, epochs: int = 2, count: int = 2) -> list[Job]:
    recipe = recipe_for("base", digits(), epochs, None, False)
    return [Job(f"n{i}", folder / f"n{i}", spec(), recipe, i, "digits", 200, 0, 1) for i in range(count)]


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "parallel", lambda jobs, threads: 2)
    monkeypatch.setattr(trainings, "SHORT", 0)


def locked(job: Job) -> bool:
    file = job.folder / ".lock"
    if not file.is_file():
        return False
    with open(file) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


SCRIPT = """
import json, sys
from singlepath.pipeline import trainings
from tests.training.helpers import digits

print("imported")
trainings.parallel, trainings.SHORT = lambda jobs, threads: 2, 0
done = trainings.train_all([trainings.Job.from_dict(job) for job in json.loads(sys.argv[1])], digits())
print(*done)
"""


def script(folder: Path, made: list[Job]) -> subprocess.Popen[str]:
    """A user's script without a guard for `__main__`."""
    file = folder / "script.py"
    file.write_text(SCRIPT)
    described = json.dumps([json.loads(job.to_json()) for job in made])
    root = Path(__file__).parents[2]
    boot = f"import sys, runpy; sys.path.append({str(root)!r}); runpy.run_path({str(file)!r}, run_name='__main__')"
    return subprocess.Popen(
        [sys.executable, "-c", boot, described], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_job_is_its_json(tmp_path: Path) -> None:
    for job in (jobs(tmp_path)[0], replace(jobs(tmp_path)[1], start=tmp_path / "w", workers=2, allow_changed=True)):
        assert Job.from_dict(json.loads(job.to_json())) == job


def test_an_unguarded_script_trains_several_to_the_weights_of_one_process(tmp_path: Path) -> None:
    made = jobs(tmp_path / "apart")
    process = script(tmp_path, made)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines() == ["imported", "n0 n1"]
    for apart, own in zip(made, jobs(tmp_path / "own"), strict=True):
        here = train_one(own, digits()).state_dict()
        assert apart.weights.read_bytes() == own.weights.read_bytes() and here
        assert (apart.folder / "metrics.jsonl").read_bytes() == (own.folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(("epochs", "apart"), [(1, False), (20, True)])
def test_short_trainings_stay_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, apart: bool
) -> None:
    """Two of 200 images of 32 px: 0.4 million pixels an epoch."""
    begun: list[Job] = []
    monkeypatch.setattr(trainings, "parallel", lambda jobs, threads: 2)
    monkeypatch.setattr(trainings, "_train_apart", lambda jobs, at_once: begun.extend(jobs))
    monkeypatch.setattr(trainings, "train_one", lambda job, data: None)
    made = [replace(j, spec=replace(j.spec, input_size=32)) for j in jobs(tmp_path, epochs)]
    train_all(made, digits())
    assert begun == (made if apart else [])


def test_after_kill_9_no_folder_stays_locked(tmp_path: Path) -> None:
    made = jobs(tmp_path, LONG)
    process = script(tmp_path, made)
    try:
        until(lambda: all(locked(job) for job in made))
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    until(lambda: not any(locked(job) for job in made), 1.0)


def test_a_failing_training_is_one_line_and_ends_the_others(tmp_path: Path, two_at_once: None) -> None:
    long, wrong = jobs(tmp_path, LONG)
    with pytest.raises(UserError, match=r"^training n1: no data at 'nowhere'.*; allowed: ") as caught:
        train_all([long, replace(wrong, source="nowhere")], digits())
    assert "\n" not in str(caught.value)
    assert not locked(long) and not long.weights.exists()


def test_a_process_that_is_killed_is_said_so(
    tmp_path: Path, two_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "WORKER", (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(SinglepathError, match=r"^training n.: its process ended with status -9$"):
        train_all(jobs(tmp_path), digits())


def test_ctrl_c_ends_the_processes_and_is_raised_again(
    tmp_path: Path, two_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, told = jobs(tmp_path, LONG), list[tuple[int, int]]()

    @contextmanager
    def impatient(title: str) -> Iterator[Callable[..., None]]:
        def report(tag: str, done: int, total: int, values: Mapping[str, float]) -> None:
            told.append((done, total))
            if done:
                raise KeyboardInterrupt

        yield report

    monkeypatch.setattr(trainings, "progress", impatient)
    with pytest.raises(KeyboardInterrupt):
        train_all(made, digits())
    assert not any(locked(job) for job in made)
    assert told[0] == (0, 2 * LONG) and told[-1][0] > 0, "epochs done are counted while they are trained"


def test_what_is_done_is_read_back_on_any_machine_but_only_as_it_was_asked(tmp_path: Path) -> None:
    job = jobs(tmp_path, 1)[0]
    first = train_one(job, digits()).state_dict()
    before = (job.folder / "config.yaml").read_bytes()
    again = train_one(replace(job, threads=7), digits()).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert (job.folder / "config.yaml").read_bytes() == before
    with pytest.raises(UserError, match=r"epochs is 3 but the run in .* was made with 1"):
        train_one(replace(job, recipe=replace(job.recipe, epochs=3)), digits())


def test_workers_and_changed_threads_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    class Stopped(Exception):
        pass

    def stop(*_: Any, **options: Any) -> None:
        given.append(options)
        raise Stopped

    monkeypatch.setattr(trainings, "train_network", stop)
    monkeypatch.setattr(trainings, "set_threads", lambda threads: threads)
    job = replace(jobs(tmp_path)[0], workers=3)
    with pytest.raises(Stopped):
        train_one(job, digits())
    assert given[0]["workers"] == 3
    with pytest.raises(UserError, match=r"threads is 2 but .* type --allow-changed"):
        train_one(replace(job, threads=2), digits())
    with pytest.raises(Stopped):
        train_one(replace(job, threads=2, allow_changed=True), digits())
