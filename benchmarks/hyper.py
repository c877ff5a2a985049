"""Whether short searches find the coefficient that hits a latency target, within their ledger of image passes.

Digits at 32 px; the space `mobile` at width 0.25, whose networks cost what the same choices take on a Pixel 1 at width
1 and 224 px (`costs/tables/pixel1.json`): real latencies, and the same in every run, which a host's table is not. For
every seed `search.hyper` tunes the search to the target, the network being what the gates say, and the direct way gets
what that took: one search with the multiplier ascended, its network an exact knapsack. Both networks' held-out
cross-entropy is read with the direct search's weights, since those of a short search are less trained.

Resumable: trials and searches are run folders under `--out`, named by their options; delete it after a change of code.

    python benchmarks/hyper.py --json
    python benchmarks/hyper.py --modes single-path,paper --json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common import Check, at_most, finish, one_thread, parser, table
from singlepath import data as data_room
from singlepath.architecture import Architecture
from singlepath.costs import Budget, CostModel
from singlepath.devices import device
from singlepath.pipeline.setup import keep_memory
from singlepath.pipeline.trials import RANGES, SHORT, Trials
from singlepath.pipeline.tuning import DIRECT, Direct, direct_search
from singlepath.pipeline.tuning_size import sized
from singlepath.search.base import Problem
from singlepath.search.hyper import WINDOW, Tuned, Tuning, hits, tune
from singlepath.spaces import make

SPACE = "mobile(width=0.25, input_size=32, classes=10, padding='{padding}')"
TARGET = 80.0  # ms
LIMIT = 100 * WINDOW  # per cent from the target


def main() -> int:
    args = arguments()
    one_thread()
    keep_memory()
    rows = [one(args, mode, seed) for mode in args.modes for seed in range(args.seed, args.seed + args.seeds)]
    report(args, rows)
    return finish(args, checks(rows), target_ms=args.target, results=rows)


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    add = options.add_argument
    add("--target", type=float, default=TARGET, help="ms on the Pixel 1")
    add("--trials", type=int, help="by default what `singlepath tune` makes")
    add("--epochs", type=int, help="of a short search; by default what `singlepath tune` takes")
    add("--seeds", type=int, default=3)
    add("--modes", default="single-path", help="single-path, paper, or both apart by a comma")
    add("--out", type=Path, default=Path("runs/hyper"))
    args = options.parse_args()
    args.modes = args.modes.split(",")
    if args.quick:
        args.seeds, args.trials, args.epochs = 1, 4, 4
    return args


def problem_of(mode: str, seed: int, target: float) -> Problem:
    space = make(SPACE.format(padding="same" if mode == "paper" else "symmetric"))
    budget = Budget(f"{target:g}ms", target, target, pixel1(space))
    return Problem(space, data_room.load("digits", size=space.input_size, seed=seed), budget, seed)


def pixel1(space: Any) -> CostModel:
    """What the space's choices take on a Pixel 1 at width 1 and 224 px, ms."""
    full = make("mobile")
    table = device("pixel1").table
    assert table is not None
    costs = table.costs(full)
    pairs = zip(space.searchable, full.searchable, costs.layers, strict=True)
    layers = tuple(tuple(row[large.options.index(o)] for o in small.options) for small, large, row in pairs)
    return CostModel(costs.kind, costs.unit, costs.fixed, layers)


def one(args: argparse.Namespace, mode: str, seed: int) -> dict[str, Any]:
    """One seed of one mode: the tuning, and the direct way with its ledger."""
    problem = problem_of(mode, seed, args.target)
    short = replace(problem, epochs=args.epochs, settings=SHORT[mode])
    size = sized(short, mode, args.trials, None)
    stem = f"{mode}-{args.target:g}ms-{size.trials}x{size.epochs}-seed{seed}"
    folder, threads = args.out / stem, torch.get_num_threads()
    trials = Trials(replace(short, epochs=size.epochs), mode, folder, threads)
    asked = Tuning(folder, RANGES[mode], args.target, size.trials, size.share, size.total, seed)
    trials.warm_up(asked.ledger)
    found = tune(trials.search_once, asked, interrupted=trials.interrupted)
    chosen = found.chosen.outcome if found.chosen else None
    beside = [Architecture(problem.space.id, chosen.choices)] if chosen else []
    direct = direct_search(replace(problem, settings=DIRECT), asked.ledger.spent, folder / "direct", threads, beside)
    return row(mode, seed, asked, found, direct)


def row(mode: str, seed: int, asked: Tuning, found: Tuned, direct: Direct) -> dict[str, Any]:
    outcome = found.chosen.outcome if found.chosen else None
    return {
        "mode": mode, "seed": seed, "hit": found.hit, "settings": found.chosen.settings if found.chosen else None,
        "gap": 100 * (outcome.cost / asked.target - 1) if outcome else None,
        "cross_entropy": outcome.cross_entropy if outcome else None,
        "with_direct_weights": direct.beside[0] if outcome else None, "verdict": (direct.different or [None])[0],
        "in_window": sum(hits(t.outcome.cost, asked.target) for t in found.trials if t.outcome),
        "trials": [
            {**t.settings, "cost": t.outcome.cost, "cross_entropy": t.outcome.cross_entropy}
            for t in found.trials if t.outcome
        ],
        "ledger": {"total": asked.total, "spent": asked.ledger.spent},
        "direct": {
            "gap": 100 * (direct.cost / asked.target - 1), "cross_entropy": direct.cross_entropy,
            "passes": direct.passes,
        },
    }  # fmt: skip


def report(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    print(f"\nfrom the target of {args.target:g} ms, per cent; held-out cross-entropy with the direct search's weights")
    head = [
        "mode",
        "seed",
        "tuned",
        "direct",
        "hits",
        "trials",
        "entropy",
        "direct's",
        "verdict",
        "k passes",
        "direct's",
    ]
    cells = [
        [
            r["mode"], r["seed"], shown(r["gap"]), shown(r["direct"]["gap"]), r["in_window"], len(r["trials"]),
            shown(r["with_direct_weights"], "{:.4f}"), f"{r['direct']['cross_entropy']:.4f}", str(r["verdict"]),
            round(r["ledger"]["spent"] / 1e3), round(r["direct"]["passes"] / 1e3),
        ]
        for r in rows
    ]  # fmt: skip
    print(table(head, cells), "\n")


def shown(value: float | None, form: str = "{:+.2f}") -> str:
    return "none" if value is None else form.format(value)


def checks(rows: list[dict[str, Any]]) -> list[Check]:
    """The promises are those of the default mode; the paper's network is often not to be moved by its coefficient."""
    made = []
    for mode in dict.fromkeys(r["mode"] for r in rows):
        own = [r for r in rows if r["mode"] == mode]
        if mode == "single-path":
            gaps = [100.0 if r["gap"] is None else abs(r["gap"]) for r in own]
            made.append(at_most("from the target, per cent, greatest", max(gaps), LIMIT))
        made.append(at_most(f"{mode}: networks above the target", sum((r["gap"] or 0) > 0 for r in own), 0))
        shares = [r["ledger"]["spent"] / r["ledger"]["total"] for r in own]
        made.append(at_most(f"{mode}: ledger spent, greatest share", max(shares), 1.0))
        direct = max(r["direct"]["passes"] / r["ledger"]["spent"] for r in own)
        made.append(at_most(f"{mode}: direct search's passes over the tuning's", direct, 1.0))
    return made


if __name__ == "__main__":
    raise SystemExit(main())
