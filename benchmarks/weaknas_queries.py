"""Queries that WeakNAS needs until it asks the best validated network of a published table, over many seeds.

    python benchmarks/weaknas_queries.py --data ../shared/data --json [--ablation] [--out runs/weaknas]

*Honest*: one setting (the defaults of `WeakNas`, chosen on seeds 1000 to 1199 of the same tables, which is not counted;
its rivals have their defaults, and evolution a setting chosen on seeds 1000 to 1029 too) for every table; no statistic
of the space, no test value before the end; found is the query of a network whose validation value is the table's
maximum. A run that has not found it after `--cap` queries counts as cap + 1, and such runs are counted.

*Release*: what the paper's released code measures: labels averaged over the table's seeds and scaled by the mean and
deviation of the whole space, an MLP on one-hot codes, 10 first networks, 10 a round uniform over the predicted top 100,
accuracy as the maximum over everything asked and the predicted best, which is not counted, of *test* values too. The
released MLP has 4 x 1000 units and takes seconds a fit; the stand-in here has 4 x 100. Reported for the optimum by
validation and by test, counted query by query and as released.

Ours asks cells that compute the same once, which is knowledge of the table and not of the method. So the rivals are run
twice: on all cells, and on the distinct ones (`nasbench201-distinct/*`), where they know as much.

Beside them: random search, exact from the table; and, with --ablation, the way from the released setting to ours one
change at a time, and ours with one thing changed. With --out, finished runs are kept and an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from common import Check, at_least, at_most, finish, one_thread, parser, table
from singlepath.bench import tasks
from singlepath.bench.stats import expected_best_without_replacement
from singlepath.bench.tasks import Task, load_task, one_blas_thread, search_task
from singlepath.data.splits import generator
from singlepath.runs import read_json, write_json
from singlepath.search import queries
from singlepath.search.evolution import Evolution
from singlepath.search.local import LocalSearch
from singlepath.search.queries import QueryMethod, begin, run_queries
from singlepath.search.random_queries import RandomSearch
from singlepath.search.weaknas import WeakNas

LIMITS = {"nasbench201/cifar10": 120, "nasbench201/cifar100": 60, "nasbench201/imagenet16": 130, "macro": None}
OPTIMA = {"nasbench201/cifar10": 94.37, "nasbench201/cifar100": 73.51, "nasbench201/imagenet16": 46.20}
DISTINCT = tuple(name.replace("/", "-distinct/") for name in OPTIMA)  # the tables that have equal cells
OURS = WeakNas()
RIVALS: dict[str, QueryMethod] = {
    "local search": LocalSearch(), "regularised evolution": Evolution(),
    "regularised evolution, tuned": Evolution(population=24, tournament=24),
}  # fmt: skip
# What the rivals' setting was chosen from, with --tune-rivals --seed 1000 --seeds 30.
GRID: tuple[QueryMethod, ...] = (
    LocalSearch(), LocalSearch(eager=False),
    *(Evolution(p, s) for p in (12, 24, 48, 96) for s in (6, 12, 24) if s <= p),
)  # fmt: skip
RELEASED = WeakNas(
    predictor="mlp", encoding="one-hot", labels="raw", first=10, largest=1.0, batch=10, top=100, patience=0,
    distinct=False,
)  # fmt: skip
# From the released setting to ours; every row keeps the changes before it.
STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("released, labels scaled by what was asked", {}),
    ("ridge regression instead of the MLP", {"predictor": "ridge"}),
    ("a Gaussian process instead", {"predictor": "gp"}),
    ("ranks as labels", {"labels": "rank"}),
    ("-log of the place as labels", {"labels": "log-rank"}),
    ("the best predicted instead of uniform over the top 100", {"top": 0}),
    ("edges without a live path are none", {"encoding": ""}),
    ("cells that compute the same are one", {"distinct": True}),
    ("2 a round instead of 10", {"batch": 2}),
    ("first ones from the fifth of most MACs", {"largest": 0.2}),
    ("an upper confidence bound where stuck", {"patience": 10}),
)
# Ours with one thing changed; what knows no deviation, or draws its batches otherwise, has no way out when stuck.
CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ridge regression", {"predictor": "ridge"}),
    ("pairwise comparison", {"predictor": "pairwise"}),
    ("random forest", {"predictor": "forest"}),
    ("ridge regression on pairs of edges", {"predictor": "ridge", "encoding": "pairs"}),
    ("one-hot codes", {"encoding": "one-hot"}),
    ("all cells, equal or not", {"distinct": False}),
    ("ranks as labels", {"labels": "rank"}),
    ("accuracies as labels", {"labels": "raw"}),
    ("10 a round", {"batch": 10}),
    ("1 a round", {"batch": 1}),
    ("20 first ones", {"first": 20}),
    ("first ones from all cells", {"largest": 1.0}),
    ("a fifth of the rounds uniform over everything", {"explore": 0.2}),
    ("uniform over the top 10", {"top": 10}),
    ("expected improvement", {"sampling": "ei"}),
    ("no way out when stuck", {"patience": 0}),
)
AT = (100, 200, 300)  # queries after which accuracies are stated
LOADED: dict[str, Task] = {}  # what worker processes inherit


# -- one run ----------------------------------------------------------------------------------------------------------


def queries_to_optimum(task: Task, method: QueryMethod, seed: int, cap: int) -> dict[str, int]:
    """{"validation": the query that asked a best validated network}; cap + 1 where none did."""
    best = task.validation.max()
    state = begin(seed, cap)
    run_queries(
        method, task.pool, lambda i: float(task.validation[i]), state,
        until=lambda s: bool(s["values"]) and s["values"][-1] == best,
    )  # fmt: skip
    return {"validation": len(state["asked"]) if state["values"][-1] == best else cap + 1}


def released_run(task: Task, seed: int, cap: int) -> dict[str, Any]:
    """The released loop: queries until the optimum by validation and by test, and the accuracies that it reports.

    `free_*` counts as released: a round's predicted best belongs to it without having been asked.
    """
    test, values = task.test(), task.validation
    method = replace(RELEASED, scale=(float(values.mean()), float(values.std())))
    best = {"validation": int(np.argmax(values)), "test": int(np.argmax(test))}
    state, shown = begin(seed, cap), list[tuple[int, int]]()
    while len(state["asked"]) < cap and not all(i in state["asked"] for i in best.values()):
        rng = generator(seed, "released", len(state["asked"]))
        if state["asked"]:
            over = method.ranked(task.pool, state, rng)
            predicted = method.predict(over, state, rng)
            shown.append((len(state["asked"]), int(over.numbers[np.argmax(predicted.mean)])))
            new = method.taken(over, predicted, state, rng)
        else:
            new = method.propose(task.pool, state, rng)
        state["asked"] += new
        state["values"] += [float(values[i]) for i in new]
    out: dict[str, Any] = {}
    for name, index in best.items():
        asked = state["asked"].index(index) + 1 if index in state["asked"] else cap + 1
        rounds = max(0, math.ceil((asked - method.first) / method.batch))
        whole_round = asked if asked > cap else method.first + rounds * method.batch
        out[name] = asked
        out[f"free_{name}"] = min([whole_round, *(n for n, i in shown if i == index)])
    for count in AT:
        seen = state["asked"][:count]
        extra = [i for n, i in shown if n <= count][-1:]
        out[f"oracle_{count}"] = float(test[[*seen, *extra]].max())
        out[f"honest_{count}"] = float(test[seen[int(np.argmax(values[seen]))]])
    return out


def random_test(task: Task, seed: int, spent: int) -> dict[str, float]:
    return {"test": search_task(RandomSearch(), task, seed=seed, queries=spent)[0].test}


def whole_search(task: Task, seed: int, spent: int) -> dict[str, float]:
    return {"test": search_task(OURS, task, seed=seed, queries=spent)[0].test}


KINDS = {"released": released_run, "random": random_test, "search": whole_search}


def one(job: tuple[str, Any, str, int, int]) -> dict[str, Any]:
    """One run in a worker: (kind, method, task's name, seed, cap)."""
    kind, method, name, seed, cap = job
    with one_blas_thread():
        if kind == "queries":
            return queries_to_optimum(LOADED[name], method, seed, cap)
        return KINDS[kind](LOADED[name], seed, cap)


# -- many runs --------------------------------------------------------------------------------------------------------


class Runner:
    """Runs in `jobs` processes; with a folder, finished rows are kept under everything that they depend on."""

    def __init__(self, jobs: int, out: Path | None) -> None:
        self.jobs, self.out = jobs, out

    def rows(self, kind: str, method: Any, name: str, seeds: Sequence[int], cap: int) -> list[dict[str, Any]]:
        described = [kind, type(method).__name__, asdict(method) if method else None, name, list(seeds), cap, code()]
        digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
        path = self.out / f"{digest}.json" if self.out else None
        if path and path.is_file():
            return read_json(path)["rows"]
        jobs = [(kind, method, name, seed, cap) for seed in seeds]
        if self.jobs == 1:
            rows = [one(job) for job in jobs]
        else:
            with multiprocessing.get_context("fork").Pool(self.jobs) as pool:
                rows = pool.map(one, jobs, chunksize=1)
        if path:
            write_json(path, {"of": described, "rows": rows})
        return rows


def code() -> str:
    """Changes when the code that decides does."""
    files = [*Path(queries.__file__).parent.glob("*.py"), *Path(tasks.__file__).parent.rglob("*.py")]
    wanted = {"queries", "predictors", "ranking", "weaknas", "evolution", "local", "tasks", "nasbench201"}
    texts = [f.read_bytes() for f in sorted(files) if f.stem in wanted | {"nas_bench_macro"}]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:12]


