"""Regret of the networks found on NAS-Bench-Macro, in accuracy points to the best network under the budget.

The supernet of a seed (that of `macro_ranking`, read back where it is there) is trained once and read for every budget,
largest first, scores shared, as `singlepath front` does. Contenders: a search for each budget (its supernet would be
the same, since a warm-up knows no budget; nothing is shared); random search on the same supernet with no more forward
passes of scoring than ours (neither beside the 35 budgets); the network with most non-identity layers under the budget,
and the one with most MACs (ties: by MACs, then the first by its choices); the best by true accuracy of 10 random names
within 3 % below the budget, expected; one random name under it, expected; the paper mode with its lambda found by
bisection (`--paper-passes`). Beside them, no contender: what our model chooses when its random networks were trained in
full instead of scored (`--trained-in-full`): the most that better scores could give this model, but for luck. What
full trainings of a search's finalists add is read by `finalists.py`.

Costs are image passes for all budgets of a row's set together: of training, and forward only of scoring and
recalibration. Resumable: supernets, losses and results are kept under `--supernets` and `--out`; a result is made
again when the options, the weights or the search's code have changed.

    python benchmarks/macro_regret.py --tuning --json
    python benchmarks/macro_regret.py --json
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common import Check, at_most, commit, finish, one_thread, parser, table
from macro import Protocol, Truth, add_options, digest, full_costs, loaded, searched_space
from macro_reading import (
    Ours,
    Paper,
    Reader,
    code_digest,
    kept,
    network_row,
    our_rows,
    paper_rows,
    random_rows,
    separate_rows,
)
from singlepath.architecture import Architecture
from singlepath.pipeline.setup import keep_memory
from singlepath.search.by_score import drawn_anywhere
from singlepath.search.score_model import PartScore, best_by, fitted_near
from singlepath.spaces import Space

NAMED = (30.0, 40.0, 50.0, 60.0, 75.0)  # MMACs
TUNING = (35.0, 45.0, 55.0, 65.0)
SWEEP = tuple(np.linspace(22.0, 90.0, 35).tolist())
LIMITS = {"named": (0.20, None), "tuning": (0.20, None), "sweep": (0.25, 1.0)}  # of mean and largest regret
TITLES = {"named": "five budgets", "tuning": "tuning budgets", "sweep": "35 budgets"}
OURS, EACH, RANDOM, PAPER = "ours", "ours, a search for each", "random search", "paper mode"
IN_FULL = "the model of networks trained in full"
APART = 0.1  # points that the front's mean regret may lie above that of a search for each budget
NEAR, DRAWS = 0.97, 10  # of the budget; random networks that the best is taken of

Entry = dict[str, Any]  # {"rows", "cost"} of one seed


def main() -> int:
    args = arguments()
    one_thread()
    keep_memory()
    sets: dict[str, Sequence[float]] = {"tuning": TUNING} if args.tuning else {"named": NAMED, "sweep": SWEEP}
    if args.quick:
        args.seeds, args.candidates = 1, 12
        sets = {k: v[::7] if k == "sweep" else v for k, v in sets.items()}
    truth, protocol = Truth.load(args.data), Protocol.of(args, args.supernets)
    seeds = [one_seed(args, protocol, seed, truth, sets) for seed in range(args.seed, args.seed + args.seeds)]
    found = {}
    for name, budgets in sets.items():
        entries = {c: [s[name][c] for s in seeds] for c in seeds[0][name]} | from_table(truth, budgets)
        if args.trained_in_full:
            entries[IN_FULL] = trained_in_full(
                truth, searched_space(protocol), args.trained_in_full, budgets, args.seed, args.seeds
            )
        found[name] = {c: summary(e) for c, e in entries.items()}
        report(TITLES[name], budgets, found[name])
    more = {} if args.paper_passes else {"left_out": {PAPER: "type --paper-passes N, image passes of one of its runs"}}
    return finish(args, checks(found), results=found, passes=protocol.passes, select=args.select, **more)


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    add_options(options, "runs/macro-regret")
    add = options.add_argument
    add("--supernets", type=Path, default=Path("runs/macro-ranking"), help="where macro_ranking keeps them")
    add("--tuning", action="store_true", help="only the budgets that choices may be tuned on")
    add("--alone", action="store_true", help="leave out random search and a search for each budget")
    add("--select", default="score", help="how ours reads networks off the supernet")
    add("--candidates", type=int, default=Ours.candidates, help="networks that a selection may score for a budget")
    add("--shortlist", type=int, default=0, help="networks of each budget that are fine-tuned")
    add("--shortlist-passes", type=int, default=45_000, help="image passes of each of them")
    add("--shortlist-lr", type=float, default=0.01)
    add("--paper-passes", type=int, default=0, help="image passes of one run of the paper mode; 0 leaves it out")
    add("--paper-runs", type=int, default=Paper.runs, help="runs of its bisection for one budget, at most")
    add(
        "--trained-in-full",
        type=int,
        default=0,
        help="random networks that the table is asked of instead; 0 leaves it out",
    )
    args = options.parse_args()
    if args.shortlist and args.select != "score":
        options.error(f"--select {args.select} has no model that lists a budget's best; type --select score")
    return args


def one_seed(
    args: argparse.Namespace, protocol: Protocol, seed: int, truth: Truth, sets: dict[str, Sequence[float]]
) -> dict[str, dict[str, Entry]]:
    """By set and contender, what one seed's searches chose; read back where it was kept."""
    data = loaded(protocol, seed)
    reader = Reader(protocol, seed, data, args.out)
    tune = (args.shortlist, args.shortlist_passes, args.shortlist_lr) if args.shortlist else (0, 0, 0.0)
    ours = Ours(args.select, args.candidates, *tune)
    paper = Paper(args.paper_passes, args.paper_runs)
    found: dict[str, dict[str, Entry]] = {}
    for name, budgets in sets.items():
        label = f"{name}-{reader.stem}-{digest((asdict(ours), tuple(budgets), args.alone, code_digest()))}"

        def made(b: Sequence[float] = budgets, set_name: str = name) -> dict[str, Entry]:
            mine = our_rows(reader, truth, b, ours)
            found = {OURS: mine | {"commit": commit()}}
            if args.alone or set_name == "sweep":
                return found
            each = max(1, mine["cost"]["scoring"] // reader.base.images() // len(b))
            found[RANDOM] = random_rows(reader, truth, [(budget, each) for budget in b])
            return found | {EACH: separate_rows(reader, truth, b, ours)}

        found[name] = kept(args.out / f"{label}.json", made)
        if paper.passes and name != "sweep":
            found[name][PAPER] = paper_rows(protocol, seed, data, truth, budgets, paper, args.out)
    return found


# -- contenders that need no search -----------------------------------------------------------------------------------


def from_table(truth: Truth, budgets: Sequence[float]) -> dict[str, list[Entry]]:
    """What can be had by counting, and by knowing the truth of a few; the same for every seed."""
    rows = {
        "most layers": [network_row(truth, truth.networks[most_layers(truth, b)], b) for b in budgets],
        "largest MACs": [network_row(truth, truth.networks[largest(truth, b)], b) for b in budgets],
        f"best of {DRAWS} random, true": [expected(truth, b, DRAWS, NEAR * b) for b in budgets],
        "one random": [expected(truth, b, 1, 0.0) for b in budgets],
    }
    trainings = {name: DRAWS if "best of" in name else 0 for name in rows}
    free = {"training": 0, "scoring": 0}
    return {n: [{"rows": r, "cost": free, "full_trainings_a_budget": trainings[n]}] for n, r in rows.items()}


def most_layers(truth: Truth, budget: float) -> int:
    return max(truth.within(budget).tolist(), key=lambda i: (truth.layers[i], truth.mmacs[i]))  # the first of equals


def largest(truth: Truth, budget: float) -> int:
    return max(truth.within(budget).tolist(), key=lambda i: truth.mmacs[i])


def expected(truth: Truth, budget: float, draws: int, least: float) -> dict[str, Any]:
    """Expected regret of the best by true accuracy of so many random names in the window, with replacement; exact.

    With F the share of names up to an accuracy, the best of n draws is at most that with probability F^n.
    """
    inside = truth.within(budget, least)
    inside = inside if len(inside) else truth.within(budget)
    order = inside[np.argsort(truth.accuracy[inside], kind="stable")]
    share = np.cumsum(truth.names[order]) / truth.names[order].sum()
    mean = float(np.diff(share**draws, prepend=0.0) @ truth.accuracy[order])
    return {"budget": budget, "network": None, "over": False, "accuracy": mean, "regret": truth.best(budget) - mean}


def trained_in_full(
    truth: Truth, searched: Space, count: int, budgets: Sequence[float], first: int, seeds: int
) -> list[Entry]:
    """What our model chooses when accuracies are its scores: those of `count` networks as a seed's search draws them,
    in each of the table's trainings. No search: it knows what is asked for."""
    entries = list[Entry]()
    for seed, training in itertools.product(range(first, first + seeds), truth.trainings.T):
        sample = [truth.index(a) for a in drawn_anywhere(searched, seed, count)]
        scores = {truth.networks[i]: (0, -float(training[i])) for i in sample}
        rows = [network_row(truth, modelled(truth, scores, b), b) for b in budgets]
        entries.append({"rows": rows, "cost": {"training": 0, "scoring": 0}, "full_trainings": count})
    return entries


def modelled(truth: Truth, scores: dict[Architecture, PartScore], budget: float) -> Architecture:
    """The best network of a budget by the model of these scores, whether it fills it or not."""
    space, costs = truth.space, full_costs()
    found = best_by(space, fitted_near(space, costs, scores, budget), costs, budget)
    assert found, f"no network costs {budget} MMACs or less"
    return space.architecture(found[0])


# -- what came out ----------------------------------------------------------------------------------------------------


def summary(entries: Sequence[Entry]) -> dict[str, Any]:
    """Regrets over seeds and budgets; networks above the budget have none and are counted."""
    regrets = np.array([[np.nan if r["regret"] is None else r["regret"] for r in e["rows"]] for e in entries])
    known = ~np.isnan(regrets)
    costs = {k: float(np.mean([e["cost"][k] for e in entries])) for k in entries[0]["cost"]}
    return {
        "by_budget": [mean_of(c) for c in regrets.T], "by_seed": [mean_of(r) for r in regrets],
        "mean": mean_of(regrets), "max": float(regrets[known].max()) if known.any() else None,
        "over": sum(r["over"] for e in entries for r in e["rows"]), "cost": costs, "seeds": list(entries),
    }  # fmt: skip


def mean_of(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def report(title: str, budgets: Sequence[float], found: dict[str, dict[str, Any]]) -> None:
    shown = [f"{b:g}" for b in budgets] if len(budgets) <= 5 else []
    rows = []
    for name, s in found.items():
        cells = s["by_budget"] if shown else []
        cost = s["cost"]
        thousands = [round(cost["training"] / 1e3), round(cost["scoring"] / 1e3)]
        figures = ["none" if v is None else f"{v:.2f}" for v in (*cells, s["mean"], s["max"])]
        rows.append([name, *figures, s["over"], *thousands])
    head = ["regret, points", *shown, "mean", "max", "over", "k passes", "k forward"]
    print(f"\n{title}, {'MMACs' if shown else f'{budgets[0]:g} to {budgets[-1]:g} MMACs'}")
    print(table(head, rows), "\n")


def checks(found: dict[str, dict[str, dict[str, Any]]]) -> list[Check]:
    """The promises: regret, its maximum, budgets kept, and every contender beaten on the set that is not the sweep."""
    made = []
    for name, contenders in found.items():
        ours, (mean, most) = contenders[OURS], LIMITS[name]
        made.append(at_most(f"mean regret, {TITLES[name]}", nan(ours["mean"]), mean))
        if most is not None:
            made.append(at_most(f"largest regret, {TITLES[name]}", nan(ours["max"]), most))
        made.append(at_most(f"networks over budget, {TITLES[name]}", ours["over"], 0))
        if name == "sweep":
            continue
        if EACH in contenders:
            apart = nan(ours["mean"]) - nan(contenders[EACH]["mean"])  # of the same seeds' supernets
            made.append(at_most(f"mean regret, {TITLES[name]}, above that of a search for each", apart, APART))
        for other, theirs in contenders.items():
            if other not in (OURS, EACH, IN_FULL) and theirs["mean"] is not None:
                made.append(below(f"mean regret, {TITLES[name]}, below that of: {other}", ours["mean"], theirs["mean"]))
    return made


def nan(value: float | None) -> float:
    return float("nan") if value is None else value


def below(name: str, value: float | None, limit: float) -> Check:
    return Check(name, nan(value), limit, bool(nan(value) < limit))


if __name__ == "__main__":
    raise SystemExit(main())
