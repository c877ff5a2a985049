"""`score`: random networks of the whole space are scored, and a model of the scores chooses the best of the budget.

    -CE(a) ~ b + what its layers say + what pairs of them say      ridge regression (`score_model`)
    answer = argmax of the model over all networks of the budget

The scores are of the whole space, the model is the budget's own: networks of about its cost weigh more.

Why random networks of the *whole* space, whatever they cost: those of one budget trade one layer against another, which
says little of each. One sample serves every budget. Measured on NAS-Bench-Macro (docs/notes).

The model's best network and its best that fills the budget are scored too: a network that leaves more than a tenth of
the budget unused must be better beyond noise.
"""

from __future__ import annotations

from singlepath.architecture import Architecture
from singlepath.costs import CostModel
from singlepath.data.splits import generator
from singlepath.search.base import Found, Problem
from singlepath.search.budget import random_networks
from singlepath.search.score_model import best_by, fitted_near
from singlepath.search.scoring import Scorer, concluded, drawn, no_network
from singlepath.spaces import Space
from singlepath.supernet import Supernet

__all__ = ["by_score"]

FINALISTS = 2


def by_score(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    sample = drawn_anywhere(problem.space, problem.costs, problem.seed, max(0, candidates - FINALISTS))
    before, new = len(scorer.known), [a for a in sample if a not in scorer.known and a not in scorer.sampled]
    problem.progress("select", 0, candidates, {})
    scorer.sample(sample)
    few = finalists(problem, scorer, sample)[: max(1, candidates)]
    new += [a for a in few if a not in scorer.known]
    scorer.score(few)
    problem.progress("select", candidates, candidates, {})
    return concluded(problem, scorer, "score", before, few, candidates=len(new))


def drawn_anywhere(space: Space, costs: CostModel, seed: int, count: int) -> list[Architecture]:
    """Distinct random networks of the whole space; the same for every budget of a seed."""
    return random_networks(space, costs, 0.0, costs.largest, count, generator(seed, "candidates"))


def finalists(problem: Problem, scorer: Scorer, sample: list[Architecture]) -> list[Architecture]:
    """By the model: the best network that fills the budget, where one does, and the best that fits it; random ones of
    the budget where too few were scored for a model.

    Raises:
        UserError: nothing fits the budget.
    """
    space, target = problem.space, problem.budget.target
    if len(sample) < 2:  # nothing to fit
        return drawn(problem, FINALISTS, generator(problem.seed, "few"))[0]
    scores = {name: scorer.sampled[name] for name in map(scorer.name, sample)}
    model = fitted_near(space, problem.costs, scores, target)
    found = (best_by(space, model, problem.costs, target, least) for least in (problem.budget.least, 0.0))
    few = list(dict.fromkeys(space.architecture(indices) for indices in found if indices is not None))
    if not few:
        raise no_network(problem)
    return few
