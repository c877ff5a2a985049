"""Rank correlations and their intervals beside scipy's, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from singlepath.bench import stats
from singlepath.bench.agreement import FEWEST, Agreement, agreement, agreement_words


def pair(seed: int, count: int, noise: float, decimals: int = 9) -> np.ndarray:
    """Two rankings of so many networks, [2, networks]; rounded ones have ties."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count)
    return np.stack([x, x + noise * rng.normal(size=count)]).round(decimals)


@pytest.mark.parametrize("decimals", [0, 9])
@pytest.mark.parametrize("count", [2, 8, 30])
def test_coefficients_are_scipys(count: int, decimals: int) -> None:
    x, y = pair(2 + count, count, 1.0, decimals)
    found = agreement(x, y)
    assert found.networks == count and found.tau == pytest.approx(kendalltau(x, y)[0], nan_ok=True)
    assert found.rho == pytest.approx(spearmanr(x, y)[0]) and found.tau == pytest.approx(stats.kendall_tau(x, y))


def test_the_interval_is_that_of_networks_drawn_with_replacement() -> None:
    x, y = pair(1, 25, 0.8)
    found, rng = agreement(x, y), np.random.default_rng(5)
    drawn = [(kendalltau(x[i], y[i])[0], spearmanr(x[i], y[i])[0]) for i in rng.integers(25, size=(4000, 25))]
    tau, rho = np.nanquantile(drawn, [0.025, 0.975], axis=0).T
    assert found.tau_interval == pytest.approx(tau, abs=0.03) and found.rho_interval == pytest.approx(rho, abs=0.03)
    assert found.tau_interval[0] < found.tau < found.tau_interval[1]
    assert agreement(x, y) == found, "the same figures every time"
    half = agreement(x, y, level=0.5)
    assert found.tau_interval[0] < half.tau_interval[0] < half.tau_interval[1] < found.tau_interval[1]


@pytest.mark.parametrize(("values", "most"), [(None, 0.08), (5, 0.1)])
def test_where_nothing_agrees_few_intervals_exclude_0(values: int | None, most: float) -> None:
    rng = np.random.default_rng(0)
    draws = [rng.integers(values, size=(2, 8)) if values else rng.normal(size=(2, 8)) for _ in range(200)]
    wrong = [low > 0 or high < 0 for each in draws for low, high in [agreement(*each).tau_interval]]
    assert np.mean(wrong) < most


def test_means_of_the_same_accuracies_tie() -> None:
    a, b, c = 100 * 13 / 297, 100 * 170 / 297, 100 * 291 / 297
    first, second = float(np.mean([a, b, c])), float(np.mean([c, b, a])) + 1e-14
    assert agreement([first, second, 1.0], [1, 2, 3]).tau == agreement([first, first, 1.0], [1, 2, 3]).tau


def test_a_ranking_may_leave_networks_out() -> None:
    x, y = pair(5, 20, 1.0)
    left, right = x.copy(), x.copy()
    left[12:], right[:8] = np.nan, np.nan
    found = agreement([left, right], y)
    assert found.networks == 20
    assert found.tau == pytest.approx((agreement(x[:12], y[:12]).tau + agreement(x[8:], y[8:]).tau) / 2)
    assert found.tau_interval[0] < found.tau < found.tau_interval[1]
    right[:13] = np.nan
    assert np.isnan(agreement([left, right], y).tau_interval).all(), "7 are too few"


def test_several_rankings_are_averaged_over_the_same_draws() -> None:
    x, y = pair(3, 20, 1.0)
    once, twice = agreement(x, y), agreement([x, x], y)
    assert twice == once, "a ranking and its copy know nothing more"
    mixed = agreement([x, -x], y)
    assert mixed.tau == pytest.approx(0) and mixed.tau_interval == pytest.approx([0, 0])
    other = pair(4, 20, 1.0)[0]
    assert agreement([x, other], y).tau == pytest.approx((once.tau + agreement(other, y).tau) / 2)


def test_too_few_networks_have_no_interval() -> None:
    few = agreement(range(FEWEST - 1), range(FEWEST - 1))
    assert few.tau == few.rho == 1 and np.isnan(few.tau_interval + few.rho_interval).all()
    assert not np.isnan(agreement(range(FEWEST), range(FEWEST)).tau_interval).any()
    flat = agreement([3.0] * 8, range(8))
    assert np.isnan([flat.tau, flat.rho, *flat.tau_interval]).all()
    for wrong in ([1, 2, 3], [[1, 2, 3]], []):
        with pytest.raises(ValueError, match="rankings of the shapes"):
            agreement(wrong, [1, 2])


@pytest.mark.parametrize(
    ("tau", "interval", "networks", "said"),
    [
        (0.5, [0.1, 0.8], 8, "A and B rank 8 networks alike: Kendall's tau 0.50 [0.10, 0.80]"),
        (-0.5, [-0.8, -0.1], 8, "A and B rank 8 networks the other way round: Kendall's tau -0.50 [-0.80, -0.10]"),
        (0.3, [-0.2, 0.8], 8, "8 networks do not show whether A and B rank alike: the interval of Kendall's tau 0.30 "
                              "[-0.20, 0.80] includes 0"),
        (0.3, [0.0, 0.8], 8, "8 networks do not show whether A and B rank alike: the interval of Kendall's tau 0.30 "
                             "[0.00, 0.80] includes 0"),
        (1.0, [np.nan, np.nan], 3, "3 networks are too few to say whether A and B rank alike: 8 needed"),
        (np.nan, [np.nan, np.nan], 8, "A and B cannot be compared: one of them is the same for all 8 networks"),
    ],
)  # fmt: skip
def test_what_is_said(tau: float, interval: list[float], networks: int, said: str) -> None:
    assert agreement_words("A", "B", Agreement(networks, tau, interval, tau, interval)) == said
