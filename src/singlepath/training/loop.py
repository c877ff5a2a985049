"""The one training loop: supernets and final networks both run through `fit`.

What is trained is a plain dict, the state; what a step does is a function ``step(state, batch) -> metrics``. The loop
counts, logs, shows progress, keeps checkpoints and resumes. Because batches and draws are functions of (seed, epoch,
step), a resumed training equals an unbroken one bit for bit on the CPU.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from singlepath.errors import SinglepathError, user_error
from singlepath.runs import Run

__all__ = ["Progress", "fit", "quiet"]

State = dict[str, Any]
INTERVAL = "SINGLEPATH_CHECKPOINT_SECONDS"
SHOW_SECONDS = 0.2  # between new values for the progress: reading one waits for a GPU


class Progress(Protocol):
    """Is told after every step: how far, of how much, and recent values (those last logged, means since)."""

    def __call__(self, tag: str, done: int, total: int, values: Mapping[str, float]) -> None: ...


def quiet(tag: str, done: int, total: int, values: Mapping[str, float]) -> None:
    """Progress for nobody."""


def fit(
    state: State,
    step: Callable[[State, Any], Mapping[str, float | Tensor]],
    batches: Callable[[int, int], Iterable[Any]],
    *,
    epochs: int,
    steps_per_epoch: int,
    tag: str,
    run: Run | None = None,
    progress: Progress = quiet,
    log: Callable[[State], Mapping[str, Any]] = lambda state: {},
    log_steps: int | None = None,
    checkpoint_seconds: float = 30.0,
    checkpoint_steps: int | None = None,
) -> State:
    """Train until `epochs` are done.

    Args:
        state: modules, tensors, numbers and dicts of them by name; all of it is kept in checkpoints.
        step: one forward and backward on one batch; changes the state, returns metrics.
        batches: (epoch, first step) -> the batches of that epoch from that step on.
        run: where metrics and checkpoints go, and where an interrupted training is picked up; None keeps nothing.
        log: values added to every logged row.
        log_steps: steps between logged rows; by default one row an epoch.
        checkpoint_seconds, checkpoint_steps: a checkpoint is kept after so long, and at the end. The environment
            variable SINGLEPATH_CHECKPOINT_SECONDS, where set, takes the place of the first.

    Raises:
        SinglepathError: a loss is not finite when a row is logged or a checkpoint is due.
    """
    checkpoint_seconds = interval(checkpoint_seconds)
    state.setdefault("step", 0)
    state.setdefault("sums", {})
    state.setdefault("counts", {})
    if run and (saved := run.load(tag)) is not None:
        restore(state, saved)
    total, every, last_save = epochs * steps_per_epoch, log_steps or steps_per_epoch, time.monotonic()
    started, first = time.monotonic(), state["step"]
    logged, values, shown = dict[str, float](), dict[str, float](), -math.inf
    while state["step"] < total:
        epoch, start = divmod(state["step"], steps_per_epoch)
        for batch in batches(epoch, start):
            _add(state, step(state, batch))
            state["step"] += 1
            done = state["step"]
            if done == total or time.monotonic() - shown > SHOW_SECONDS:
                values, shown = logged | _means(state), time.monotonic()
            progress(tag, done, total, {"epoch": epoch + 1, "epochs": epochs, **values})
            if done % every == 0 or done == total:
                _check(state)
                measured = {**_means(state), **log(state)}
                row = {"phase": tag, "epoch": epoch, "step": done, **measured}
                logged = {name: value for name, value in measured.items() if isinstance(value, int | float)}
                state["sums"], state["counts"] = {}, {}
                if run:
                    run.log(row)
            due = time.monotonic() - last_save > checkpoint_seconds or (
                checkpoint_steps and done % checkpoint_steps == 0
            )
            if run and (due or done == total):
                _check(state)
                run.save(snapshot(state), done, tag)
                last_save = time.monotonic()
    if run:
        seconds = time.monotonic() - started
        run.time({"phase": tag, "seconds": seconds, "steps": total - first})
    return state


def interval(seconds: float) -> float:
    """Seconds between checkpoints: the environment's, or as given."""
    text = os.environ.get(INTERVAL)
    if not text:
        return seconds
    try:
        return float(text)
    except ValueError:
        raise user_error(f"{INTERVAL}={text!r}", "allowed: a number of seconds", f"type {INTERVAL}=30") from None


def _add(state: State, metrics: Mapping[str, float | Tensor]) -> None:
    """Add up in float64 where the values are; `_means` reads them."""
    sums, counts = state["sums"], state["counts"]
    for name, value in metrics.items():
        sums[name] = sums.get(name, 0.0) + (value.detach().double() if isinstance(value, Tensor) else value)
        counts[name] = counts.get(name, 0) + 1


def _means(state: State) -> dict[str, float]:
    """Means since the last row; the sums become plain numbers, the same to the bit."""
    state["sums"] = {name: float(total) for name, total in state["sums"].items()}
    return {name: total / state["counts"][name] for name, total in state["sums"].items()}


def _check(state: State) -> None:
    """Refuse to log or keep a training whose loss is no number any more."""
    for name, value in _means(state).items():
        if name.endswith("loss") and not math.isfinite(value):
            raise SinglepathError(
                f"training diverged at step {state['step']}: {name} is not a finite number; "
                "type a lower --batch-size (the learning rate follows it) or another --seed"
            )


def snapshot(value: Any) -> Any:
    """Plain values and tensors of a state: modules become their state dicts."""
    if isinstance(value, nn.Module):
        return dict(value.state_dict())
    if isinstance(value, dict):
        return {k: snapshot(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(v) for v in value]
    return value


def restore(state: State, saved: Mapping[str, Any]) -> None:
    """Put a snapshot back, modules and tensors in place."""
    for name, value in saved.items():
        mine = state.get(name)
        if isinstance(mine, nn.Module):
            mine.load_state_dict(value)
        elif isinstance(mine, dict) and isinstance(value, dict):
            _restore_dict(mine, value)
        elif isinstance(mine, Tensor) and isinstance(value, Tensor) and mine.shape == value.shape:
            with torch.no_grad():
                mine.copy_(value)
        else:
            state[name] = value


def _restore_dict(mine: dict[str, Any], saved: Mapping[str, Any]) -> None:
    for key in [k for k in mine if k not in saved]:
        del mine[key]
    restore(mine, saved)
