"""One trial of a tuning: a short search in a run folder of its own, what it cost, and what it came to.

No setting that is tuned acts before the warm-up's end. So its whole epochs are trained once, in a folder of their own,
and every trial goes on from there, with draws of its own: the same settings twice are two readings. With the same draws
for all, many settings end at the same few networks, and where those lie on both sides of the target none hits it.

A trial with a constant coefficient is read after each of its last `READ` decision steps, not at its end alone: its most
probable network moves there by about a tenth of its cost, and the weights are trained to the end in any case. Its
network is the last that hits the target; where none does, the last of the nearest at or below it.

An image pass is one image, forward and backward. A pass that is only forward, when a network is scored, counts a third.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.errors import SinglepathError
from singlepath.pipeline.checking import FORWARD
from singlepath.pipeline.progress import note, progress
from singlepath.runs import Run, load_checkpoint, read_json
from singlepath.search import METHODS, Found, Problem, run_search
from singlepath.search import single_path as sp
from singlepath.search.base import Method, Plan, State
from singlepath.search.hyper import Outcome, hits
from singlepath.search.ledger import Ledger
from singlepath.search.paper import schedule_of
from singlepath.search.proposals import Range
from singlepath.search.scoring import HELD_OUT, RECALIBRATION, Scorer
from singlepath.supernet import Supernet
from singlepath.training.loop import fit, restore

__all__ = [
    "RANGES", "SHORT", "Trials", "all_passes", "alone", "counted", "epochs_within", "finished", "read_off",
    "scored_passes", "scorer_of", "share_of", "shared_epochs",
]  # fmt: skip

# what is tuned, by mode; the coefficient comes first
RANGES: dict[str, dict[str, Range]] = {
    "single-path": {"coefficient": Range(0.003, 10.0), "gate_lr": Range(0.03, 0.2)},
    "paper": {"lambda": Range(1e-4, 1e2)},
}
# of a short search: most of it is what all share, and half of the steps after that decide, since there are few
SHORT: dict[str, dict[str, Any]] = {"single-path": {"warm_up": 0.75, "every": 2, "coefficient": 0.0}, "paper": {}}
OUTCOME, SHARED = "outcome.json", "shared warm-up"
READ = 10
OWN = ("multiplier", "passes", "said")  # of a search's state, what a trial does not take over from the shared warm-up


@dataclass(frozen=True)
class Trials:
    """What all trials of a tuning have in common.

    Attributes:
        problem: of one search, its epochs and the settings that stay.
        folder: where each has a run folder.
        threads: CPU threads; as in every run, a resumed one keeps them.
    """

    problem: Problem
    mode: str
    folder: Path
    threads: int
    allow_changed: bool = False

    def path(self, number: int) -> Path:
        return self.folder / f"{number:03d}"

    @property
    def shared(self) -> Path:
        """The run folder of the warm-up that all trials share."""
        return self.folder / "shared"

    def options(self, **settings: float) -> dict[str, Any]:
        return {
            "mode": self.mode, "seed": self.problem.seed, "epochs": self.problem.epochs, "threads": self.threads,
            "compute": self.problem.device, **settings,
        }  # fmt: skip

    def warm_up(self, ledger: Ledger) -> None:
        """Train what all trials share, or go on with it; it is charged before it begins."""
        epochs = shared_epochs(self.problem, self.mode)
        if not epochs:
            return
        known = (self.shared / "config.yaml").is_file()
        with Run.open(self.shared, self.options(), resume=known, allow_changed=self.allow_changed, note=note) as run:
            if not any(row["what"] == SHARED for row in ledger.rows()):
                ledger.charge(SHARED, most_passes(self.problem, self.mode, epochs))
            elif (again := repeated_passes(self.shared)) > 0:
                ledger.charge("repeated", again)
            method = counted(METHODS[self.mode], self.mode)
            with progress(SHARED, f"{self.problem.budget.target:.4g} {self.problem.costs.unit}") as report:
                problem = replace(own_images(self.problem, self.mode), progress=report)
                state = method.start(problem)
                plan = method.plan(problem, state)
                state["steps_per_epoch"] = plan.steps_per_epoch
                fit(
                    state, lambda s, batch: method.step(problem, s, batch), plan.batches, epochs=epochs,
                    steps_per_epoch=plan.steps_per_epoch, tag="search", run=run, progress=problem.progress,
                    log=plan.log, log_steps=plan.log_steps,
                )  # fmt: skip

    def search_once(self, number: int, settings: Mapping[str, float]) -> Outcome:
        """Search with these settings, go on with such a search, or read back what it came to."""
        folder = self.path(number)
        if (folder / OUTCOME).is_file():
            saved = read_json(folder / OUTCOME)
            return Outcome(**{**saved, "choices": tuple(saved["choices"])})
        own = int(generator(self.problem.seed, "trial", number).integers(2**31))
        problem = replace(self.problem, settings={**self.problem.settings, **settings}, seed=own)
        known, options = (folder / "config.yaml").is_file(), self.options(**settings)
        warm = load_checkpoint(self.shared, "search") if shared_epochs(problem, self.mode) else None
        with Run.open(folder, options, resume=known, allow_changed=self.allow_changed, note=note) as run:
            found, state = finished(problem, self.mode, run, f"trial {number}", warm)
            chosen = read_off(problem, [problem.space.indices(found.architecture), *state["said"]])
            scorer = scorer_of(self.problem, self.mode, state)  # the same images for every trial
            cost, entropy = problem.cost(chosen), scorer(chosen)
            if not math.isfinite(entropy):  # before a checkpoint says that the trial has ended
                raise SinglepathError("the network's held-out cross-entropy is not a finite number")
            outcome = Outcome(cost, entropy, state["passes"] + scored_passes(scorer), chosen.choices)
            run.save({"supernet": dict(METHODS[self.mode].weights(state))}, 0, "supernet")
            run.write(OUTCOME, outcome._asdict())
        for file in (folder / "checkpoints").glob("search-*.pt"):
            file.unlink()  # only needed to go on
        told = ", ".join(f"{name} {value:.4g}" for name, value in settings.items())
        unit, target = problem.costs.unit, problem.budget.target
        note(
            f"trial {number}: {told}: {cost:.4g} {unit}, {100 * (cost / target - 1):+.1f} % of the target, "
            f"cross-entropy {entropy:.4f}, {outcome.passes:,} image passes"
        )
        return outcome

    def interrupted(self, number: int) -> tuple[int, int]:
        """Image passes of a search that was interrupted: those its checkpoint keeps, and those known to be computed."""
        folder = self.path(number)
        return (0, 0) if (folder / OUTCOME).is_file() else known_passes(folder)


def known_passes(folder: Path) -> tuple[int, int]:
    """Image passes of an interrupted search: those that its checkpoint keeps, and all that are known of."""
    saved = load_checkpoint(folder, "search")
    kept = saved["passes"] if saved else 0
    return kept, max(kept, logged_passes(folder / "metrics.jsonl"))


def repeated_passes(folder: Path) -> int:
    kept, computed = known_passes(folder)
    return computed - kept


def logged_passes(metrics: Path) -> int:
    """Image passes up to the last whole row."""
    most = 0
    for line in metrics.read_bytes().splitlines() if metrics.is_file() else []:
        try:
            most = max(most, int(json.loads(line).get("passes", 0)))
        except (ValueError, AttributeError):
            continue
    return most


def finished(
    problem: Problem, mode: str, run: Run, title: str, warm: Mapping[str, Any] | None = None
) -> tuple[Found, State]:
    """A search run to its end in its folder, its image passes counted in the state.

    Args:
        warm: a state to begin with.
    """
    method = counted(METHODS[mode], mode, warm)
    with progress(title, f"{problem.budget.target:.4g} {problem.costs.unit}") as report:
        return run_search(replace(own_images(problem, mode), progress=report), method, run)


def read_off(problem: Problem, said: Sequence[Sequence[int]]) -> Architecture:
    """Of networks by their options' numbers, the latest first: the first that hits the target, by canonical name; else
    the first of the nearest at or below it, or above."""
    target, space = problem.budget.target, problem.space
    networks = [space.canonical(space.architecture(indices)) for indices in said]

    def order(network: Architecture) -> tuple[int, float]:
        cost = problem.cost(network)
        return (0, 0.0) if hits(cost, target) else (2, cost) if cost > target else (1, -cost)

    return min(networks, key=order)


def own_images(problem: Problem, mode: str) -> Problem:
    """The paper mode trains on all images it is given; the held-out ones are kept from it here, since they decide."""
    if mode != "paper":
        return problem
    return replace(problem, data=replace(problem.data, val=problem.data.val.subset([])))


def scorer_of(problem: Problem, mode: str, state: State) -> Scorer:
    """Scores children of the supernet that a search trained, on its held-out images."""
    supernet = Supernet(problem.space)
    supernet.load_state_dict(METHODS[mode].weights(state))
    return Scorer.of(problem, supernet.to(problem.device))


# -- image passes -----------------------------------------------------------------------------------------------------


def counted(method: Method, mode: str, warm: Mapping[str, Any] | None = None) -> Method:
    """The method with its image passes in the state, in checkpoints and in every logged row, and with the networks that
    its gates said last, the latest first, by their options' numbers.

    Args:
        warm: a snapshot to begin with, but for what is a trial's own.
    """

    def start(problem: Problem) -> State:
        state = {**method.start(problem), "passes": 0, "said": []}
        if warm is not None:
            restore(state, {name: value for name, value in warm.items() if name not in OWN})
        return state

    def plan(problem: Problem, state: State) -> Plan:
        made = method.plan(problem, state)
        rows = made.log_steps or max(1, made.steps_per_epoch // 2)
        return made._replace(log=lambda s: {**made.log(s), "passes": s["passes"]}, log_steps=rows)

    def step(problem: Problem, state: State, batch: Any) -> Mapping[str, Any]:
        state["passes"] += batch_passes(problem, mode, state, batch)
        metrics = method.step(problem, state, batch)
        if mode == "single-path" and batch.held_out and sp.setting(problem, "coefficient") is not None:
            network = sp.said_by_gates(problem, state["model"]).architecture
            state["said"] = [list(problem.space.indices(network)), *state["said"]][:READ]
        return metrics

    return method._replace(start=start, plan=plan, step=step)


def batch_passes(problem: Problem, mode: str, state: State, batch: Any) -> int:
    """Image passes of the step that comes next."""
    if mode == "paper":
        return len(batch.y)
    images = len(batch.images.y)
    if batch.held_out:
        return images
    warm_up = sp.warm_up_steps(problem, sp.recipe_of(problem), state["steps_per_epoch"])
    return images * (sp.children_of(problem) if state["step"] < warm_up else 1)


def scored_passes(scorer: Scorer) -> int:
    """What scoring one network counts."""
    return math.ceil(FORWARD * (sum(len(x) for x in scorer.calibration) + sum(len(b.y) for b in scorer.held_out)))


def shared_epochs(problem: Problem, mode: str) -> int:
    """Whole epochs at a search's beginning that no tuned setting acts in."""
    if mode == "paper":
        schedule = schedule_of(own_images(problem, mode))
        share = schedule.warm_up_epochs / schedule.epochs
    else:
        share = sp.warm_up_share(problem)
    return int(share * (problem.epochs or 0))


