"""Weak predictors: fitted on a few queried networks, they say of every candidate what it may be worth.

    ridge     w = argmin |y - X w|^2 + lambda |w|^2;                   mean = X w
    gp        k(a, b) = (a.b + exp(-|a - b|^2 / 2 l^2)) / 2 + s^2 [a = b];  mean, std of the posterior
    mlp       a multi-layer perceptron (sklearn)
    tree      gradient-boosted regression trees (sklearn)
    forest    a random forest (sklearn)
    pairwise  P(a better than b) = sigmoid(f(a) - f(b)), f in the kernel space of gp; MAP by Newton's method

Encodings are centred and scaled so that a mean squared row is 1: lambda, l and s need no unit. Labels are scaled to
mean 0 and deviation 1. `gp` is exact and updated by one row a query, O(queries x candidates). An ensemble fits its
members to bootstrap samples; its std is theirs. Linear terms carry what single choices do, the exponential what they do
together: a decision or two apart is a correlation of 0.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from singlepath.errors import optional

__all__ = ["PREDICTORS", "Fit", "Prediction", "Rows", "ensemble"]

RIDGE = 3.0  # lambda
LENGTH, NOISE = 1.5, 0.1  # l, s^2
HIDDEN, EPOCHS = (100, 100, 100, 100), 100  # mlp
TREES, BOOSTED, DEPTH = 100, 100, 10  # forest; rounds of boosting; levels of both
NEWTON, SHRINK = 8, 0.05  # steps of pairwise; weight of its prior


class Prediction(NamedTuple):
    """mean [M] up to a monotone function; std [M], or None where the predictor knows none."""

    mean: np.ndarray
    std: np.ndarray | None = None


@dataclass
class Rows:
    """Encodings of all candidates, [M, d] float32, scaled; what was computed for the labelled ones is kept."""

    x: np.ndarray
    squares: np.ndarray = field(init=False)
    posterior: Posterior | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        x = np.asarray(self.x, np.float32) - self.x.mean(0, dtype=np.float64).astype(np.float32)
        self.x = np.ascontiguousarray(x / max(1e-6, float(np.sqrt((x**2).sum(1).mean()))))
        self.squares = (self.x**2).sum(1)

    def kernel(self, row: int) -> np.ndarray:
        """k between one candidate and all, [M], without the noise."""
        product = self.x @ self.x[row]
        distance = np.maximum(self.squares + self.squares[row] - 2 * product, 0)
        return 0.5 * product + 0.5 * np.exp(distance * (-0.5 / LENGTH**2))

    @property
    def variances(self) -> np.ndarray:
        return 0.5 * self.squares + 0.5


Fit = Callable[[Rows, np.ndarray, np.ndarray, np.random.Generator], Prediction]


class Posterior:
    """A Gaussian process's posterior, extended query by query: K + s^2 I = L L^T, V = L^-1 K(asked, all).

    The same queries in the same order give the same bits, however they were split over calls.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows, self.asked = rows, list[int]()
        self.inverse = np.zeros((0, 0))  # L^-1
        self.half = np.empty((0, len(rows.x)), np.float32)  # V
        self.variance = rows.variances.copy()

    def extend(self, asked: Sequence[int]) -> None:
        """Condition on candidates `asked`, of which the first are those of `self.asked`."""
        count, prior = len(self.asked), self.rows.variances
        if len(asked) > len(self.half):
            more = 2 * len(asked) - len(self.half)
            self.half = np.concatenate([self.half, np.empty((more, len(prior)), np.float32)])
            self.inverse = np.pad(self.inverse, (0, more))
        for n, row in enumerate(asked[count:], start=count):
            known = self.half[:n, row].copy()
            pivot = np.sqrt(max(float(prior[row]) + NOISE - float(known @ known), 1e-6))
            np.divide(self.rows.kernel(row) - known @ self.half[:n], pivot, out=self.half[n])
            self.inverse[n, :n] = -(known @ self.inverse[:n, :n]) / pivot
            self.inverse[n, n] = 1 / pivot
            self.variance -= self.half[n] ** 2
        self.asked = list(asked)

    def predict(self, y: np.ndarray) -> Prediction:
        n = len(y)
        weights = (self.inverse[:n, :n] @ y).astype(np.float32)
        return Prediction(weights @ self.half[:n], np.sqrt(np.maximum(self.variance, 0)))


