r"""A model of a supernet's scores: many networks, each scored on a part of the held-out images.

    -CE(a on part p) ~ b_p + sum over layers i of w[i, a_i] + sum over pairs i < j of v[i, a_i, j, a_j]

The part's difficulty b_p drops out where networks and scores are centred within their part. w and v are a ridge
regression, lightly on w (`RIDGE`) and strongly on v (`PAIRS`): what two layers do together is kept as far as many
networks say it. With so many features for so few networks it is solved in the dual: networks a and b that agree in m
layers have the kernel

    k(a, b) = m / RIDGE + m (m - 1) / 2 / PAIRS.

What a choice is worth depends on the size of the network around it more than pairs can say, so for a budget networks
weigh by their cost's distance from it (`nearness`): the model is local in the logarithm of cost.

Why a model and not the scores: a supernet is wrong about single networks by more than the images show, so that the
lowest of many scores is low by error. Why pairs: layers do not add up, a fit of single layers alone misjudges networks
of few layers, and one of the *true* accuracies of NAS-Bench-Macro loses half a point among the networks that settings
are chosen on. What a single network's score lacks in images the number of networks gives. Figures: docs/results.md,
docs/notes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from singlepath.architecture import Architecture
from singlepath.costs import CostModel
from singlepath.search.budget import best_under
from singlepath.spaces import Space

__all__ = ["Model", "PartScore", "best_by", "fitted", "fitted_near", "nearness", "predicted"]

RIDGE = 1e-3  # of a layer's figure, a network
PAIRS = 0.5  # of a pair's figure
AMONG = 28  # pairs of layers of a space where that holds; more pairs share the same variance
SPREAD, FLOOR = 0.3, 1e-4  # of the logarithm of cost around a budget; the weight of the networks farthest from it
EFFECTIVE = 100  # networks that a model for a budget counts at least, or half of them where fewer were scored
LISTED = 50_000  # networks of a space that are compared one by one
BLOCK = 10_000  # networks whose codes are held at once
ROUNDS, STARTS = 20, 8  # of linearising the pairs; networks that exchanges begin at
OUT = -1e9  # the utility of an option that is not to be taken

PartScore = tuple[int, float]  # (part of the images, mean cross-entropy on it in nats)


class Model(NamedTuple):
    """Negative scores up to a constant, over the one-hot code x [d] of a network: x w + x V x / 2.

    Attributes:
        single: w, [d].
        pairs: V, [d, d], symmetric, 0 within a layer.
        mean: the mean code of the networks that it was fitted to, [d].
    """

    single: np.ndarray
    pairs: np.ndarray
    mean: np.ndarray

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Of codes [N, d], [N]; greater is better."""
        return codes @ self.single + ((codes @ self.pairs) * codes).sum(1) / 2


def fitted(
    space: Space, scores: Mapping[Architecture, PartScore], *, pairs: bool = True, weights: np.ndarray | None = None
) -> Model:  # fmt: skip
    """The model of scores by canonical name; of fewer than two networks nothing is learnt.

    Args:
        pairs: False for the layers alone.
        weights: of the networks, [N], in the order of the scores; equal by default. N weighted networks count as
            (sum w)^2 / sum w^2 beside the ridge.
    """
    d, layers = space.encoding_size, len(space.searchable)
    if len(scores) < 2:
        return Model(np.zeros(d), np.zeros((d, d)), np.zeros(d))
    part = np.array([p for p, _ in scores.values()])
    x = np.stack([space.encode(a) for a in scores]).astype(float)
    w = np.ones(len(x)) if weights is None else weights / weights.mean()
    y = centred(-np.array([[s] for _, s in scores.values()]), part, w)
    ridge = PAIRS * max(1.0, math.comb(layers, 2) / AMONG) if pairs else math.inf
    agree = x @ x.T
    kernel = centred(centred(agree / RIDGE + agree * (agree - 1) / 2 / ridge, part, w).T, part, w)
    dual = np.linalg.solve(kernel + np.diag(effective(w) / w), y)[:, 0]
    return Model(x.T @ dual / RIDGE, apart(space, (x.T * dual) @ x) / ridge, w @ x / w.sum())


