"""What a pass of a whole search costs beside a pass of the largest child: closed work is not computed.

The search runs on `macro` under 60 % of its largest network's MACs (the reduced protocol of `macro`) with its gates
trained in the second half (`select` = gates), so that it has every kind of step: sandwich steps of four passes, as the
default search and `macro_ranking` and `macro_regret` have them from end to end, weight steps and decision steps. Its
own steps are timed at places spread over its course, with the gates it had there. The floor is a training step of the
largest plain child on the same batch; a second, identical floor is the control. In every round each step is repeated,
all of them interleaved in random order, and its least process CPU time counts (the same child and batch every time, so
least is what was not disturbed); a kind's figure is its mean over rounds, because children differ, by that of floor and
control, for each of its passes. A control outside 0.97 to 1.03 ends as `inconclusive`, exit status 3. Beside it:
wall-clock of whole epochs, data included, and the selection's cost.

With --study, instead: what probing off gates less often does to decisions. Every off gate is probed in each decision
step, in every second, or in every fifth (setting `probe`: at random, weighted by 1 / probability). Decisions are read
off the gates alone: the regret of their network under the budget, and Kendall's tau of their log-probability with the
table's accuracies inside MACs deciles. Probes change nothing before the gates are trained, so the settings of a seed
share the first half of the search. Shorter than the searches above, because there are `--seeds` times three:
`--study-images` images and `--study-epochs` epochs before the gates and as many with them.

Resumable: searches are run folders under `--out`.

    python benchmarks/search_cost.py --json
    python benchmarks/search_cost.py --study --json
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import at_most, finish, one_thread, parser, table
from macro import (
    SETTINGS,
    Protocol,
    Searched,
    Truth,
    add_options,
    budget_of,
    children,
    full_costs,
    loaded,
    problem_of,
    searched,
    taus,
)  # fmt: skip
from search_step import CONTROL, INCONCLUSIVE, Step, Subject, seconds, training
from singlepath.blocks import build as build_plain
from singlepath.data import Batch, Data, batches
from singlepath.pipeline.setup import keep_memory
from singlepath.runs import Run
from singlepath.search import single_path
from singlepath.search.base import Problem, State, search_recipe
from singlepath.search.scoring import Scorer, gate_utility
from singlepath.search.selection import select
from singlepath.supernet import Supernet
from singlepath.training.loop import fit

PASS = 0.8  # limit, largest child = 1
SHARE = 0.6  # of the largest network's MACs
DEFAULT = float(single_path.DEFAULTS["probe"])
PROBES = (1.0, 0.5, DEFAULT)  # of an off gate in a decision step; the study compares the later ones with the first
GATED: dict[str, Any] = {**SETTINGS, "warm_up": 0.5, "select": "gates"}  # a search with every kind of step
REPEATS = 3
WARM_UP, WEIGHT, DECISION = "sandwich", "weight", "decision"
IN_STEP = {WARM_UP: children(GATED), WEIGHT: 1, DECISION: 1}  # passes


class Course:
    """A finished search, and its own steps at any place of its course, with the gates it had there.

    Attributes:
        steps, passes: how many it made, a pass being one of a batch; a sandwich step has four.
    """

    def __init__(self, problem: Problem, found: Searched, run: Run) -> None:
        self.problem, self.state, self.steps = problem, found.state, found.steps
        self.net: Supernet = found.state["model"]
        self.warm_up = single_path.warm_up_steps(problem, search_recipe(problem), found.state["steps_per_epoch"])
        names = [g.name for g in self.net.gates]
        self.passes = sum(IN_STEP[self.phase(s)] for s in range(self.steps))
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


def course_of(args: argparse.Namespace, protocol: Protocol, seed: int, data: Data) -> Course:
    """The search at the budget with gates in its second half, run or read back."""
    problem = problem_of(protocol, seed, data, budget_of(SHARE * full_costs().largest), GATED)
    config = {"passes": protocol.passes, "seed": seed, "width": protocol.width, "budget": SHARE, **GATED}
    folder = args.out / f"seed{seed}-{protocol.label}-gated"
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
    """Mean over rounds of the phases' steps, each times its share, over that of floor and control, with its 90 %
    bootstrap interval."""
    floor = (taken["floor"] + taken["control"]) / 2
    subject = sum((share * taken[name] for name, share in shares.items()), np.zeros(len(taken["floor"])))
    draws = rng.integers(len(subject), size=(2000, len(subject)))
    spread = subject[draws].mean(1) / floor[draws].mean(1)
    lower, upper = np.quantile(spread, [0.05, 0.95])
    return {"ratio": float(subject.mean() / floor.mean()), "lower": float(lower), "upper": float(upper)}


def shares_of(course: Course) -> dict[str, float]:
    """The phases' shares of the search's steps."""
    kinds = [course.phase(s) for s in range(course.steps)]
    return {p: kinds.count(p) / len(kinds) for p in (WARM_UP, WEIGHT, DECISION)}


def wall(course: Course, chunks: int, length: int) -> dict[str, float]:
    """Wall-clock of the search's epochs over the largest child's, data included, per pass: chunks side by side."""
    problem, per_epoch = course.problem, course.state["steps_per_epoch"]
    plan, recipe = single_path.plan(problem, course.state), search_recipe(problem)
    spent, made = {"search": 0.0, "largest": 0.0}, {"search": 0, "largest": 0}  # seconds, passes
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
            made["search"] += IN_STEP[course.phase(course.state["step"])]
            course.state["step"] += 1
        between = time.perf_counter()
        for _ in itertools.islice(plain, length):
            floor.step()  # on its own batch: the stream's is read for its time
            made["largest"] += 1
        spent["search"] += between - started
        spent["largest"] += time.perf_counter() - between
    each = {k: 1e3 * spent[k] / made[k] for k in spent}
    return {"ratio": each["search"] / each["largest"], **{f"{k}_ms_a_pass": v for k, v in each.items()}}


def endless(problem: Problem, augment: Any, size: int, epoch: int) -> Iterator[Batch]:
    """The largest child's training batches, epoch after epoch."""
    for number in itertools.count(epoch):
        yield from batches(
            problem.data.train, problem.data.preprocess, batch_size=size, seed=problem.seed, epoch=number,
            augment=augment, device=problem.device,
        )  # fmt: skip


