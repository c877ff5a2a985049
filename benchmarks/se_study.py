"""Squeeze-and-excitation (SE) as a searchable path: is it placed where it pays under a latency budget?

Two spaces, `mobile-small` with SE ratios {0, 0.25, 0.5} and without SE, are searched under the same milliseconds:
a share of the predicted latency of the largest network without SE. MACs hardly see SE, so the budget is on latency: one
table of this host (ONNX Runtime) for the space with SE, kept under `--out`. It holds every block of the space without
SE too, so both budgets are in the same milliseconds; what it is off by on networks of either space is printed.

A seed's contenders are the found network of each space and `--networks` random ones of each space and the budget. The
reduced protocol is the same for all: CIFAR-10, `--images` training images of 32 px drawn by the seed (a search holds a
fifth of them out, final networks train on all), recipe `base` in batches of 64, `--search-epochs` and `--epochs`
epochs. Test images are read once, when everything is trained. Printed: relative improvement (RI) over the random
networks of the same space, `with` against `without`, where SE stands and what share of the latency it takes. With
--contrast N the first N seeds also train the found network without its SE, and with SE in all of its layers; with
--repeats R these three networks are trained with R seeds each, which tells what SE does from a training's luck.

Resumable: searches, trainings and figures are files under `--out`; what was interrupted goes on.

    python benchmarks/se_study.py --json
    python benchmarks/se_study.py --contrast 3 --repeats 3 --json
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from common import Check, at_most, commit, finish, one_thread, parser, table
from macro import digest
from macro_reading import kept
from singlepath import data as data_room
from singlepath.architecture import SKIP, Architecture
from singlepath.costs import Budget, CostModel, LatencyTable
from singlepath.costs.budget import FILL, Limit, resolve
from singlepath.data import Data
from singlepath.data.splits import generator
from singlepath.devices import measure, time_networks
from singlepath.pipeline.setup import keep_memory
from singlepath.pipeline.trainings import Job, train_one
from singlepath.runs import Run, write_atomic
from singlepath.search import METHODS, Problem, run_search
from singlepath.search.budget import random_networks
from singlepath.spaces import Option, Space, make
from singlepath.training import get_recipe
from singlepath.training.train import evaluate

RATIOS = (0.0, 0.25, 0.5)
WITH, WITHOUT = "with SE", "without SE"
BATCH, ROUNDS = 64, 60
REMOVED, EVERYWHERE = "found, SE removed", "found, SE everywhere"
Row = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """The reduced protocol, the same for every contender.

    Attributes:
        share: the budget, of the predicted latency of the largest network without SE.
        networks: random networks of each space a seed.
        candidates: networks that a search scores at its end; None for the method's own number.
        quick: rounds and networks of the latency table, in a short run.
    """

    source: Path
    folder: Path
    images: int
    epochs: int
    search_epochs: int
    width: float
    share: float
    networks: int
    candidates: int | None = None
    quick: bool = False

    @classmethod
    def of(cls, args: argparse.Namespace) -> Protocol:
        label = f"{args.images}x{args.epochs}-{args.search_epochs}-width{args.width:g}-{args.share:g}"
        full = cls(
            args.data / "cifar10", args.out / label, args.images, args.epochs, args.search_epochs, args.width,
            args.share, args.networks,
        )  # fmt: skip
        short = dict(images=400, epochs=1, search_epochs=2, width=0.25, networks=2, candidates=6, quick=True)
        return replace(full, folder=args.out / "quick", **short) if args.quick else full

    @cached_property
    def spaces(self) -> dict[str, Space]:
        return {n: make("mobile-small", width=self.width, se=se) for n, se in ((WITH, RATIOS), (WITHOUT, (0.0,)))}

    @cached_property
    def table(self) -> LatencyTable:
        """Of the space with SE; measured once."""
        path, space = self.folder / "table.json", self.spaces[WITH]
        if not path.is_file():
            made = measure(space, rounds=3, networks_fit=4, networks_validate=4) if self.quick else measure(space)
            write_atomic(path, made.to_json())
        return LatencyTable.load(path)

    def costs(self, name: str) -> CostModel:
        """Milliseconds of a space by the one table: the blocks without SE are among those with it."""
        space = self.spaces[name]
        layers = {layer.name: {t: self.table.layers[layer.name][t] for t in layer.tokens} for layer in space.searchable}
        return self.table.model_copy(update={"space": space.id, "layers": layers}).costs(space)

    def budget(self, name: str) -> Budget:
        ms = self.share * self.costs(WITHOUT).largest
        return resolve(Limit(f"{ms:.4g}ms", "latency", ms), lambda _: self.costs(name))

    def data(self, seed: int) -> Data:
        return data_room.load(self.source, size=32, seed=seed, limit=self.images)


class Contender(NamedTuple):
    """A network of one seed and space, its predicted latency in ms, and which of its trainings it is."""

    seed: int
    space: str
    name: str
    architecture: Architecture
    ms: float
    repeat: int = 0


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# -- networks ---------------------------------------------------------------------------------------------------------


def searched(protocol: Protocol, name: str, seed: int, data: Data) -> Row:
    """What the default search found in a space, or read back: its architecture, and how it was chosen."""
    space, budget = protocol.spaces[name], protocol.budget(name)
    folder = protocol.folder / f"search-{'se' if name == WITH else 'plain'}-{seed}"
    settings = {"candidates": protocol.candidates} if protocol.candidates else {}
    problem = Problem(space, data, budget, seed, protocol.search_epochs, BATCH, settings=settings)
    options = {"space": space.id, "seed": seed, "budget": budget.limit, "epochs": protocol.search_epochs, "threads": 1}
    with Run.open(folder, options, resume=(folder / "config.yaml").is_file()) as run:
        if not run.has("found.json"):
            found, _ = run_search(problem, METHODS["single-path"], run)
            reason = found.underfilled_reason
            row = {**found.architecture.as_dict(), "selection": found.selection, "underfilled_reason": reason}
            run.write("found.json", {**row, "commit": commit()})
        return run.read("found.json")


def with_se(space: Space, architecture: Architecture, ratio: float | None) -> Architecture:
    """The same kernels, expansions and skips with SE taken out (None), or of `ratio` in every layer that has none."""

    def changed(option: Option) -> Option:
        if option.is_identity:
            return option
        return replace(option, se=0.0 if ratio is None else option.se or ratio)

    pairs = zip(space.searchable, space.indices(architecture), strict=True)
    return space.architecture([layer.options.index(changed(layer.options[i])) for layer, i in pairs])


def contenders(protocol: Protocol, seed: int, data: Data, contrast: bool, repeats: int) -> list[Contender]:
    """The networks of a seed: found, random, and for the contrast changed ones, `repeats` trainings of each."""
    made: list[Contender] = []
    for name, space in protocol.spaces.items():
        costs, limit = protocol.costs(name), protocol.budget(name).limit
        found = Architecture.from_dict(searched(protocol, name, seed, data))
        say(f"seed {seed}, {name}: found {space.string(found)}")
        networks = {"found": found}
        drawn = random_networks(
            space, costs, FILL * limit, limit, protocol.networks, generator(seed, f"random networks {name}")
        )
        networks |= {f"random {i}": a for i, a in enumerate(drawn)}
        if contrast and name == WITH:
            networks |= {REMOVED: with_se(space, found, None), EVERYWHERE: with_se(space, found, RATIOS[1])}
        made += [Contender(seed, name, n, a, costs.of(space.indices(a))) for n, a in networks.items()]
    changed = [c for c in made if contrast and c.space == WITH and c.name.startswith("found")]
    return made + [c._replace(repeat=r) for r in range(1, repeats) for c in changed]


def job_of(protocol: Protocol, contender: Contender) -> Job:
    """Its training; equal networks of a seed share one."""
    spec = protocol.spaces[contender.space].network(contender.architecture)
    recipe = get_recipe("base").fitted(protocol.images, protocol.epochs, BATCH)
    again = f"-{contender.repeat}" if contender.repeat else ""
    folder = protocol.folder / f"train-{contender.seed}-{digest(spec.string())}{again}"
    training_seed = contender.seed + 1_000 * contender.repeat
    return Job(
        folder.name, folder, spec, recipe, training_seed, str(protocol.source), protocol.images, contender.seed, 1
    )


def tested(protocol: Protocol, made: Sequence[Contender], data: Data) -> list[Row]:
    """Test accuracy of trained networks of one seed, [0, 1]."""
    rows = []
    for contender in made:
        job = job_of(protocol, contender)

        def figures(job: Job = job) -> Row:
            found = evaluate(train_one(job, data, show=False), data.open_test(), data.preprocess, classes=10)
            return {k: found[k] for k in ("accuracy", "cross_entropy", "images")} | {"commit": commit()}

        rows.append(row_of(protocol, contender) | kept(job.folder / "test.json", figures))
    return rows


def row_of(protocol: Protocol, c: Contender) -> Row:
    """A contender in plain values; `se`: where it has SE, and of what ratio; `se_ms`: what that costs by the table."""
    space, costs = protocol.spaces[c.space], protocol.costs(c.space)
    options = [layer.options[i] for layer, i in zip(space.searchable, space.indices(c.architecture), strict=True)]
    names = [layer.name for layer in space.searchable]
    plain = costs.of(space.indices(with_se(space, c.architecture, None)))
    return {
        "seed": c.seed, "space": c.space, "name": c.name, "repeat": c.repeat, "ms": c.ms,
        "network": space.string(c.architecture),
        "over": not protocol.budget(c.space).holds(c.ms), "layers": sum(t != SKIP for t in c.architecture.choices),
        "se": {n: o.se for n, o in zip(names, options, strict=True) if o.se}, "se_ms": c.ms - plain,
    }  # fmt: skip


def measured(protocol: Protocol, made: Sequence[Contender]) -> dict[str, float]:
    """Measured over predicted latency, the common drift divided out: the mean over the networks of each space."""
    specs = {str(i): protocol.spaces[c.space].network(c.architecture) for i, c in enumerate(made)}

    def figures() -> list[float]:
        timed = time_networks(specs, protocol.table, rounds=5 if protocol.quick else ROUNDS)
        return [float(timed[str(i)].corrected_ms or np.nan) / c.ms for i, c in enumerate(made)]

    path = protocol.folder / f"measured-{digest([s.string() for s in specs.values()])}.json"
    ratios = kept(path, figures)
    return {n: float(np.mean([r for r, c in zip(ratios, made, strict=True) if c.space == n])) for n in protocol.spaces}


# -- what came out ----------------------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, lower, upper): Student's 95 % interval of the mean; without bounds for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, -np.inf, np.inf
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def verdict(lower: float, upper: float) -> str:
    return "better" if lower > 0 else "worse" if upper < 0 else "not different"


def accuracies(rows: Sequence[Row], space: str, kind: str, seed: int | None = None) -> np.ndarray:
    """Per cent, of the found or the random networks of a space."""
    mine = [r for r in rows if r["space"] == space and r["name"].startswith(kind) and seed in (None, r["seed"])]
    return 100 * np.array([r["accuracy"] for r in mine if r["name"] not in (REMOVED, EVERYWHERE) and not r["repeat"]])


def summary(rows: Sequence[Row], space: str, seeds: Sequence[int]) -> Row:
    """A space's figures: accuracies in per cent, RI in per cent by seed, Welch's test of found against random."""
    by_seed, random = [], accuracies(rows, space, "random")
    for seed in seeds:
        found, rivals = accuracies(rows, space, "found", seed)[0], accuracies(rows, space, "random", seed)
        ri = 100 * (found - rivals.mean()) / rivals.mean()
        spread = float(np.std(rivals, ddof=1)) if len(rivals) > 1 else 0.0
        by_seed.append({"seed": seed, "found": found, "random": rivals.mean(), "random_sd": spread, "ri": float(ri)})
    found = accuracies(rows, space, "found")
    ri = judged([s["ri"] for s in by_seed])
    welch: Any = stats.ttest_ind(found, random, equal_var=False) if len(found) > 1 else None
    return {
        "by_seed": by_seed, "found": float(found.mean()), "random": float(random.mean()),
        "random_sd": float(np.std(random, ddof=1)), "random_best": float(random.max()), "ri": ri["mean"],
        "ri_interval": ri["interval"], "verdict": ri["verdict"],
        "welch_p": float(welch.pvalue) if welch is not None else None,
    }  # fmt: skip


def compared(rows: Sequence[Row], seeds: Sequence[int]) -> Row:
    """Found with SE less found without, points of accuracy, paired by seed."""
    gaps = [float(np.subtract(*(accuracies(rows, s, "found", seed)[0] for s in (WITH, WITHOUT)))) for seed in seeds]
    return {"by_seed": gaps} | judged(gaps)


def judged(gaps: Sequence[float]) -> Row:
    """The mean of gaps, its interval and the verdict."""
    mean, lower, upper = interval(gaps)
    return {"mean": mean, "interval": [lower, upper] if len(gaps) > 1 else None, "verdict": verdict(lower, upper)}


def contrasted(rows: Sequence[Row], contrast: str) -> Row | None:
    """The found network less its contrast, points of accuracy: a seed's mean over its trainings and the standard error
    of that; over the seeds Student's interval. None where there is no contrast, or it is the same network."""
    same = {(r["seed"], r["network"]) for r in rows if r["name"] == "found" and r["space"] == WITH}

    def trained(name: str, seed: int) -> np.ndarray:
        mine = [r for r in rows if r["space"] == WITH and r["name"] == name and r["seed"] == seed]
        return 100 * np.array([r["accuracy"] for r in sorted(mine, key=lambda r: r["repeat"])])

    by_seed = []
    for seed in sorted({r["seed"] for r in rows if r["name"] == contrast and (r["seed"], r["network"]) not in same}):
        found, other = trained("found", seed), trained(contrast, seed)
        error = math.hypot(*(np.std(v, ddof=1) / len(v) ** 0.5 for v in (found, other))) if len(found) > 1 else None
        gap = float(found.mean() - other.mean())
        by_seed.append(dict(seed=seed, found=found.tolist(), contrast=other.tolist(), gap=gap, error=error))
    return {"by_seed": by_seed} | judged([s["gap"] for s in by_seed]) if by_seed else None


