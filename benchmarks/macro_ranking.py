"""How well the supernet ranks the networks of NAS-Bench-Macro, against their trained accuracies.

A supernet is trained on CIFAR-10 as `macro.SETTINGS` says (reduced protocol, the same for every contender: width 0.25,
random 24 px windows, `--passes` image passes), networks are scored by held-out cross-entropy, scores are smoothed by
the additive fit of `search.scoring`, and both are compared with the table by Kendall's tau. The settings were chosen
on the `TUNED` networks that come first in a fixed random order; they are left out here, and --tuning reads them alone.
Resumable: every seed is a run folder under `--out`.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from common import at_least, finish, one_thread, parser, table
from macro import Protocol, Truth, add_options, loaded, problem_of, taus, trained
from singlepath.architecture import Architecture
from singlepath.pipeline.setup import keep_memory
from singlepath.runs import write_json
from singlepath.search.scoring import Scorer, predicted

LIMITS = {"tau": 0.84, "in deciles": 0.70}
TUNED = 300


def main() -> int:
    options = parser(__doc__)
    add_options(options, "runs/macro-ranking")
    options.add_argument("--networks", type=int, default=600, help="random networks to score; 0 for all that are left")
    options.add_argument("--tuning", action="store_true", help="score the networks that settings may be chosen on")
    args = options.parse_args()
    one_thread()
    keep_memory()
    if args.quick:
        args.networks, args.seeds = 40, 1
    protocol, full = Protocol.of(args, args.out), Truth.load(args.data)
    order = np.random.default_rng(0).permutation(len(full.networks))
    part = order[:TUNED] if args.tuning else order[TUNED:]
    kept = np.sort(part[: args.networks or len(part)])
    networks = [full.networks[i] for i in kept]
    truth, mmacs, layers = full.accuracy[kept], full.mmacs[kept], full.layers[kept]
    results = [one_seed(protocol, seed, networks, truth, mmacs) for seed in range(args.seed, args.seed + args.seeds)]
    counted = {"counting MACs": taus(mmacs, truth, mmacs), "counting layers": taus(layers, truth, mmacs)}
    shown = [[f"seed {r['seed']}, {k}", *r[k]] for r in results for k in ("raw", "additive")]
    print(table(["score", "tau", "in deciles"], shown + [[k, *v] for k, v in counted.items()]))
    best = [r["additive"] for r in results]
    mean, inside = (float(np.mean([b[i] for b in best])) for i in (0, 1))
    checks = [at_least("Kendall tau, mean over seeds", mean, LIMITS["tau"]),
              at_least("mean inside MACs deciles", inside, LIMITS["in deciles"])]  # fmt: skip
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
    smooth = predicted(scorer, own)
    write_json(
        protocol.folder / f"scores-{seed}-{protocol.label}.json",
        {"".join(map(str, space.indices(a))): -s for a, s in zip(own, raw, strict=True)},
    )
    return {
        "seed": seed, "minutes": minutes, "passes": passes, "raw": taus(raw, truth, mmacs),
        "additive": taus(smooth, truth, mmacs),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
