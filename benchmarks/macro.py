"""What the benchmarks on NAS-Bench-Macro share: the protocol, the trained supernet, the ground truth.

The reduced protocol is the same for every contender: CIFAR-10 with a tenth of the training images held out, random
24 px windows of the stored 32 px, a supernet of width 0.25 trained for `--passes` image passes. Its layers have the
full space's options, so a choice on one is a choice on the other; MACs are those of the full space, as in the table.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau

from singlepath import data as data_room
from singlepath.architecture import SKIP, Architecture
from singlepath.bench.tables import nas_bench_macro
from singlepath.costs import Budget, CostModel, count_costs
from singlepath.data import Data
from singlepath.runs import Run
from singlepath.search import METHODS
from singlepath.search.base import Method, Problem, State
from singlepath.spaces import Space, make
from singlepath.supernet import Supernet
from singlepath.training.loop import fit

__all__ = [
    "SETTINGS", "Protocol", "Searched", "Truth", "add_options", "budget_of", "digest", "full_costs", "loaded",
    "problem_of", "searched", "tau", "taus", "trained", "weights_digest",
]  # fmt: skip

HELD_OUT, STORED, SIDE, BATCH = 0.1, 32, 24, 64
SETTINGS: dict[str, Any] = {"warm_up": 1.0, "sandwich": True}  # the default's, whatever is selected by
QUICK_IMAGES, QUICK_PASSES = 2_000, 2_000


@dataclass(frozen=True)
class Protocol:
    """How the supernet is trained.

    Attributes:
        source: folder with `cifar10` and `nas_bench_macro`.
        folder: where supernets are kept, a run folder a seed.
        passes: image passes over the training part, rounded to whole epochs. Where a search decides, its epochs have
            room for that, a third more; `Searched.passes` is what was made.
        limit: use so many images in all, None for 50,000.
    """

    source: Path
    folder: Path
    passes: int
    width: float = 0.25
    limit: int | None = None
    device: str = "cpu"

    @classmethod
    def of(cls, args: argparse.Namespace, folder: Path) -> Protocol:
        if args.quick:
            return cls(args.data, folder, QUICK_PASSES, args.width, QUICK_IMAGES, args.device)
        return cls(args.data, folder, args.passes, args.width, None, args.device)

    @property
    def label(self) -> str:
        parts = [str(self.passes), f"of{self.limit}" if self.limit else "", "" if self.device == "cpu" else self.device]
        return "-".join(p for p in parts if p)


def add_options(options: argparse.ArgumentParser, out: str) -> None:
    """The options that benchmarks on this space have."""
    options.add_argument("--passes", type=int, default=720_000, help="image passes of the supernet's training")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--width", type=float, default=0.25)
    options.add_argument("--out", type=Path, default=Path(out))
    options.add_argument("--data", type=Path, default=Path(os.environ.get("SINGLEPATH_DATA", "../shared/data")))
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def loaded(protocol: Protocol, seed: int) -> Data:
    """CIFAR-10 with a tenth held out; inputs are 24 px windows of the stored 32 px."""
    data = data_room.load(
        protocol.source / "cifar10", size=STORED, seed=seed, val_fraction=HELD_OUT, limit=protocol.limit
    )
    return replace(data, preprocess=replace(data.preprocess, size=SIDE, resize=STORED))


# -- the supernet -----------------------------------------------------------------------------------------------------


def full_costs() -> CostModel:
    """MACs of the full-width space on 32 px images, MMACs; equal to the table's."""
    return count_costs(make("macro"), "macs")


def budget_of(mmacs: float) -> Budget:
    return Budget(f"{mmacs:g}MMACs", mmacs, mmacs, full_costs())


def searched_space(protocol: Protocol) -> Space:
    """The space at the width and the input size that its supernet is trained at."""
    return make("macro", width=protocol.width, input_size=SIDE)


def problem_of(
    protocol: Protocol, seed: int, data: Data, budget: Budget | None = None, settings: Mapping[str, Any] = SETTINGS
) -> Problem:
    """The reduced protocol's search problem; without a budget everything is allowed."""
    space = searched_space(protocol)
    costs = count_costs(space, "macs")
    budget = budget or Budget("100%", costs.largest, costs.largest, costs)
    epochs = max(1, round(protocol.passes / len(data.train) / children(settings)))
    return Problem(space, data, budget, seed, epochs, BATCH, protocol.device, settings=settings)