def gp(rows: Rows, asked: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Prediction:
    """Exact Gaussian process regression; the posterior of earlier rounds is extended where it is this search's own."""
    wanted, kept = [int(i) for i in asked], rows.posterior
    if kept is None or kept.asked != wanted[: len(kept.asked)]:
        kept = rows.posterior = Posterior(rows)
    kept.extend(wanted)
    return kept.predict(y)


def ridge(rows: Rows, asked: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Prediction:
    """Ridge regression in its dual form: an n x n system, however long the encoding."""
    seen = rows.x[asked]
    weights = seen.T @ np.linalg.solve(seen @ seen.T + RIDGE * np.eye(len(y), dtype=np.float32), y.astype(np.float32))
    return Prediction(rows.x @ weights)


def pairwise(rows: Rows, asked: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Prediction:
    """Which of two is better, learnt from all pairs: f minimises -sum log sigmoid(f_a - f_b) / n + SHRINK |f|^2 / 2."""
    kernel = np.stack([rows.kernel(i) for i in asked])
    inner, better = kernel[:, asked].astype(np.float64), (y[:, None] > y).astype(np.float64)
    count = len(y)
    inner += 1e-3 * np.eye(count)
    alpha = np.zeros(count)
    for _ in range(NEWTON):  # f = K alpha
        f = inner @ alpha
        p = 1 / (1 + np.exp(np.clip(f[:, None] - f, -30, 30)))  # how wrong "a is better than b" still is
        gradient = ((better * p).sum(1) - (better * p).sum(0)) / count
        weight = (better + better.T) * p * (1 - p) / count
        laplacian = np.diag(weight.sum(1)) - weight
        alpha = np.linalg.solve(laplacian @ inner + SHRINK * np.eye(count), laplacian @ f + gradient)
    return Prediction(alpha.astype(np.float32) @ kernel)


def mlp(rows: Rows, asked: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Prediction:
    made = optional("sklearn.neural_network", "search").MLPRegressor(
        hidden_layer_sizes=HIDDEN, max_iter=EPOCHS, random_state=_seed(rng)
    )
    return Prediction(_quietly(made, rows, asked, y).predict(rows.x))


def tree(rows: Rows, asked: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Prediction:
    ensembles = optional("sklearn.ensemble", "search")
    made = ensembles.GradientBoostingRegressor(n_estimators=BOOSTED, max_depth=DEPTH, random_state=_seed(rng))
    return Prediction(made.fit(rows.x[asked], y).predict(rows.x))


def forest(rows: Rows, asked: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Prediction:
    ensembles = optional("sklearn.ensemble", "search")
    made = ensembles.RandomForestRegressor(n_estimators=TREES, max_depth=DEPTH, random_state=_seed(rng))
    made.fit(rows.x[asked], y)
    members = np.stack([member.predict(rows.x) for member in made.estimators_])
    return Prediction(members.mean(0), members.std(0))


PREDICTORS: dict[str, Fit] = {
    "gp": gp, "ridge": ridge, "mlp": mlp, "tree": tree, "forest": forest, "pairwise": pairwise,
}  # fmt: skip


def ensemble(
    fit: Fit, rows: Rows, asked: np.ndarray, y: np.ndarray, rng: np.random.Generator, members: int
) -> Prediction:  # fmt: skip
    """One predictor on everything, or the mean and std of `members` of them on bootstrap samples."""
    if members == 1:
        return fit(rows, asked, y, rng)
    means = []
    for _ in range(members):
        drawn = rng.integers(len(y), size=len(y))
        means.append(fit(rows, asked[drawn], y[drawn], rng).mean)
    return Prediction(np.mean(means, axis=0), np.std(means, axis=0))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _quietly(model: Any, rows: Rows, asked: np.ndarray, y: np.ndarray) -> Any:
    """Fit, without the warning that a hundred epochs have not converged: they are what the paper takes."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optional("sklearn.exceptions", "search").ConvergenceWarning)
        return model.fit(rows.x[asked], y)
