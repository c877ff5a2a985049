"""Statistics of a comparison: what a few runs of each method allow to say.

    RI = 100 (m - r) / r                                          m, r: mean accuracy of the method, of random networks
    t  = (m - r) / sqrt(s_m^2 / n_m + s_r^2 / n_r)                Welch; degrees of freedom by Welch and Satterthwaite
    p'_(i) = max_{j <= i} min(1, (k - j + 1) p_(j))               Holm, over the k comparisons of one table
    E[best of n] = sum_i x_(i) C(i - 1, n - 1) / C(N, n)          n of N without replacement, x_(i) ascending
                 = sum_i x_(i) ((i / N)^n - ((i - 1) / N)^n)      with replacement

RI and the comparison with random sampling are those of "NAS evaluation is frustratingly hard" (arXiv 1912.12522,
section 3.1); tests and intervals are ours. A sample is a row of runs, one number a run, in any unit; where a sentence
is made, the unit is named. Everything here is a pure function of its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from singlepath.errors import optional

__all__ = [
    "ALPHA", "LEVEL", "Curve", "Improvement", "Interval", "Judged", "Spread", "Trace", "Welch", "best_of_weights",
    "best_so_far", "expected_best_with_replacement", "expected_best_without_replacement", "holm", "hypervolume",
    "judge", "kendall_tau", "mean_interval", "population_sd", "regret_curve", "relative_improvement", "sample_sd",
    "spread", "verdict", "welch",
]  # fmt: skip

ALPHA, LEVEL = 0.05, 0.95
ROUNDING = 1e-12  # relative, of a mean
Array = NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


class Spread(NamedTuple):
    """A sample in six numbers; both standard deviations, because publications use either."""

    runs: int
    mean: float
    population_sd: float
    sample_sd: float
    low: float
    high: float


class Improvement(NamedTuple):
    """Relative improvement over random networks and its confidence interval, per cent of the random mean."""

    value: float
    low: float
    high: float


class Welch(NamedTuple):
    """A two-sided test of equal means; p is NaN where a side has fewer than two runs."""

    difference: float
    statistic: float
    freedom: float
    p: float


class Trace(NamedTuple):
    """One run of a search: queries used so far (ascending) and the value found with each.

    `reads`, where given, are what is shown instead of the value: the test accuracy of a network that is chosen by its
    validation accuracy.
    """

    queries: ArrayLike
    values: ArrayLike
    reads: ArrayLike | None = None


class Curve(NamedTuple):
    """Mean over runs at each number of queries, with its confidence interval."""

    queries: Array
    mean: Array
    low: Array
    high: Array
    runs: int


class Judged(NamedTuple):
    """One method beside the random networks of the same space, budget and recipe.

    Attributes:
        holm: the test's p-value, corrected for the number of comparisons made together.
        different: whether the corrected test rejects equality.
    """

    method: Spread
    random: Spread
    improvement: Improvement
    test: Welch
    holm: float
    different: bool
    sentence: str


# -- one sample -------------------------------------------------------------------------------------------------------


def population_sd(values: ArrayLike) -> float:
    """Standard deviation with n in the denominator: of these runs and no others."""
    return float(np.std(_sample(values)))


def sample_sd(values: ArrayLike) -> float:
    """Standard deviation with n - 1 in the denominator: estimated for runs not made; NaN of a single one."""
    return float(np.std(array, ddof=1)) if len(array := _sample(values)) > 1 else float("nan")


def spread(values: ArrayLike) -> Spread:
    array = _sample(values)
    sds = population_sd(array), sample_sd(array)
    return Spread(len(array), float(array.mean()), *sds, float(array.min()), float(array.max()))


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Student's confidence interval of the mean; (NaN, NaN) for a single run."""
    array = _sample(values)
    if len(array) < 2:
        return Interval(float("nan"), float("nan"))
    half = _student_quantile(len(array) - 1, level) * sample_sd(array) / len(array) ** 0.5
    return Interval(float(array.mean() - half), float(array.mean() + half))


# -- two samples ------------------------------------------------------------------------------------------------------


def relative_improvement(method: ArrayLike, random: ArrayLike, level: float = LEVEL) -> Improvement:
    """RI of the means, with an interval by the delta method.

    Var RI = (100 / r)^2 (s_m^2 / n_m + (m / r)^2 s_r^2 / n_r), degrees of freedom by Welch and Satterthwaite on the two
    terms. It takes the ratio as linear in r, whose error is some tenths of a per cent of r for accuracies; both values
    of the interval are NaN where a side has fewer than two runs.
    """
    ours, theirs = _sample(method), _sample(random)
    m, r = float(ours.mean()), float(theirs.mean())
    if r == 0:
        return Improvement(float("nan"), float("nan"), float("nan"))
    value = 100 * (m - r) / r
    error, freedom = _standard_error(ours, theirs, weight=m / r)
    half = _student_quantile(freedom, level) * 100 / abs(r) * error if error else error
    return Improvement(value, value - half, value + half)


