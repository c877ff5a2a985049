r"""Single-Path NAS (arXiv 1904.02877), with sampled gates: the default search.

The superkernel's gates decide kernel, expansion, skip and squeeze-and-excitation of every layer (`supernet.gates`).
Three kinds of steps, each one forward and backward on one batch:

1. *Warm-up* (the first `warm_up` of the epochs): children drawn evenly over every layer's options are run and
   trained, without cost and without gates. Options come from shuffled decks, so shares are exact, with identities
   added until every gate is off in at least 20 % of the passes. With `sandwich`, the default, a step trains four
   children on its batch, one after the other: the largest by its labels; then the smallest and two drawn ones by the
   probabilities of the largest, their teacher (in-place distillation: Yu and Huang, arXiv 1903.05134, section 3.3).
2. *Weight steps*: a child drawn from the gates' probabilities sigmoid(x) is trained.
3. *Decision steps*, one in `every` after the warm-up, on held-out images: only the thresholds t move, by Adam, along

       d/dx [ CE(child) + lambda E[cost] / target ],   dCE/dx = dCE/dd sigmoid'(x)   (straight-through),

   with dCE/dd from the sliced engine: an on gate gives <w, dCE/dw>; an off gate is probed half open, because BN makes
   the loss so curved along a gate that its slope at 0 says little of what opening it changes (midpoint rule), and a
   few gates at a time, so that the child stays nearly itself. E[cost] is exact under the gates' independent
   probabilities. Dual ascent keeps the budget without a hand-tuned coefficient:

       lambda <- max(0, lambda + rate (E[cost] / target - 1)).

   With the setting `coefficient` lambda stays there, as in the paper, and the answer is what the gates say: the most
   probable option of every layer. Nothing keeps the budget then; `hyper` finds the coefficient that does.

By default the warm-up is the whole search: the supernet then knows no budget, ranks networks best (docs/notes),
serves every budget, and the selection by score never reads a gate. Gates are trained, in the second half, where they
are what is read (`select` = gates).

Where we differ from the paper and why: it trains weights and gates together on the training data with all gates on, so
an on gate carries almost no gradient and the search overfits; its coefficient is tuned by hand; its masked supernet is
not its children. The answer is read off by `selection`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.data import Batch, batch_count, batches
from singlepath.data.splits import generator
from singlepath.search.base import Found, Method, Plan, Problem, State, search_recipe
from singlepath.search.scoring import HELD_OUT, RECALIBRATION, Scorer, gate_utility
from singlepath.search.selection import select
from singlepath.spaces import Layer
from singlepath.supernet import Probes, Setting, Supernet, Views, build, frozen_statistics, sample_settings
from singlepath.supernet.gates import LIMIT
from singlepath.training.optim import adam, sgd
from singlepath.training.recipe import Recipe, learning_rate
from singlepath.training.train import accuracy, autocast, cross_entropy, prepare

__all__ = ["CHILDREN", "DEFAULTS", "METHOD", "candidates_for", "candidates_of"]

DEFAULTS: dict[str, Any] = {
    "warm_up": None,  # share of the epochs; None for `warm_up_share`
    "sandwich": True,  # warm-up steps of four children, the largest teaching the others
    "lr": 0.07,  # peak, at the base recipe's batch size; a sandwich makes four steps a batch
    "every": 4,  # after the warm-up, one step in so many is a decision step
    "gate_lr": 0.1,
    "dual_rate": 0.05,
    "coefficient": None,  # lambda, where it is to stay; None: dual ascent
    "probe": 0.2,  # probability that an off gate is probed; weighted by its inverse
    "probe_at": 0.5,  # how far a probed gate is opened
    "candidates": None,  # networks scored on held-out images at the end; None for `candidates_for`
    "select": "score",
}


CHILDREN = 4  # networks that a sandwich's batch goes through
GATED = ("gates",)  # selections that need trained gates
ROUNDS = 5  # of a layer's options in a warm-up deck
FEWEST, MOST = 300, 1_000  # networks scored by default
SCORED = 4.5  # forward passes of scoring for a training pass: half its time, at a ninth of it each when shared


class SearchBatch(NamedTuple):
    images: Batch
    held_out: bool


def setting(problem: Problem, name: str) -> Any:
    return problem.settings.get(name, DEFAULTS[name])


def warm_up_share(problem: Problem) -> float:
    """The warm-up's share of the epochs: all of them, or half where the gates are what is read."""
    given = setting(problem, "warm_up")
    gated = setting(problem, "select") in GATED or setting(problem, "coefficient") is not None
    return given if given is not None else 0.5 if gated else 1.0


