"""How far a selection had come when it had scored so many networks: the best of those so far that fit the budget.

Selections that score a sample of the whole space for a model (`by_score`) count what of it fits the budget. Where the
sample was scored on parts of the held-out images, its scores count until the first network is scored on all of them:
the lowest of many scores on few images says less than it seems to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from singlepath.architecture import Architecture
from singlepath.search.base import Problem
from singlepath.search.scoring import Scorer

__all__ = ["Incumbent", "incumbents"]


@dataclass(frozen=True)
class Incumbent:
    """After `scored` networks the lowest held-out cross-entropy of one within the budget was this, nats; `part`: on a
    part of the held-out images."""

    scored: int
    cross_entropy: float
    part: bool = False


def incumbents(problem: Problem, scorer: Scorer) -> list[Incumbent]:
    """Every network that took another's place as the best, in the order in which one selection scored them.

    Args:
        scorer: used by that selection alone.
    """
    found: list[Incumbent] = []
    for count, (architecture, score, part) in enumerate(_scored(scorer), start=1):
        best = found[-1].cross_entropy if found and found[-1].part == part else math.inf
        if score < best and problem.cost(architecture) <= problem.budget.target:
            found.append(Incumbent(count, score, part))
    return found


def _scored(scorer: Scorer) -> Iterator[tuple[Architecture, float, bool]]:
    """(network, cross-entropy, whether on a part of the images), one after the other."""
    if len({part for part, _ in scorer.sampled.values()}) > 1:  # else the sample is on all images, and known
        yield from ((a, score, True) for a, (_, score) in scorer.sampled.items())
    yield from ((a, score, False) for a, score in scorer.known.items())
