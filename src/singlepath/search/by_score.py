"""`score`: random networks of the whole space are scored, and a model of the scores chooses the best of the budget.

    -CE(a) ~ b + what its layers say + what pairs of them say      ridge regression (`score_model`)
    answer = argmax of the model over all networks of the budget

The scores are of the whole space, the model is the budget's own: networks of about its cost weigh more.

Why random networks of the *whole* space, whatever they cost: those of one budget trade one layer against another, which
says little of each. One sample serves every budget, so half of it is even in size: nearly all networks of a space are
about as large, and a uniform sample holds few of those that a small or a large budget is about. Measured on
NAS-Bench-Macro and on digits (docs/notes).

The model's best network and its best that fills the budget are scored too: a network that leaves more than a tenth of
the budget unused must be better beyond noise. With the setting `finalists` the answer names so many networks of the
budget: itself, then those that the model puts next, and by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from singlepath.architecture import Architecture
from singlepath.costs import count_costs
from singlepath.data.splits import generator
from singlepath.search.base import Found, Problem
from singlepath.search.budget import random_networks
from singlepath.search.score_model import Model, best_by, fitted_near, predicted
from singlepath.search.scoring import Scorer, concluded, drawn, no_network
from singlepath.spaces import Space
from singlepath.supernet import Supernet

__all__ = ["by_score"]

WHOLE = 2  # networks scored on all held-out images
BINS = 12  # of the logarithm of MACs, from the smallest network to the largest


def by_score(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    sample = drawn_anywhere(problem.space, problem.seed, max(0, candidates - WHOLE))
    before, new = len(scorer.known), [a for a in sample if a not in scorer.known and a not in scorer.sampled]
    problem.progress("select", 0, candidates, {})
    scorer.sample(sample)
    model = model_of(problem, scorer, sample)
    few = best_two(problem, model)[: max(1, candidates)]
    new += [a for a in few if a not in scorer.known]
    scorer.score(few)
    problem.progress("select", candidates, candidates, {})
    found = concluded(problem, scorer, "score", before, few, candidates=len(new))
    if (count := problem.settings.get("finalists", 1)) > 1:
        found.selection["finalists"] = finalists(problem, model, found.architecture, count)
    return found


@cache
def drawn_anywhere(space: Space, seed: int, count: int) -> tuple[Architecture, ...]:
    """Distinct random networks of the whole space, half of them even in size, the others uniform; the same for every
    budget and every latency table of a seed, so that what is scored for one serves all.

    Even in size: each bin of log MACs gives an equal share of what is still wanted, or all that it holds. The outermost
    come first, since they hold the fewest: the middle makes up for them. In random order, so that any stretch of the
    sample is like the whole.
    """
    rng, even, found = generator(seed, "candidates"), count // 2, dict[Architecture, None]()
    macs, bins = count_costs(space, "macs"), min(BINS, even)
    edges = np.geomspace(macs.smallest, macs.largest, bins + 1)
    outermost_first = sorted(range(bins), key=lambda i: -abs(2 * i - bins + 1))
    for done, i in enumerate(outermost_first):
        share = (even - len(found)) // (bins - done)
        found |= dict.fromkeys(random_networks(space, macs, edges[i], edges[i + 1], share, rng))
    uniform = random_networks(space, macs, 0.0, macs.largest, count, rng)
    found |= dict.fromkeys([a for a in uniform if a not in found][: count - len(found)])
    names = list(found)
    return tuple(names[i] for i in rng.permutation(len(names)))


def model_of(problem: Problem, scorer: Scorer, sample: Sequence[Architecture]) -> Model | None:
    """The budget's own model of what a sample scored; None where there is nothing to fit."""
    if len(sample) < 2:
        return None
    scores = {name: scorer.sampled[name] for name in map(scorer.name, sample)}
    return fitted_near(problem.space, problem.costs, scores, problem.budget.target)


def best_two(problem: Problem, model: Model | None) -> list[Architecture]:
    """By the model: the best network that fills the budget, where one does, and the best that fits it; random ones of
    the budget without a model.

    Raises:
        UserError: nothing fits the budget.
    """
    space, target = problem.space, problem.budget.target
    if model is None:
        return drawn(problem, WHOLE, generator(problem.seed, "few"))[0]
    found = [i for least in (problem.budget.least, 0.0) for i in best_by(space, model, problem.costs, target, least)]
    few = [space.architecture(indices) for indices in dict.fromkeys(found)]
    if not few:
        raise no_network(problem)
    return few


def finalists(problem: Problem, model: Model | None, chosen: Architecture, count: int) -> list[dict[str, Any]]:
    """The chosen network and those that the model puts next, best first: of those that fill the budget, or of all where
    none does. Plain values: "choices", and how far the model puts it "behind" the chosen one, nats.
    """
    space, budget = problem.space, problem.budget
    if model is None:
        return [{"choices": list(chosen.choices), "behind": 0.0}]
    near = best_by(space, model, problem.costs, budget.target, budget.least, count)
    near = near or best_by(space, model, problem.costs, budget.target, 0.0, count)
    names = list(dict.fromkeys([chosen, *map(space.architecture, near)]))[:count]
    values = predicted(space, model, names)
    return [{"choices": list(a.choices), "behind": float(values[0] - v)} for a, v in zip(names, values, strict=True)]
