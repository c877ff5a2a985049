"""Which quantity a tuning should model: trials that meet a target on synthetic searches whose cost is known.

ln cost falls along a sigmoid of ln coefficient, shifted by the gates' learning rate, with noise of 2 to 7 %; curves,
targets and noise are drawn. Every formulation gets the same trials from Optuna's GPSampler, as `search.proposals` asks
it: the signed distance g = ln(cost / target) as two constraints entered once, twice (what `search.hyper` does) or three
times, and the distance from the window's middle as the value to minimise: absolute, or squared.

    python benchmarks/hyper_curves.py --json
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna

from common import at_least, finish, one_thread, parser, table
from singlepath.search.hyper import WEIGHT, WINDOW
from singlepath.search.proposals import Range, proposal

RANGES = {"coefficient": Range(0.003, 10.0), "gate_lr": Range(0.03, 0.2)}
WIDTH = -math.log(1 - WINDOW)
Search = Callable[[Mapping[str, float]], tuple[float, float]]  # settings -> (cost over target, cross-entropy)
# g and the cross-entropy -> what is minimised, and how often g's two constraints are entered
FORMULATIONS: dict[str, Callable[[float, float], tuple[float, int]]] = {
    "signed, once": lambda g, entropy: (entropy, 1),
    "signed, twice": lambda g, entropy: (entropy, 2),
    "signed, three times": lambda g, entropy: (entropy, 3),
    "absolute": lambda g, entropy: (abs(g + WIDTH / 2), 0),
    "squared": lambda g, entropy: ((g + WIDTH / 2) ** 2, 0),
}
OURS, ABSOLUTE = f"signed, {('once', 'twice', 'three times')[WEIGHT - 1]}", "absolute"


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--cases", type=int, default=24)
    options.add_argument("--trials", type=int, default=12)
    args = options.parse_args()
    names = list(FORMULATIONS)
    if args.quick:
        args.cases, names = 3, [OURS, ABSOLUTE]
    one_thread()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = {}
    for name in names:
        met = [meetings(name, curve(np.random.default_rng([args.seed, i])), args.trials, i) for i in range(args.cases)]
        found[name] = {"cases_met": sum(m > 0 for m in met), "cases": args.cases, "trials_met": float(np.mean(met))}
    print(f"\n{args.cases} cases of {args.trials} trials: cases with a trial within {WINDOW:.0%} below the target")
    print(
        table(
            ["formulation", "cases", "trials a case"], [[n, f["cases_met"], f["trials_met"]] for n, f in found.items()]
        )
    )
    ours, other = (found[n]["cases_met"] / args.cases for n in (OURS, ABSOLUTE))
    return finish(
        args, [at_least("share of cases met, less that of the absolute distance", ours - other, 0)], results=found
    )


def curve(rng: np.random.Generator) -> Search:
    """A synthetic search: its draws decide target, slope, place and noise."""
    middle, slope, speed = rng.uniform(-3.5, 0), rng.uniform(0.7, 1.6), rng.uniform(-0.7, -0.2)
    most, least, noise = rng.uniform(0.75, 1), rng.uniform(0.25, 0.4), rng.uniform(0.02, 0.07)
    target, best_rate = rng.uniform(0.45, 0.65), rng.uniform(-3.3, -2.3)

    def search(settings: Mapping[str, float]) -> tuple[float, float]:
        x, rate = math.log(settings["coefficient"]), math.log(settings["gate_lr"])
        place = slope * (x - middle - speed * (rate - math.log(0.06)))
        cost = least * (most / least) ** (1 / (1 + math.exp(place))) * math.exp(noise * rng.normal())
        return cost / target, 0.5 + 0.4 * (1 - cost) + 0.1 * (rate - best_rate) ** 2 + 0.02 * rng.normal()

    return search


def meetings(name: str, search: Search, trials: int, seed: int) -> int:
    """How many of so many trials meet the target."""
    study, met = optuna.create_study(), 0
    for _ in range(trials):
        study.enqueue_trial(proposal(RANGES, study.get_trials(), seed))
        trial: Any = study.ask()
        ratio, entropy = search({n: trial.suggest_float(n, r.low, r.high, log=r.log) for n, r in RANGES.items()})
        gap = math.log(ratio)
        value, times = FORMULATIONS[name](gap, entropy)
        for i in range(times):
            trial.set_constraint(f"above {i}", gap)
            trial.set_constraint(f"below {i}", -gap - WIDTH)
        study.tell(trial, value)
        met += 1 - WINDOW <= ratio <= 1
    return met


if __name__ == "__main__":
    raise SystemExit(main())
