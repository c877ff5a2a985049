"""What a pass of the search costs beside a training step of the largest plain child of the same space.

A search takes one decision step for every three weight steps after its warm-up. Both are the search's own functions
(`search.single_path`), here with every gate open, so nothing is saved by closed work: the mean pass is (3 weight
steps + 1 decision step) / 4. The floor is one training step of the largest plain child, same loss and optimiser.

Time: one step of each a round, in random order, process CPU time on the CPU and CUDA events on a GPU; malloc set as
every command sets it; a second, identical floor is the control. Value = median over rounds of pass / floor, divided by
that of control / floor; what is held to the limit is its lower 95 % bootstrap bound over rounds. A control outside 0.97
to 1.03 after 200 rounds ends as `inconclusive`, exit status 3.

Launches: operations that torch dispatches below autograd, those that only describe memory (views, `empty`) left out;
a fused list operation (`_foreach`) counts as one. Memory: what tensors hold at the step's peak (weights, optimiser
state, images, and the peak of all allocations of two steps in a row), as the profiler records them.

    python benchmarks/search_step.py --json
    python benchmarks/search_step.py --device cuda --json
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from common import Check, at_most, finish, one_thread, parser, table
from multipath import build_multipath
from singlepath.blocks import build as build_plain
from singlepath.costs import Budget, count_costs
from singlepath.data import ArrayImages, Batch, Data, Preprocess
from singlepath.pipeline.setup import keep_memory
from singlepath.search import Problem, single_path
from singlepath.spaces import Space, make
from singlepath.supernet import Setting, Supernet
from singlepath.supernet.gates import chain_slices, setting_of_levels
from singlepath.supernet.paper import build_paper
from singlepath.training.optim import sgd, whole
from singlepath.training.recipe import get_recipe
from singlepath.training.train import accuracy, autocast, cross_entropy

PASS, LAUNCHES, MEMORY = 1.03, 1.25, 1.02  # limits
CONTROL = (0.97, 1.03)
LEAST_ROUNDS, MOST_ROUNDS = 50, 200
INCONCLUSIVE = 3
EVERY = single_path.DEFAULTS["every"]  # one step in so many is a decision step
IMAGENET_EPOCHS = 8 * 1_281_167  # images

Step = Callable[[], Any]


@dataclass(frozen=True)
class Config:
    """One configuration of the measurement."""

    side: int
    batch: int = 64
    width: float = 1.0
    classes: int = 100
    device: str = "cpu"

    def space(self, **options: Any) -> Space:
        return make("mobile", width=self.width, input_size=self.side, classes=self.classes, **options)

    def images(self, seed: int) -> Batch:
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(self.batch, 3, self.side, self.side, generator=g)
        y = torch.randint(self.classes, (self.batch,), generator=g)
        x = x.to(self.device).contiguous(memory_format=torch.channels_last)
        return Batch(x, y.to(self.device), torch.arange(self.batch))


@dataclass
class Subject:
    """A step to be measured and what it holds between steps."""

    step: Step
    model: nn.Module
    optimiser: dict[str, Any]

    def resident(self) -> int:
        """Bytes of weights, buffers and optimiser state."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        tensors += [v for v in self.optimiser.values() if isinstance(v, Tensor)]
        return sum(t.untyped_storage().nbytes() for t in tensors)


def training(model: nn.Module, batch: Batch, device: str, loss_of: Callable[[Tensor], Tensor] | None = None) -> Subject:
    """A training step of any module, as `training.train` and the search's weight step do it."""
    model = model.to(device).train()
    parts, state, recipe = whole(model), {}, get_recipe("base")

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with autocast(device):
            logits = model(batch.x)
            loss = cross_entropy(logits, batch.y) if loss_of is None else loss_of(logits)
        loss.backward()
        sgd(parts, state, 1e-3, momentum=recipe.momentum, decay=recipe.weight_decay)
        accuracy(logits.detach(), batch.y)

    return Subject(step, model, state)


