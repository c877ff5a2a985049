"""Training final networks: one in this process, or several in processes of their own, each resumable."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from singlepath import data as data_room
from singlepath.architecture import NetworkSpec
from singlepath.blocks import Network
from singlepath.data import Data
from singlepath.export import load_weights, save_weights
from singlepath.pipeline.progress import progress
from singlepath.pipeline.setup import best_device, set_threads
from singlepath.runs import Run
from singlepath.training import Recipe, get_recipe, train_network

__all__ = ["Job", "parallel", "recipe_for", "train_all", "train_one"]

WEIGHTS = "weights.safetensors"
QUICK_EPOCHS = 1


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        folder: the run folder the training keeps its checkpoints and weights in.
        source, limit, data_seed: the data set, as `data.load` takes it; a process loads it again.
        start: a safetensors file of weights to start from.
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

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


def recipe_for(name: str, data: Data, epochs: int | None, batch_size: int | None, quick: bool) -> Recipe:
    """The named recipe, fitted to the number of training images."""
    return get_recipe(name).fitted(len(data.all_train), epochs or (QUICK_EPOCHS if quick else None), batch_size)


def job_options(job: Job) -> dict[str, Any]:
    """What the training's own configuration holds."""
    return {
        "network": job.spec.string(), "recipe": job.recipe.name, "epochs": job.recipe.epochs,
        "batch_size": job.recipe.batch_size, "lr": job.recipe.lr, "seed": job.seed, "data": job.source,
        "limit": job.limit, "threads": job.threads, "device": best_device(),
        "start": str(job.start) if job.start else None,
    }  # fmt: skip


def train_one(job: Job, data: Data | None = None, *, show: bool = True) -> Network:
    """Train a job's network, go on with it, or read it back where it is done."""
    known = (job.folder / "config.yaml").is_file()
    with Run.open(job.folder, job_options(job), resume=known, flag="--name") as run:
        if job.weights.is_file():
            return load_weights(job.weights).network
        set_threads(job.threads)
        if data is None:
            size, channels = job.spec.input_size, job.spec.in_channels
            data = data_room.load(job.source, size=size, channels=channels, seed=job.data_seed, limit=job.limit)
        begin = load_weights(job.start).network if job.start else None
        if show:
            with progress(f"train {job.name}") as report:
                network = _train(job, data, run, begin, report)
        else:
            network = _train(job, data, run, begin, lambda tag, done, total, values: None)
        save_weights(network, data.preprocess, data.classes, job.weights, {"name": job.name})
    return load_weights(job.weights).network


def _train(job: Job, data: Data, run: Run, begin: Network | None, report: Any) -> Network:
    return train_network(
        job.spec, data, job.recipe, seed=job.seed, run=run, network=begin, device=best_device(), progress=report
    )


def parallel(jobs: int, threads: int) -> int:
    """How many of so many trainings run at once."""
    return 1 if torch.cuda.is_available() else max(1, min(jobs, (os.cpu_count() or 1) // max(1, threads)))


def _in_process(values: dict[str, Any]) -> str:
    spec, recipe = NetworkSpec.from_dict(values.pop("spec")), Recipe(**values.pop("recipe"))
    train_one(Job(spec=spec, recipe=recipe, **values), show=False)
    return values["name"]


def train_all(jobs: Sequence[Job], data: Data) -> dict[str, Network]:
    """Train several networks, as many at once as there are cores for (one at a time on a GPU); name -> network.

    Results do not depend on how many run at once: each is a function of its own job.
    """
    waiting = [job for job in jobs if not job.weights.is_file()]
    at_once = parallel(len(waiting), jobs[0].threads)
    if at_once > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(at_once, context) as pool, progress("train networks") as report:
            try:
                running = [pool.submit(_in_process, {**asdict(job)}) for job in waiting]
                for done, future in enumerate(as_completed(running), start=1):
                    report(f"{future.result()} done", done, len(running), {})
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return {job.name: train_one(job, data) for job in jobs}