def chosen(problem: Problem, net: Supernet, truth: Truth, method: str, candidates: int | None) -> dict[str, Any]:
    """What a selection reads off the finished search, and what that took."""
    scorer, clock = Scorer.of(problem, net), time.process_time
    clock = clock if problem.device == "cpu" else time.perf_counter
    started = clock()
    found = select(problem, net, method, candidates or single_path.candidates_of(problem), scorer)
    spent, scored = clock() - started, len(scorer.known)
    i, budget = truth.index(found.architecture), problem.budget.limit
    images = sum(len(b.y) for b in scorer.held_out) + sum(len(x) for x in scorer.calibration)
    return {
        "network": truth.digits(i), "regret": truth.best(budget) - float(truth.accuracy[i]),
        "over": bool(truth.mmacs[i] > budget), "held_out_cross_entropy": scorer(found.architecture),
        "scored": scored, "images": scored * images, "seconds": spent,
    }  # fmt: skip


# -- probing less -----------------------------------------------------------------------------------------------------


def study(args: argparse.Namespace, protocol: Protocol) -> int:
    """What probing off gates less often does to what the gates say, over seeds."""
    truth, rows = Truth.load(args.data), list[dict[str, Any]]()
    for seed in range(args.seed, args.seed + args.seeds):
        data = loaded(protocol, seed)
        budget = budget_of(SHARE * full_costs().largest)
        problem = replace(problem_of(protocol, seed, data, budget, GATED), epochs=2 * args.study_epochs)
        folder = args.out / f"study{seed}-{protocol.limit}x{args.study_epochs}"
        before = half(problem, folder / "before", args.study_epochs)
        for probe in PROBES:
            mine = replace(problem, settings={**GATED, "probe": probe})
            state = half(mine, folder / f"probe{probe:g}", 2 * args.study_epochs, copy.deepcopy(before))
            rows.append({"seed": seed, "probe": probe, "decisions": state["decisions"], **said(mine, state, truth)})
    return judged(args, rows)


def half(problem: Problem, folder: Path, epochs: int, state: State | None = None) -> State:
    """The search up to an epoch, from its start or on with a state; made or read back, resumable."""
    method = single_path.METHOD
    state = method.start(problem) if state is None else state
    plan = method.plan(problem, state)
    state["steps_per_epoch"] = plan.steps_per_epoch
    options = {"epochs": epochs, "seed": problem.seed, **problem.settings, "threads": torch.get_num_threads()}
    with Run.open(folder, options, resume=(folder / "config.yaml").is_file()) as run:
        return fit(
            state, lambda s, b: method.step(problem, s, b), plan.batches, epochs=epochs,
            steps_per_epoch=plan.steps_per_epoch, tag="search", run=run, log=plan.log, log_steps=plan.log_steps,
        )  # fmt: skip