def welch(first: ArrayLike, second: ArrayLike) -> Welch:
    """Welch's t-test, two-sided.

    Samples without any spread, which it cannot test, take twice the share of one among the ways to deal their values
    out: two runs against two are no evidence, whatever lies between them.
    """
    a, b = _sample(first), _sample(second)
    difference = float(a.mean() - b.mean())
    rounding = ROUNDING * max(1.0, abs(float(a.mean())))
    if abs(difference) < rounding:
        difference = 0.0  # means of equal values, over different numbers of runs
    error, freedom = _standard_error(a, b)
    if np.isnan(error):
        return Welch(difference, error, freedom, error)
    if error < rounding:
        statistic = float(np.sign(difference)) * float("inf") if difference else 0.0
        parted = 2 / math.comb(len(a) + len(b), len(a))
        return Welch(difference, statistic, freedom, min(1.0, parted) if difference else 1.0)
    statistic = difference / error
    below = optional("scipy.special", "search").stdtr(freedom, -abs(statistic))
    return Welch(difference, statistic, freedom, float(min(1.0, 2 * below)))


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down correction, in the order given: a comparison is rejected where its value is at most alpha.

    NaN (no test was possible) stays NaN and does not count as a comparison.
    """
    p = np.asarray(p_values, dtype=float)
    corrected, tested = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return corrected


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b, which counts ties; NaN where one side is constant. Quadratic time, linear memory."""
    x, y = _sample(first), _sample(second)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} values against {len(y)}")
    agreed = sum(float(np.sign(x[i + 1 :] - x[i]) @ np.sign(y[i + 1 :] - y[i])) for i in range(len(x) - 1))
    pairs = len(x) * (len(x) - 1) / 2
    untied = [pairs - sum(n * (n - 1) / 2 for n in np.unique(v, return_counts=True)[1]) for v in (x, y)]
    return agreed / (untied[0] * untied[1]) ** 0.5 if min(untied) > 0 else float("nan")


# -- two objectives ---------------------------------------------------------------------------------------------------


def hypervolume(costs: ArrayLike, values: ArrayLike, most: float, least: float) -> float:
    """The area, in units of cost times value, of all that some network beats in both: it costs no more and is worth no
    less. The area ends at the cost `most` and the value `least`, which no network may exceed or fall below."""
    spent, worth = _sample(costs), _sample(values)
    order = np.argsort(spent, kind="stable")
    widths = np.diff(np.append(spent[order], most))  # from each network to the next dearer one
    return float(widths @ (np.maximum.accumulate(worth[order]) - least))


# -- the best of n random networks ------------------------------------------------------------------------------------


def best_of_weights(size: int, n: int, *, replacement: bool) -> Array:
    """The probability that each of `size` networks, ascending by value, is the best of n drawn uniformly."""
    if n < 1 or size < 1 or (n > size and not replacement):
        raise ValueError(f"the best of {n} drawn from {size}")
    ranks = np.arange(size + 1, dtype=float)
    if replacement:
        return np.diff((ranks / size) ** n)
    below = np.ones(size + 1)
    for drawn in range(n):  # C(i, n) / C(size, n), as a product: no large factorials
        below *= np.maximum(ranks - drawn, 0) / (size - drawn)
    return np.diff(below)


def expected_best_without_replacement(values: ArrayLike, n: int, reads: ArrayLike | None = None) -> float:
    """The exact mean of the best of n distinct networks: what random search finds with n queries.

    `reads`, where given, are averaged instead, at the network that `values` chooses (test accuracy of the best
    validated one); among equals the first drawn is chosen.
    """
    return _expected_best(values, n, reads, replacement=False)


def expected_best_with_replacement(values: ArrayLike, n: int, reads: ArrayLike | None = None) -> float:
    """The same for n independent draws: what n fresh runs of the sampled distribution would give."""
    return _expected_best(values, n, reads, replacement=True)


def _expected_best(values: ArrayLike, n: int, reads: ArrayLike | None, *, replacement: bool) -> float:
    array = _sample(values)
    order = np.argsort(array, kind="stable")
    shown = array if reads is None else _sample(reads)
    _, group = np.unique(array, return_inverse=True)
    means = np.bincount(group, weights=shown) / np.bincount(group)  # equals are chosen equally often
    return float(best_of_weights(len(array), n, replacement=replacement) @ means[group][order])


# -- curves over queries ----------------------------------------------------------------------------------------------


