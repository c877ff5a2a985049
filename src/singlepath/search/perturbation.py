r"""Perturbation-based selection on superkernels (DARTS-PT, Wang et al., ICLR 2021, arXiv 2108.04392).

What an option is worth is what the trained supernet loses without it, not what its gate says. For a base network b,
layer by layer in a seeded random order,

    L_i(o) = CE(b with layer i := o) on held-out images,  BN recalibrated
    influence_i(o) = mean over bases b of  L_i(o) - mean_o' L_i(o')

(centred, because bases hold different options themselves). The choice is the exact best under the budget,

    argmin sum_i influence_i(o_i)   s.t.   least <= cost <= target      (`best_under`)

so the budget is kept by construction. The first base is the gates' most probable network of the budget; each further
one is the choice so far (a random network of the budget where that was a base already), so that influences are
measured where they are used. The choice is scored as a whole: `interplay` is how far its cross-entropy lies above the
sum of its influences.

With `settings["fine_tune"]` = n > 0, each layer's measurement is a decision as in the paper: the base takes the best
options so far under the budget, and its child is trained n steps at a tenth of the search's learning rate (the
paper's 0.0025 of 0.025), on a copy of the supernet. The answer is scored on the supernet itself.

Where we differ and why. The paper removes one operation from a mixture; a superkernel runs one child, so an option
replaces another. It ranks by accuracy with batch statistics and decides edge by edge; held-out cross-entropy ranks far
better, and deciding under a budget needs the layers together.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from singlepath.architecture import Architecture
from singlepath.data import Batch, batches
from singlepath.data.splits import generator
from singlepath.search.base import Found, Problem, search_recipe
from singlepath.search.budget import best_under
from singlepath.search.scoring import Scorer, concluded, drawn, gate_utility, least_of, no_network
from singlepath.supernet import Supernet, Views
from singlepath.training.optim import State as OptimiserState
from singlepath.training.optim import sgd
from singlepath.training.train import autocast, cross_entropy

__all__ = ["by_perturbation", "fine_tune"]

Indices = tuple[int, ...]
Effects = list[list[np.ndarray]]  # of every layer, from every base measured: centred cross-entropy of its options

BASES = 8  # at most
KEPT = 3  # evaluations kept for the answer: the choice that fills the budget, the one that need not, the first base


@dataclass
class Probe:
    """Measurements under way: `spent` evaluations, and `tuned` fine-tunings of the scorer's supernet."""

    scorer: Scorer
    spent: int = 0
    tuned: int = 0

    def __call__(self, architecture: Architecture) -> float:
        self.spent += self.scorer.name(architecture) not in self.scorer.known
        return self.scorer(architecture)


