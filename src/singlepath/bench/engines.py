"""Where trials run: in processes of this machine, or as Ray tasks on many. Results do not depend on it.

An engine takes chunks of trials and gives back what each trial ended with, in any order. A trial whose process was lost
is run again, at most `RETRIES` times in a row; a trial that fails by itself ends the comparison, and what has been
recorded stays.

`local` keeps `workers` processes (``python -P -m singlepath.bench.worker``), each with one thread, that take one chunk
after the other as JSON. `ray` starts Ray here, or joins it at an address; singlepath and the data have to be there, at
the same paths. A chunk is a Ray task that takes `cpus` and `gpus` of a machine, fractions allowed.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from singlepath.bench import ray_cluster
from singlepath.bench.records import Record, Trial
from singlepath.errors import SinglepathError, UserError, optional, unknown, user_error

__all__ = ["ENGINES", "Chunk", "Done", "Engine", "Say", "make_engine", "run_chunk"]

RETRIES = 3
WORKER = (sys.executable, "-P", "-m", "singlepath.bench.worker")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
Say = Callable[[str], None]


class Done(NamedTuple):
    """A trial that ended: its record, wall-clock and CPU seconds, and the process that ran it."""

    record: Record
    seconds: float
    cpu_seconds: float
    process: int


@dataclass(frozen=True)
class Chunk:
    """Trials that one process runs one after the other.

    Attributes:
        run: "module:function", called as function(setting, trial).
        setting: plain values for it.
    """

    run: str
    setting: Mapping[str, Any]
    trials: tuple[Trial, ...]


Engine = Callable[[Sequence[Chunk]], Iterator[Done]]
CHUNK, DONE = TypeAdapter(Chunk), TypeAdapter(Done)


def run_chunk(chunk: Chunk) -> Iterator[Done]:
    """Run a chunk's trials in this process.

    Raises:
        SinglepathError: what a trial raised; an error of ours says which trial it was.
    """
    module, _, name = chunk.run.partition(":")
    function = getattr(importlib.import_module(module), name)
    for trial in chunk.trials:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            record = function(chunk.setting, trial)
        except SinglepathError:
            raise
        except Exception as error:
            raise SinglepathError(f"{_called(trial)} failed: {type(error).__name__}: {error}") from error
        yield Done(record, time.perf_counter() - wall, time.process_time() - cpu, os.getpid())


def _called(trial: Trial) -> str:
    return f"{trial.method} on {trial.task}, seed {trial.search_seed},"


def make_engine(
    name: str, *, workers: int = 1, address: str | None = None, cpus: float = 1.0, gpus: float = 0.0,
    say: Say = lambda text: None,
) -> Engine:  # fmt: skip
    """The engine of a name.

    Args:
        workers: processes at once on this machine; 0 is this process, with the threads it has. A Ray that is joined has
            its own.
        address: of a Ray to join.
        cpus, gpus: of a machine, for each Ray task.
        say: is told when a process is lost.

    Raises:
        UserError: an unknown name, an option of another engine, or the extra `ray` is not installed.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES, "--engine")
    if workers < (name == "ray"):
        raise user_error(f"--workers {workers}", f"allowed: {int(name == 'ray')} or more", "type --workers 2")
    for flag, number in (("--cpus", cpus), ("--gpus", gpus)):
        if not (math.isfinite(number) and number >= 0):
            raise user_error(f"{flag} {number:g}", "allowed: a number from 0", f"type {flag} {int(flag == '--cpus')}")
        if number > 1 and number % 1:  # Ray refuses it, at the first task
            raise user_error(f"{flag} {number:g}", "above 1 only whole numbers", f"type {flag} {math.ceil(number)}")
    if name == "local" and (address is not None or gpus):
        given = f"--address {address}" if address is not None else f"--cpus {cpus:g} --gpus {gpus:g}"
        raise user_error(f"{given} with --engine {name}", "allowed with --engine ray, from 0", "type --engine ray")
    return ENGINES[name](workers=workers, address=address, cpus=cpus, gpus=gpus, say=say)


# -- processes of this machine ----------------------------------------------------------------------------------------


class Lost(Exception):
    """A worker's process ended before its chunk did."""


class Worker:
    """A process that runs chunks, and the pipe to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [*WORKER, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **ONE_THREAD}
        )

    def run(self, chunk: Chunk) -> Iterator[Done]:
        """Raises Lost where the process ends, and what the trial raised where it fails."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin and stdout
        try:
            stdin.write(CHUNK.dump_json(chunk) + b"\n")
            stdin.flush()
        except OSError:
            raise Lost from None
        for line in stdout:
            if not line.endswith(b"\n"):
                break  # torn: it was killed while it wrote
            said = json.loads(line)
            if "error" in said:
                raise (UserError if said["user"] else SinglepathError)(said["error"])
            if "done" not in said:
                return
            yield DONE.validate_python(said["done"])
        raise Lost

    def end(self) -> None:
        """Let it end by itself, which it does at the end of its input."""
        with suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]


