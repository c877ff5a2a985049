"""What a pass of a whole search costs beside a pass of the largest child: closed work is not computed.

The default search runs on `macro` under 60 % of its largest network's MACs (the reduced protocol of `macro`). Then its
own steps are timed at places spread over its course, with the gates it had there: warm-up steps, weight steps and
decision steps. The floor is a training step of the largest plain child on the same batch; a second, identical floor is
the control. In every round each step is repeated, all of them interleaved in random order, and its least process CPU
time counts (the same child and batch every time, so least is what was not disturbed); a phase's figure is its mean
over rounds, because children differ, by that of floor and control. A pass is the phases' mean by their share of the
steps: of the default search, and of the one that `macro_ranking` and `macro_regret` read (all of it warm-up). A control
outside 0.97 to 1.03 ends as `inconclusive`, exit status 3.

Beside it: wall-clock of whole epochs, data included; the selection's cost; and with --study the quality of decisions
when off gates are probed with probability 1, 1/2 and the default's (settings `probe`; one whole search a seed and
setting). Resumable: searches are run folders under `--out`.

    python benchmarks/search_cost.py --json
    python benchmarks/search_cost.py --study --json
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from common import Check, at_most, finish, one_thread, parser, table
from macro import SETTINGS, Protocol, Searched, Truth, add_options, budget_of, full_costs, loaded, problem_of, searched
from search_step import CONTROL, INCONCLUSIVE, Step, Subject, seconds, training
from singlepath.blocks import build as build_plain
from singlepath.data import Batch, Data, batches
from singlepath.pipeline.setup import keep_memory
from singlepath.runs import Run
from singlepath.search import single_path
from singlepath.search.base import Problem, search_recipe
from singlepath.search.scoring import Scorer
from singlepath.search.selection import select
from singlepath.supernet import Supernet

PASS = 0.8  # limit, largest child = 1
SHARE = 0.6  # of the largest network's MACs
DEFAULT = float(single_path.DEFAULTS["probe"])
PROBES = (1.0, 0.5, DEFAULT)  # the study compares the later ones with the first
REPEATS = 3
WARM_UP, WEIGHT, DECISION = "warm-up", "weight", "decision"


class Course:
    """A finished search, and its own steps at any place of its course, with the gates it had there."""

    def __init__(self, problem: Problem, found: Searched, run: Run) -> None:
        self.problem, self.state, self.steps = problem, found.state, found.steps
        self.net: Supernet = found.state["model"]
        self.warm_up = single_path.warm_up_steps(problem, search_recipe(problem), found.state["steps_per_epoch"])
        names = [g.name for g in self.net.gates]
        logged = [(r["step"], [r["gates"][n] for n in names]) for r in run.metrics() if r.get("phase") == "search"]
        self.logged = [(s, torch.tensor(p)) for s, p in logged]

    def phase(self, step: int) -> str:
        if step < self.warm_up:
            return WARM_UP
        return DECISION if single_path.is_decision(self.problem, step, self.warm_up) else WEIGHT

    def places(self, phase: str, count: int, rng: np.random.Generator) -> list[int]:
        """Random steps of a phase, evenly spread; none where the search has no such phase."""
        steps = [s for s in range(self.steps) if self.phase(s) == phase]
        parts = [p for p in np.array_split(np.array(steps), count) if len(p)]
        return [int(rng.choice(p)) for p in parts]

    def go_to(self, step: int, settings: dict[str, Any] | None = None) -> Problem:
        """Put the search's step counter and gates to where they were; the problem with other settings."""
        probability = min(self.logged, key=lambda row: abs(row[0] - step))[1].clamp(1e-3, 1 - 1e-3)
        self.net.thresholds.copy_(self.net.ratios() - torch.logit(probability).to(self.net.thresholds.device))
        self.state |= {"step": step, "probability": torch.sigmoid(self.net.indicators()).cpu(), "gates": {}}
        return replace(self.problem, settings={**self.problem.settings, **(settings or {})})

    def at(self, step: int, batch: Batch, settings: dict[str, Any] | None = None) -> Step:
        """The search's own step of that place on a batch; it can be repeated."""

        def run() -> None:
            single_path.step(problem, self.state, single_path.SearchBatch(batch, held_out))

        problem, held_out = self.go_to(step, settings), self.phase(step) == DECISION
        return run


