"""Statistics of comparisons: against scipy, against brute force, and by what they promise."""

from __future__ import annotations

import itertools
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from singlepath.bench import stats
from singlepath.bench.stats import Trace
from singlepath.errors import UserError

numbers = st.floats(-1e3, 1e3).map(lambda v: round(v, 3))
accuracies = st.floats(50, 100).map(lambda v: round(v, 2))


def samples(elements: st.SearchStrategy[float] = numbers, least: int = 2, most: int = 12):
    return st.lists(elements, min_size=least, max_size=most)


# -- one sample -------------------------------------------------------------------------------------------------------


@given(samples())
def test_spread_names_both_standard_deviations(values: list[float]) -> None:
    seen, n = stats.spread(values), len(values)
    mean = sum(values) / n
    squares = sum((v - mean) ** 2 for v in values)
    assert (seen.runs, seen.low, seen.high) == (n, min(values), max(values))
    assert seen.mean == pytest.approx(mean, abs=1e-9)
    assert seen.population_sd == pytest.approx((squares / n) ** 0.5, abs=1e-6)
    assert seen.sample_sd == pytest.approx((squares / (n - 1)) ** 0.5, abs=1e-6)
    assert (stats.population_sd(values), stats.sample_sd(values)) == (seen.population_sd, seen.sample_sd)


def test_a_single_run_has_no_estimated_spread() -> None:
    seen = stats.spread([93.5])
    assert (seen.mean, seen.population_sd) == (93.5, 0.0)
    assert np.isnan(seen.sample_sd)
    assert all(np.isnan(stats.mean_interval([93.5])))


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 3.0])
def test_what_is_not_a_row_of_values_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="row of values"):
        stats.spread(values)  # type: ignore[arg-type]


