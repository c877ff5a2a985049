"""Reading an architecture off a trained supernet.

`gates`: the most probable architecture under the budget, sum of log P(option) over layers, an exact knapsack.

`score`: networks of the budget - half drawn uniformly, half near the gates' choice - are scored by held-out
cross-entropy with recalibrated BN statistics (never by accuracy, which ranks far worse). A ridge regression on (layer,
option) indicators smooths the scores; being additive, its best architecture under the budget is a knapsack too. The
regression's and the gates' choices join the candidates, the neighbourhood of the best is tried, and the lowest measured
cross-entropy wins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.costs.budget import FILL
from singlepath.data import Batch, batches, evaluation_batches
from singlepath.data.splits import generator
from singlepath.errors import unknown, user_error
from singlepath.search.base import Found, Problem
from singlepath.search.budget import best_under, random_networks
from singlepath.supernet import Supernet, recalibrate
from singlepath.training.train import image_losses

__all__ = ["SELECTIONS", "Scorer", "additive_fit", "gate_utility", "select"]

HELD_OUT = 4_000  # images that score a candidate, at most
RECALIBRATION = 512  # images that set a candidate's BN statistics
RIDGE = 1e-2
ROUNDS = 4  # of fitting and refining


@dataclass
class Scorer:
    """Held-out cross-entropy of sub-networks: each extracted into a copy, its BN statistics set on the weight part."""

    supernet: Supernet
    held_out: list[Batch]
    calibration: list[Tensor]
    known: dict[Architecture, float]
    losses: dict[Architecture, Tensor]

    @classmethod
    def of(cls, problem: Problem, supernet: Supernet) -> Scorer:
        data, size = problem.data, 256
        few = np.sort(generator(problem.seed, "score").permutation(len(data.val))[:HELD_OUT])
        images = data.val.subset(few)  # type: ignore[arg-type]
        held_out = list(evaluation_batches(images, data.preprocess, batch_size=size, device=problem.device))
        first = batches(data.train, data.preprocess, batch_size=128, seed=problem.seed, epoch=0, device=problem.device)
        calibration = [b.x for b, _ in zip(first, range(max(1, RECALIBRATION // 128)), strict=False)]
        return cls(supernet, held_out, calibration, {}, {})

    def __call__(self, architecture: Architecture) -> float:
        name = self.name(architecture)
        if name not in self.known:
            network = self.supernet.extract(name)
            recalibrate(network, self.calibration)
            self.losses[name] = image_losses(network, self.held_out)
            self.known[name] = float(self.losses[name].double().mean())
        return self.known[name]

    def better(self, a: Architecture, b: Architecture) -> bool:
        """Whether a's cross-entropy is below b's by two standard errors of their paired difference over the images."""
        gap = (self.losses[self.name(b)] - self.losses[self.name(a)]).double()
        return float(gap.mean()) > 2 * float(gap.std()) / math.sqrt(len(gap))

    def name(self, architecture: Architecture) -> Architecture:
        return self.supernet.space.canonical(architecture)


def gate_utility(supernet: Supernet) -> list[list[float]]:
    """log P(option) of every option of every layer."""
    p = torch.sigmoid(supernet.indicators().double().cpu())
    return [torch.log(q.clamp(min=1e-12)).tolist() for q in supernet.option_probabilities(p)]


def additive_fit(scorer: Scorer) -> list[list[float]]:
    """Ridge regression of the known scores on (layer, option) indicators: the fitted *negative* score of every
    option."""
    space = scorer.supernet.space
    x = np.stack([space.encode(a) for a in scorer.known])
    y = -np.array(list(scorer.known.values()))
    mean = x.mean(0)
    centred, target = x - mean, y - y.mean()
    weights = np.linalg.solve(centred.T @ centred + RIDGE * len(y) * np.eye(x.shape[1]), centred.T @ target)
    sizes = np.cumsum([len(layer.options) for layer in space.searchable])[:-1]
    return [part.tolist() for part in np.split(weights, sizes)]


def by_gates(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    indices = best_under(gate_utility(supernet), problem.costs, problem.budget.target)
    if indices is None:
        raise no_network(problem)
    chosen = problem.space.architecture(indices)
    selection = {"method": "gates", "candidates": 0}
    if problem.budget.filled(problem.cost(chosen)):
        return Found(chosen, selection)
    scorer = scorer or Scorer.of(problem, supernet)
    filled = best_under(gate_utility(supernet), problem.costs, problem.budget.target, least_of(problem))
    rival = problem.space.architecture(filled) if filled else None
    scorer(chosen)
    if rival and (scorer(rival) < scorer(chosen) or not scorer.better(chosen, rival)):
        return Found(rival, selection)
    return Found(chosen, selection, reason(problem, chosen, rival, scorer))


def by_score(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Score at most `candidates` networks (beside those a given scorer knows already) and take the best under the
    budget."""
    scorer = scorer or Scorer.of(problem, supernet)
    before = len(scorer.known)
    for architecture in starters(problem, supernet, candidates // 2):
        scorer(architecture)
        problem.progress("select", len(scorer.known) - before, candidates, {})
    for turn in range(ROUNDS):
        wanted = before + candidates * (turn + 1 + ROUNDS) // (2 * ROUNDS)
        for architecture in refinements(problem, scorer, turn):
            if len(scorer.known) < wanted:
                scorer(architecture)
                problem.progress("select", len(scorer.known) - before, candidates, {})
    best = choice(problem, scorer)
    selection = {
        "method": "score", "candidates": len(scorer.known) - before,
        "held_out_images": sum(len(b.y) for b in scorer.held_out), "score": scorer.known[best],
        "gates_score": gates_score(problem, scorer),
    }  # fmt: skip
    if problem.budget.filled(problem.cost(best)):
        return Found(best, selection)
    return Found(best, selection, reason(problem, best, best_filled(problem, scorer), scorer))


def affordable(problem: Problem, scorer: Scorer) -> list[Architecture]:
    """What is known and costs no more than the target.

    Where a table gives interchangeable layers different costs, a network's canonical name may cost more than the name
    it was drawn by; it is the canonical one that would be trained, so its cost decides.
    """
    return [a for a in scorer.known if problem.cost(a) <= problem.budget.target]


def choice(problem: Problem, scorer: Scorer) -> Architecture:
    """The lowest cross-entropy; one that leaves more than a tenth of the budget unused must be better beyond noise.

    Raises:
        UserError: nothing fits the budget.
    """
    known = affordable(problem, scorer)
    if not known:
        raise no_network(problem)
    best = min(known, key=lambda a: (scorer.known[a], a.choices))
    filled = best_filled(problem, scorer)
    if filled is None or filled == best or scorer.better(best, filled):
        return best
    return filled


def best_filled(problem: Problem, scorer: Scorer) -> Architecture | None:
    """The lowest cross-entropy among the networks that use at least 90 % of the budget."""
    filled = [a for a in affordable(problem, scorer) if problem.budget.filled(problem.cost(a))]
    return min(filled, key=lambda a: (scorer.known[a], a.choices), default=None)


def least_of(problem: Problem) -> float:
    """What candidates cost at least: 90 % of the budget, or of the target where that is below it."""
    budget = problem.budget
    return FILL * (budget.limit if FILL * budget.limit < budget.target else budget.target)


def starters(problem: Problem, supernet: Supernet, count: int) -> list[Architecture]:
    """The gates' choice, then uniformly random networks of the budget."""
    space, budget = problem.space, problem.budget
    low, utility = least_of(problem), gate_utility(supernet)
    choices = [best_under(utility, problem.costs, budget.target, least) for least in (low, 0.0)]
    first = [space.architecture(c) for c in choices if c is not None]
    rng = generator(problem.seed, "candidates")
    return first + random_networks(space, problem.costs, low, budget.target, max(0, count - len(first)), rng)


def refinements(problem: Problem, scorer: Scorer, turn: int) -> list[Architecture]:
    """The additive fit's best network, networks drawn near it, and mutations of the best so far, all within the
    budget."""
    space, costs, budget = problem.space, problem.costs, problem.budget
    rng, found = generator(problem.seed, "refine", turn), []
    if len(scorer.known) < 2:
        return []
    fit, noise = additive_fit(scorer), float(np.std(list(scorer.known.values()))) / 4
    for scale in (0.0, *([noise] * 12)):
        utility = [[u + scale * rng.gumbel() for u in layer] for layer in fit]
        indices = best_under(utility, costs, budget.target)
        found += [space.architecture(indices)] if indices is not None else []
    best = sorted(affordable(problem, scorer), key=lambda a: scorer.known[a])[:5]
    mutants = [space.mutate(best[i % len(best)], rng, 1 + i % 2) for i in range(200 if best else 0)]
    kept = [m for m in mutants if least_of(problem) <= costs.of(space.indices(m)) <= budget.target]
    return list(dict.fromkeys(space.canonical(a) for a in found + kept[:24] if space.canonical(a) not in scorer.known))


def gates_score(problem: Problem, scorer: Scorer) -> float | None:
    indices = best_under(gate_utility(scorer.supernet), problem.costs, problem.budget.target)
    return None if indices is None else scorer(problem.space.architecture(indices))


def reason(problem: Problem, chosen: Architecture, rival: Architecture | None, scorer: Scorer) -> str:
    """Why less than 90 % of the budget is used, with both figures."""
    unit, budget = problem.costs.unit, problem.budget
    used = f"{problem.cost(chosen):.4g} {unit} of {budget.limit:.4g} {unit}"
    if problem.budget.target < FILL * problem.budget.limit:
        return (
            f"{used}: the latency table's 95 % error ({problem.costs.error95:.1%}) is kept free, so that the measured "
            "figure stays under the budget; a table timed on a calm machine has less"
        )
    if rival is None:
        return f"{used}: no network of the space costs between {FILL:.0%} of the budget and {budget.target:.4g} {unit}"
    return (
        f"{used}: the smaller network was better on held-out data, cross-entropy {scorer(chosen):.4f} against "
        f"{scorer(rival):.4f} of the best network that fills the budget ({problem.cost(rival):.4g} {unit})"
    )


def no_network(problem: Problem) -> Exception:
    return user_error(
        f"no network of {problem.space.id} fits {problem.budget.text}",
        f"the smallest costs {problem.costs.smallest:.4g}",
        "type a larger --budget",
    )  # fmt: skip


SELECTIONS = {"score": by_score, "gates": by_gates}


def select(
    problem: Problem, supernet: Supernet, method: str, candidates: int, scorer: Scorer | None = None
) -> Found:  # fmt: skip
    """The architecture that `method` reads off the supernet; within the budget by construction.

    A scorer that other selections on this supernet have used is reused: its scores count for nothing new.
    """
    if method not in SELECTIONS:
        raise unknown("selection", method, SELECTIONS, "--select")
    return SELECTIONS[method](problem, supernet, candidates, scorer)
