"""The run folder: everything about one search or training. Everything that runs long stands on it.

    config.yaml      options, seed, versions, commit, hardware: enough to repeat the run
    data.json        the images' name, fingerprint and classes
    metrics.jsonl    values only, so that two runs can be compared byte by byte
    timing.jsonl     wall-clock
    checkpoints/     the last two, each with the byte length of metrics.jsonl at that moment
    result.json ...  what came out

Files are written to a temporary name, flushed and renamed: a file that exists is whole. The folder is locked while in
use.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
import yaml

from singlepath.environment import environment
from singlepath.errors import UserError, user_error

__all__ = [
    "Run",
    "load_checkpoint",
    "read_config",
    "read_json",
    "write_atomic",
    "write_json",
]

# what must agree with the folder's configuration before a run goes on; the second group may change if the user says so
FIXED_ENVIRONMENT = ("threads", "compute")
# what a checkpoint raises that is torn, filled with zeros, or holds anything but plain values and tensors
TORN = (RuntimeError, EOFError, KeyError, TypeError, OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError)
WRITTEN = {"options", "versions", "hardware"}  # in config.yaml
OWN_FILES = {".lock", "config.yaml", "data.json", "table.json", "timing.jsonl"}


def write_atomic(path: Path, data: bytes | str) -> Path:
    """Write a file so that it is either the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _whole(path, path.with_name(f".{path.name}.{os.getpid()}.tmp")) as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return path