class Search:
    """The default search's own steps on one batch, with the settings of our choice."""

    def __init__(self, config: Config, batch: Batch, seed: int):
        space = config.space()
        images = ArrayImages(torch.zeros(64, 3, 1, 1, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
        preprocess = Preprocess(config.side, config.side, (0.5,) * 3, (0.25,) * 3, 3)
        names = tuple(str(i) for i in range(config.classes))
        data = Data("noise", names, images, images, preprocess, False, [], "", lambda: (images, []))
        costs = count_costs(space, "macs")
        budget = Budget("60%", 0.6 * costs.largest, 0.6 * costs.largest, costs)
        settings = {"warm_up": 0.0}  # every weight step draws its child from the gates
        self.problem = Problem(space, data, budget, seed, 1, config.batch, config.device, settings=settings)
        self.state: dict[str, Any] = single_path.start(self.problem) | {"step": 0, "steps_per_epoch": 1000}
        self.net: Supernet = self.state["model"]
        self.batch = batch

    @property
    def open(self) -> list[Setting]:
        return self.net.settings(self.net.space.largest())

    def subject(self, kind: Callable[..., Any], settings: Sequence[Setting]) -> Subject:
        def step() -> None:
            with mock.patch.object(single_path, "drawn_settings", lambda *_: settings):
                kind(self.problem, self.state, self.batch)

        return Subject(step, self.net, self.state["optimiser"])

    def weight(self, settings: Sequence[Setting]) -> Subject:
        return self.subject(single_path.weight_step, settings)

    def decision(self, settings: Sequence[Setting]) -> Subject:
        return self.subject(single_path.decision_step, settings)

    def closed(self, share: float, seed: int) -> list[Setting]:
        """Settings with a random share of the gates closed."""
        count = len(self.net.gates)
        rng = np.random.default_rng(seed)
        off = set(rng.permutation(count)[: round(share * count)].tolist())
        levels: list[dict[str, int]] = [{} for _ in self.net.space.searchable]
        for layer, chain, where in chain_slices(self.net.gates):
            on = [i not in off for i in range(where.start, where.stop)]
            levels[layer][chain] = on.index(False) if False in on else len(on)
        return [setting_of_levels(v) for v in levels]


# -- time -------------------------------------------------------------------------------------------------------------


def seconds(step: Step, device: str) -> float:
    """Time of one step: process CPU time, or between two CUDA events."""
    if device == "cpu":
        started = time.process_time()
        step()
        return time.process_time() - started
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    step()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3


def rounds(
    steps: dict[str, Step], device: str, least: int, most: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Seconds of every step in each round; more rounds while the control is outside its bounds."""
    names = list(steps)
    for name in names:
        steps[name]()
    taken: dict[str, list[float]] = {name: [] for name in names}
    while len(taken["floor"]) < most:
        for i in rng.permutation(len(names)):
            taken[names[i]].append(seconds(steps[names[i]], device))
        count = len(taken["floor"])
        if count >= least and count % 5 == 0 and ("control" not in taken or steady(taken)):
            break
    return {name: np.array(values) for name, values in taken.items()}


def control_ratio(taken: dict[str, Any]) -> float:
    return float(np.median(np.array(taken["control"]) / np.array(taken["floor"])))


def steady(taken: dict[str, Any]) -> bool:
    return CONTROL[0] <= control_ratio(taken) <= CONTROL[1]


def corrected(taken: dict[str, np.ndarray], name: str, rng: np.random.Generator) -> dict[str, float]:
    """Median of name / floor over rounds, divided by the control's, with its 90 % bootstrap interval.

    `lower` is the one-sided lower 95 % bound.
    """
    subject, control = taken[name] / taken["floor"], taken["control"] / taken["floor"]
    draws = rng.integers(len(subject), size=(2000, len(subject)))
    spread = np.median(subject[draws], 1) / np.median(control[draws], 1)
    lower, upper = np.quantile(spread, [0.05, 0.95])
    p10 = np.quantile(taken[name], 0.1) / np.quantile(taken["floor"], 0.1)
    return {
        "ratio": float(np.median(subject) / np.median(control)), "lower": float(lower), "upper": float(upper),
        "raw": float(np.median(subject)), "p10": float(p10),
    }  # fmt: skip


# -- launches and memory ----------------------------------------------------------------------------------------------


class Launches(TorchDispatchMode):
    """Counts the operations that do work."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if not func.is_view and not name.startswith(("empty", "new_empty", "is_same_size", "alias", "detach")):
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


def launches(step: Step) -> Counter[str]:
    step()
    with Launches() as mode:
        step()
    return mode.count


def peak_bytes(subject: Subject, device: str) -> int:
    """Bytes held at the highest point of two steps in a row, weights and optimiser state included."""
    subject.step()
    subject.model.zero_grad(set_to_none=True)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        subject.step()
        subject.step()
        return torch.cuda.max_memory_allocated() - before + subject.resident()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        subject.step()
        subject.step()
    results: Any = record.profiler.kineto_results if record.profiler else None
    events = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    return int(np.cumsum([0, *(n for _, n in events)]).max()) + subject.resident()


# -- the study --------------------------------------------------------------------------------------------------------


def study(config: Config, args: Any) -> tuple[list[Check], dict[str, Any], bool]:
    """(checks, everything measured, whether the control was steady) of one configuration."""
    rng, batch = np.random.default_rng(args.seed), config.images(args.seed)
    search, largest = Search(config, batch, args.seed), config.space().network(config.space().largest())
    floor, control = (training(build_plain(largest, args.seed), batch, config.device) for _ in range(2))
    weight, decision = search.weight(search.open), search.decision(search.open)
    least, most = (3, 6) if args.quick else (LEAST_ROUNDS, MOST_ROUNDS)
    steps = {"floor": floor.step, "control": control.step, "weight": weight.step, "decision": decision.step}
    taken = rounds(steps, config.device, least, most, rng)
    taken["pass"] = (taken["weight"] * (EVERY - 1) + taken["decision"]) / EVERY
    time_of = {name: corrected(taken, name, rng) for name in ("pass", "weight", "decision")}
    ops = {name: launches(steps[name]) for name in ("floor", "weight", "decision")}
    count = {name: sum(c.values()) for name, c in ops.items()}
    mean = (count["weight"] * (EVERY - 1) + count["decision"]) / EVERY
    peak = {n: peak_bytes(s, config.device) for n, s in (("floor", floor), ("weight", weight), ("decision", decision))}
    highest = max(peak["weight"], peak["decision"])
    label = f"{config.side} px"
    checks = [
        at_most(f"{label}: pass / floor, lower 95 % bound", time_of["pass"]["lower"], PASS),
        at_most(f"{label}: launches / floor", mean / count["floor"], LAUNCHES),
        at_most(f"{label}: peak memory / floor", highest / peak["floor"], MEMORY),
    ]
    found: dict[str, Any] = {
        "config": asdict(config), "rounds": len(taken["floor"]), "control": control_ratio(taken), "time": time_of,
        "floor_seconds": float(np.median(taken["floor"])), "launches": count | {"mean pass": mean},
        "peak_mb": {n: round(b / 1e6, 1) for n, b in peak.items()},
    }  # fmt: skip
    if args.operations:
        extra = {n: dict((ops[n] - ops["floor"]).most_common(25)) for n in ("weight", "decision")}
        print(json.dumps(extra, indent=1), file=sys.stderr)
    if config.device != "cpu":
        per_second = config.batch / float(np.median(taken["pass"]))
        found |= {"images_per_second": per_second, "imagenet_8_epochs_minutes": IMAGENET_EPOCHS / per_second / 60}
    del control
    if not args.main:
        found["beside"] = beside(config, args, search, floor, peak["floor"], rng)
    return checks, found, steady(taken)


def beside(
    config: Config, args: Any, search: Search, floor: Subject, floor_peak: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Time and memory over the floor of what is reported and not promised."""
    batch, subjects = search.batch, {}
    for operations, kernels in ((5, (3, 5)), (7, (3, 5, 7))):
        net = build_multipath(config.space(kernels=kernels), args.seed)
        subjects[f"multi-path, {operations} operations"] = training(net, batch, config.device)
    subjects["paper mode, masked"] = paper_step(config, batch, search, args.seed)
    for share in (0.25, 0.5, 0.75):
        settings = search.closed(share, args.seed)
        child = search.net.extract(search.net.architecture(settings))
        subjects[f"{share:.0%} closed: child"] = training(child, batch, config.device)
        subjects[f"{share:.0%} closed: sliced, no probe"] = search.weight(settings)
        subjects[f"{share:.0%} closed: sliced, a decision step"] = search.decision(settings)
    count = 1 if args.quick else 12
    steps = {"floor": floor.step} | {name: s.step for name, s in subjects.items()}
    taken = rounds(steps, config.device, count, count, rng)
    found = {}
    for name, subject in subjects.items():
        ratio = taken[name] / taken["floor"]
        low, high = np.quantile(ratio, [0.25, 0.75])
        memory = peak_bytes(subject, config.device) / floor_peak
        found[name] = {"time": float(np.median(ratio)), "q25": float(low), "q75": float(high), "memory": memory}
    return found


def paper_step(config: Config, batch: Batch, search: Search, seed: int) -> Subject:
    """A step of the paper mode's masked supernet after its warm-up: all gates computed, cost term in the loss."""
    net, costs = build_paper(config.space(), seed), search.problem.costs

    def loss_of(logits: Tensor) -> Tensor:
        return cross_entropy(logits, batch.y, 0.1) + 20.0 * torch.log(net.runtime(costs))

    return training(net, batch, config.device, loss_of)


def report(found: dict[str, Any]) -> None:
    """The tables of one configuration."""
    config = found["config"]
    print(
        f"\n{config['side']} px, batch {config['batch']}, width {config['width']:g}, {config['device']}: floor "
        f"{found['floor_seconds'] * 1e3:.1f} ms, control {found['control']:.3f} over {found['rounds']} rounds"
    )
    rows = [[n, t["ratio"], t["lower"], t["upper"], t["raw"], t["p10"]] for n, t in found["time"].items()]
    print(table(["time / floor", "ratio", "lower", "upper", "uncorrected", "of p10"], rows))
    print(table(["", *found["launches"]], [["launches", *found["launches"].values()]]))
    print(table(["", *found["peak_mb"]], [["peak MB", *found["peak_mb"].values()]]))
    if "images_per_second" in found:
        minutes = found["imagenet_8_epochs_minutes"]
        print(f"{found['images_per_second']:.0f} images a second; compute of 8 ImageNet epochs: {minutes:.1f} minutes")
    if "beside" in found:
        rows = [[n, v["time"], v["q25"], v["q75"], v["memory"]] for n, v in found["beside"].items()]
        print(table(["beside, / floor", "time", "q25", "q75", "memory"], rows))
    print()


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--batch", type=int, help="images a step (default 64; 256 on a GPU)")
    options.add_argument("--main", action="store_true", help="only what is promised, nothing beside it")
    options.add_argument("--operations", action="store_true", help="print which launches the search adds")
    args = options.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("--device cuda: torch sees no CUDA device here; allowed: cpu; type --device cpu", file=sys.stderr)
        return 2
    one_thread()
    keep_memory()  # as every command does
    started = time.perf_counter()
    if args.device == "cuda":
        size = (64, 32) if args.quick else (224, 256)
        configs = [Config(size[0], args.batch or size[1], classes=1000, device="cuda")]
    elif args.quick:
        configs = [Config(side, args.batch or 8, 0.25, 10) for side in (64, 32)]
    else:
        configs = [Config(side, args.batch or 64) for side in (64, 32)]
    checks, found, conclusive = [], [], True
    torch.backends.cudnn.benchmark = args.device == "cuda"  # as pays in a long search
    for config in configs:
        some, values, calm = study(config, args)
        report(values)
        checks, found, conclusive = checks + some, [*found, values], conclusive and calm
    more = {"inconclusive": not conclusive, "results": found, "seconds": round(time.perf_counter() - started, 1)}
    if args.device == "cuda":
        more["gpu"] = torch.cuda.get_device_name()
    status = finish(args, checks, **more)
    return status if conclusive else INCONCLUSIVE


if __name__ == "__main__":
    sys.exit(main())