# -- the search -------------------------------------------------------------------------------------------------------


def course_of(args: argparse.Namespace, protocol: Protocol, seed: int, data: Data, probe: float) -> Course:
    """The default search at the budget with its off gates probed that often, run or read back."""
    settings = {"probe": probe}
    problem = problem_of(protocol, seed, data, budget_of(SHARE * full_costs().largest), settings)
    config = {"passes": protocol.passes, "seed": seed, "width": protocol.width, "budget": SHARE, "probe": probe}
    folder = args.out / f"seed{seed}-{protocol.label}-probe{probe:g}"
    found = searched("single-path", problem, folder, config)
    with Run.open(folder, {**config, "threads": torch.get_num_threads()}, resume=True) as run:
        return Course(problem, found, run)


def floors(course: Course, batch: Batch, seed: int) -> list[Subject]:
    """Training steps of the largest plain child: the floor and its control."""
    space, device = course.problem.space, course.problem.device
    return [training(build_plain(space.network(space.largest()), seed), batch, device) for _ in range(2)]


# -- time -------------------------------------------------------------------------------------------------------------


def measured(course: Course, batch: Batch, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Least seconds of every step in each round: floor, control, the phases, decisions with fewer probes."""
    floor, control = floors(course, batch, course.problem.seed)
    kinds: list[tuple[str, str, dict[str, Any]]] = [(p, p, {}) for p in (WARM_UP, WEIGHT, DECISION)]
    kinds += [(f"decision, probe {p:g}", DECISION, {"probe": p}) for p in PROBES if p != DEFAULT]
    places = {p: course.places(p, count, rng) for p in (WARM_UP, WEIGHT, DECISION)}
    assert all(places.values()), "the search is too short to have every kind of step"
    taken: dict[str, list[float]] = {n: [] for n in ("floor", "control", *(k[0] for k in kinds))}
    for subject in (floor, control):
        subject.step()
    for i in range(count):
        least = dict.fromkeys(taken, np.inf)
        for repeat in range(REPEATS + 1):  # the first of them warms up
            for j in rng.permutation(len(taken)):
                name = list(taken)[j]
                if j < 2:
                    step = (floor, control)[j].step
                else:
                    _, phase, settings = kinds[j - 2]
                    step = course.at(places[phase][i % len(places[phase])], batch, settings)
                spent = seconds(step, course.problem.device)
                least[name] = min(least[name], spent) if repeat else np.inf
        for name, value in least.items():
            taken[name].append(float(value))
    return {name: np.array(values) for name, values in taken.items()}


def ratio(taken: dict[str, np.ndarray], shares: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Mean over rounds of the phases, weighted, over that of floor and control, with its 90 % bootstrap interval."""
    floor = (taken["floor"] + taken["control"]) / 2
    subject = sum((share * taken[name] for name, share in shares.items()), np.zeros(len(taken["floor"])))
    draws = rng.integers(len(subject), size=(2000, len(subject)))
    spread = subject[draws].mean(1) / floor[draws].mean(1)
    lower, upper = np.quantile(spread, [0.05, 0.95])
    return {"ratio": float(subject.mean() / floor.mean()), "lower": float(lower), "upper": float(upper)}


def shares_of(course: Course) -> dict[str, float]:
    """The phases' shares of the search's steps, each one pass of a batch."""
    kinds = [course.phase(s) for s in range(course.steps)]
    return {p: kinds.count(p) / len(kinds) for p in (WARM_UP, WEIGHT, DECISION)}


def wall(course: Course, chunks: int, length: int) -> dict[str, float]:
    """Wall-clock of the search's epochs over the largest child's, data included, per pass: chunks side by side."""
    problem, per_epoch = course.problem, course.state["steps_per_epoch"]
    plan, recipe = single_path.plan(problem, course.state), search_recipe(problem)
    spent = {"search": 0.0, "largest": 0.0}
    floor: Subject | None = None
    for i in range(chunks):
        first = round((course.steps - length - 1) * i / max(1, chunks - 1))
        epoch, start = divmod(max(0, first), per_epoch)
        own = course.go_to(first)
        stream = itertools.chain.from_iterable(plan.batches(e, start if e == epoch else 0) for e in (epoch, epoch + 1))
        plain = endless(problem, recipe.augment(problem.data), recipe.batch_size, epoch)
        ahead = [next(plain)]  # what sets a stream up is not counted
        floor = floor or floors(course, ahead[0], problem.seed)[0]
        next(stream)
        course.state["step"] += 1
        started = time.perf_counter()
        for batch in itertools.islice(stream, length):
            single_path.step(own, course.state, batch)
            course.state["step"] += 1
        between = time.perf_counter()
        for _ in itertools.islice(plain, length):
            floor.step()  # on its own batch: the stream's is read for its time
        spent["search"] += between - started
        spent["largest"] += time.perf_counter() - between
    each = chunks * length
    return {"ratio": spent["search"] / spent["largest"], **{f"{k}_ms_a_step": 1e3 * v / each for k, v in spent.items()}}


def endless(problem: Problem, augment: Any, size: int, epoch: int) -> Iterator[Batch]:
    """The largest child's training batches, epoch after epoch."""
    for number in itertools.count(epoch):
        yield from batches(
            problem.data.train, problem.data.preprocess, batch_size=size, seed=problem.seed, epoch=number,
            augment=augment, device=problem.device,
        )  # fmt: skip


def chosen(course: Course, truth: Truth, method: str, candidates: int) -> dict[str, Any]:
    """What a selection reads off the finished search, and what that took."""
    scorer, clock = Scorer.of(course.problem, course.net), time.process_time
    clock = clock if course.problem.device == "cpu" else time.perf_counter
    started = clock()
    found = select(course.problem, course.net, method, candidates, scorer)
    spent, scored = clock() - started, len(scorer.known)
    i, budget = truth.index(found.architecture), course.problem.budget.limit
    images = sum(len(b.y) for b in scorer.held_out) + sum(len(x) for x in scorer.calibration)
    return {
        "network": truth.digits(i), "regret": truth.best(budget) - float(truth.accuracy[i]),
        "over": bool(truth.mmacs[i] > budget), "held_out_cross_entropy": scorer(found.architecture),
        "scored": scored, "images": scored * images, "seconds": spent,
    }  # fmt: skip


# -- probing less -----------------------------------------------------------------------------------------------------


def study(args: argparse.Namespace, protocol: Protocol, truth: Truth, candidates: int) -> tuple[list[Check], Any]:
    """Decision quality by how often off gates are probed: the gates' own choice, and the score's, over seeds."""
    rows: list[dict[str, Any]] = []
    for seed in range(args.seed, args.seed + args.seeds):
        data = loaded(protocol, seed)
        for probe in PROBES:
            course = course_of(args, protocol, seed, data, probe)
            picks = {m: chosen(course, truth, m, candidates) for m in ("gates", "score")}
            rows.append({"seed": seed, "probe": probe, **picks})
    found, checks, shown = {}, list[Check](), []
    for probe in PROBES:
        mine = [r for r in rows if r["probe"] == probe]
        found[probe] = {
            f"{m}, {k}": spread([r[m][k] for r in mine]) for m in ("gates", "score")
            for k in ("regret", "held_out_cross_entropy")
        }  # fmt: skip
        shown.append([probe, *(f"{a:.3f} (sd {s:.3f})" for a, s in found[probe].values())])
    print(table(["probe", *found[1.0]], shown), "\n")
    for probe in PROBES[1:] if args.seeds > 1 else ():
        for name in ("gates, held_out_cross_entropy", "score, held_out_cross_entropy"):
            (mean, sd), (all_of, all_sd) = found[probe][name], found[1.0][name]
            checks.append(at_most(f"probe {probe:g}: {name} above every step's", mean - all_of, max(sd, all_sd)))
    return checks, {"rows": rows, "by_probe": {f"{p:g}": v for p, v in found.items()}}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation over seeds; 0 for one)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def main() -> int:
    options = parser(__doc__)
    add_options(options, "runs/search-cost")
    options.add_argument("--rounds", type=int, default=60, help="places of each phase that are timed")
    options.add_argument("--study", action="store_true", help="decision quality when off gates are probed less often")
    args = options.parse_args()
    one_thread()
    keep_memory()
    count, chunks, length, candidates = args.rounds, 12, 40, single_path.DEFAULTS["candidates"]
    if args.quick:
        count, chunks, length, candidates, args.seeds = 4, 2, 4, 6, min(args.seeds, 2)
    protocol, truth, rng = Protocol.of(args, args.out), Truth.load(args.data), np.random.default_rng(args.seed)
    data = loaded(protocol, args.seed)
    course = course_of(args, protocol, args.seed, data, DEFAULT)
    selection = chosen(course, truth, single_path.DEFAULTS["select"], candidates)  # before its weights are moved
    checks, more = study(args, protocol, truth, candidates) if args.study else ([], None)
    batch = next(endless(course.problem, None, min(len(data.val), search_recipe(course.problem).batch_size), 0))
    taken = measured(course, batch, count, rng)
    shares = shares_of(course)
    phases = {n: ratio(taken, {n: 1.0}, rng) for n in taken if n not in ("floor", "control")}
    whole = {
        "default search": ratio(taken, shares, rng),
        # a quarter of its passes is the largest child's; the smallest's counts as a drawn one's, so this is a bound
        "as macro_ranking and macro_regret": ratio(taken, {"control": 0.25, WARM_UP: 0.75}, rng),
    }
    assert SETTINGS == {"warm_up": 1.0, "sandwich": True}  # of the latter
    control = float(taken["control"].mean() / taken["floor"].mean())
    pass_seconds = float(taken["floor"].mean()) / len(batch.y)
    selection["largest_child_passes"] = round(selection["seconds"] / pass_seconds)
    clock = wall(course, chunks, length)
    show(phases, whole, shares, selection, clock, control, course)
    promised = [at_most(f"pass / pass of the largest child, {n}", v["ratio"], PASS) for n, v in whole.items()]
    status = finish(
        args, [*promised, *checks], pass_=whole, phases=phases, shares=shares, control=control, wall=clock,
        selection=selection, study=more, budget=course.problem.budget.limit, passes=course.steps * len(batch.y),
        inconclusive=not CONTROL[0] <= control <= CONTROL[1], floor_seconds=float(taken["floor"].mean()),
    )  # fmt: skip
    return status if CONTROL[0] <= control <= CONTROL[1] else INCONCLUSIVE


def show(
    phases: dict[str, dict[str, float]], whole: dict[str, dict[str, float]], shares: dict[str, float],
    selection: dict[str, Any], clock: dict[str, float], control: float, course: Course,
) -> None:  # fmt: skip
    rows = [[n, v["ratio"], v["lower"], v["upper"], shares.get(n, 0.0)] for n, v in phases.items()]
    rows += [[n, v["ratio"], v["lower"], v["upper"], 1.0] for n, v in whole.items()]
    print(table(["time of a pass / largest child", "ratio", "lower", "upper", "share"], rows))
    print(f"control {control:.3f}; wall-clock of an epoch, data included: {clock['ratio']:.3f} of the largest child's")
    print(
        f"selection apart: {selection['scored']} networks, {selection['images']:,} images forward, as much as "
        f"{selection['largest_child_passes']:,} passes of the largest child beside the search's {course.steps * 64:,}; "
        f"it chose {selection['network']}, regret {selection['regret']:.2f}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