def by_perturbation(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Measure at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    Where they do not reach around all layers, the others keep the gates' choice. `selection` states `evaluations`
    (fine-tuned ones included), `bases` begun, `layers_measured`, `predicted` and `interplay` in nats, and
    `fine_tuning_passes`, image passes.

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    before, steps = len(scorer.known), int(problem.settings.get("fine_tune", 0))
    probe = Probe(replace(scorer, supernet=copy.deepcopy(supernet), known={}, losses={}) if steps else scorer)
    start = best_in_budget(problem, gate_utility(supernet))
    effects: Effects = [[] for _ in start]
    bases: list[Indices] = []
    while len(bases) < BASES:
        base = next_base(problem, start, effects, bases)
        spent = probe.spent
        bases.append(base)
        sweep(problem, probe, start, base, effects, len(bases) - 1, candidates - KEPT, steps)
        if probe.spent == spent:  # nothing more can be afforded, or nothing is unknown around this base
            break
    final = Probe(scorer, probe.spent)
    chosen = best_in_budget(problem, utilities(problem, start, effects))
    free = best_in_budget(problem, utilities(problem, start, effects), 0.0)
    for indices in dict.fromkeys((chosen, free, start)):
        if final.spent < max(1, candidates):
            final(problem.space.architecture(indices))
    batch = search_recipe(problem).batch_size
    return concluded(
        problem, scorer, "perturbation", before, evaluations=final.spent, bases=len(bases),
        layers_measured=sum(bool(e) for e in effects), fine_tuning_passes=probe.tuned * steps * batch,
        **interplay(problem, scorer, start, chosen, effects),
    )  # fmt: skip


def best_in_budget(problem: Problem, utility: Sequence[Sequence[float]], least: float | None = None) -> Indices:
    """The greatest summed utility that fills the budget, or, where nothing does, that fits it.

    Raises:
        UserError: nothing fits the budget.
    """
    for low in (least_of(problem) if least is None else least, 0.0):
        found = best_under(utility, problem.costs, problem.budget.target, low)
        if found is not None:
            return found
    raise no_network(problem)


def utilities(problem: Problem, start: Indices, effects: Effects) -> list[list[float]]:
    """Minus the mean influence of every option; a layer without a measurement keeps its option of `start`."""
    found = []
    for layer, option, known in zip(problem.space.searchable, start, effects, strict=True):
        fixed = np.where(np.arange(len(layer.options)) == option, 0.0, -np.inf)
        found.append((-np.mean(known, axis=0) if known else fixed).tolist())
    return found


def next_base(problem: Problem, start: Indices, effects: Effects, bases: Sequence[Indices]) -> Indices:
    """The choice by the influences so far, or a random network of the budget where that was a base already."""
    choice = best_in_budget(problem, utilities(problem, start, effects))
    if choice not in bases:
        return choice
    found, _ = drawn(problem, 1, generator(problem.seed, "bases", len(bases)))
    return problem.space.indices(found[0])


def sweep(
    problem: Problem, probe: Probe, start: Indices, base: Indices, effects: Effects, number: int, most: int, steps: int
) -> None:
    """Measure the layers of a base in a seeded random order, those that `most` evaluations still allow."""
    for i in generator(problem.seed, "layers", number).permutation(len(base)):
        networks = variants(problem, base, int(i))
        unknown = {probe.scorer.name(a) for a in networks} - set(probe.scorer.known)
        if probe.spent + len(unknown) > most:
            continue
        losses = np.array([probe(a) for a in networks])
        effects[i].append(losses - losses.mean())
        problem.progress("select", probe.spent, most + KEPT, {})
        if steps:
            base = best_in_budget(problem, utilities(problem, base, effects))
            fine_tune(problem, probe.scorer.supernet, problem.space.architecture(base), steps, probe.tuned)
            probe.tuned += 1
            probe.scorer.known.clear()
            probe.scorer.losses.clear()


def variants(problem: Problem, base: Indices, i: int) -> list[Architecture]:
    """The base with every option of layer i, its own included."""
    options = range(len(problem.space.searchable[i].options))
    return [problem.space.architecture([*base[:i], o, *base[i + 1 :]]) for o in options]


def interplay(
    problem: Problem, scorer: Scorer, start: Indices, chosen: Indices, effects: Effects
) -> dict[str, float | None]:
    """`predicted`: the choice's cross-entropy if influences simply added up, nats; `interplay`: measured minus that.

    None where the first base or the choice could not be scored.
    """
    first, last = (scorer.name(problem.space.architecture(i)) for i in (start, chosen))
    if first not in scorer.known or last not in scorer.known:
        return {"predicted": None, "interplay": None}
    moved = zip(utilities(problem, start, effects), start, chosen, strict=True)
    predicted = scorer.known[first] + sum(u[a] - u[b] for u, a, b in moved)
    return {"predicted": predicted, "interplay": scorer.known[last] - predicted}


def fine_tune(problem: Problem, supernet: Supernet, architecture: Architecture, steps: int, number: int) -> None:
    """Train the weights of one child of `supernet`, in place, for `steps` batches of the search's training part.

    SGD from zero momentum at a tenth of the search recipe's learning rate; gates and all other weights stay.

    Args:
        number: which fine-tuning of the run this is; it draws its own images.
    """
    recipe, settings = search_recipe(problem), supernet.settings(architecture)
    optimiser: OptimiserState = {}
    training = supernet.training
    supernet.train()
    for batch in itertools.islice(training_batches(problem, number), steps):
        views = Views()
        with autocast(problem.device):
            loss = cross_entropy(supernet(batch.x, settings, views), batch.y)
        loss.backward()
        sgd(views.taken, optimiser, recipe.lr / 10, momentum=recipe.momentum, decay=recipe.weight_decay)
        for view in views.taken:
            view.leaf.grad = None
    supernet.train(training)


def training_batches(problem: Problem, number: int) -> Iterator[Batch]:
    """Batches of the training part without end, augmented as the search's, in an order of their own."""
    recipe, data = search_recipe(problem), problem.data
    seed = int(generator(problem.seed, "fine-tune", number).integers(2**31))
    for epoch in itertools.count():
        yield from batches(
            data.train, data.preprocess, batch_size=recipe.batch_size, seed=seed, epoch=epoch,
            augment=recipe.augment(data), workers=problem.workers, device=problem.device,
        )  # fmt: skip
