"""How well the supernet ranks the networks of NAS-Bench-Macro, against their trained accuracies.

The default search's supernet is trained on CIFAR-10 (reduced protocol, the same for every contender: width 0.25,
random 24 px windows, `--passes` image passes), networks are scored by held-out cross-entropy, scores are smoothed by
the additive fit of `search.selection`, and both are compared with the table by Kendall's tau. Nothing is tuned on
the table. Resumable: every seed is a run folder under `--out`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from common import at_least, finish, one_thread, parser, table
from singlepath import data as data_room
from singlepath.architecture import Architecture
from singlepath.bench.tables import nas_bench_macro
from singlepath.costs import Budget, count_costs
from singlepath.data import Data
from singlepath.pipeline.setup import keep_memory
from singlepath.runs import Run, write_json
from singlepath.search import METHODS
from singlepath.search.base import Problem
from singlepath.search.selection import Scorer, additive_fit
from singlepath.spaces import make
from singlepath.supernet import Supernet
from singlepath.training.loop import fit

HELD_OUT, STORED, SIDE = 0.1, 32, 24
LIMITS = {"tau": 0.84, "in deciles": 0.70}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--passes", type=int, default=720_000, help="image passes of the supernet's training")
    options.add_argument("--networks", type=int, default=600, help="random networks to score; 0 for all 3,969")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--width", type=float, default=0.25)
    options.add_argument("--out", type=Path, default=Path("runs/macro-ranking"))
    options.add_argument("--data", type=Path, default=Path(os.environ.get("SINGLEPATH_DATA", "../shared/data")))
    args = options.parse_args()
    one_thread()
    keep_memory()
    if args.quick:
        args.passes, args.networks, args.seeds = 4_000, 40, 1
    full = make("macro")
    rows = nas_bench_macro.load(args.data, full)
    names = sorted(rows, key=lambda a: a.choices)
    chosen = np.random.default_rng(0).permutation(len(names))[: args.networks or len(names)]
    networks = [names[i] for i in sorted(chosen)]
    truth = np.array([rows[a].accuracy for a in networks])
    mmacs = np.array([rows[a].mmacs for a in networks])
    layers = np.array([sum(c != "skip" for c in a.choices) for a in networks])
    results = [one_seed(args, seed, networks, truth, mmacs) for seed in range(args.seed, args.seed + args.seeds)]
    counted = {"counting MACs": taus(mmacs, truth, mmacs), "counting layers": taus(layers, truth, mmacs)}
    shown = [[f"seed {r['seed']}, {k}", *r[k]] for r in results for k in ("raw", "additive")]
    print(table(["score", "tau", "in deciles"], shown + [[k, *v] for k, v in counted.items()]))
    best = [r["additive"] for r in results]
    mean, inside = (float(np.mean([b[i] for b in best])) for i in (0, 1))
    checks = [at_least("Kendall tau, mean over seeds", mean, LIMITS["tau"]),
              at_least("mean inside MACs deciles", inside, LIMITS["in deciles"])]  # fmt: skip
    return finish(args, checks, results=results, counted=counted, networks=len(networks), passes=args.passes)


def loaded(args: Any, seed: int) -> Data:
    """CIFAR-10 with a tenth held out; inputs are 24 px windows of the stored 32 px."""
    data = data_room.load(args.data / "cifar10", size=STORED, seed=seed, val_fraction=HELD_OUT)
    return replace(data, preprocess=replace(data.preprocess, size=SIDE, resize=STORED))


def trained(args: Any, seed: int, data: Data) -> Supernet:
    """The supernet of one seed, trained or read back."""
    space = make("macro", width=args.width, input_size=SIDE)
    costs = count_costs(space, "macs")
    epochs = max(1, round(args.passes / len(data.train)))
    problem = Problem(
        space, data, Budget("100%", costs.largest, costs.largest, costs), seed, epochs, 64, settings={"warm_up": 1.0}
    )
    method = METHODS["single-path"]
    state = method.start(problem)
    plan = method.plan(problem, state)
    state["steps_per_epoch"] = plan.steps_per_epoch
    folder = args.out / f"seed{seed}-{args.passes}"
    config = {"passes": args.passes, "seed": seed, "width": args.width, "threads": torch.get_num_threads()}
    with Run.open(folder, config, resume=(folder / "config.yaml").is_file()) as run:
        fit(
            state, lambda s, b: method.step(problem, s, b), plan.batches, epochs=plan.epochs,
            steps_per_epoch=plan.steps_per_epoch, tag="search", run=run, log=plan.log,
        )  # fmt: skip
    return state["model"]


def one_seed(
    args: Any, seed: int, networks: list[Architecture], truth: np.ndarray, mmacs: np.ndarray
) -> dict[str, Any]:
    data, started = loaded(args, seed), time.monotonic()
    supernet = trained(args, seed, data)
    space, minutes = supernet.space, (time.monotonic() - started) / 60
    costs = count_costs(space, "macs")
    problem = Problem(space, data, Budget("100%", costs.largest, costs.largest, costs), seed)
    scorer = Scorer.of(problem, supernet)
    for architecture in networks:
        scorer(Architecture(space.id, architecture.choices))
    own = [Architecture(space.id, a.choices) for a in networks]
    raw = np.array([-scorer(a) for a in own])
    weights = np.concatenate([np.asarray(w) for w in additive_fit(scorer)])
    smooth = np.array([float(space.encode(a) @ weights) for a in own])
    write_json(
        args.out / f"scores-{seed}-{args.passes}.json",
        {"".join(map(str, space.indices(a))): -s for a, s in zip(own, raw, strict=True)},
    )
    return {
        "seed": seed, "minutes": minutes, "raw": taus(raw, truth, mmacs), "additive": taus(smooth, truth, mmacs),
    }  # fmt: skip


def taus(score: np.ndarray, truth: np.ndarray, mmacs: np.ndarray) -> tuple[float, float]:
    """Kendall's tau over all networks, and its mean inside ten MACs deciles."""
    bins = np.array_split(np.argsort(mmacs, kind="stable"), 10)
    return tau(score, truth), float(np.mean([tau(score[b], truth[b]) for b in bins]))


def tau(score: np.ndarray, truth: np.ndarray) -> float:
    result: Any = kendalltau(score, truth)
    return float(result.statistic)


if __name__ == "__main__":
    raise SystemExit(main())