@contextmanager
def _whole(path: Path, temporary: Path) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` once all is on disk; where that fails nothing is left of it."""
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> Path:
    return write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError where the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise user_error(
            f"{path} does not exist", "a run folder holds it once its step has finished", "check the path of the run"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise user_error(
            f"{path} is not JSON ({error})", "allowed: the file as it was written", "run it again"
        ) from None


def _check_text(path: Path, fix: str) -> None:
    """Raise `UserError` for a folder whose name, which goes into files and pages, is no text."""
    whole = os.path.realpath(path)
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise user_error(f"the folder {whole!r} has no text for a name", "allowed: UTF-8", fix) from None


def begun_by(options: Mapping[str, Any]) -> str:
    """The command whose options these are."""
    marks = {"methods": "bench", "trials": "tune", "random": "design"}
    return next((command for mark, command in marks.items() if mark in options), "search")


class Run:
    """An open, locked run folder.

    Example::

        with Run.open(Path("runs/a"), {"seed": 0, "data": "digits"}) as run:
            run.log({"epoch": 0, "loss": 1.2})
    """

    def __init__(self, path: Path, lock: Any, note: Callable[[str], None]) -> None:
        self.path, self._lock, self.note = path, lock, note
        self._fresh = False
        self.allow_changed = False
        self.moved: dict[str, Any] = {}

    @classmethod
    def open(
        cls, path: Path, options: Mapping[str, Any], *, resume: bool = False, allow_changed: bool = False,
        note: Callable[[str], None] = lambda text: print(text, file=sys.stderr), flag: str = "--out",
        movable: Sequence[str] = (),
    ) -> Run:  # fmt: skip
        """Create a run folder, or go on with one.

        Args:
            movable: options that may have another value now (where the images lie); the caller sees that it may have
                this one, and then calls `keep_moved`.

        Raises:
            UserError: the folder exists (and `resume` is off), is locked by another process, or was made with other
            options.
        """
        path = Path(path)
        with _refused(path, flag):
            _check_text(path, f"type {flag} another/folder" if not resume else "rename it")
            if path.exists() and not path.is_dir():
                raise user_error(
                    f"{path} is a file", "allowed: a folder that does not exist yet", f"type {flag} another/folder"
                )
            known = (path / "config.yaml").is_file()
            if path.is_dir() and any(not p.name.startswith(".") for p in path.iterdir()) and not resume:
                again = "type --resume to go on with it, or another folder" if known else f"type {flag} another/folder"
                raise user_error(f"the output folder {path} exists and is not empty", "allowed: a new folder", again)
            if resume and not known:
                raise user_error(
                    f"{path} holds no run to resume", "allowed: a folder with config.yaml", "leave --resume out"
                )
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, cls._acquire(path), note)
        run._fresh, run.allow_changed = not known, allow_changed
        try:
            run._configure({k: _plain(v) for k, v in options.items()}, known, allow_changed, flag, movable)
        except BaseException:
            run.close()
            raise
        return run

    @staticmethod
    def _acquire(path: Path) -> Any:
        file = open(path / ".lock", "a+")  # noqa: SIM115 - held until close()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise user_error(
                f"the run folder {path} is in use by {holder}", "one process at a time may write to it",
                "wait for it, or type --out another/folder",
            ) from None  # fmt: skip
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        return file

    def _configure(
        self, options: dict[str, Any], known: bool, allow_changed: bool, flag: str, movable: Sequence[str]
    ) -> None:
        if not known:
            write_atomic(
                self.path / "config.yaml", yaml.safe_dump({"options": options, **environment()}, sort_keys=False)
            )
            return
        config = self.config
        before = config["options"]
        changed = {}
        for key in dict.fromkeys([*before, *options]):
            if before.get(key) == options.get(key):
                continue
            if key in movable:
                self.moved[key] = options.get(key)
                continue
            if key in FIXED_ENVIRONMENT:
                if allow_changed:
                    self.note(
                        f"{key} changes from {before.get(key)} to {options.get(key)}: "
                        "results will differ in the last digits"
                    )
                    changed[key] = options.get(key)
                    continue
                raise user_error(
                    f"{key} is {options.get(key)!r} but the run in {self.path} was made with {before.get(key)!r}",
                    "another value changes the results' last digits", "type --allow-changed, or the old value",
                )  # fmt: skip
            raise other_option(self.path, key, options.get(key), before.get(key), flag)
        if changed:
            config["options"] = before | changed
            write_atomic(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False))

    @property
    def config(self) -> dict[str, Any]:
        return read_config(self.path)

    @property
    def options(self) -> dict[str, Any]:
        """What this run is made with."""
        return self.config["options"] | self.moved

    def keep_moved(self) -> None:
        """The moved options are those of the run from now on."""
        if self.moved:
            written = self.config | {"options": self.options}
            write_atomic(self.path / "config.yaml", yaml.safe_dump(written, sort_keys=False))

    def close(self) -> None:
        if self._lock:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._fresh and kind is not None and issubclass(kind, UserError):
            self._forget()
        self.close()

    def _forget(self) -> None:
        """A command that was refused before it began leaves no folder, so that it can be typed again, mended."""
        if {p.name for p in self.path.iterdir()} <= OWN_FILES:
            for name in OWN_FILES:
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()

    # -- metrics ------------------------------------------------------------------------------------------------------

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line of values to metrics.jsonl."""
        self._append("metrics.jsonl", row)

    def time(self, row: Mapping[str, Any]) -> None:
        """Append one line to timing.jsonl."""
        self._append("timing.jsonl", row)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with open(self.path / name, "a") as file:
            file.write(json.dumps(row) + "\n")

    def metrics(self) -> Iterator[dict[str, Any]]:
        path = self.path / "metrics.jsonl"
        if path.is_file():
            for line in path.read_text().splitlines():
                yield json.loads(line)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, state: Mapping[str, Any], step: int, tag: str) -> None:
        """Keep a checkpoint of plain values and tensors; the one before the last is removed."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        metrics = self.path / "metrics.jsonl"
        length = metrics.stat().st_size if metrics.is_file() else 0
        target = folder / f"{tag}-{step:09d}.pt"
        with _whole(target, target.with_name(f".{target.name}.tmp")) as file:
            torch.save({"state": dict(state), "step": step, "metrics_bytes": length}, file)
        for old in self._checkpoints(tag)[:-2]:
            old.unlink()

    def _checkpoints(self, tag: str) -> list[Path]:
        return sorted((self.path / "checkpoints").glob(f"{tag}-*.pt"))

    def load(self, tag: str, map_location: str = "cpu") -> dict[str, Any] | None:
        """The newest whole checkpoint's state, None where there is none; metrics.jsonl is cut to that moment.

        A torn file is passed over, with a word about it. Nothing in a checkpoint can run code (weights_only).
        """
        for path in reversed(self._checkpoints(tag)):
            try:
                saved = torch.load(path, map_location=map_location, weights_only=True)
                state, length = saved["state"], int(saved["metrics_bytes"])
            except TORN as error:
                self.note(f"checkpoint {path.name} is torn ({type(error).__name__}); going back to the one before")
                continue
            metrics = self.path / "metrics.jsonl"
            if metrics.is_file() and metrics.stat().st_size > length:
                os.truncate(metrics, length)
            return state
        metrics = self.path / "metrics.jsonl"
        if metrics.is_file():
            os.truncate(metrics, self._length_before(tag))
        return None

    def _length_before(self, tag: str) -> int:
        """Bytes of metrics.jsonl that belong to finished steps: up to the first row of this tag."""
        length = 0
        for line in (self.path / "metrics.jsonl").read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if row.get("tag", row.get("phase")) == tag:
                break
            length += len(line)
        return length

    def read(self, name: str) -> Any:
        return read_json(self.path / name)

    def write(self, name: str, value: Any) -> Path:
        """Write a JSON file of the folder."""
        return write_json(self.path / name, value)

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()


def other_option(path: Path, key: str, value: Any, before: Any, flag: str = "--out") -> UserError:
    """What a run says that is to go on with another value of an option."""
    name = f"--{key.replace('_', '-')}"
    return user_error(
        f"{key} is {value!r} but the run in {path} was made with {before!r}", "a resumed run keeps its options",
        f"leave {name} out" if before is None else f"type {name} {before}, or {flag} another/folder",
    )  # fmt: skip


def load_checkpoint(run: Path, tag: str) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run that is only read: no lock, nothing is cut."""
    for path in sorted((run / "checkpoints").glob(f"{tag}-*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)["state"]
        except TORN:
            continue
    return None


def read_config(run: Path) -> dict[str, Any]:
    """A run folder's config.yaml.

    Raises:
        UserError: it is not what was written there.
    """
    try:
        found = yaml.safe_load((run / "config.yaml").read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("options"), dict) or not found.keys() >= WRITTEN:
        raise user_error(
            f"{run / 'config.yaml'} is damaged", f"needed: {', '.join(sorted(WRITTEN))}, as the run wrote them",
            "start again in another folder",
        )  # fmt: skip
    return found


@contextmanager
def _refused(path: Path, flag: str) -> Iterator[None]:
    """What the system refuses is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise user_error(
            f"{str(path)[:200]} cannot be a run folder ({error.strerror})", "needed: a folder that can be written",
            f"type {flag} another/folder",
        ) from None  # fmt: skip


def _plain(value: Any) -> Any:
    """What YAML and JSON can hold of an option."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float | int | str | bool) or value is None:
        return value
    raise UserError(f"option of type {type(value).__name__} cannot be kept in config.yaml")