def best_so_far(trace: Trace, grid: ArrayLike) -> Array:
    """The best value (or what it `reads`) after each number of queries of `grid`; NaN before the first one."""
    queries, values = _sample(trace.queries), _sample(trace.values)
    if len(queries) != len(values) or np.any(np.diff(queries) < 0):
        raise ValueError("a trace needs one value for each number of queries, ascending")
    shown = values if trace.reads is None else _sample(trace.reads)
    best = np.maximum.accumulate(values)
    improved = np.concatenate([[True], values[1:] > best[:-1]])
    chosen = shown[np.maximum.accumulate(np.where(improved, np.arange(len(values)), 0))]
    at = np.searchsorted(queries, np.asarray(grid, dtype=float), side="right") - 1
    return np.where(at >= 0, chosen[np.maximum(at, 0)], np.nan)


def regret_curve(traces: Sequence[Trace], optimum: float, grid: ArrayLike | None = None, level: float = LEVEL) -> Curve:
    """Optimum minus the best so far, averaged over runs at equal numbers of queries, with Student's interval.

    A run that has ended keeps its best. The mean is NaN until every run has a value, else it would jump as runs begin;
    without `grid` the curve starts there and has a point wherever a run made a query. Bounds are not cut at 0.
    """
    if not traces:
        raise ValueError("no runs")
    if grid is None:
        starts = max(_sample(t.queries)[0] for t in traces)
        points = np.unique(np.concatenate([_sample(t.queries) for t in traces]))
        grid = points[points >= starts]
    at = _sample(grid)
    regrets = optimum - np.stack([best_so_far(t, at) for t in traces])
    mean, runs = regrets.mean(axis=0), len(traces)
    if runs < 2:
        return Curve(at, mean, np.full(len(at), np.nan), np.full(len(at), np.nan), runs)
    half = _student_quantile(runs - 1, level) * regrets.std(axis=0, ddof=1) / runs**0.5
    return Curve(at, mean, mean - half, mean + half, runs)


# -- the sentence -----------------------------------------------------------------------------------------------------


def verdict(
    name: str, against: str, test: Welch, corrected: float, *, alpha: float = ALPHA, unit: str = "points",
    higher_is_better: bool = True,
) -> str:  # fmt: skip
    """What may be said: better, worse, or the words "not different" where the corrected test does not reject."""
    if np.isnan(corrected):
        return f"{name} and {against} cannot be compared: a test needs two runs of each"
    figures = f"{test.difference:+.2f} {unit}, p = {corrected:.2g} after Holm's correction"
    if corrected > alpha:
        return f"{name} is not different from {against} ({figures})"
    word = "better" if (test.difference > 0) == higher_is_better else "worse"
    return f"{name} is {word} than {against} ({figures})"


def judge(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], *, against: str = "random networks", alpha: float = ALPHA,
    level: float = LEVEL, unit: str = "points", higher_is_better: bool = True,
) -> dict[str, Judged]:  # fmt: skip
    """Every method (its runs, those of its random networks) of one table, tested together.

    Holm's correction counts all of them, so what belongs to one table belongs into one call.
    """
    tests = {name: welch(*pair) for name, pair in pairs.items()}
    corrected = holm([test.p for test in tests.values()])
    judged = {}
    for (name, (method, random)), p in zip(pairs.items(), map(float, corrected), strict=True):
        sentence = verdict(name, against, tests[name], p, alpha=alpha, unit=unit, higher_is_better=higher_is_better)
        improvement = relative_improvement(method, random, level)
        judged[name] = Judged(spread(method), spread(random), improvement, tests[name], p, p <= alpha, sentence)
    return judged


# -- shared -----------------------------------------------------------------------------------------------------------


def _sample(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected a row of values, got the shape {array.shape}")
    return array


def _standard_error(first: Array, second: Array, weight: float = 1.0) -> tuple[float, float]:
    """Standard error of mean(first) - weight mean(second) and its degrees of freedom; NaN below two runs a side."""
    if min(len(first), len(second)) < 2:
        return float("nan"), float("nan")
    a, b = _variance(first) / len(first), weight**2 * _variance(second) / len(second)
    if a + b == 0:
        return 0.0, float(len(first) + len(second) - 2)
    share = a / (a + b)  # as shares: the squares of small variances would underflow
    freedom = 1 / (share**2 / (len(first) - 1) + (1 - share) ** 2 / (len(second) - 1))
    return float((a + b) ** 0.5), float(freedom)


def _variance(values: np.ndarray) -> float:
    """Of equal values 0, where rounding of their mean would leave 1e-28."""
    return float(values.var(ddof=1)) if np.ptp(values) else 0.0


def _student_quantile(freedom: float, level: float) -> float:
    """Half-width of Student's central interval, in standard errors."""
    quantile: Callable[[Any, Any], Any] = optional("scipy.special", "search").stdtrit
    return float(quantile(freedom, (1 + level) / 2))
