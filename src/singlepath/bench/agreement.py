"""How far two rankings of the same networks agree, and what so few networks allow to say.

    tau = sum_{i<j} s_ij t_ij / sqrt(sum s_ij^2 sum t_ij^2)        Kendall's tau-b; s_ij = sign(x_i - x_j), t_ij of y
    rho = the correlation of r_i = sum_j s_ij / 2 and q_i = sum_j t_ij / 2        Spearman; r, q: centred mid-ranks

Intervals are percentile bootstraps over networks, `RESAMPLES` draws with replacement. A draw holds network i c_i times,
so every sum above becomes one with weights c; a network drawn twice ties with itself and adds nothing. Where nothing
agrees, the interval of tau excludes 0 in 3 to 6 % of samples of 8 to 32 networks, where figures have only 5 values in 5
to 7 %, only 3 in 6 to 11 % (simulated). With fewer than `FEWEST` there is none.

Figures are compared to `DIGITS` decimals, so that means of the same accuracies, summed in another order, tie.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from singlepath.bench.stats import LEVEL
from singlepath.data.splits import generator

__all__ = ["FEWEST", "Agreement", "agreement", "agreement_words"]

RESAMPLES = 2_000
FEWEST = 8
DIGITS = 9
Array = NDArray[np.float64]


class Agreement(NamedTuple):
    """Rank correlations with their intervals [low, high]; NaN where they do not exist: a side is constant, or networks
    are too few."""

    networks: int
    tau: float
    tau_interval: list[float]
    rho: float
    rho_interval: list[float]


def agreement(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Agreement:
    """How `first` and `second` [networks] rank the same networks.

    Args:
        first: or several rankings [rankings, networks]: the mean of their correlations with `second`, whose interval
            draws the same networks for all of them. NaN where one does not rank a network; no interval where one ranks
            fewer than `FEWEST`.

    Raises:
        ValueError: the numbers of networks differ.
    """
    xs, y = np.atleast_2d(np.asarray(first, float)).round(DIGITS), np.asarray(second, float).round(DIGITS)
    if xs.shape[1:] != y.shape or not xs.size:
        raise ValueError(f"rankings of the shapes {xs.shape} and {y.shape}")
    count = len(y)
    tau, rho = _mean_correlations(xs, y, np.ones((1, count)))[:, 0]
    intervals = np.full((2, 2), np.nan)
    if (~np.isnan(xs)).sum(1).min() >= FEWEST and not np.isnan(tau):
        draws = generator(0, "bootstrap").multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
        drawn = _mean_correlations(xs, y, draws)
        intervals = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1).T
    return Agreement(count, float(tau), intervals[0].tolist(), float(rho), intervals[1].tolist())


def _mean_correlations(xs: Array, y: Array, counts: Array) -> Array:
    """Tau and rho of every draw, means over the rankings, [2, draws]."""
    known = ~np.isnan(xs)
    return np.mean([_correlations(x[k], y[k], counts[:, k]) for x, k in zip(xs, known, strict=True)], axis=0)


def _correlations(x: Array, y: Array, counts: Array) -> Array:
    """[2, draws] of counts [draws, networks]; NaN where a side of a draw is constant. Memory is linear in networks."""
    pairs, ranks = np.zeros((2, 3, len(counts)))  # of x with y, of x with itself, of y with itself
    for i, times in enumerate(counts.T):
        s, t = np.sign(x[i] - x), np.sign(y[i] - y)
        pairs += times * (counts @ np.stack([s * t, s * s, t * t], axis=1)).T
        r, q = (counts @ np.stack([s, t], axis=1)).T
        ranks += times * np.stack([r * q, r * r, q * q])
    with np.errstate(invalid="ignore"):  # 0 / 0
        return np.stack([both / np.sqrt(own * other) for both, own, other in (pairs, ranks)])


def agreement_words(first: str, second: str, found: Agreement) -> str:
    """What may be said of two rankings, by the interval of tau."""
    if found.networks < FEWEST:
        return f"{found.networks} networks are too few to say whether {first} and {second} rank alike: {FEWEST} needed"
    low, high = found.tau_interval
    if np.isnan(found.tau):
        return f"{first} and {second} cannot be compared: one of them is the same for all {found.networks} networks"
    if np.isnan(low):
        return (
            f"some of {first} are of fewer than {FEWEST} networks, too few to say whether they and {second} rank alike"
        )
    figures = f"Kendall's tau {found.tau:.2f} [{low:.2f}, {high:.2f}]"
    if low <= 0 <= high:
        return (
            f"{found.networks} networks do not show whether {first} and {second} rank alike: "
            f"the interval of {figures} includes 0"
        )
    way = "alike" if low > 0 else "the other way round"
    return f"{first} and {second} rank {found.networks} networks {way}: {figures}"