def children(settings: Mapping[str, Any]) -> int:
    """Image passes of a warm-up batch, each through another child."""
    return 4 if settings.get("sandwich") else 1


class Searched(NamedTuple):
    """A finished training of a search method: its state, the batches it took and the image passes they were."""

    method: Method
    state: State
    steps: int
    passes: int


def searched(name: str, problem: Problem, folder: Path, config: Mapping[str, Any]) -> Searched:
    """Train what a method trains, or read it back from `folder`; resumable."""
    method = METHODS[name]
    state = method.start(problem)
    plan = method.plan(problem, state)
    state["steps_per_epoch"] = plan.steps_per_epoch
    options = {**config, "threads": torch.get_num_threads()}
    with Run.open(folder, options, resume=(folder / "config.yaml").is_file()) as run:
        fit(
            state, lambda s, b: method.step(problem, s, b), plan.batches, epochs=plan.epochs,
            steps_per_epoch=plan.steps_per_epoch, tag="search", run=run, log=plan.log, log_steps=plan.log_steps,
        )  # fmt: skip
    return Searched(method, state, state["step"], state["step"] * BATCH)


def trained(protocol: Protocol, seed: int, data: Data) -> tuple[Supernet, int]:
    """(the supernet of one seed, trained or read back; the image passes it took)."""
    config = {"passes": protocol.passes, "seed": seed, "width": protocol.width, **SETTINGS}
    folder = protocol.folder / f"seed{seed}-{protocol.label}"
    found = searched("single-path", problem_of(protocol, seed, data), folder, config)
    return found.state["model"], found.passes * children(SETTINGS)


def weights_digest(supernet: Supernet) -> str:
    """A short name of the weights."""
    h = hashlib.sha256()
    for tensor in supernet.state_dict().values():
        h.update(tensor.cpu().contiguous().numpy().tobytes())
    return h.hexdigest()[:12]


def digest(value: Any) -> str:
    """A short name of plain values."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


# -- the ground truth -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """The distinct networks of the full space, in the order of their choices, and what the table says of them.

    Attributes:
        trainings: accuracies [networks, 3] of the table's seeds, per cent.
        accuracy: their mean.
        names: how many names of the 6,561 each network has.
    """

    space: Space
    networks: list[Architecture]
    trainings: np.ndarray
    accuracy: np.ndarray
    mmacs: np.ndarray
    layers: np.ndarray
    names: np.ndarray = field(repr=False)

    @classmethod
    def load(cls, source: Path) -> Truth:
        space = make("macro")
        rows = nas_bench_macro.load(source, space)
        networks = sorted(rows, key=lambda a: a.choices)
        names = Counter(space.canonical(a) for a in space.enumerate())
        return cls(
            space, networks, np.array([rows[a].accuracies for a in networks]),
            np.array([rows[a].accuracy for a in networks]),
            np.array([rows[a].mmacs for a in networks]),
            np.array([sum(c != SKIP for c in a.choices) for a in networks]), np.array([names[a] for a in networks]),
        )  # fmt: skip

    @cached_property
    def position(self) -> dict[tuple[str, ...], int]:
        return {a.choices: i for i, a in enumerate(self.networks)}

    def index(self, architecture: Architecture) -> int:
        """Where a network of the space at any width stands here; its canonical name counts."""
        return self.position[self.space.canonical(architecture).choices]

    def digits(self, index: int) -> str:
        """The network's name in the table."""
        return "".join(self.space.digits[i] for i in self.space.indices(self.networks[index]))

    def within(self, budget: float, least: float = 0.0) -> np.ndarray:
        """Positions of the networks that cost least to budget, MMACs."""
        return np.flatnonzero((self.mmacs <= budget) & (self.mmacs >= least))

    def best(self, budget: float) -> float:
        return float(self.accuracy[self.within(budget)].max())


def taus(score: np.ndarray, truth: np.ndarray, mmacs: np.ndarray) -> tuple[float, float]:
    """Kendall's tau over all networks, and its mean inside ten MACs deciles."""
    bins: Sequence[np.ndarray] = np.array_split(np.argsort(mmacs, kind="stable"), 10)
    return tau(score, truth), float(np.mean([tau(score[b], truth[b]) for b in bins]))


def tau(score: np.ndarray, truth: np.ndarray) -> float:
    result: Any = kendalltau(score, truth)
    return float(result.statistic)
