"""Training final networks: one in this process, or several in processes of their own, each resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import torch
import yaml

from singlepath import data as data_room
from singlepath.architecture import NetworkSpec
from singlepath.blocks import Network
from singlepath.data import Data
from singlepath.devices.host import usable_cores
from singlepath.errors import SinglepathError, UserError
from singlepath.export import load_weights, save_weights
from singlepath.pipeline.progress import note, progress
from singlepath.pipeline.setup import best_device, set_threads
from singlepath.runs import FIXED_ENVIRONMENT, Run
from singlepath.training import Recipe, get_recipe, quiet, train_network

__all__ = ["MOVABLE", "WEIGHTS", "Job", "parallel", "recipe_for", "train_all", "train_one"]

MOVABLE = ("data",)  # the same images may lie elsewhere when a run goes on: their fingerprint is compared
WEIGHTS = "weights.safetensors"
QUICK_EPOCHS = 1
POLL_SECONDS = 0.2
SHORT = 5_000_000  # pixels trained on; with fewer, processes of their own take longer to begin than they save
WORKER = (sys.executable, "-P", "-m", "singlepath.pipeline.worker")


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        folder: the run folder the training keeps its checkpoints and weights in.
        source, limit, data_seed: the data set, as `data.load` takes it; a process loads it again.
        start: a safetensors file of weights to start from.
        workers: processes that decode image files.
        allow_changed: go on with a training that began with other threads or another device.
        judged: leave the held-out images out of the training: they judge the network.
    """

    name: str
    folder: Path
    spec: NetworkSpec
    recipe: Recipe
    seed: int
    source: str
    limit: int | None
    data_seed: int
    threads: int
    start: Path | None = None
    workers: int = 0
    allow_changed: bool = False
    judged: bool = False

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Job:
        """The inverse of `to_json`, after `json.loads`."""
        return cls(
            **{
                **value, "folder": Path(value["folder"]), "spec": NetworkSpec.from_dict(value["spec"]),
                "recipe": Recipe(**value["recipe"]), "start": Path(value["start"]) if value["start"] else None,
            }
        )  # fmt: skip


def recipe_for(name: str, data: Data, epochs: int | None, batch_size: int | None, quick: bool) -> Recipe:
    """The named recipe, fitted to the number of training images."""
    return get_recipe(name).fitted(len(data.all_train), epochs or (QUICK_EPOCHS if quick else None), batch_size)


def job_options(job: Job) -> dict[str, Any]:
    """What the training's own configuration holds; a finished one may be read back on any machine."""
    options = {
        "network": job.spec.string(), "recipe": job.recipe.name, "epochs": job.recipe.epochs,
        "batch_size": job.recipe.batch_size, "lr": job.recipe.lr, "seed": job.seed, "data": job.source,
        "limit": job.limit, "threads": job.threads, "compute": best_device(),
        "init": "inherited" if job.start else None, **({"judged": True} if job.judged else {}),
    }  # fmt: skip
    known = job.folder / "config.yaml"
    if job.weights.is_file() and known.is_file():
        before = yaml.safe_load(known.read_text())["options"]
        options |= {k: before[k] for k in FIXED_ENVIRONMENT if k in before}
    return options


def train_one(job: Job, data: Data | None = None, *, show: bool = True) -> Network:
    """Train a job's network, go on with it, or read it back where it is done."""
    known = (job.folder / "config.yaml").is_file()
    with Run.open(
        job.folder, job_options(job), resume=known, allow_changed=job.allow_changed, note=note, flag="--name",
        movable=MOVABLE,
    ) as run:  # fmt: skip
        if job.weights.is_file():
            return load_weights(job.weights).network
        set_threads(job.threads)
        if data is None:
            size, channels = job.spec.input_size, job.spec.in_channels
            data = data_room.load(
                job.source, size=size, channels=channels, seed=job.data_seed, limit=job.limit, workers=job.workers
            )
        begin = load_weights(job.start).network if job.start else None
        if show:
            with progress(f"train {job.name}") as report:
                network = _train(job, data, run, begin, report)
        else:
            network = _train(job, data, run, begin, quiet)
        save_weights(network, data.preprocess, data.classes, job.weights, {"name": job.name})
    return load_weights(job.weights).network


def _train(job: Job, data: Data, run: Run, begin: Network | None, report: Any) -> Network:
    return train_network(
        job.spec, data, job.recipe, seed=job.seed, run=run, network=begin, device=best_device(), workers=job.workers,
        progress=report, images=data.train if job.judged else None,
    )  # fmt: skip


def parallel(jobs: int, threads: int) -> int:
    """How many of so many trainings run at once."""
    return 1 if torch.cuda.is_available() else max(1, min(jobs, usable_cores() // max(1, threads)))


def train_all(jobs: Sequence[Job], data: Data) -> dict[str, Network]:
    """Train several networks, as many at once as there are cores for (one at a time on a GPU, or where they are short);
    name -> network.

    Results do not depend on how many run at once: each is a function of its own job.
    """
    waiting = [job for job in jobs if not job.weights.is_file()]
    at_once = parallel(len(waiting), jobs[0].threads)
    pixels = sum(job.recipe.epochs * len(data.all_train) * job.spec.input_size**2 for job in waiting)
    if at_once > 1 and pixels >= SHORT:
        _train_apart(waiting, at_once)
    return {job.name: train_one(job, data) for job in jobs}


# -- processes of their own -------------------------------------------------------------------------------------------


class Child(NamedTuple):
    """A training that runs in a process of its own."""

    job: Job
    process: subprocess.Popen[str]
    errors: IO[str]


def _train_apart(jobs: Sequence[Job], at_once: int) -> None:
    """Train jobs in processes, so many at once; whatever stops this stops them."""
    waiting, running = list(jobs), list[Child]()
    total = sum(job.recipe.epochs for job in jobs)
    with progress(f"train {len(jobs)} networks") as report:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(_start(waiting.pop(0)))
                time.sleep(POLL_SECONDS)
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    _ended(child)
                report("epochs", sum(_epochs_done(job) for job in jobs), total, {})
        finally:
            for child in running:
                child.process.kill()  # files are written whole, so nothing is lost but steps
            for child in running:
                child.process.wait()
                child.errors.close()


def _start(job: Job) -> Child:
    """A process of its own: what the caller's script holds is not imported again."""
    errors = TemporaryFile("w+")  # noqa: SIM115 - read when the process has ended
    with TemporaryFile("w+") as text:
        text.write(job.to_json())
        text.seek(0)
        process = subprocess.Popen(
            [*WORKER, str(os.getpid())], stdin=text, stdout=subprocess.DEVNULL, stderr=errors, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads)},
        )  # fmt: skip
    return Child(job, process, errors)


def _ended(child: Child) -> None:
    """Say that a training is done.

    Raises:
        SinglepathError: it failed; the message is the last line that it wrote, a `UserError` as such.
    """
    status = child.process.returncode
    with child.errors as errors:
        errors.seek(0)
        lines = errors.read().split("\n")
    if status == 0:
        note(f"{child.job.name} is trained")
        return
    last = next((line for line in reversed(lines) if line.strip()), f"its process ended with status {status}")
    raise (UserError if status == 2 else SinglepathError)(f"training {child.job.name}: {last}")


def _epochs_done(job: Job) -> int:
    """A training logs one row an epoch."""
    file = job.folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0
