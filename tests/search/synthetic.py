"""Functions of the architecture whose best network is known, and a scorer that reads them."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.search.helpers import problem
from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.costs import CostModel, count_costs
from singlepath.search import Found, Problem
from singlepath.search.scoring import Scorer
from singlepath.search.selection import select
from singlepath.spaces import Layer, Space
from singlepath.supernet import Supernet, build


def space_of(*widths: int) -> Space:
    """A stage of two layers a width, the second skippable; no two layers are interchangeable."""
    layers, channels, side = [], 8, 16
    for stage, out in enumerate(widths):
        for index in range(2):
            stride = 2 if index == 0 and stage % 2 else 1
            layers.append(Layer(stage, index, channels, out, stride, side, (3, 5), (3.0, 6.0), skippable=index > 0))
            channels, side = out, -(-side // stride)
    return Space(f"toy{len(widths)}", tuple(layers), 16, 3, 8, 1, 32, 10)


SMALL, LARGE = space_of(8, 12, 16), space_of(8, 12, 16, 24)  # 8,000 and 160,000 networks


@lru_cache(maxsize=4)
def supernet(space: Space) -> Supernet:
    return build(space, 0)


class Truth(NamedTuple):
    """What a network's cross-entropy is: a figure an option, and one a pair of options of neighbouring layers."""

    space: Space
    effects: list[np.ndarray]
    pairs: list[np.ndarray]

    @classmethod
    def drawn(cls, space: Space, seed: int, mix: float = 0.0, size: float = 1.0) -> Truth:
        """Random figures (`mix`: the pairs' share of the effects' spread); `size` is what the largest network gains."""
        rng, costs = np.random.default_rng(seed), count_costs(space, "macs")
        gain, counts = size / (costs.largest - costs.smallest), [len(layer.options) for layer in space.searchable]
        effects = [0.05 * rng.normal(size=len(c)) - gain * np.array(c) for c in costs.layers]
        pairs = [0.05 * mix * rng.normal(size=shape) for shape in pairwise(counts)]
        return cls(space, effects, pairs)

    def of(self, indices: tuple[int, ...]) -> float:
        single = sum(e[o] for e, o in zip(self.effects, indices, strict=True))
        return 3.0 + float(single + sum(p[a, b] for p, a, b in zip(self.pairs, indices, indices[1:], strict=False)))

    def everywhere(self, costs: CostModel) -> tuple[np.ndarray, np.ndarray]:
        """(cost, cross-entropy) of every network of the space."""
        at = np.indices([len(e) for e in self.effects]).reshape(len(self.effects), -1)
        cost = costs.fixed + sum(np.array(c)[o] for c, o in zip(costs.layers, at, strict=True))
        single = sum(e[o] for e, o in zip(self.effects, at, strict=True))
        pairs = sum(p[a, b] for p, a, b in zip(self.pairs, at[:-1], at[1:], strict=True))
        return np.asarray(cost), np.asarray(3.0 + single + pairs)


def scorer_of(truth: Truth) -> tuple[Scorer, list[Architecture]]:
    """A scorer that reads the truth, and the networks that it was asked for, in order."""
    asked: list[Architecture] = []

    def measure(architecture: Architecture) -> Tensor:
        asked.append(architecture)
        return truth.of(truth.space.indices(architecture)) + 1e-6 * torch.linspace(-1, 1, 20, dtype=torch.float64)

    return Scorer(supernet(truth.space), [], [], measure=measure), asked


def asked_for(space: Space = SMALL, share: float = 0.55, seed: int = 0, **settings: Any) -> Problem:
    """A problem whose budget is a share of the largest network's MACs."""
    return problem(f"{share * count_costs(space, 'macs').largest:.5f}MMACs", space=space, seed=seed, **settings)


def selected(name: str, truth: Truth, asked: Problem, candidates: int) -> tuple[Found, float, list[Architecture]]:
    """The answer, its true cross-entropy, and what was scored for it."""
    scorer, calls = scorer_of(truth)
    found = select(asked, supernet(truth.space), name, candidates, scorer)
    return found, truth.of(truth.space.indices(found.architecture)), calls


def regret(truth: Truth, asked: Problem, value: float) -> float:
    """How far a cross-entropy lies above the best of the budget, in standard deviations of those that fill it."""
    cost, loss = truth.everywhere(asked.costs)
    fits = cost <= asked.budget.target
    return float((value - loss[fits].min()) / loss[fits & (cost >= asked.budget.least)].std())