def bounds(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})"


def show(
    rows: Sequence[Row], found: dict[str, Row], against: Row, contrasts: dict[str, Row], limit: float,
    ratios: dict[str, float],
) -> None:  # fmt: skip
    shown = [
        [f"{name}, seed {s['seed']}", s["found"], s["random"], s["random_sd"], s["ri"]]
        for name, f in found.items() for s in f["by_seed"]
    ]  # fmt: skip
    shown += [[f"{name}, mean", f["found"], f["random"], f["random_sd"], f["ri"]] for name, f in found.items()]
    cells = [[r[0], *(f"{v:.2f}" for v in r[1:])] for r in shown]
    print(table(["test accuracy, %", "found", "random", "sd of random", "RI, %"], cells), "\n")
    for row in [r for r in rows if r["name"].startswith("found") and not r["repeat"]]:
        where = ", ".join(f"{layer}: {ratio:g}" for layer, ratio in row["se"].items()) or "nowhere"
        share = f"{row['se_ms'] / row['ms']:.1%} of the latency" if row["se"] else ""
        print(
            f"seed {row['seed']}, {row['space']}, {row['name']}: {100 * row['accuracy']:.2f} %, {row['ms']:.4f} ms"
            f"{' (OVER)' if row['over'] else ''}, {row['layers']} layers; SE {where} {share}".rstrip()
        )
    print()
    for name, f in found.items():
        p = "" if f["welch_p"] is None else f"; Welch's test of the accuracies: p = {f['welch_p']:.3f}"
        print(f"{name}: RI {f['ri']:.2f} %{bounds(f['ri_interval'])}: {f['verdict']} over {len(f['by_seed'])} seeds{p}")
    gap = f"{against['mean']:+.2f} points{bounds(against['interval'])}"
    print(f"found with SE less found without: {gap}: {against['verdict']}")
    for name, contrast in contrasts.items():
        errors = ["" if s["error"] is None else f" ± {s['error']:.2f}" for s in contrast["by_seed"]]
        gaps = ", ".join(f"{s['gap']:+.2f}{e}" for s, e in zip(contrast["by_seed"], errors, strict=True))
        mean = f"mean {contrast['mean']:+.2f}{bounds(contrast['interval'])}: {contrast['verdict']}"
        print(f"found less {name}, points by seed: {gaps}; {mean}")
    off = ", ".join(f"{n} {v:.3f}" for n, v in ratios.items())
    print(f"budget {limit:.4f} ms; measured over predicted latency: {off}\n")


