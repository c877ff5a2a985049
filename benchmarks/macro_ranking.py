"""How well the supernet ranks the networks of NAS-Bench-Macro, against their trained accuracies.

A supernet is trained on CIFAR-10 as `macro.SETTINGS` says (reduced protocol, the same for every contender: width 0.25,
random 24 px windows, `--passes` image passes), networks are scored by held-out cross-entropy, scores are smoothed by
the model of `search.score_model`, with pairs of layers and without, and all are compared with the table by Kendall's
tau. The settings were chosen on the `TUNED` networks that come first in a fixed random order; they are left out here,
and --tuning reads them alone. The first `--paper-networks` of them are also scored by the paper mode's supernet,
trained for as many image passes on the same part of the data: masked, under each network's gates, its BN statistics
recalibrated. Resumable: every seed is a run folder under `--out`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from common import Check, at_least, finish, one_thread, parser, table
from macro import Protocol, Truth, add_options, loaded, problem_of, searched, taus, trained
from singlepath.architecture import Architecture
from singlepath.pipeline.setup import keep_memory
from singlepath.runs import write_json
from singlepath.search.score_model import fitted, predicted
from singlepath.search.scoring import Scorer
from singlepath.supernet import recalibrate
from singlepath.supernet.paper import PaperSupernet, set_gates
from singlepath.training.train import image_losses

LIMITS = {"tau": 0.84, "in deciles": 0.70}
TUNED = 300
SCORES, PAPER = ("raw", "additive", "model"), ("raw, the paper mode's networks", "paper mode")


def main() -> int:
    options = parser(__doc__)
    add_options(options, "runs/macro-ranking")
    options.add_argument("--networks", type=int, default=600, help="random networks to score; 0 for all that are left")
    options.add_argument("--tuning", action="store_true", help="score the networks that settings may be chosen on")
    options.add_argument("--paper-networks", type=int, default=200, help="of them, by the paper mode too; 0 for none")
    args = options.parse_args()
    one_thread()
    keep_memory()
    if args.quick:
        args.networks, args.seeds, args.paper_networks = 40, 1, 20
    protocol, full = Protocol.of(args, args.out), Truth.load(args.data)
    order = np.random.default_rng(0).permutation(len(full.networks))
    part = order[:TUNED] if args.tuning else order[TUNED:]
    kept = np.sort(part[: args.networks or len(part)])
    networks = [full.networks[i] for i in kept]
    truth, mmacs, layers = full.accuracy[kept], full.mmacs[kept], full.layers[kept]
    seeds = range(args.seed, args.seed + args.seeds)
    results = [one_seed(protocol, seed, networks, truth, mmacs) for seed in seeds]
    few = np.random.default_rng(1).permutation(len(kept))[: args.paper_networks]
    for result in results if args.paper_networks else []:
        result |= beside_paper(protocol, result["seed"], [networks[i] for i in few], truth[few], mmacs[few])
    counted = {"counting MACs": taus(mmacs, truth, mmacs), "counting layers": taus(layers, truth, mmacs)}
    shown = [[f"seed {r['seed']}, {k}", *r[k]] for r in results for k in (*SCORES, *PAPER) if k in r]
    print(table(["score", "tau", "in deciles"], shown + [[k, *v] for k, v in counted.items()]))
    best = [r["model"] for r in results]
    mean, inside = (float(np.mean([b[i] for b in best])) for i in (0, 1))
    checks = [at_least("Kendall tau, mean over seeds", mean, LIMITS["tau"]),
              at_least("mean inside MACs deciles", inside, LIMITS["in deciles"])]  # fmt: skip
    if args.paper_networks:
        ours, theirs = (float(np.mean([r[k][0] for r in results])) for k in PAPER)
        checks.append(Check("tau above the paper mode's on the same networks", ours, theirs, ours > theirs))
    return finish(args, checks, results=results, counted=counted, networks=len(networks), passes=protocol.passes)


def one_seed(
    protocol: Protocol, seed: int, networks: list[Architecture], truth: np.ndarray, mmacs: np.ndarray
) -> dict[str, Any]:
    data, started = loaded(protocol, seed), time.monotonic()
    supernet, passes = trained(protocol, seed, data)
    space, minutes = supernet.space, (time.monotonic() - started) / 60
    scorer = Scorer.of(problem_of(protocol, seed, data), supernet)
    own = [Architecture(space.id, a.choices) for a in networks]
    scorer.score(own)
    raw = np.array([-scorer(a) for a in own])
    known = {a: (0, scorer.known[a]) for a in own}
    models = {"additive": fitted(space, known, pairs=False), "model": fitted(space, known)}
    write_json(
        protocol.folder / f"scores-{seed}-{protocol.label}.json",
        {"".join(map(str, space.indices(a))): -s for a, s in zip(own, raw, strict=True)},
    )
    return {
        "seed": seed, "minutes": minutes, "passes": passes, "raw": taus(raw, truth, mmacs),
        **{name: taus(predicted(space, m, own), truth, mmacs) for name, m in models.items()},
    }  # fmt: skip


def beside_paper(
    protocol: Protocol, seed: int, networks: list[Architecture], truth: np.ndarray, mmacs: np.ndarray
) -> dict[str, Any]:  # fmt: skip
    """Taus of both supernets' held-out cross-entropy under their shared classifiers, neither smoothed."""
    data = loaded(protocol, seed)
    part = replace(data, val=data.val.subset([]))  # the paper mode trains on everything it is given
    config = {"passes": protocol.passes, "seed": seed, "width": protocol.width}
    folder = protocol.folder / f"paper-seed{seed}-{protocol.label}"
    own = Scorer.of(problem_of(protocol, seed, data), trained(protocol, seed, data)[0])
    found = searched("paper", problem_of(protocol, seed, part, settings={}), folder, config)
    supernet: PaperSupernet = found.state["model"]
    scorer = Scorer.of(problem_of(protocol, seed, data, settings={}), supernet.net)

    def loss(architecture: Architecture) -> float:
        set_gates(supernet, Architecture(supernet.space.id, architecture.choices))
        recalibrate(supernet, scorer.calibration)
        return float(image_losses(supernet, scorer.held_out).double().mean())

    def child_loss(architecture: Architecture) -> float:
        child = own.supernet.extract(Architecture(own.supernet.space.id, architecture.choices))
        recalibrate(child, own.calibration)
        return float(image_losses(child, own.held_out).double().mean())

    mine, scores = (-np.array([read(a) for a in networks]) for read in (child_loss, loss))
    return {PAPER[0]: taus(mine, truth, mmacs), PAPER[1]: taus(scores, truth, mmacs),
            "paper_passes": found.passes}  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
