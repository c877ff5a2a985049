"""The contract between a search method and what runs it.

A method is four functions. `start` makes the state, a plain dict (so that checkpoints and resume belong to the runner,
not to the method); `plan` says how many epochs and steps there are and what a batch is: images for a supernet, nothing
for methods that only evaluate; `step` changes the state with one batch and returns metrics; `result` reads the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.costs import Budget, CostModel
from singlepath.data import Data
from singlepath.spaces import Space
from singlepath.training.loop import Progress, quiet
from singlepath.training.recipe import Recipe, get_recipe

__all__ = ["EPOCHS", "PASSES", "Found", "Method", "Plan", "Problem", "State", "search_recipe"]

State = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes:
        epochs: passes over the search's training part; None lets the method choose.
        settings: the method's own options by name.
    """

    space: Space
    data: Data
    budget: Budget
    seed: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    device: str = "cpu"
    workers: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = quiet

    @property
    def costs(self) -> CostModel:
        return self.budget.costs

    def cost(self, architecture: Architecture) -> float:
        return self.costs.of(self.space.indices(architecture))


PASSES, EPOCHS = 40_000, 15  # image passes of a search by default, in at least so many epochs


def search_recipe(problem: Problem, children: int = 1, lr: float | None = None) -> Recipe:
    """The base recipe for a supernet, with as many epochs as the search has.

    Args:
        children: networks that a batch goes through.
        lr: peak learning rate at the recipe's batch size; None for the recipe's own.
    """
    images, recipe = len(problem.data.train), get_recipe("base")
    epochs = problem.epochs or max(EPOCHS, math.ceil(PASSES / images / children))
    return replace(recipe, lr=lr or recipe.lr).fitted(images, epochs, problem.batch_size)


class Plan(NamedTuple):
    """How long a method runs and where its batches come from."""

    epochs: int
    steps_per_epoch: int
    batches: Callable[[int, int], Iterable[Any]]
    log: Callable[[State], Mapping[str, Any]] = lambda state: {}
    log_steps: int | None = None


class Found(NamedTuple):
    """A search's answer: the architecture, and in plain values how it was chosen."""

    architecture: Architecture
    selection: dict[str, Any]
    underfilled_reason: str | None = None


def supernet_weights(state: State) -> Mapping[str, Tensor]:
    """What the search's supernet learnt, as `Supernet.load_state_dict` takes it; empty where there is none."""
    return state["model"].state_dict() if "model" in state else {}


class Method(NamedTuple):
    """start(problem) -> state; plan(problem, state); step(problem, state, batch) -> metrics; result(problem, state).

    weights(state) gives the supernet's weights that children inherit afterwards.
    """

    start: Callable[[Problem], State]
    plan: Callable[[Problem, State], Plan]
    step: Callable[[Problem, State, Any], Mapping[str, Any]]
    result: Callable[[Problem, State], Found]
    weights: Callable[[State], Mapping[str, Tensor]] = supernet_weights
