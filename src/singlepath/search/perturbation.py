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

Layers do not add up. Around the better base b of the first two, two changes (i, o) and (j, p) of different layers
have the interaction

    I(io, jp) = L_ij(o, p) - L_i(o) - L_j(p) + L(b),

and the second-order expansion predicts of a network x

    Q(x) = L(b) + sum_i [ L_i(x_i) - L(b) ] + sum of I(io, jp) over the measured pairs with x_i = o and x_j = p.

All pairs are too many; those that could change the choice are measured, as many as evaluations allow. Changes are
ranked by the influence that they cost the choice (the budget's best network against its best with the change), and
the pairs of the first `CHANGES` are taken by the sum of their ranks. A sum over pairs is no knapsack any more, but
with one measured pair held, its interactions with everything else are figures of single options, and the rest is one
again. So every pair proposes a network, each within the budget exactly; the best by Q are scored as wholes.

With `fine_tune` = n > 0 (``--select 'perturbation(fine_tune=20)'``), each layer's measurement is a decision as in the
paper: the base takes the best options so far under the budget, and its child is trained n steps at a tenth of the base
recipe's learning rate (the paper's 0.0025 of 0.025), on a copy of the supernet. The answer is scored on the supernet
itself.

Where we differ and why. The paper removes one operation from a mixture; a superkernel runs one child, so an option
replaces another. It ranks by accuracy with batch statistics and decides edge by edge; held-out cross-entropy ranks far
better, and deciding under a budget needs the layers together. Its perturbations are single; pairs are ours.
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
from singlepath.search.scoring import Scorer, concluded, drawn, gate_utility, no_network
from singlepath.supernet import Supernet, Views
from singlepath.training.optim import State as OptimiserState
from singlepath.training.optim import sgd
from singlepath.training.train import autocast, cross_entropy

__all__ = ["by_perturbation", "fine_tune"]

Indices = tuple[int, ...]
Effects = list[list[np.ndarray]]  # of every layer, from every base measured: centred cross-entropy of its options

Change = tuple[int, int]  # a layer, and an option that the base does not have there
Pairs = dict[tuple[Change, Change], float]  # interaction of two changes, nats

BASES = 8  # at most
CHANGES = 32  # whose pairs are measured
PROPOSED = 4  # networks that the pairs propose and that are scored as wholes
KEPT = 3  # evaluations kept for the answer: the choice that fills the budget, the one that need not, the first base