def summary(counts: Sequence[float], cap: int) -> dict[str, float]:
    """Mean with its standard error, median, largest, and the runs that ended at the cap."""
    values = np.asarray(counts, float)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return {
        "mean": float(values.mean()), "standard_error": error, "median": float(np.median(values)),
        "largest": float(values.max()), "capped": int((values > cap).sum()),
    }  # fmt: skip


def line(label: str, stats: Sequence[dict[str, float]]) -> list[str]:
    """Mean ± standard error (median, largest; capped) for every table."""
    cells = []
    for s in stats:
        capped = f", {s['capped']:.0f} capped" if s["capped"] else ""
        cells.append(f"{s['mean']:.1f} ± {s['standard_error']:.1f} ({s['median']:.0f}, {s['largest']:.0f}{capped})")
    return [label, *cells]


# -- the figures ------------------------------------------------------------------------------------------------------


def counted(
    runner: Runner, method: QueryMethod, seeds: Sequence[int], cap: int, names: Iterable[str] = LIMITS
) -> dict[str, dict[str, float]]:
    """Queries until the best validated network, summarised, by table."""
    found = {}
    for name in names:
        rows = runner.rows("queries", method, name, seeds, cap)
        found[name] = summary([row["validation"] for row in rows], cap)
    return found


def released(runner: Runner, seeds: Sequence[int], cap: int) -> dict[str, Any]:
    """Release mode on NAS-Bench-201, summarised."""
    found = {}
    for name in OPTIMA:
        rows = runner.rows("released", RELEASED, name, seeds, cap)
        counts = {k: summary([r[k] for r in rows], cap) for k in rows[0] if not k[-1].isdigit()}
        found[name] = counts | {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k[-1].isdigit()}
    return found