@given(samples(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_mean_interval_is_students(values: list[float], level: float) -> None:
    assume(np.ptp(values) > 0)
    expected = scipy_stats.t.interval(level, len(values) - 1, np.mean(values), scipy_stats.sem(values))
    assert stats.mean_interval(values, level) == pytest.approx(expected, abs=1e-6)


# -- two samples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [94.37, 0.1, 73.51, 46.2, 1e-3])
@pytest.mark.parametrize(("few", "many"), [(30, 100), (3, 7), (2, 50)])
def test_equal_values_are_not_different_however_many(value: float, few: int, many: int) -> None:
    test = stats.welch([value] * few, [value] * many)
    assert (test.difference, test.p) == (0.0, 1.0)
    ri = stats.relative_improvement([value] * few, [value] * many)
    assert abs(ri.value) < 1e-9 and ri.high - ri.low < 1e-9


@given(samples(), samples())
def test_welch_is_scipys(first: list[float], second: list[float]) -> None:
    assume(np.ptp(first) > 0 or np.ptp(second) > 0)
    expected: Any = scipy_stats.ttest_ind(first, second, equal_var=False)
    seen = stats.welch(first, second)
    assert seen.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert seen.freedom == pytest.approx(expected.df, rel=1e-6)
    assert seen.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert seen.difference == pytest.approx(np.mean(first) - np.mean(second), abs=1e-9)


@given(samples(), samples())
def test_welch_has_no_direction(first: list[float], second: list[float]) -> None:
    forth, back = stats.welch(first, second), stats.welch(second, first)
    assert forth.p == pytest.approx(back.p, abs=1e-12)
    assert forth.difference == -back.difference


def test_welch_without_spread_or_without_runs() -> None:
    assert stats.welch([2.0, 2.0], [2.0, 2.0]).p == 1.0
    apart = stats.welch([3.0, 3.0], [2.0, 2.0])
    assert (apart.p, apart.statistic) == (2 / 6, np.inf)  # two of six ways to deal them out
    assert stats.welch([0.1] * 3, [0.2] * 3).p == pytest.approx(0.1)  # 0.1 three times has a deviation of 1e-17
    assert stats.welch([0.3] * 7, [0.2] * 7).p < 0.001
    assert stats.welch([1.0, 1.0], [2.0, 2.0]).statistic == -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(stats.welch([1.0], [2.0, 3.0]).p)
        assert np.isnan(stats.welch([1.0, 2.0], [2.0]).p)


def test_a_test_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(UserError, match="extra 'search'"):
        stats.welch([1.0, 2.0], [2.0, 4.0])


@given(samples(accuracies, most=9), samples(accuracies, most=9), st.floats(0.1, 10))
def test_relative_improvement_has_no_unit(method: list[float], random: list[float], scale: float) -> None:
    seen = stats.relative_improvement(method, random)
    assert seen.value == pytest.approx(100 * (np.mean(method) / np.mean(random) - 1), abs=1e-9)
    assert seen.low <= seen.value <= seen.high
    scaled = stats.relative_improvement(np.multiply(method, scale), np.multiply(random, scale))
    assert scaled == pytest.approx(seen, abs=1e-6)


def test_relative_improvement_interval_holds_what_it_says() -> None:
    rng, held, rounds = np.random.default_rng(0), 0, 2000
    truth = 100 * (71.4 / 70.0 - 1)
    for _ in range(rounds):  # unequal spreads and sizes: a pooled variance or an error in the weights would show
        low, high = stats.relative_improvement(rng.normal(71.4, 0.3, 8), rng.normal(70.0, 2.0, 5))[1:]
        held += low <= truth <= high
    assert held / rounds == pytest.approx(0.95, abs=0.02)


def test_relative_improvement_counts_the_random_means_error_as_a_ratio() -> None:
    """Far from 1 the random side's error weighs m / r, which a difference of percentages would miss."""
    rng, held, rounds = np.random.default_rng(1), 0, 2000
    for _ in range(rounds):
        low, high = stats.relative_improvement(rng.normal(90, 0.5, 8), rng.normal(30, 0.5, 8))[1:]
        held += low <= 200 <= high
    assert held / rounds == pytest.approx(0.95, abs=0.02)


def test_relative_improvement_of_what_cannot_be_said() -> None:
    single = stats.relative_improvement([1.0], [2.0, 3.0])
    assert single.value == -60
    assert np.isnan(single.low)
    assert np.isnan(single.high)
    assert all(np.isnan(stats.relative_improvement([1.0, 2.0], [0.0, 0.0])))


# -- many comparisons -------------------------------------------------------------------------------------------------


def rejected(p_values: Sequence[float], alpha: float) -> set[int]:
    """Holm's procedure as it is told: from the smallest p-value up, stop at the first that does not pass."""
    passed: set[int] = set()
    left = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(left):
        if p_values[i] > alpha / (len(left) - rank):
            break
        passed.add(i)
    return passed


@given(samples(st.floats(0, 1), least=1), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    corrected = stats.holm(p_values)
    clear = [i for i in range(len(p_values)) if abs(corrected[i] - alpha) > 1e-12]
    assert {i for i in clear if corrected[i] <= alpha} == rejected(p_values, alpha) & set(clear)
    assert np.all(corrected >= np.minimum(p_values, 1))
    assert np.all(corrected <= 1)


@given(samples(st.floats(0, 1), least=1), st.randoms())
def test_holm_keeps_the_order_given_and_leaves_missing_tests_out(p_values: list[float], random) -> None:
    corrected, order = stats.holm(p_values), list(range(len(p_values)))
    random.shuffle(order)
    assert list(stats.holm([p_values[i] for i in order])) == pytest.approx([corrected[i] for i in order])
    with_gap = stats.holm([p_values[0], float("nan"), *p_values[1:]])
    assert np.isnan(with_gap[1])
    assert list(np.delete(with_gap, 1)) == pytest.approx(list(corrected))


@given(st.integers(2, 25), st.integers(1, 6), st.randoms())
def test_kendall_tau_is_scipys_with_ties(size: int, levels: int, random) -> None:
    first = [random.randint(0, levels * 3) for _ in range(size)]
    second = [random.randint(0, levels) for _ in range(size)]
    result: Any = scipy_stats.kendalltau(first, second)
    expected = result.statistic
    assert stats.kendall_tau(first, second) == pytest.approx(expected, nan_ok=True)
    assert stats.kendall_tau(second, first) == pytest.approx(expected, nan_ok=True)


def test_kendall_tau_needs_pairs() -> None:
    with pytest.raises(ValueError, match="3 values against 2"):
        stats.kendall_tau([1, 2, 3], [1, 2])


# -- the best of n ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
def test_expected_best_is_the_mean_over_every_draw(values: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(values)))
    distinct = [max(drawn) for drawn in itertools.combinations(values, n)]
    assert stats.expected_best_without_replacement(values, n) == pytest.approx(np.mean(distinct))
    fresh = [max(drawn) for drawn in itertools.product(values, repeat=n)]
    assert stats.expected_best_with_replacement(values, n) == pytest.approx(np.mean(fresh))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=5), st.data())