def fitted_near(space: Space, costs: CostModel, scores: Mapping[Architecture, PartScore], target: float) -> Model:
    """The model of a budget: networks of about its cost weigh more."""
    return fitted(space, scores, weights=nearness(space, costs, scores, target))


def nearness(space: Space, costs: CostModel, networks: Iterable[Architecture], target: float) -> np.ndarray:
    """Weights [N] of networks in a model for a budget: a bell in log(cost / target), of width `SPREAD` or as much wider
    as it takes for `EFFECTIVE` networks to count."""
    cost = np.array([costs.of(space.indices(a)) for a in networks])
    far, spread = np.log(np.maximum(cost, 1e-12) / target), SPREAD
    while True:
        weights = np.exp(-0.5 * (far / spread) ** 2) + FLOOR
        if effective(weights) >= min(EFFECTIVE, len(weights) / 2):
            return weights
        spread *= 1.25


def effective(weights: np.ndarray) -> float:
    """How many equal networks weigh as much."""
    return weights.sum() ** 2 / (weights**2).sum()


def centred(rows: np.ndarray, part: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows [N, d] less the weighted mean of their part."""
    rows = rows.astype(float)
    for p in np.unique(part):
        rows[part == p] -= weights[part == p] @ rows[part == p] / weights[part == p].sum()
    return rows


def apart(space: Space, square: np.ndarray) -> np.ndarray:
    """The matrix [d, d] with zeros within each layer."""
    layer = np.repeat(np.arange(len(space.searchable)), [len(each.options) for each in space.searchable])
    return np.where(layer[:, None] == layer[None, :], 0.0, square)


def predicted(space: Space, model: Model, networks: Iterable[Architecture]) -> np.ndarray:
    """What a model says of networks, [networks]; greater is better, up to a constant."""
    return model(np.stack([space.encode(a) for a in networks]).astype(float))


# -- the best of a budget ---------------------------------------------------------------------------------------------


def best_by(
    space: Space, model: Model, costs: CostModel, limit: float, least: float = 0.0, count: int = 1
) -> list[tuple[int, ...]]:  # fmt: skip
    """The option indices of the best networks, by canonical name, whose cost is within [least, limit]; best first, at
    most `count`.

    Exact in spaces of at most `LISTED` networks. In larger ones: with the pairs linearised at a network the best is a
    knapsack, whose answer is the next network to linearise at; so is the best with any option held. From the best of
    these every exchange of one or two layers is tried until none is better. The next best are among the networks that
    this ends at and their exchanges.
    """
    window = Window(space, costs, limit, least)
    if math.prod(len(layer.options) for layer in space.searchable) <= LISTED:
        every = np.indices([len(layer.options) for layer in space.searchable]).reshape(len(space.searchable), -1).T
        return best_of(model, window, every, count)
    found = [improved(model, window, start) for start in linearised(model, window)]
    if not found:
        return []
    near = [exchanges(best, window.sizes) for best in found] if count > 1 else []
    return best_of(model, window, np.unique(np.concatenate([np.array(found), *near]), axis=0), count)


class Window:
    """The networks of a cost window, by their options' numbers [N, layers]."""

    def __init__(self, space: Space, costs: CostModel, limit: float, least: float) -> None:
        self.space, self.costs, self.limit, self.least = space, costs, limit, least
        self.sizes = [len(layer.options) for layer in space.searchable]
        self.offsets = np.cumsum([0, *self.sizes[:-1]])
        self.of_option = np.concatenate([np.asarray(layer) for layer in costs.layers])

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """One-hot, [N, d]."""
        out = np.zeros((len(numbers), sum(self.sizes)))
        np.put_along_axis(out, numbers + self.offsets, 1.0, axis=1)
        return out

    def values(self, model: Model, numbers: np.ndarray) -> np.ndarray:
        """What a model says of networks, [N]; a block at a time, as codes take much more memory than numbers."""
        blocks = [numbers[i : i + BLOCK] for i in range(0, len(numbers), BLOCK)]
        return np.concatenate([np.zeros(0), *(model(self.codes(block)) for block in blocks)])

    def inside(self, numbers: np.ndarray) -> np.ndarray:
        """Those with a canonical name and a cost of the window."""
        cost = self.costs.fixed + self.of_option[numbers + self.offsets].sum(1)
        slack = 1e-9 * self.limit  # sums in another order; the exact cost is checked of what is chosen
        near = numbers[(cost >= self.least - slack) & (cost <= self.limit + slack)]
        return near[self.space.are_canonical(near)]

    def holds(self, numbers: np.ndarray) -> bool:
        return self.least <= self.costs.of([int(n) for n in numbers]) <= self.limit


def best_of(model: Model, window: Window, numbers: np.ndarray, count: int) -> list[tuple[int, ...]]:
    """The best of distinct networks, best first and of equals the first."""
    few = window.inside(numbers)
    best = (few[i] for i in np.argsort(-window.values(model, few), kind="stable") if window.holds(few[i]))
    return [tuple(int(n) for n in numbers) for numbers in itertools.islice(best, count)]


def linearised(model: Model, window: Window) -> list[np.ndarray]:
    """The best `STARTS` of the window's networks, by canonical name, that are knapsacks of a linearised model."""
    found: dict[tuple[int, ...], None] = {}

    def knapsack(at: np.ndarray, utility: np.ndarray) -> tuple[int, ...] | None:
        parts = np.split(utility + model.pairs @ at, window.offsets[1:])
        indices = best_under([u.tolist() for u in parts], window.costs, window.limit, window.least)
        if indices is None:
            return None
        space = window.space
        return space.indices(space.canonical(space.architecture(indices)))

    at = model.mean
    for _ in range(ROUNDS):
        name = knapsack(at, model.single)
        if name is None or name in found:
            break
        found[name] = None
        at = window.codes(np.array([name]))[0]
    for layer, (begin, size) in enumerate(zip(window.offsets, window.sizes, strict=True)):
        others = np.repeat(np.arange(len(window.sizes)), window.sizes) != layer
        for option in range(begin, begin + size):
            held = np.where(others | (np.arange(len(others)) == option), model.single, OUT)
            at = np.where(others, model.mean, np.arange(len(others)) == option)
            if (name := knapsack(at, held)) is not None:
                found.setdefault(name)
    inside = [np.array(name) for name in found if window.holds(np.array(name))]
    if not inside:
        return []
    order = np.argsort(-window.values(model, np.array(inside)), kind="stable")
    return [inside[i] for i in order[:STARTS]]


def improved(model: Model, window: Window, start: np.ndarray) -> np.ndarray:
    """The network that no exchange of one or two layers betters."""
    best, value = start, window.values(model, start[None])[0]
    while True:
        near = window.inside(exchanges(best, window.sizes))
        values = window.values(model, near)
        better = [i for i in np.argsort(-values, kind="stable") if values[i] > value + 1e-12]
        chosen = next((i for i in better if window.holds(near[i])), None)
        if chosen is None:
            return best
        best, value = near[chosen], values[chosen]


def exchanges(numbers: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Every network that differs in one or two layers, [K, layers]."""
    single = [(i, o) for i, n in enumerate(sizes) for o in range(n) if o != numbers[i]]
    both = [(a, b) for a, b in itertools.combinations(single, 2) if a[0] != b[0]]
    out = np.tile(numbers, (len(single) + len(both), 1))
    for row, changes in zip(out, itertools.chain(((s,) for s in single), both), strict=True):
        for i, o in changes:
            row[i] = o
    return out
