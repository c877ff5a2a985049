"""Resuming: searches killed with SIGKILL at random moments and resumed, against the unbroken one, to the bit.

The promise: `singlepath search --resume RUN` after ``kill -9`` at any moment gives the same architecture.json, metrics,
result and weights (supernet, optimiser, gates) as the run nobody disturbed, on the CPU with the same number of threads.

    python benchmarks/resume.py --json
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from singlepath.runs import load_checkpoint, read_json

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import at_least, at_most, finish, parser, table

__all__ = ["STEPS", "Killed", "differences", "resume", "search", "start", "stop_after"]

MOMENTS, QUICK_MOMENTS = 20, 4
ASKED = [
    "--data", "digits", "--limit", "200", "--space", "mobile-small(width=0.5, input_size=16)", "--budget", "0.9MMACs",
    "--epochs", "10", "--quick",
]  # fmt: skip
STEPS = 50  # of this search
CHECKPOINT_SECONDS = "0.1"  # between checkpoints, so that a short search has some


class Killed(NamedTuple):
    """How a process ended: its status, how many steps its newest checkpoint has (-1 for none), what it said."""

    status: int
    step: int
    stderr: str


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SINGLEPATH_CHECKPOINT_SECONDS": CHECKPOINT_SECONDS}
    command = [sys.executable, "-m", "singlepath", "search", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=interruptible,
    )  # fmt: skip


def interruptible() -> None:
    """A shell starts what it runs in the background with Ctrl-C ignored, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def search(folder: Path) -> float:
    """The unbroken search; seconds from the first file of its run folder to its end."""
    process = start(*ASKED, "--out", folder)
    begun = waited_for(folder, process)
    _, stderr = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the search failed: {stderr}")
    return time.monotonic() - begun


def resume(folder: Path) -> None:
    process = start("--resume", folder)
    _, stderr = process.communicate()
    if process.returncode:
        raise RuntimeError(f"resuming failed: {stderr}")


def waited_for(folder: Path, process: subprocess.Popen[str]) -> float:
    """The moment at which the run folder has its configuration: before it there is nothing to resume."""
    while not (folder / "config.yaml").is_file() and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def stop_after(seconds: float, folder: Path, sent: int = signal.SIGKILL, step: int = -1) -> Killed:
    """Start a search and stop it so many seconds after its run folder appeared and a checkpoint of `step` is there."""
    process = start(*ASKED, "--out", folder)
    waited_for(folder, process)
    while newest(folder) < step and process.poll() is None:
        time.sleep(0.002)
    time.sleep(seconds)
    process.send_signal(sent)
    _, stderr = process.communicate()
    return Killed(process.returncode, newest(folder), stderr)


def newest(folder: Path) -> int:
    """The step of the newest checkpoint, -1 where there is none."""
    return max((int(p.stem.rpartition("-")[2]) for p in (folder / "checkpoints").glob("search-*.pt")), default=-1)


def differences(a: Path, b: Path) -> list[str]:
    """Everything in which two finished searches differ."""
    found = [n for n in ("architecture.json", "metrics.jsonl") if (a / n).read_bytes() != (b / n).read_bytes()]
    found += ["result.json"] if _result(a) != _result(b) else []
    for tag in ("search", "supernet"):
        mine, other = (load_checkpoint(x, tag) for x in (a, b))
        found += [f"{tag}: missing"] if mine is None or other is None else _unequal(mine, other, tag)
    return found


def _result(folder: Path) -> Any:
    """result.json without the checkout's commit, which may move on while searches run."""
    result = read_json(folder / "result.json")
    result["versions"].pop("commit")
    return result


def _unequal(a: Any, b: Any, where: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [name for k in a for name in _unequal(a[k], b[k], f"{where}.{k}")]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [where]
    return [] if type(a) is type(b) and a == b else [where]


def main() -> int:
    args = parser(__doc__).parse_args()
    draws = random.Random(args.seed)
    wanted = QUICK_MOMENTS if args.quick else MOMENTS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lasting = search(folder / "unbroken")
        rows: list[list[Any]] = []
        differing = tries = 0
        while len(rows) < wanted and tries < 3 * wanted:
            tries += 1
            moment = draws.random() * lasting
            run = folder / f"killed-{tries}"
            killed = stop_after(moment, run)
            if killed.status != -signal.SIGKILL:
                continue  # it was done before the signal came
            resume(run)
            unequal = differences(folder / "unbroken", run)
            differing += bool(unequal)
            rows.append([len(rows) + 1, moment, killed.step, ", ".join(unequal[:3]) or "equal"])
            print(f"{len(rows)}/{wanted}: killed after {moment:.2f} s, {rows[-1][-1]}", file=sys.stderr)
    print(table(["kill", "after s", "checkpoint's step", "result"], rows))
    steps = sorted({row[2] for row in rows})
    checks = [
        at_most("resumed runs that differ from the unbroken one", differing, 0),
        at_least("random moments of kill -9", len(rows), wanted),
    ]
    return finish(args, checks, moments=[row[1] for row in rows], steps=steps, unbroken_seconds=lasting)


if __name__ == "__main__":
    sys.exit(main())