def candidates_for(passes: int, held_out: int) -> int:
    """Networks to score after so many image passes of training: about half of the training's time, within bounds."""
    each = RECALIBRATION + min(HELD_OUT, held_out)
    return min(max(FEWEST, int(SCORED * passes) // each), MOST)


def candidates_of(problem: Problem) -> int:
    """Networks that the search scores at its end."""
    given = setting(problem, "candidates")
    if given is not None:
        return given
    passes = recipe_of(problem).epochs * len(problem.data.train) * children_of(problem)
    return candidates_for(passes, len(problem.data.val))


def children_of(problem: Problem) -> int:
    """Networks that a warm-up batch goes through."""
    return CHILDREN if setting(problem, "sandwich") else 1


def recipe_of(problem: Problem) -> Recipe:
    return search_recipe(problem, children_of(problem), setting(problem, "lr"))


def start(problem: Problem) -> State:
    supernet = build(problem.space, problem.seed)
    prepare(supernet, recipe_of(problem)).to(problem.device).train()
    multiplier = float(setting(problem, "coefficient") or 0.0)
    return {"model": supernet, "optimiser": {}, "gates": {}, "multiplier": multiplier, "decisions": 0}


def plan(problem: Problem, state: State) -> Plan:
    recipe = recipe_of(problem)
    weight_steps = batch_count(len(problem.data.train), recipe.batch_size)
    every = setting(problem, "every")
    room = every / (every - 1) if warm_up_share(problem) < 1 else 1  # an epoch has room for its decision steps
    steps = math.ceil(weight_steps * room)
    warm_up = warm_up_steps(problem, recipe, steps)
    augment = recipe.augment(problem.data)
    held = min(recipe.batch_size, len(problem.data.val))

    def held_out(number: int) -> Batch:
        per_epoch = batch_count(len(problem.data.val), held)
        stream = batches(
            problem.data.val, problem.data.preprocess, batch_size=held, seed=problem.seed + 1, epoch=number //
            per_epoch, start=number % per_epoch, device=problem.device,
        )  # fmt: skip
        return next(iter(stream))

    def epoch_batches(epoch: int, first: int) -> Iterable[SearchBatch]:
        kinds = [is_decision(problem, s, warm_up) for s in range(epoch * steps, (epoch + 1) * steps)]
        decided = sum(is_decision(problem, s, warm_up) for s in range(warm_up, epoch * steps + first))
        done = first - sum(kinds[:first])
        passed = 0  # epochs of training images used up within this one
        stream = iter(())
        for i in range(first, steps):
            if kinds[i]:
                yield SearchBatch(held_out(decided), True)
                decided += 1
                continue
            batch = next(stream, None)
            if batch is None:  # a warm-up epoch goes a little beyond one pass over the images: reshuffled
                passed, offset = divmod(done, weight_steps)
                stream = iter(
                    batches(
                        problem.data.train, problem.data.preprocess, batch_size=recipe.batch_size, seed=problem.seed,
                        epoch=epoch * 2 + passed, augment=augment, start=offset, workers=problem.workers,
                        device=problem.device,
                    )
                )  # fmt: skip
                batch = next(stream)
            done += 1
            yield SearchBatch(batch, False)

    def log(state: State) -> dict[str, Any]:
        if warm_up == steps * recipe.epochs:
            return {}  # nothing trains the gates
        net: Supernet = state["model"]
        p = torch.sigmoid(net.indicators())
        return {
            "warm_up": state["step"] <= warm_up,
            "expected_cost": float(net.expected_cost(problem.costs, p)), "multiplier": state["multiplier"],
            "gates": {g.name: round(v, 5) for g, v in zip(net.gates, p.tolist(), strict=True)},
        }  # fmt: skip

    return Plan(recipe.epochs, steps, epoch_batches, log, max(1, steps // 2))


def warm_up_steps(problem: Problem, recipe: Recipe, steps_per_epoch: int) -> int:
    return round(warm_up_share(problem) * recipe.epochs * steps_per_epoch)


@lru_cache(maxsize=512)
def _decision_in_block(seed: int, block: int, every: int) -> int:
    return int(generator(seed, "decision", block).integers(every))


def is_decision(problem: Problem, step: int, warm_up: int) -> bool:
    """A seeded one in every `every` steps after the warm-up."""
    every = setting(problem, "every")
    block, offset = divmod(step - warm_up, every)
    return step >= warm_up and _decision_in_block(problem.seed, block, every) == offset


@lru_cache(maxsize=4096)
def _deck(layer: Layer, number: int, seed: int, cycle: int) -> tuple[int, ...]:
    """A shuffled deck: five rounds of a layer's options, with identities added until they are just above a fifth.

    Above, because a warm-up ends in the middle of a deck: the share is at least a fifth from 200 passes on.
    """
    options = list(range(len(layer.options))) * ROUNDS
    if layer.skippable:
        built = len(layer.options) - 1
        options += [built] * max(0, math.ceil(ROUNDS * built / 4) + 1 - ROUNDS)
    return tuple(int(i) for i in generator(seed, f"deck {number}", cycle).permutation(options))


def warm_up_settings(net: Supernet, seed: int, step: int) -> list[Setting]:
    settings = []
    for number, layer in enumerate(net.space.searchable):
        length = len(_deck(layer, number, seed, 0))
        cycle, offset = divmod(step, length)
        settings.append(Setting.of(layer, layer.options[_deck(layer, number, seed, cycle)[offset]]))
    return settings


def drawn_settings(net: Supernet, probability: Tensor, seed: int, step: int) -> list[Setting]:
    rng = generator(seed, "settings", step)
    return sample_settings(net.space, net.gates, probability.tolist(), rng)


def step(problem: Problem, state: State, batch: SearchBatch) -> Mapping[str, float | Tensor]:
    if batch.held_out:
        return decision_step(problem, state, batch.images)
    return weight_step(problem, state, batch.images)


def weight_step(problem: Problem, state: State, batch: Batch) -> Mapping[str, float | Tensor]:
    """Train one child, or in a warm-up with `sandwich` four."""
    net: Supernet = state["model"]
    if state["step"] < warm_up_steps(problem, recipe_of(problem), state["steps_per_epoch"]):
        if setting(problem, "sandwich"):
            return sandwich_step(problem, state, batch)
        settings = warm_up_settings(net, problem.seed, state["step"])
    else:
        if "probability" not in state:
            state["probability"] = torch.sigmoid(net.indicators()).cpu()
        settings = drawn_settings(net, state["probability"], problem.seed, state["step"])
    loss, logits = train_child(problem, state, batch, settings, batch.y)
    return {"loss": loss, "accuracy": accuracy(logits, batch.y)}


def sandwich_step(problem: Problem, state: State, batch: Batch) -> Mapping[str, float | Tensor]:
    """Train the largest child, then the smallest and two drawn ones to do as it did; the metrics are the largest's."""
    net: Supernet = state["model"]
    drawn = [warm_up_settings(net, problem.seed, 2 * state["step"] + i) for i in range(2)]
    loss, logits = train_child(problem, state, batch, net.settings(problem.space.largest()), batch.y)
    teacher = logits.float().softmax(1)
    for settings in (net.settings(smallest(problem)), *drawn):
        train_child(problem, state, batch, settings, teacher)
    return {"loss": loss, "accuracy": accuracy(logits, batch.y)}


def smallest(problem: Problem) -> Architecture:
    """The cheapest option of every layer, the first of equals."""
    return problem.space.architecture([layer.index(min(layer)) for layer in map(list, problem.costs.layers)])


def train_child(
    problem: Problem, state: State, batch: Batch, settings: list[Setting], target: Tensor
) -> tuple[Tensor, Tensor]:
    """(loss, logits), detached, of one step on a child: only the weights it uses change.

    Args:
        target: labels [N] or probabilities [N, classes].
    """
    net: Supernet = state["model"]
    recipe, views = recipe_of(problem), Views()
    with autocast(problem.device):
        logits = net(batch.x, settings, views)
        loss = cross_entropy(logits, target)
    loss.backward()
    lr = learning_rate(recipe, state["step"], state["steps_per_epoch"])
    sgd(views.taken, state["optimiser"], lr, momentum=recipe.momentum, decay=recipe.weight_decay)
    clear(views)
    return loss.detach(), logits.detach()


def decision_step(problem: Problem, state: State, batch: Batch) -> Mapping[str, float | Tensor]:
    """Move the gates on a held-out batch; weights and running statistics stay."""
    net: Supernet = state["model"]
    x = net.indicators().cpu().requires_grad_()
    probability = torch.sigmoid(x)
    settings = drawn_settings(net, probability, problem.seed, state["step"])
    probes, views = Probes(chosen_probes(net, problem, state["step"]), at=setting(problem, "probe_at")), Views()
    with frozen_statistics(net), autocast(problem.device):
        loss = cross_entropy(net(batch.x, settings, views, probes), batch.y)
        loss.backward()
    quality = net.gate_gradients(settings, views, probes).float()
    clear(views)
    cost = net.expected_cost(problem.costs, probability) / problem.budget.target
    (slope,) = torch.autograd.grad(cost, probability)
    with torch.no_grad():
        gradient = (quality + state["multiplier"] * slope) * (probability * (1 - probability))
        thresholds = net.thresholds.cpu()
        adam(thresholds, -gradient, state["gates"], setting(problem, "gate_lr"))
        r = net.ratios().cpu()
        net.thresholds.copy_(torch.minimum(torch.maximum(thresholds, r - LIMIT), r + LIMIT))
    if setting(problem, "coefficient") is None:
        excess = float(cost.detach()) - 1
        state["multiplier"] = max(0.0, state["multiplier"] + setting(problem, "dual_rate") * excess)
    state["decisions"] += 1
    state["probability"] = torch.sigmoid(net.indicators()).cpu()
    return {"held_out_loss": loss.detach()}


def chosen_probes(net: Supernet, problem: Problem, step: int) -> dict[int, float]:
    """The gates that may be probed in this step, with 1 / probability."""
    share = float(setting(problem, "probe"))
    if share >= 1:
        return dict.fromkeys(range(len(net.gates)), 1.0)
    drawn = generator(problem.seed, "probes", step).random(len(net.gates))
    return {i: 1 / share for i in range(len(net.gates)) if drawn[i] < share}


def clear(views: Views) -> None:
    for view in views.taken:
        view.leaf.grad = None


def result(problem: Problem, state: State) -> Found:
    if setting(problem, "coefficient") is not None:
        return said_by_gates(problem, state["model"])
    scorer = Scorer.of(problem, state["model"])
    found = select(problem, state["model"], setting(problem, "select"), candidates_of(problem), scorer)
    state["sampled"] = scorer.sampled  # a front of other budgets begins with them
    return found


def said_by_gates(problem: Problem, supernet: Supernet) -> Found:
    """The most probable option of every layer, the first of equals, whatever it costs."""
    options = [utility.index(max(utility)) for utility in gate_utility(supernet)]
    found, coefficient = problem.space.architecture(options), setting(problem, "coefficient")
    cost, budget = problem.cost(found), problem.budget
    selection: dict[str, Any] = {"method": "most probable options", "candidates": 0, "coefficient": coefficient}
    if not budget.holds(cost):
        selection["over_budget"] = (
            f"{cost:.4g} {problem.costs.unit} of {budget.limit:.4g}: a fixed coefficient ({coefficient:g}) keeps no "
            "budget; leave it out, or type: singlepath tune"
        )
    return Found(found, selection)


METHOD = Method(start, plan, step, result)