@dataclass
class Probe:
    """Measurements under way: `spent` evaluations, and `tuned` fine-tunings of the scorer's supernet."""

    scorer: Scorer
    spent: int = 0
    tuned: int = 0

    def __call__(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """The cross-entropy of every network, nats; what they share is computed once."""
        self.spent += self.unknown(architectures)
        self.scorer.score(architectures)
        return np.array([self.scorer.known[self.scorer.name(a)] for a in architectures])

    def unknown(self, architectures: Sequence[Architecture]) -> int:
        """How many evaluations they would take."""
        return len({self.scorer.name(a) for a in architectures} - set(self.scorer.known))


def by_perturbation(problem: Problem, supernet: Supernet, candidates: int, scorer: Scorer | None = None) -> Found:
    """Measure at most `candidates` networks (at least one; those a given scorer knows already cost nothing).

    Where they do not reach around all layers, the others keep the gates' choice. `selection` states `evaluations`
    (fine-tuned ones included), `bases` begun, `layers_measured`, `pairs` measured and the greatest size of their
    `interaction` in nats, `predicted` and `interplay` in nats, and `fine_tuning_passes`, image passes.

    Raises:
        UserError: nothing fits the budget.
    """
    scorer = scorer or Scorer.of(problem, supernet)
    before, steps = len(scorer.known), int(problem.settings.get("fine_tune", 0))
    probe = Probe(replace(scorer, supernet=copy.deepcopy(supernet), known={}, losses={}) if steps else scorer)
    start = best_in_budget(problem, gate_utility(supernet))
    effects: Effects = [[] for _ in start]
    bases: list[Indices] = []
    pairs: Pairs = {}
    proposed: list[Indices] = []
    while len(bases) < BASES:
        base = next_base(problem, start, effects, bases)
        spent = probe.spent
        bases.append(base)
        sweep(problem, probe, base, effects, len(bases) - 1, candidates - KEPT - len(proposed), steps)
        if len(bases) == 2:
            pairs, proposed = second_order(problem, probe, start, bases, effects, candidates - KEPT)
        if probe.spent == spent:  # nothing more can be afforded, or nothing is unknown around this base
            break
    final = Probe(scorer, probe.spent)
    chosen = best_in_budget(problem, utilities(problem, start, effects))
    free = best_in_budget(problem, utilities(problem, start, effects), 0.0)
    for architecture in map(problem.space.architecture, dict.fromkeys((chosen, free, start, *proposed))):
        if final.spent < max(1, candidates):
            final([architecture])
    return concluded(
        problem, scorer, "perturbation", before, evaluations=final.spent,
        bases=len(bases), layers_measured=sum(bool(e) for e in effects), pairs=len(pairs),
        interaction=max(map(abs, pairs.values()), default=None),
        fine_tuning_passes=probe.tuned * steps * search_recipe(problem).batch_size,
        **interplay(problem, scorer, start, chosen, effects),
    )  # fmt: skip


def best_in_budget(problem: Problem, utility: Sequence[Sequence[float]], least: float | None = None) -> Indices:
    """The greatest summed utility that fills the budget, or, where nothing does, that fits it.

    Raises:
        UserError: nothing fits the budget.
    """
    found = within_budget(problem, utility, least)
    if found is None:
        raise no_network(problem)
    return found


def within_budget(problem: Problem, utility: Sequence[Sequence[float]], least: float | None = None) -> Indices | None:
    """As `best_in_budget`; None where nothing fits."""
    for low in (problem.budget.least if least is None else least, 0.0):
        found = best_under(utility, problem.costs, problem.budget.target, low)
        if found is not None:
            return found
    return None


def utilities(problem: Problem, start: Indices, effects: Effects) -> list[list[float]]:
    """Minus the mean influence of every option; a layer without a measurement keeps its option of `start`."""
    found = []
    for layer, option, known in zip(problem.space.searchable, start, effects, strict=True):
        fixed = np.where(np.arange(len(layer.options)) == option, 0.0, -np.inf)
        found.append((-np.mean(known, axis=0) if known else fixed).tolist())
    return found


def next_base(problem: Problem, start: Indices, effects: Effects, bases: Sequence[Indices]) -> Indices:
    """The choice by the influences so far, or a random network of the budget where that was a base already."""
    chosen = best_in_budget(problem, utilities(problem, start, effects))
    if chosen not in bases:
        return chosen
    found, _ = drawn(problem, 1, generator(problem.seed, "bases", len(bases)))
    return problem.space.indices(found[0])


def sweep(problem: Problem, probe: Probe, base: Indices, effects: Effects, number: int, most: int, steps: int) -> None:
    """Measure the layers of a base in a seeded random order, those that `most` evaluations still allow."""
    for i in generator(problem.seed, "layers", number).permutation(len(base)):
        networks = variants(problem, base, int(i))
        if probe.spent + probe.unknown(networks) > most:
            continue
        losses = probe(networks)
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


# -- pairs ------------------------------------------------------------------------------------------------------------


def second_order(
    problem: Problem, probe: Probe, start: Indices, bases: Sequence[Indices], effects: Effects, most: int
) -> tuple[Pairs, list[Indices]]:
    """Interactions around the better of the bases, and the networks they propose; at most `most` evaluations with
    those that scoring the proposals will take."""
    known = probe.scorer.known
    base = min(bases, key=lambda b: known.get(named(problem, probe, b), np.inf))
    additive = utilities(problem, start, effects)
    pairs = interactions(problem, probe, base, additive, most - PROPOSED)
    if not pairs:
        return {}, []
    return pairs, proposals(problem, expansion(problem, probe, base, additive), pairs)[:PROPOSED]


def named(problem: Problem, probe: Probe, base: Indices, *changes: Change) -> Architecture:
    """The canonical name of the base with changes."""
    options = dict(enumerate(base)) | dict(changes)
    return probe.scorer.name(problem.space.architecture(list(options.values())))


def held(utility: Sequence[Sequence[float]], changes: Sequence[Change]) -> list[list[float]]:
    """The utility with the changes' layers held at their options."""
    found = [list(layer) for layer in utility]
    for i, option in changes:
        found[i] = [u if o == option else -np.inf for o, u in enumerate(found[i])]
    return found


def ranked(problem: Problem, base: Indices, utility: Sequence[Sequence[float]]) -> list[Change]:
    """The changes of one layer of the base that some network of the budget has, by what the best of these loses."""
    worth: dict[Change, float] = {}
    for i, layer in enumerate(utility):
        for change in ((i, o) for o in range(len(layer)) if o != base[i]):
            best = within_budget(problem, held(utility, [change]))
            if best is not None:
                worth[change] = sum(u[o] for u, o in zip(utility, best, strict=True))
    return sorted(worth, key=lambda change: -worth[change])


def interactions(problem: Problem, probe: Probe, base: Indices, utility: Sequence[Sequence[float]], most: int) -> Pairs:
    """I of the pairs of changes that could most easily change the choice, those that `most` evaluations allow."""
    if probe.spent >= most:
        return {}
    rank = {change: number for number, change in enumerate(ranked(problem, base, utility)[:CHANGES])}
    several = [(a, b) for a, b in itertools.combinations(rank, 2) if a[0] != b[0]]
    networks: dict[tuple[Change, Change], list[Architecture]] = {}
    asked: list[Architecture] = []
    for a, b in sorted(several, key=lambda pair: rank[pair[0]] + rank[pair[1]]):
        four = [named(problem, probe, base, *changes) for changes in ((a, b), (a,), (b,), ())]
        if probe.spent + probe.unknown([*asked, *four]) <= most:
            networks[a, b] = four
            asked += [n for n in four if n not in asked]
    probe(asked)
    problem.progress("select", probe.spent, most + PROPOSED + KEPT, {})
    found = dict(zip(networks, (probe(four) for four in networks.values()), strict=True))
    return {pair: float(both - first - second + none) for pair, (both, first, second, none) in found.items()}


def expansion(problem: Problem, probe: Probe, base: Indices, utility: Sequence[Sequence[float]]) -> list[list[float]]:
    """L_i(o) - L(b) of every option, nats; by the influences where it was not measured around b."""
    known = probe.scorer.known
    whole = known[named(problem, probe, base)]

    def change(i: int, o: int) -> float:
        measured = known.get(named(problem, probe, base, (i, o)))
        if measured is not None:
            return measured - whole
        change = utility[i][base[i]] - utility[i][o]
        return change if np.isfinite(change) else np.inf

    return [[change(i, o) for o in range(len(layer))] for i, layer in enumerate(utility)]


def proposals(problem: Problem, single: Sequence[Sequence[float]], pairs: Pairs) -> list[Indices]:
    """Networks of the budget by the second-order model Q, the best first: the best ones with each pair held."""
    found: dict[Indices, float] = {}
    for fixed in ((), *pairs):
        layers = {i for i, _ in fixed}
        utility = [[-loss for loss in layer] for layer in single]
        for pair, value in pairs.items():
            for mine, (i, option) in (pair, pair[::-1]):
                if mine in fixed and i not in layers:
                    utility[i][option] -= value
        indices = within_budget(problem, held(utility, fixed))
        if indices is not None:
            found[indices] = quadratic(single, pairs, indices)
    return sorted(found, key=lambda indices: found[indices])


def quadratic(single: Sequence[Sequence[float]], pairs: Pairs, x: Indices) -> float:
    """Q(x) less L(b), nats."""
    together = (value for ((i, o), (j, p)), value in pairs.items() if x[i] == o and x[j] == p)
    return sum(layer[o] for layer, o in zip(single, x, strict=True)) + sum(together)


# -- what came out ----------------------------------------------------------------------------------------------------


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


# -- fine-tuning ------------------------------------------------------------------------------------------------------


def fine_tune(problem: Problem, supernet: Supernet, architecture: Architecture, steps: int, number: int) -> None:
    """Train the weights of one child of `supernet`, in place, for `steps` batches of the search's training part.

    SGD from zero momentum at a tenth of the base recipe's learning rate; gates and all other weights stay.

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
