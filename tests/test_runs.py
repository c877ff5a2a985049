"""The run folder: whole files, one process at a time, the same options on resume, torn checkpoints passed over."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from singlepath import environment
from singlepath.errors import UserError
from singlepath.runs import Run, load_checkpoint, read_json, write_atomic, write_json

OPTIONS = {"data": "digits", "seed": 0, "threads": 1, "width": None}


def opened(path: Path, options: dict[str, Any] | None = None, **how: Any) -> Run:
    return Run.open(path, OPTIONS if options is None else options, **how)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = write_json(tmp_path / "a.json", {"old": 1})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="disk full"):
            write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    write_json(path, {"new": 2})
    assert read_json(path) == {"new": 2}


def test_a_file_appears_only_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "deep" / "a.txt", []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(path.exists()), flush(fd)))
    write_atomic(path, b"abc")
    assert seen == [False] and path.read_bytes() == b"abc"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_numbers_json_cannot_hold_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, [float("nan")])
    assert read_json(path) == [1]


@pytest.mark.parametrize("text", ["{", "\x00", ""])
def test_a_file_that_is_not_json_is_a_users_error_of_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError) as error:
        read_json(tmp_path / "a.json")
    assert "a.json is not JSON" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "b.json")


# -- the folder and its configuration ---------------------------------------------------------------------------------


def test_a_new_run_keeps_options_versions_and_hardware(tmp_path: Path) -> None:
    with opened(tmp_path / "a", OPTIONS | {"out": tmp_path, "kernels": (3, 5)}) as run:
        config = run.config
    assert config["options"] == OPTIONS | {"out": str(tmp_path), "kernels": [3, 5]}
    assert config["versions"]["torch"] == torch.__version__ and config["versions"]["singlepath"]
    assert config["hardware"]["cores"] == os.cpu_count()
    with pytest.raises(UserError, match="cannot be kept"):
        opened(tmp_path / "b", {"x": object()})


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"exists and is not empty; .*type --out another"):
        opened(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    opened(tmp_path / "empty").close()
    with pytest.raises(UserError, match=r"exists and is not empty; .*type --resume"):
        opened(tmp_path / "empty")
    with pytest.raises(UserError, match=r"is a file; .*type --name another"):
        opened(tmp_path / "notes.txt", flag="--name")
    for impossible in (tmp_path / "notes.txt" / "run", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match=r"cannot be a run folder \(.*\); .*type --out another"):
            opened(impossible)
    with pytest.raises(UserError, match="holds no run to resume"):
        opened(tmp_path / "nowhere", resume=True)


def test_a_name_that_is_no_text_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"r\xff")
    with pytest.raises(UserError, match=r"no text for a name.*UTF-8"):
        Run.open(folder, {})
    assert not folder.exists()
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"udcff.*no text"):
        Run.open(Path("run"), {})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError):
        Run.open(tmp_path / "loop" / "run", {})


def test_a_command_refused_before_it_began_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError), opened(tmp_path / "a"):
        raise UserError("the budget is too small")
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError), opened(tmp_path / "b") as run:
        run.log({"loss": 1.0})
        raise UserError("later")
    assert (tmp_path / "b" / "metrics.jsonl").is_file()
    with pytest.raises(UserError), opened(tmp_path / "b", resume=True):
        raise UserError("again")
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "c"):
        raise KeyboardInterrupt
    assert (tmp_path / "c" / "config.yaml").is_file()


def test_a_folder_killed_before_its_configuration_was_written_can_be_used(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1")
    (tmp_path / ".config.yaml.1.tmp").write_text("opti")
    with opened(tmp_path) as run:
        assert run.config["options"] == OPTIONS


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("data", "photos", "type --data digits"), ("seed", 1, "type --seed 0"), ("width", 0.5, "leave --width out")],
)
def test_resume_with_another_option_is_refused_naming_it(tmp_path: Path, key: str, value: Any, says: str) -> None:
    opened(tmp_path / "a").close()
    with pytest.raises(UserError) as error:
        opened(tmp_path / "a", OPTIONS | {key: value}, resume=True, allow_changed=True)
    assert f"{key} is {value!r} but the run in {tmp_path / 'a'}" in str(error.value) and says in str(error.value)
    opened(tmp_path / "a", resume=True).close()


def test_resume_with_other_threads_is_refused_unless_allowed(tmp_path: Path) -> None:
    opened(tmp_path / "a").close()
    with pytest.raises(UserError, match=r"threads is 2 .* made with 1.*--allow-changed"):
        opened(tmp_path / "a", OPTIONS | {"threads": 2}, resume=True)
    notes: list[str] = []
    with opened(
        tmp_path / "a", OPTIONS | {"threads": 2}, resume=True, allow_changed=True, note=notes.append
    ) as run:  # fmt: skip
        assert run.config["options"] == OPTIONS | {"threads": 2}, "the run goes on with what was allowed"
    assert len(notes) == 1 and "threads changes from 1 to 2" in notes[0]


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    run = opened(tmp_path / "a")
    try:
        code = (
            "import sys\nfrom pathlib import Path\nfrom singlepath.runs import Run\n"
            f"Run.open(Path(sys.argv[1]), {OPTIONS!r}, resume=True)"
        )
        second = subprocess.run([sys.executable, "-c", code, run.path], capture_output=True, text=True)
        last = second.stderr.strip().splitlines()[-1]
        assert second.returncode == 1 and "UserError" in last
        assert f"in use by process {os.getpid()} since 20" in last and "wait for it" in last
    finally:
        run.close()
    opened(tmp_path / "a", resume=True).close()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom singlepath.runs import Run\n"
        f"run = Run.open(Path(sys.argv[1]), {OPTIONS!r})\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "a"]).returncode == -9
    opened(tmp_path / "a", resume=True).close()


# -- metrics and checkpoints ------------------------------------------------------------------------------------------


def checkpoints(run: Run) -> list[str]:
    return sorted(p.name for p in (run.path / "checkpoints").iterdir())


@pytest.fixture
def run(tmp_path: Path):
    """Three checkpoints were kept, a row of metrics before each, and one row after the last."""
    with opened(tmp_path / "run") as run:
        for step in (1, 2, 3):
            run.log({"phase": "a", "step": step})
            run.save({"step": step, "weights": torch.full((50,), float(step)), "inner": {"list": [1, "b"]}}, step, "a")
        run.log({"phase": "a", "step": 4})
        yield run


def test_the_last_two_checkpoints_are_kept_and_metrics_are_cut_to_the_newest(run: Run) -> None:
    run.save({"other": 1}, 1, "b")
    assert checkpoints(run) == ["a-000000002.pt", "a-000000003.pt", "b-000000001.pt"]
    state = run.load("a")
    assert state is not None and state["step"] == 3 and state["inner"] == {"list": [1, "b"]}
    assert torch.equal(state["weights"], torch.full((50,), 3.0))
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.load("nothing") is None


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize("tear", [zeros, half, empty, other])
def test_a_torn_checkpoint_falls_back_to_the_one_before_and_says_so(run: Run, tear: Callable[[Path], None]) -> None:
    notes: list[str] = []
    run.note = notes.append
    tear(run.path / "checkpoints" / "a-000000003.pt")
    state = run.load("a")
    assert state is not None and state["step"] == 2
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert len(notes) == 1 and "a-000000003.pt is torn" in notes[0] and "the one before" in notes[0]
    other_state = load_checkpoint(run.path, "a")
    assert other_state is not None and other_state["step"] == 2


def test_where_every_checkpoint_is_torn_the_work_begins_anew_without_its_old_metrics(run: Run) -> None:
    run.note = lambda text: None
    for path in (run.path / "checkpoints").iterdir():
        half(path)
    assert run.load("a") is None
    assert list(run.metrics()) == []
    assert load_checkpoint(run.path, "a") is None


def test_without_a_checkpoint_only_rows_of_this_phase_are_cut(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        run.log({"phase": "search", "step": 1})
        run.log({"phase": "train", "step": 1})
        with open(run.path / "metrics.jsonl", "a") as file:
            file.write('{"phase": "train", "st')
        assert run.load("train") is None
        assert (run.path / "metrics.jsonl").read_text() == '{"phase": "search", "step": 1}\n'


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            run.save({"step": 4}, 4, "a")
    state = run.load("a")
    assert state is not None and state["step"] == 3
    run.save({"step": 5}, 5, "a")
    assert [n for n in checkpoints(run) if n.endswith(".pt") and not n.startswith(".")] == [
        "a-000000003.pt",
        "a-000000005.pt",
    ]


class Harmful:
    """What a checkpoint from the web may hold: loading it the usual way creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_loading_never_runs_code(run: Run, tmp_path: Path, form: str) -> None:
    run.note = lambda text: None
    target, path = tmp_path / "ran", run.path / "checkpoints" / "a-000000009.pt"
    content = {"state": Harmful(target), "step": 9, "metrics_bytes": 0}
    if form == "torch":
        torch.save(content, path)
        torch.load(path, weights_only=False)
    else:
        path.write_bytes(pickle.dumps(content))
        pickle.loads(path.read_bytes())
    assert target.exists(), "the file would do harm"
    target.unlink()
    state = run.load("a")
    assert state is not None and state["step"] == 3
    assert load_checkpoint(run.path, "a") is not None
    assert not target.exists()


def test_a_configuration_runs_no_code(tmp_path: Path) -> None:
    opened(tmp_path / "a").close()
    config = tmp_path / "a" / "config.yaml"
    config.write_text(f"options: !!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']\n")
    with pytest.raises((yaml.YAMLError, UserError)):
        opened(tmp_path / "a", resume=True)
    assert not (tmp_path / "ran").exists()


def test_the_commit_is_none_where_git_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment.commit() is None
    assert set(environment.environment()) == {"versions", "commit", "hardware"}