def local(chunks: Sequence[Chunk], *, workers: int, say: Say) -> Iterator[Done]:
    if not workers:
        for chunk in chunks:
            yield from run_chunk(chunk)
        return
    open_, found = queue.SimpleQueue[Chunk](), queue.SimpleQueue[Any]()
    for chunk in chunks:
        open_.put(chunk)
    count, running, stop = min(workers, len(chunks)), dict[int, Worker](), threading.Event()
    threads = [
        threading.Thread(target=_drive, args=(i, open_, found, running, stop), daemon=True) for i in range(count)
    ]
    for thread in threads:
        thread.start()
    ended = 0
    try:
        while ended < count:
            match found.get():
                case None:
                    ended += 1
                case BaseException() as error:
                    raise error
                case str() as text:
                    say(text)
                case done:
                    yield done
    finally:
        stop.set()
        for worker in list(running.values()):
            if ended < count:
                worker.process.kill()
        for thread in threads:
            thread.join()


def _drive(
    number: int, open_: queue.SimpleQueue[Chunk], found: queue.SimpleQueue[Any], running: dict[int, Worker],
    stop: threading.Event,
) -> None:  # fmt: skip
    """Feed one worker until no chunk is left; a lost one is replaced and goes on with the trials that are open."""
    try:
        while not stop.is_set():
            try:
                chunk = open_.get_nowait()
            except queue.Empty:
                break
            _finish(number, chunk, found, running, stop)
    except BaseException as error:
        found.put(error)
    finally:
        if number in running:
            running.pop(number).end()
        found.put(None)


def _finish(
    number: int, chunk: Chunk, found: queue.SimpleQueue[Any], running: dict[int, Worker], stop: threading.Event
) -> None:
    lost = 0
    while chunk.trials and not stop.is_set():
        worker = running.get(number) or running.setdefault(number, Worker())
        if stop.is_set():
            worker.process.kill()  # it began after the others were ended
        try:
            for done in worker.run(chunk):
                found.put(done)
                chunk, lost = replace(chunk, trials=chunk.trials[1:]), 0
        except Lost:
            running.pop(number).end()
            if stop.is_set() or not chunk.trials:  # it died after its last result
                return
            lost += 1
            trial, how = chunk.trials[0], _how(worker.process.returncode)
            what = f"the process of {_called(trial)} {how}"
            if lost > RETRIES:
                raise SinglepathError(f"{what}, {lost} times in a row") from None
            found.put(f"{what}: the trial runs again")


def _how(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


# -- Ray --------------------------------------------------------------------------------------------------------------


def ray(chunks: Sequence[Chunk], *, workers: int, address: str | None, cpus: float, gpus: float) -> Iterator[Done]:
    package = optional("ray", "ray")
    joined = package.is_initialized()
    if not joined and address is None:
        ray_cluster.start(package, workers, cpus, gpus)
    elif not joined:
        ray_cluster.join(package, str(address))
    environment = {"env_vars": ONE_THREAD}
    try:
        ray_cluster.check_fits(package, cpus, gpus)
        task = package.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, runtime_env=environment)(_whole)
        waiting = [task.remote(asdict(chunk)) for chunk in chunks]
        while waiting:
            ready, waiting = package.wait(waiting, num_returns=1)
            for done in package.get(ready[0]):
                yield DONE.validate_python(done)
    except package.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, SinglepathError) else SinglepathError(f"Ray: {cause}")) from error
    except package.exceptions.RayError as error:
        raise SinglepathError(f"Ray: {' '.join(str(error).split())[:300]}") from error
    finally:
        if not joined:
            package.shutdown()


def _whole(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    """A chunk as a Ray task: plain values in, plain values out."""
    return [DONE.dump_python(done) for done in run_chunk(CHUNK.validate_python(chunk))]


def _make_local(*, workers: int, say: Say, **_: Any) -> Engine:
    return partial(local, workers=workers, say=say)


def _make_ray(*, workers: int, address: str | None, cpus: float, gpus: float, **_: Any) -> Engine:
    optional("ray", "ray")
    return partial(ray, workers=workers, address=address, cpus=cpus, gpus=gpus)


ENGINES: dict[str, Callable[..., Engine]] = {"local": _make_local, "ray": _make_ray}
