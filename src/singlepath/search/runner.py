"""Runs a method: steps through `training.fit`, so that logging, checkpoints and resume are the same for all."""

from __future__ import annotations

from singlepath.runs import Run
from singlepath.search.base import Found, Method, Problem, State
from singlepath.training.loop import fit

__all__ = ["run_search"]


def run_search(
    problem: Problem, method: Method, run: Run | None = None, *, checkpoint_seconds: float = 30.0,
    checkpoint_steps: int | None = None,
) -> tuple[Found, State]:  # fmt: skip
    """Run a search to its end, or go on with the one in `run`; the answer and the final state."""
    state = method.start(problem)
    plan = method.plan(problem, state)
    state["steps_per_epoch"] = plan.steps_per_epoch
    fit(
        state, lambda s, batch: method.step(problem, s, batch), plan.batches, epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch, tag="search", run=run, progress=problem.progress, log=plan.log,
        log_steps=plan.log_steps, checkpoint_seconds=checkpoint_seconds, checkpoint_steps=checkpoint_steps,
    )  # fmt: skip
    return method.result(problem, state), state
