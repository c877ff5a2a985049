"""What every selection shares: scores of sub-networks, the model of the scores, and the rule that takes one of them.

Networks are scored by held-out cross-entropy with recalibrated BN statistics and a classifier refitted to each
(`readout`), never by accuracy, which ranks far worse. Whatever a selection has scored, `concluded` takes its answer by
the same rule: the lowest cross-entropy within the budget, and a network that leaves more than a tenth of the budget
unused only where it is better beyond noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.costs.budget import FILL
from singlepath.data import Batch, batches, evaluation_batches
from singlepath.data.splits import generator
from singlepath.errors import user_error
from singlepath.search.base import Found, Problem
from singlepath.search.budget import networks_of
from singlepath.search.readout import refitted_losses, refitting_images
from singlepath.search.score_model import PartScore
from singlepath.supernet import Supernet, children_features

__all__ = [
    "HELD_OUT", "RECALIBRATION", "Scorer", "affordable", "choice", "concluded",
    "drawn", "gate_utility", "in_window", "no_network", "reason",
]  # fmt: skip

HELD_OUT = 2_500  # images that score a candidate, at most
RECALIBRATION = 512  # images that set a candidate's BN statistics
MEMORY = 2**29  # bytes of features held at once
BATCH = 256  # of held-out images
PART, TOGETHER = 500, 20  # least images that a sampled network is scored on, least networks that share them


@dataclass
class Scorer:
    """Held-out cross-entropy of sub-networks: each extracted into a copy, its BN statistics set on the weight part.

    Attributes:
        known: the mean cross-entropy of what has been scored, nats, by canonical name.
        losses: the cross-entropy of every held-out image behind it, [N].
        sampled: what has been scored on a part of the images only.
        measure: gives those losses for a canonical architecture; None for `children_losses`.
        passes: forward passes of single images that scoring took, recalibration included.
    """

    supernet: Supernet
    held_out: list[Batch]
    calibration: list[Tensor]
    known: dict[Architecture, float] = field(default_factory=dict)
    losses: dict[Architecture, Tensor] = field(default_factory=dict)
    sampled: dict[Architecture, PartScore] = field(default_factory=dict)
    measure: Callable[[Architecture], Tensor] | None = None
    passes: int = 0

    @classmethod
    def of(cls, problem: Problem, supernet: Supernet) -> Scorer:
        data = problem.data
        few = generator(problem.seed, "score").permutation(len(data.val))[:HELD_OUT]  # any part has all classes
        images = data.val.subset(few)
        held_out = list(evaluation_batches(images, data.preprocess, batch_size=BATCH, device=problem.device))
        first = batches(data.train, data.preprocess, batch_size=128, seed=problem.seed, epoch=0, device=problem.device)
        calibration = [b.x for b, _ in zip(first, range(max(1, RECALIBRATION // 128)), strict=False)]
        return cls(supernet, held_out, calibration)

    def __call__(self, architecture: Architecture) -> float:
        self.score([architecture])
        return self.known[self.name(architecture)]

    def score(self, architectures: Iterable[Architecture]) -> None:
        """Get to know networks, many at once for less: what they share is computed once."""
        new = list(dict.fromkeys(n for n in map(self.name, architectures) if n not in self.known))
        if not new:
            return
        losses = {n: self.measure(n) for n in new} if self.measure else self.children_losses(new)
        self.passes += len(new) * self.images()
        for name in new:
            self.losses[name] = losses[name]
            self.known[name] = float(losses[name].double().mean())

    def sample(self, architectures: Iterable[Architecture]) -> None:
        """Score networks for a model: the images are split, and every network is scored on one part."""
        new = list(dict.fromkeys(n for n in map(self.name, architectures) if n not in self.sampled))
        parts = max(1, min(self.most_parts(), len(new) // TOGETHER))
        if parts == 1:
            self.score(new)
        first = 1 + max((p for p, _ in self.sampled.values()), default=-1)
        for p in range(parts):
            mine = new[p::parts]
            where = slice(p, None, parts)
            losses = self.losses if parts == 1 else self.children_losses(mine, where)
            self.passes += 0 if parts == 1 else len(mine) * self.images(where)
            self.sampled |= {a: (first + p, float(losses[a].double().mean())) for a in mine}

    def most_parts(self) -> int:
        """Parts that the held-out batches can be split into: none too small for a refit that the whole allows."""
        counts, refit = [len(b.y) for b in self.held_out], refitting_images(self.supernet.classifier.out_features)
        least = refit if sum(counts) >= refit else PART
        enough = (n for n in range(len(counts), 1, -1) if min(sum(counts[p::n]) for p in range(n)) >= least)
        return next(enough, 1)

    def children_losses(
        self, architectures: Sequence[Architecture], part: slice = slice(None)
    ) -> dict[Architecture, Tensor]:  # fmt: skip
        """The losses of the supernet's children on the held-out batches of a part, [N] each; it stays as it is."""
        held_out, classifier = self.held_out[part], self.supernet.classifier
        labels, losses = torch.cat([b.y for b in held_out]), dict[Architecture, Tensor]()
        order = sorted(architectures, key=lambda a: tuple(self.supernet.space.indices(a)))  # neighbours share more
        together = max(1, MEMORY // (4 * len(labels) * classifier.in_features))
        for few in (order[i : i + together] for i in range(0, len(order), together)):
            features: dict[Architecture, list[Tensor]] = {a: [] for a in few}
            for _, a, f in children_features(self.supernet, few, self.calibration, (b.x for b in held_out)):
                features[a].append(f)
            losses |= {a: refitted_losses(torch.cat(f), labels, classifier).cpu() for a, f in features.items()}
        return losses

    def images(self, part: slice = slice(None)) -> int:
        """Images that scoring a network on a part passes through it."""
        return sum(len(b.y) for b in self.held_out[part]) + sum(len(x) for x in self.calibration)

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


def affordable(
    problem: Problem, scorer: Scorer, among: Sequence[Architecture] | None = None
) -> list[Architecture]:  # fmt: skip
    """What is known (of `among`, where given) and costs no more than the target.

    Where a table gives interchangeable layers different costs, a network's canonical name may cost more than the name
    it was drawn by; it is the canonical one that would be trained, so its cost decides.
    """
    names = scorer.known if among is None else among
    return [a for a in names if problem.cost(a) <= problem.budget.target]


def choice(problem: Problem, scorer: Scorer, among: Sequence[Architecture] | None = None) -> Architecture:
    """The lowest cross-entropy; one that leaves more than a tenth of the budget unused must be better beyond noise.

    Args:
        among: scored networks by canonical name; None for all that are known. Those above the budget do not count.

    Raises:
        UserError: nothing fits the budget.
    """
    known = affordable(problem, scorer, among)
    if not known:
        raise no_network(problem)
    best = min(known, key=lambda a: (scorer.known[a], a.choices))
    filled = best_filled(problem, scorer, known)
    if filled is None or filled == best or scorer.better(best, filled):
        return best
    return filled


def best_filled(problem: Problem, scorer: Scorer, among: Sequence[Architecture] | None = None) -> Architecture | None:
    """The lowest cross-entropy among the networks that use at least 90 % of the budget."""
    filled = [a for a in affordable(problem, scorer, among) if problem.budget.filled(problem.cost(a))]
    return min(filled, key=lambda a: (scorer.known[a], a.choices), default=None)


def in_window(problem: Problem, architecture: Architecture, least: float) -> bool:
    """Whether the network, by its canonical name, costs `least` to the target."""
    return least <= problem.cost(problem.space.canonical(architecture)) <= problem.budget.target


def drawn(problem: Problem, count: int, rng: np.random.Generator) -> tuple[list[Architecture], float]:
    """(at most `count` distinct random networks of the budget, what they cost at least), as `networks_of`.

    Raises:
        UserError: nothing fits the budget.
    """
    found, least = networks_of(problem.space, problem.budget, count, rng)
    if not found:
        raise no_network(problem)
    return found, least


def concluded(
    problem: Problem, scorer: Scorer, method: str, before: int, among: Sequence[Architecture] | None = None, /,
    **stated: Any,
) -> Found:  # fmt: skip
    """The answer among everything scored, or among a few of it, by the rule of `choice`.

    Args:
        before: networks the scorer knew when the selection began.
        stated: what else the selection says of itself, plain values.
    """
    best = choice(problem, scorer, among)
    selection = {
        "method": method, "candidates": len(scorer.known) - before,
        "held_out_images": sum(len(b.y) for b in scorer.held_out), "score": scorer.known[best], **stated,
    }  # fmt: skip
    if problem.budget.filled(problem.cost(best)):
        return Found(best, selection)
    return Found(best, selection, reason(problem, best, best_filled(problem, scorer, among), scorer))


def reason(
    problem: Problem, chosen: Architecture, rival: Architecture | None = None, scorer: Scorer | None = None
) -> str:  # fmt: skip
    """Why less than 90 % of the budget is used, with both figures."""
    unit, budget = problem.costs.unit, problem.budget
    used = f"{problem.cost(chosen):.4g} {unit} of {budget.limit:.4g} {unit}"
    if problem.budget.target < FILL * problem.budget.limit:
        return (
            f"{used}: the latency table's 95 % error ({problem.costs.error95:.1%}) is kept free, so that the measured "
            "figure stays under the budget; a table timed on a calm machine has less"
        )
    if rival is None or scorer is None:
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