def test_what_is_read_at_the_best_is_averaged_over_every_order(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, len(rows)))
    values, reads = zip(*rows, strict=True)

    def first_best(drawn: Sequence[int]) -> int:
        return reads[max(drawn, key=lambda i: values[i])]  # max keeps the first among equals

    places = range(len(rows))
    distinct = [first_best(drawn) for drawn in itertools.permutations(places, n)]
    assert stats.expected_best_without_replacement(values, n, reads) == pytest.approx(np.mean(distinct))
    fresh = [first_best(drawn) for drawn in itertools.product(places, repeat=n)]
    assert stats.expected_best_with_replacement(values, n, reads) == pytest.approx(np.mean(fresh))


@given(st.integers(1, 400), st.data())
def test_weights_are_probabilities_at_any_size(size: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, size))
    for replacement in (False, True):
        weights = stats.best_of_weights(size, n, replacement=replacement)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)
    assert not stats.best_of_weights(size, n, replacement=False)[: n - 1].any()


def test_expected_best_of_a_whole_table_of_the_published_size() -> None:
    """15,625 networks, 300 queries: the expected place of the best of n without replacement is n (N + 1) / (n + 1)."""
    table = np.random.default_rng(0).permutation(np.arange(1.0, 15_626))
    best = stats.expected_best_without_replacement(table, 300)
    assert best == pytest.approx(300 * 15_626 / 301, rel=1e-9)
    assert stats.expected_best_without_replacement(table, 15_625) == pytest.approx(15_625)


@pytest.mark.parametrize(("size", "n", "replacement"), [(3, 4, False), (3, 0, True), (3, 0, False)])
def test_impossible_draws_are_refused(size: int, n: int, replacement: bool) -> None:
    with pytest.raises(ValueError, match="the best of"):
        stats.best_of_weights(size, n, replacement=replacement)


# -- two objectives ---------------------------------------------------------------------------------------------------


def test_the_area_that_a_front_leaves_behind() -> None:
    assert stats.hypervolume([2.0], [5.0], 10, 1) == 8 * 4
    rng = np.random.default_rng(0)
    costs, values = rng.integers(0, 8, 30), rng.integers(0, 8, 30)
    for count in (1, 5, 30):
        spent, worth = costs[:count], values[:count]
        cells = sum(bool(np.any((spent <= x) & (worth > y))) for x in range(8) for y in range(8))
        assert stats.hypervolume(spent, worth, 8, 0) == cells
        assert stats.hypervolume(spent[::-1], worth[::-1], 8, 0) == cells


# -- curves -----------------------------------------------------------------------------------------------------------

steps = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=8)


@given(steps, st.lists(st.integers(0, 80), min_size=1, max_size=12))
def test_best_so_far_is_what_had_been_seen_by_then(rows: list[tuple[int, int, int]], grid: list[int]) -> None:
    queries = np.cumsum([r[0] for r in rows])
    values, reads = [r[1] for r in rows], [r[2] for r in rows]
    shown = stats.best_so_far(Trace(queries, values), grid)
    read = stats.best_so_far(Trace(queries, values, reads), grid)
    for q, value, other in zip(grid, shown, read, strict=True):
        seen = [i for i in range(len(rows)) if queries[i] <= q]
        if not seen:
            assert np.isnan(value)
            assert np.isnan(other)
            continue
        best = max(seen, key=lambda i: values[i])
        assert (value, other) == (values[best], reads[best])


