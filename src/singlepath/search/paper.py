"""Single-Path NAS as released (arXiv 1904.02877; the authors' code): what the default search is compared with.

One optimiser (TensorFlow's RMSProp) moves weights and thresholds together on all training data, held-out part included:

    loss = CE_ls0.1 + 1e-5 sum_{v not BN} ||v||^2 / 2 + lambda 1e3 ln(R)

For the first 5/8 of the steps lambda is 0 and indicators are dropped with keep 0.6; then lambda is on and nothing is
dropped. The answer is the last indicators, decoded the right way round. Nothing keeps the budget: lambda is a constant
the user tunes by hand (`selection.over_budget` says so where it did not fit). As in the release, indicators are read
off the trained weights; what children inherit is the weights' moving average.

The supernet, its constants and what is known to be wrong with it are in `supernet.paper`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from singlepath.data import Batch, batch_count, batches
from singlepath.data.splits import generator
from singlepath.search.base import Found, Method, Plan, Problem, State, search_recipe
from singlepath.supernet.paper import PaperSchedule, PaperSupernet, build_paper
from singlepath.training.optim import rmsprop, whole
from singlepath.training.recipe import get_recipe
from singlepath.training.train import accuracy, autocast, average, cross_entropy

__all__ = ["METHOD", "schedule_of"]


def schedule_of(problem: Problem) -> PaperSchedule:
    """The release's schedule, stretched over this problem's steps; lambda from the settings."""
    recipe, images = search_recipe(problem), len(problem.data.all_train)
    steps = batch_count(images, recipe.batch_size)
    weight = float(problem.settings.get("lambda", PaperSchedule.runtime_weight))
    return replace(
        PaperSchedule(),
        batch=recipe.batch_size,
        steps=steps * recipe.epochs,
        steps_per_epoch=steps,
        runtime_weight=weight,
    )


def start(problem: Problem) -> State:
    schedule = schedule_of(problem)
    supernet = build_paper(problem.space, problem.seed, schedule).to(problem.device).train()
    for part in supernet.modules():
        if isinstance(part, nn.Dropout):
            part.p = schedule.dropout
    return {"model": supernet, "average": copy.deepcopy(supernet), "optimiser": {}}


def plan(problem: Problem, state: State) -> Plan:
    schedule, recipe = schedule_of(problem), search_recipe(problem)
    augment = get_recipe("single-path").augment(problem.data)

    def epoch_batches(epoch: int, first: int) -> Iterable[Batch]:
        return batches(
            problem.data.all_train, problem.data.preprocess, batch_size=schedule.batch, seed=problem.seed, epoch=epoch,
            augment=augment, start=first, workers=problem.workers, device=problem.device,
        )  # fmt: skip

    def log(state: State) -> dict[str, Any]:
        net: PaperSupernet = state["model"]
        hard = net.indicators()
        gates = {
            f"{layer.name}.{name}": value
            for layer, values in zip(problem.space.searchable, hard, strict=True)
            for name, value in values.items()
        }
        return {"expected_cost": problem.cost(net.decode()), "frozen_gates": net.frozen_gates(), "gates": gates}

    return Plan(recipe.epochs, schedule.steps_per_epoch, epoch_batches, log)


def step(problem: Problem, state: State, batch: Batch) -> Mapping[str, float | Tensor]:
    net: PaperSupernet = state["model"]
    schedule, now = schedule_of(problem), state["step"]
    draws = torch.from_numpy(generator(problem.seed, "indicator dropout", now).random(len(net.net.gates)))
    torch.manual_seed(int(generator(problem.seed, "dropout", now).integers(2**62)))
    with autocast(problem.device):
        logits = net(batch.x, schedule.keep_prob(now), draws=draws.float())
    loss = cross_entropy(logits, batch.y, schedule.label_smoothing)
    weight = schedule.runtime_lambda(now)
    total = loss + weight * schedule.runtime_factor * torch.log(net.runtime(problem.costs)) if weight else loss
    net.zero_grad(set_to_none=True)
    total.backward()
    with torch.no_grad():
        for parameter in net.decayed_parameters():
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=schedule.l2)
    rmsprop(
        whole(net), state["optimiser"], schedule.lr(now), momentum=schedule.momentum, rho=schedule.rmsprop_decay,
        eps=schedule.epsilon,
    )  # fmt: skip
    average(state["average"], net, schedule.ema, now)
    return {"loss": loss.detach(), "accuracy": accuracy(logits.detach(), batch.y)}


def result(problem: Problem, state: State) -> Found:
    net: PaperSupernet = state["model"]
    found = net.decode()
    cost, budget = problem.cost(found), problem.budget
    selection: dict[str, Any] = {"method": "indicators", "candidates": 0, "frozen_gates": net.frozen_gates()}
    if not budget.holds(cost):
        weight = schedule_of(problem).runtime_weight
        selection["over_budget"] = (
            f"{cost:.4g} {problem.costs.unit} of {budget.limit:.4g}: the paper's method has no budget, "
            f"only lambda ({weight:g})"
        )
    return Found(found, selection)


def weights(state: State) -> Mapping[str, Tensor]:
    """The average weights; thresholds are 0, where the release's start, since the default's gates mean other norms."""
    mean: PaperSupernet = state["average"]
    return {**mean.net.state_dict(), "thresholds": torch.zeros_like(mean.thresholds)}


METHOD = Method(start, plan, step, result, weights)
