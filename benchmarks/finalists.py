"""What training a search's finalists is worth, on NAS-Bench-Macro: `design --finalists K` beside the search alone.

The finalists of a budget are those of the search; what a training says of them is one of the table's three, in points
of accuracy, plus noise of `NOISE` points, as fewer held-out images than the table's 10,000 add; the mean of the other
two trainings judges what is chosen. Three ways to choose: the search's own choice; the training alone; the sum of
both, with `POINT` nats for a point (`design` adds held-out cross-entropies). A network always named loses the same in
all. In the step's favour: the choosing and the judging trainings share the table's test images, and noise knows nothing
of the supernet's errors, where a user's held-out images are those that the supernet was read on.

Read at the budgets of a set (`--tuning`: those that choices may be tuned on; otherwise the five named ones and the 35
of the sweep), and at the tuning budgets inside random parts of the networks (`PARTS`): 400 choices a seed say what four
cannot. No search of a user has this table: with images, held-out ones take its place, and a training is one of the
user's recipe. Supernets are those of `macro_ranking`, read back where they are there.

    python benchmarks/finalists.py --tuning --json
    python benchmarks/finalists.py --json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common import at_most, finish, one_thread, parser, table
from macro import Protocol, Truth, add_options, full_costs, loaded
from macro_reading import Reader
from macro_regret import NAMED, SWEEP, TUNING
from singlepath.architecture import Architecture
from singlepath.data.splits import generator
from singlepath.pipeline.setup import keep_memory
from singlepath.search.score_model import fitted_near, predicted
from singlepath.search.scoring import Scorer
from singlepath.search.selection import select
from singlepath.search.single_path import candidates_of

POINT = 0.03  # nats; about what a point of accuracy is at 90 to 93 %. Twice and half of it are read too
COUNTS = (2, 4, 10)
NOISE = (0.0, 0.2, 0.35, 0.5, 1.0)  # points
PARTS = (1 / 2, 1 / 5, 1 / 12)
SUBSETS, QUICK_SUBSETS, DRAWS = 100, 5, 20


class Case(NamedTuple):
    """One choice: the networks by the search's order [K], how far it puts them behind its first, nats, and the one
    that they are measured against."""

    names: np.ndarray
    behind: np.ndarray
    best: int


Choose = Callable[[np.ndarray, np.ndarray], int]  # (accuracies, behind) of the finalists -> the place of one


def alone(accuracies: np.ndarray, behind: np.ndarray) -> int:
    return int(accuracies.argmax())


def summed(point: float) -> Choose:
    return lambda accuracies, behind: int((point * accuracies - behind).argmax())


RULES: dict[str, Choose] = {
    "by the training alone": alone, "by the sum": summed(POINT), "by the sum, a point half": summed(POINT / 2),
    "by the sum, a point twice": summed(2 * POINT),
}  # fmt: skip


def main() -> int:
    options = parser(__doc__)
    add_options(options, "runs/macro-regret")
    options.add_argument("--supernets", type=Path, default=Path("runs/macro-ranking"), help="where macro_ranking keeps")
    options.add_argument("--tuning", action="store_true", help="only the budgets that choices may be tuned on")
    args = options.parse_args()
    one_thread()
    keep_memory()
    if args.quick:
        args.seeds = 1
    subsets = QUICK_SUBSETS if args.quick else SUBSETS
    truth, protocol = Truth.load(args.data), Protocol.of(args, args.supernets)
    sets: dict[str, Sequence[float]] = {"tuning": TUNING} if args.tuning else {"named": NAMED, "sweep": SWEEP}
    cases: dict[str, list[list[Case]]] = {}  # by what is read, for each seed
    for seed in range(args.seed, args.seed + args.seeds):
        reader = Reader(protocol, seed, loaded(protocol, seed), args.out)
        for name, found in cases_of(reader, truth, sets, subsets).items():
            cases.setdefault(name, []).append(found)
    results = {name: regrets(truth, by_seed) for name, by_seed in cases.items()}
    for name, found in results.items():
        shown = [[*key.split(", ", 1), f"{r['mean']:.3f}", *(f"{v:.3f}" for v in r["by_seed"]), f"{r['max']:.2f}"]
                 for key, r in found.items()]  # fmt: skip
        seeds = [f"seed {s}" for s in range(args.seed, args.seed + args.seeds)]
        print(f"\n{name}\n{table(['finalists', 'chosen', 'mean', *seeds, 'largest'], shown)}")
    checks = [
        at_most(f"{name}: the sum, 4 finalists, {noise:g} points of noise, beside the search alone",
                found[f"4, by the sum, noise {noise:g}"]["mean"], found["1, by the search"]["mean"])
        for name, found in results.items() for noise in NOISE
    ]  # fmt: skip
    return finish(args, checks, results=results)


def cases_of(
    reader: Reader, truth: Truth, sets: dict[str, Sequence[float]], subsets: int
) -> dict[str, list[Case]]:  # fmt: skip
    """What a seed's search names: at the budgets of every set, and among parts of the networks."""
    scorer, found = reader.scorer(), dict[str, list[Case]]()
    for name, budgets in sets.items():
        found[name] = [at_budget(reader, scorer, truth, b) for b in sorted(budgets, reverse=True)][::-1]
    reader.save()
    if "tuning" not in sets:
        return found
    space, drawn = scorer.supernet.space, generator(0, "parts")
    networks = [space.architecture(truth.space.indices(a)) for a in truth.networks]
    for part in PARTS:
        kept = [np.sort(drawn.permutation(len(networks))[: int(part * len(networks))]) for _ in range(subsets)]
        cases = found[f"tuning, among 1 in {1 / part:g}"] = []
        for budget in sets["tuning"]:
            values = predicted(space, fitted_near(space, full_costs(), scorer.sampled, budget), networks)
            inside = [few[truth.mmacs[few] <= budget] for few in kept]
            cases += [among(truth, few, values[few]) for few in inside if len(few)]
    return found