def random_check(runner: Runner, name: str, seeds: Sequence[int], spent: int) -> tuple[dict[str, float], Check]:
    """Random search's test accuracy against its exact expectation."""
    task = LOADED[name]
    tests = np.array([row["test"] for row in runner.rows("random", None, name, seeds, spent)])
    exact = expected_best_without_replacement(task.validation, spent, task.test())
    error = float(tests.std(ddof=1) / np.sqrt(len(tests)))
    apart = abs(float(tests.mean()) - exact) / error
    figures = {"mean": float(tests.mean()), "exact": exact, "standard_error": error}
    return figures, at_most(f"{name}: random search from its expectation, standard errors", apart, 3)


def shown(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    print(f"\n{title}\n{table(head, rows)}", flush=True)


def options() -> argparse.Namespace:
    given = parser(__doc__)
    given.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the published tables")
    given.add_argument("--seeds", type=int, default=100, help="runs a figure: seeds --seed, --seed + 1, ...")
    given.add_argument("--cap", type=int, default=1500, help="queries after which a run counts as cap + 1")
    given.add_argument("--jobs", type=int, default=2, help="processes")
    given.add_argument("--ablation", action="store_true", help="what each change gives")
    given.add_argument("--tune-rivals", action="store_true", help="only the rivals' settings, side by side")
    given.add_argument("--no-release", action="store_true", help="leave the release mode out (its MLP takes most time)")
    given.add_argument("--out", type=Path, help="folder that keeps finished runs")
    return given.parse_args()


def main() -> int:
    args = options()
    one_thread()
    cap, count = (args.cap, args.seeds) if not args.quick else (min(args.cap, 300), min(args.seeds, 8))
    seeds, head = range(args.seed, args.seed + count), ["queries until the best validated network", *LIMITS]
    LOADED.update({name: load_task(name, args.data) for name in (*LIMITS, *DISTINCT)})
    own = {name: LOADED[name] for name in LIMITS}
    runner, checks = Runner(args.jobs, args.out), list[Check]()
    if args.tune_rivals:
        rows = [line(repr(method), [*counted(runner, method, seeds, cap).values()]) for method in GRID]
        shown(f"mean ± standard error (median, largest) over {count} seeds, cap {cap}", head, rows)
        return 0
    results: dict[str, Any] = {"setting": asdict(OURS), "cap": cap, "seeds": [seeds[0], seeds[-1]]}

    ours = results["ours"] = counted(runner, OURS, seeds, cap)
    others = results["rivals"] = {label: counted(runner, method, seeds, cap) for label, method in RIVALS.items()}
    knowing = results["rivals on distinct cells"] = {
        f"{label}, distinct cells": counted(runner, method, seeds, cap, DISTINCT) for label, method in RIVALS.items()
    }
    exact = [
        (len(task.pool) + 1) / (1 + int((task.validation == task.validation.max()).sum())) for task in own.values()
    ]
    results["random, exact"] = dict(zip(own, exact, strict=True))
    # ours asks cells that compute the same once: so may random search, where one of them is the best
    merged = [(len(task.pool.distinct) + 1) / 2 for task in own.values()]
    results["random over distinct cells, exact"] = dict(zip(own, merged, strict=True))
    for name, task in own.items():
        checks.append(at_least(f"{name}: a best validated network can be asked", task.best in task.pool.distinct, 1))
    rows = [line("WeakNAS, ours", [*ours.values()]), *(line(label, [*o.values()]) for label, o in others.items())]
    rows += [[*line(label, [*o.values()]), "none are equal"] for label, o in knowing.items()]
    what = f"mean ± standard error (median, largest) over {count} seeds, cap {cap}"
    shown(
        what,
        head,
        [
            *rows,
            ["random, exact", *(f"{value:.0f}" for value in exact)],
            ["random over distinct cells, exact", *(f"{value:.0f}" for value in merged)],
        ],
    )
    for name, limit in LIMITS.items():
        if limit is not None:
            checks.append(at_most(f"{name}: mean queries to the best validated network", ours[name]["mean"], limit))
    for name, wanted in OPTIMA.items():
        apart = abs(float(LOADED[name].test()[LOADED[name].best]) - wanted)
        checks.append(at_most(f"{name}: test accuracy of the best validated network from {wanted}", apart, 0.005))

    spent = 60 if args.quick else 300
    results["searches"], results["random"] = {}, {}
    for name in OPTIMA:
        figures, check = random_check(runner, name, range(args.seed, args.seed + 4 * count), spent)
        results["random"][name] = figures
        started = time.perf_counter()
        tests = [r["test"] for r in Runner(args.jobs, None).rows("search", OURS, name, seeds, spent)]
        seconds = time.perf_counter() - started
        results["searches"][name] = {"queries": spent, "test": float(np.mean(tests)), "seconds": seconds}
        checks += [check, at_most(f"{name}: seconds for {count} seeds x {spent} queries", seconds, 20)]

    if not args.no_release:
        few = seeds if not args.quick else seeds[:2]
        results["release"] = release = released(runner, few, 60 if args.quick else 1000)
        keys = ("validation", "test", "free_validation", "free_test")
        rows = [
            line(f"optimum by {key}".replace("by free_", "by "), [r[key] for r in release.values()]) for key in keys
        ]
        for row in rows[2:]:
            row[0] += ", whole rounds, predicted best uncounted"
        for mode in ("oracle", "honest"):
            rows += [[f"{mode} test accuracy @{n}", *(f"{r[f'{mode}_{n}']:.2f}" for r in release.values())] for n in AT]
        shown(f"release mode (MLP 4 x 100 for 4 x 1000), {len(few)} seeds, cap 1000", ["", *OPTIMA], rows)

    if args.ablation:
        method, steps, changes = RELEASED, [], []
        for label, change in STEPS if not args.quick else STEPS[2:]:
            method = replace(method, **change)
            steps.append((label, counted(runner, method, seeds, cap)))
            print(*line(label, [*steps[-1][1].values()]), sep=" | ", file=sys.stderr, flush=True)
        for label, change in CHANGES if not args.quick else CHANGES[-1:]:
            changes.append((label, counted(runner, replace(OURS, **change), seeds, cap)))
            print(*line(label, [*changes[-1][1].values()]), sep=" | ", file=sys.stderr, flush=True)
        results["steps"], results["changes"] = dict(steps), dict(changes)
        shown(
            "from the released setting to ours, one change after the other",
            head,
            [line(k, [*v.values()]) for k, v in steps],
        )
        shown("ours with one thing changed", head, [line(k, [*v.values()]) for k, v in changes])
    return finish(args, checks, results=results)


if __name__ == "__main__":
    sys.exit(main())