def above_zero(name: str, value: float) -> Check:
    return Check(name, value, 0.0, bool(value > 0))


def main() -> int:
    options = parser(__doc__)
    add = options.add_argument
    add("--seeds", type=int, default=3)
    add("--images", type=int, default=8_000, help="training images, held-out ones included")
    add("--epochs", type=int, default=8, help="of a final training")
    add("--search-epochs", type=int, default=6, help="a batch of the default search goes through four networks")
    add("--width", type=float, default=0.5)
    add("--share", type=float, default=0.6, help="the budget, of the largest network's latency without SE")
    add("--networks", type=int, default=3, help="random networks of each space a seed")
    add("--contrast", type=int, default=0, metavar="N", help="seeds that train the found network with SE changed too")
    add("--repeats", type=int, default=1, metavar="R", help="trainings of the found network and of those changed ones")
    add("--out", type=Path, default=Path("runs/se-study"))
    add("--data", type=Path, default=Path(os.environ.get("SINGLEPATH_DATA", "../shared/data")))
    args = options.parse_args()
    if args.repeats > 1 and not args.contrast:
        options.error("--repeats is of the contrast's networks: type --contrast 3 too")
    one_thread()
    keep_memory()
    args.seeds = min(args.seeds, 1) if args.quick else args.seeds
    protocol, seeds = Protocol.of(args), range(args.seed, args.seed + args.seeds)
    made: list[Contender] = []
    for seed in seeds:
        data = protocol.data(seed)
        mine = contenders(protocol, seed, data, seed - args.seed < args.contrast, args.repeats)
        for number, contender in enumerate(mine, start=1):
            train_one(job_of(protocol, contender), data, show=False)
            say(f"seed {seed}: {number} of {len(mine)} networks trained, {contender.space}, {contender.name}")
        made += mine
    rows = [r for seed in seeds for r in tested(protocol, [c for c in made if c.seed == seed], protocol.data(seed))]
    found = {name: summary(rows, name, seeds) for name in protocol.spaces}
    against, limit = compared(rows, seeds), protocol.budget(WITH).limit
    ratios = measured(protocol, [c for c in made if not c.repeat])
    contrasts = {name: row for name in (REMOVED, EVERYWHERE) if (row := contrasted(rows, name))}
    show(rows, found, against, contrasts, limit, ratios)
    kept_to = [r for r in rows if r["name"] not in (REMOVED, EVERYWHERE) and not r["repeat"]]
    checks = [above_zero(f"RI {name}, %, mean over seeds", f["ri"]) for name, f in found.items()]
    checks.append(at_most("networks over budget", sum(r["over"] for r in kept_to), 0))
    return finish(
        args, checks, results=found, with_against_without=against, contrasts=contrasts, rows=rows, budget_ms=limit,
        measured_over_predicted=ratios, table_error=protocol.table.validation and protocol.table.validation.error95,
        protocol={k: str(v) for k, v in vars(protocol).items() if k in Protocol.__dataclass_fields__},
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
