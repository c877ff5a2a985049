"""An additive model of a supernet's scores: many networks, each scored on a part of the held-out images.

    CE(a on part p) ~ b_p + sum over layers of w[layer, option of a]

The part's difficulty b_p drops out where networks and scores are centred within their part; w is a ridge regression.
What a single network's score lacks in images, the number of networks gives: 300 networks on 250 images each choose as
well as on 2,500 (docs/notes, "Windows, and what chooses").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from singlepath.architecture import Architecture
from singlepath.spaces import Space

__all__ = ["PartScore", "additive_fit", "predicted"]

RIDGE = 1e-3

PartScore = tuple[int, float]  # (part of the images, mean cross-entropy on it in nats)


def additive_fit(space: Space, scores: Mapping[Architecture, PartScore]) -> list[list[float]]:
    """The fitted *negative* score of every option of every layer; of fewer than two networks nothing is learnt."""
    if len(scores) < 2:
        return [[0.0] * len(layer.options) for layer in space.searchable]
    part = np.array([p for p, _ in scores.values()])
    x = centred(np.stack([space.encode(a) for a in scores]), part)
    y = centred(-np.array([[s] for _, s in scores.values()]), part)[:, 0]
    weights = np.linalg.solve(x.T @ x + RIDGE * len(y) * np.eye(x.shape[1]), x.T @ y)
    sizes = np.cumsum([len(layer.options) for layer in space.searchable])[:-1]
    return [w.tolist() for w in np.split(weights, sizes)]


def centred(rows: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Rows [N, d] less the mean of their part."""
    rows = rows.astype(float)
    for p in np.unique(part):
        rows[part == p] -= rows[part == p].mean(0)
    return rows


def predicted(space: Space, fit: Sequence[Sequence[float]], networks: Iterable[Architecture]) -> np.ndarray:
    """What a fit says of networks, [networks]; greater is better, up to a constant."""
    weights = np.concatenate([np.asarray(layer) for layer in fit])
    return np.array([float(space.encode(a) @ weights) for a in networks])