def test_best_so_far_needs_ascending_queries() -> None:
    for trace in (Trace([2, 1], [0.1, 0.2]), Trace([1, 2], [0.1])):
        with pytest.raises(ValueError, match="ascending"):
            stats.best_so_far(trace, [1])


@given(st.lists(steps, min_size=2, max_size=5))
def test_regret_curve_aligns_runs_on_queries(runs: list[list[tuple[int, int, int]]]) -> None:
    traces = [Trace(np.cumsum([r[0] for r in rows]), [r[1] for r in rows]) for rows in runs]
    curve = stats.regret_curve(traces, optimum=5)
    each = [5 - stats.best_so_far(t, curve.queries) for t in traces]
    assert not np.isnan(curve.mean).any()
    assert np.all(np.diff(curve.mean) <= 1e-12)  # more queries never make the best worse
    assert list(curve.mean) == pytest.approx(list(np.mean(each, axis=0)))
    last = [stats.mean_interval([e[-1] for e in each])]
    assert (curve.low[-1], curve.high[-1]) == pytest.approx(last[0])
    assert curve.mean[-1] == pytest.approx(np.mean([5 - np.max(t.values) for t in traces]))


def test_regret_curve_waits_for_every_run() -> None:
    late = [Trace([1, 2], [1.0, 2.0]), Trace([10, 11], [4.0, 5.0])]
    assert list(stats.regret_curve(late, 5).queries) == [10, 11]
    on_grid = stats.regret_curve(late, 5, grid=[2, 10, 50])
    assert np.isnan(on_grid.mean[0])
    assert list(on_grid.mean[1:]) == [2.0, 1.5]
    alone = stats.regret_curve(late[:1], 5)
    assert (alone.runs, list(alone.mean)) == (1, [4.0, 3.0])
    assert np.isnan(alone.low).all()
    with pytest.raises(ValueError, match="no runs"):
        stats.regret_curve([], 5)


# -- what is said -----------------------------------------------------------------------------------------------------

CLEAR = ([71.0, 71.2, 71.1, 71.3], [70.0, 70.2, 70.1, 70.3])
NOISE = ([70.0, 71.0, 72.0, 70.5], [70.1, 71.1, 71.9, 70.2])


def test_only_what_survives_the_correction_is_called_different() -> None:
    judged = stats.judge(
        {"clear": CLEAR, "noise": NOISE, "reversed": (CLEAR[1], CLEAR[0]), "single": ([70.0], CLEAR[1])}
    )
    assert judged["clear"].different
    assert re.match(r"clear is better than random networks \(\+1\.00 points, p = ", judged["clear"].sentence)
    assert judged["reversed"].sentence.startswith("reversed is worse than random networks (-1.00 points")
    assert not judged["noise"].different
    assert "noise is not different from random networks (" in judged["noise"].sentence
    assert not judged["single"].different
    assert "cannot be compared" in judged["single"].sentence
    assert judged["clear"].improvement.value == pytest.approx(100 / 70.15)
    assert judged["clear"].random.mean == pytest.approx(70.15)


@given(st.integers(1, 40))
def test_more_comparisons_make_the_same_figures_say_less(others: int) -> None:
    """One comparison at p = 0.019 is a difference; it no longer is beside two or more unclear ones."""
    close = ([70.9, 71.0, 71.2, 71.3, 71.6], [70.3, 70.5, 70.6, 70.8, 71.1])
    assert stats.judge({"close": close})["close"].different
    table = {"close": close} | {f"noise {i}": NOISE for i in range(others)}
    judged = stats.judge(table)["close"]
    assert judged.holm == pytest.approx(min(1.0, judged.test.p * (others + 1)))
    assert judged.different == (judged.test.p * (others + 1) <= stats.ALPHA)
    assert ("not different" in judged.sentence) != judged.different


def test_lower_may_be_better() -> None:
    judged = stats.judge({"ours": CLEAR}, higher_is_better=False, unit="ms", against="the table")["ours"]
    assert judged.sentence.startswith("ours is worse than the table (+1.00 ms")