def most_passes(problem: Problem, mode: str, end: int, begin: int = 0) -> int:
    """Image passes that the epochs from `begin` to `end` of a search take at most."""
    asked = own_images(problem, mode)
    steps = METHODS[mode].plan(asked, {}).steps_per_epoch
    if mode == "paper":
        return (end - begin) * steps * schedule_of(asked).batch
    recipe = sp.recipe_of(asked)
    warm_up = sp.warm_up_steps(asked, recipe, steps)
    warm = max(0, min(end * steps, warm_up) - begin * steps)
    return recipe.batch_size * ((end - begin) * steps + warm * (sp.children_of(asked) - 1))


def alone(problem: Problem, mode: str, begin: int = 0) -> int:
    """Image passes of one search from an epoch on at most, and of the scoring of its network."""
    scored = math.ceil(FORWARD * (RECALIBRATION + min(HELD_OUT, len(problem.data.val))))
    return most_passes(problem, mode, problem.epochs or 0, begin) + scored


def share_of(problem: Problem, mode: str) -> int:
    """Image passes of one trial at most: what it does not share."""
    return alone(problem, mode, shared_epochs(problem, mode))


def all_passes(problem: Problem, mode: str, trials: int) -> int:
    """Image passes of so many trials and of what they share."""
    return most_passes(problem, mode, shared_epochs(problem, mode)) + trials * share_of(problem, mode)


def epochs_within(passes: int, taken: Callable[[int], int]) -> int:
    """The most epochs that take no more than so many image passes; 0 where not even one does.

    Args:
        taken: what so many epochs take; it rises with them.
    """
    most = 1
    while taken(most) <= passes:
        most *= 2
    return bisect_right(range(most), passes, lo=1, key=taken) - 1