def said(problem: Problem, state: State, truth: Truth) -> dict[str, Any]:
    """What the gates of a finished search say, beside the truth."""
    found = chosen(problem, state["model"], truth, "gates", 0)
    utility = gate_utility(state["model"])
    places = [truth.space.indices(a) for a in truth.networks]
    log_p = np.array([sum(u[o] for u, o in zip(utility, p, strict=True)) for p in places])
    overall, inside = taus(log_p, truth.accuracy, truth.mmacs)
    kept = ("network", "regret", "over", "held_out_cross_entropy")
    return {k: found[k] for k in kept} | {"tau": overall, "tau_in_deciles": inside}


def judged(args: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> int:
    """The study's table and checks: no worse than probing in every step beyond the seeds' spread."""
    figures = ("regret", "tau_in_deciles", "tau", "held_out_cross_entropy")
    found = {p: {k: spread([r[k] for r in rows if r["probe"] == p]) for k in figures} for p in PROBES}
    shown = [[f"{p:g}", *(f"{mean:.3f} (sd {sd:.3f})" for mean, sd in f.values())] for p, f in found.items()]
    print(table(["probed with probability", *figures], shown), "\n")
    checks = [at_most("networks over budget", sum(r["over"] for r in rows), 0)]
    for probe in PROBES[1:] if args.seeds > 1 else ():
        for name, sign, word in (("regret", 1, "above"), ("tau_in_deciles", -1, "below")):
            (mean, sd), (every, every_sd) = found[probe][name], found[1.0][name]
            checks.append(
                at_most(f"probe {probe:g}: {name} {word} every step's", sign * (mean - every), max(sd, every_sd))
            )
    return finish(args, checks, rows=list(rows), by_probe={f"{p:g}": f for p, f in found.items()})


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation over seeds; 0 for one)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def main() -> int:
    options = parser(__doc__)
    add_options(options, "runs/search-cost")
    options.add_argument("--rounds", type=int, default=60, help="places of each phase that are timed")
    options.add_argument("--study", action="store_true", help="decision quality when off gates are probed less often")
    options.add_argument(
        "--study-images", type=int, default=10_000, help="training images of it, held-out ones included"
    )
    options.add_argument("--study-epochs", type=int, default=4, help="epochs of it before the gates, and with them")
    args = options.parse_args()
    one_thread()
    keep_memory()
    if args.quick:
        args.rounds, args.seeds, args.study_images, args.study_epochs = 4, min(args.seeds, 2), 1_000, 1
    protocol = Protocol.of(args, args.out)
    if args.study:
        return study(args, replace(protocol, limit=args.study_images))
    return timed(args, protocol)


def timed(args: argparse.Namespace, protocol: Protocol) -> int:
    """The promises on time."""
    chunks, length, candidates = (2, 4, 6) if args.quick else (12, 40, None)
    truth, rng = Truth.load(args.data), np.random.default_rng(args.seed)
    data = loaded(protocol, args.seed)
    course = course_of(args, protocol, args.seed, data)
    method = single_path.DEFAULTS["select"]
    selection = chosen(course.problem, course.net, truth, method, candidates)  # before its weights are moved
    batch = next(endless(course.problem, None, min(len(data.val), search_recipe(course.problem).batch_size), 0))
    taken = measured(course, batch, args.rounds, rng)
    shares = shares_of(course)
    phases = {n: ratio(taken, {n: 1 / IN_STEP.get(n, 1)}, rng) for n in taken if n not in ("floor", "control")}
    in_step = sum(share * IN_STEP[n] for n, share in shares.items())
    whole = {
        "default search, as macro_ranking and macro_regret": phases[WARM_UP],
        "search with gates": ratio(taken, {n: share / in_step for n, share in shares.items()}, rng),
    }
    control = float(taken["control"].mean() / taken["floor"].mean())
    pass_seconds = float(taken["floor"].mean()) / len(batch.y)
    selection["largest_child_passes"] = round(selection["seconds"] / pass_seconds)
    clock = wall(course, chunks, length)
    show(phases, whole, shares, selection, clock, control, course)
    promised = [at_most(f"pass / pass of the largest child, {n}", v["ratio"], PASS) for n, v in whole.items()]
    status = finish(
        args, promised, pass_=whole, phases=phases, shares=shares, control=control, wall=clock,
        selection=selection, budget=course.problem.budget.limit, passes=course.passes * len(batch.y),
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
        f"{selection['largest_child_passes']:,} passes of the largest child beside the search's "
        f"{course.passes * 64:,}; it chose {selection['network']}, regret {selection['regret']:.2f}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