def at_budget(reader: Reader, scorer: Scorer, truth: Truth, budget: float) -> Case:
    """The finalists of the default search."""
    problem = reader.problem(budget)
    problem = replace(problem, settings={**problem.settings, "finalists": max(COUNTS)})
    rows = select(problem, scorer.supernet, "score", candidates_of(problem), scorer).selection["finalists"]
    names = [truth.index(Architecture(problem.space.id, tuple(row["choices"]))) for row in rows]
    inside = truth.within(budget)
    best = inside[truth.accuracy[inside].argmax()]
    return Case(np.array(names), np.array([row["behind"] for row in rows]), int(best))


def among(truth: Truth, few: np.ndarray, values: np.ndarray) -> Case:
    """The finalists where there are only a few networks: those of greatest value."""
    order = np.argsort(-values, kind="stable")[: max(COUNTS)]
    return Case(few[order], values[order[0]] - values[order], int(few[truth.accuracy[few].argmax()]))


def regrets(truth: Truth, by_seed: Sequence[Sequence[Case]]) -> dict[str, dict[str, Any]]:
    """Mean and largest regret, points, over cases, trainings and draws of noise; by "count, rule, noise"."""
    found = {"1, by the search": read(truth, by_seed, 1, alone, 0.0)}
    for noise in NOISE:
        for count in COUNTS:
            for name, choose in RULES.items():
                found[f"{count}, {name}, noise {noise:g}"] = read(truth, by_seed, count, choose, noise)
    return found


def read(
    truth: Truth, by_seed: Sequence[Sequence[Case]], count: int, choose: Choose, noise: float
) -> dict[str, Any]:  # fmt: skip
    """The regrets of one way to choose. The draws of noise are the same for every way."""
    draws, means, largest = DRAWS if noise else 1, [], 0.0
    judges = [np.delete(truth.trainings, t, axis=1).mean(1) for t in range(truth.trainings.shape[1])]
    for place, cases in enumerate(by_seed):
        lost = []
        for number, case in enumerate(cases):
            names, behind = case.names[:count], case.behind[:count]
            luck = generator(place, "noise", number).normal(size=(len(judges), DRAWS, max(COUNTS)))
            for judge, accuracies, drawn in zip(judges, truth.trainings[names].T, luck, strict=True):
                for draw in drawn[:draws, : len(names)]:
                    taken = names[choose(accuracies + noise * draw, behind)]
                    lost.append(float(judge[case.best] - judge[taken]))
        means.append(float(np.mean(lost)))
        largest = max(largest, max(lost))
    return {"mean": float(np.mean(means)), "by_seed": means, "max": largest}


if __name__ == "__main__":
    raise SystemExit(main())
