"""The next settings of a tuning, from a Gaussian process over the finished trials.

What it models, and why, is in `hyper`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from singlepath.data.splits import generator

__all__ = ["Range", "proposal", "settings_in"]

FIRST = 4  # trials before the first that is proposed from others
LEARNT = 2  # finished trials that a proposal needs
PRIMES = (2, 3, 5, 7, 11, 13)  # bases of the Halton sequence, a setting each


class Range(NamedTuple):
    """Values that a setting may take."""

    low: float
    high: float
    log: bool = True

    def at(self, share: float) -> float:
        """The value so far along the range, on its own scale; within it, whatever rounding does."""
        if not self.log:
            return self.low + share * (self.high - self.low)
        return min(max(self.low * (self.high / self.low) ** share, self.low), self.high)


def proposal(ranges: Mapping[str, Range], known: Sequence[Any], seed: int) -> dict[str, float]:
    """Settings of the next trial: a function of the trials that are known, their number and the seed.

    Args:
        known: optuna's trials, their constraints set; running ones count as well.
    """
    import optuna

    number = len(known)
    finished = [t for t in known if t.state.name == "COMPLETE"]
    if number < FIRST or len(finished) < LEARNT:
        bases = zip(ranges.items(), PRIMES, strict=False)
        return {name: r.at(halton(number + 1, base)) for (name, r), base in bases}
    drawn = int(generator(seed, "hyper", number).integers(2**31))
    sampler = optuna.samplers.GPSampler(seed=drawn, n_startup_trials=LEARNT, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler)
    study.add_trials([t for t in known if t.state.name in ("COMPLETE", "RUNNING")])
    floats: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(r.low, r.high, log=r.log) for name, r in ranges.items()
    }
    return study.ask(floats).params


def halton(number: int, base: int) -> float:
    """The number-th point, from 1, of the van der Corput sequence: 1/2, 1/4, 3/4, 1/8 ... in base 2."""
    share, point = 1.0, 0.0
    while number:
        number, digit = divmod(number, base)
        share /= base
        point += share * digit
    return point


def settings_in(trial: Any) -> dict[str, float]:
    """A trial's settings, begun or only proposed."""
    return trial.params or trial.system_attrs["fixed_params"]
