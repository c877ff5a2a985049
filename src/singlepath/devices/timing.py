"""The timing protocol: everything to be compared goes into one shuffled, interleaved schedule.

Another process slows a network down and never speeds it up, so a low quantile over rounds is kept and never the mean;
and a busy second falls on everything alike, because every round times everything once, in a new order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from singlepath.runtimes import Runtime

__all__ = ["Progress", "Timing", "open_session", "time_interleaved"]

Progress = Callable[[str, float], None]
BURST_MS = 1.0  # a session shorter than this is run again within its turn
LONGEST_BURST = 20
WARM_UP = 3


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one run over the rounds: each round counts with the median of its burst."""

    min: float
    p10: float
    median: float
    rounds: int

    @property
    def ms(self) -> float:
        """The figure that tables and reports use."""
        return self.p10

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def open_session(
    runtime: Runtime, module: nn.Module, shape: tuple[int, ...], folder: Path, threads: int = 1, batch: int = 1
) -> tuple[Any, np.ndarray]:
    """A session for a module, and its input: [batch, *shape] of fixed noise. `folder` takes a file on the way."""
    example = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    if runtime.in_memory:
        return runtime.load(module, threads), example.numpy()
    path = folder / f"piece{runtime.suffix}"
    runtime.convert(module, example, path, {})
    return runtime.load(path, threads), example.numpy()


def time_interleaved(
    sessions: Mapping[str, tuple[Any, np.ndarray]],
    runtime: Runtime,
    rounds: int,
    seed: int,
    progress: Progress | None = None,
    burst_ms: float = BURST_MS,
) -> dict[str, Timing]:
    """Time sessions against one another.

    Args:
        sessions: name -> (session, input).
        rounds: how often everything is timed; at least 1.
        burst_ms: within its turn, after one untimed run, a session is timed until this long has passed.
        progress: called with a text and the share that is done, 0 to 1.
    """
    bursts = {name: burst_length(runtime, *given, burst_ms) for name, given in sessions.items()}
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    names, rng = list(sessions), np.random.default_rng(seed)
    for number in range(rounds):
        for i in rng.permutation(len(names)):
            name = names[i]
            session, x = sessions[name]
            runtime.time_once(session, x)
            samples[name].append(float(np.median([runtime.time_once(session, x) for _ in range(bursts[name])])))
        if progress:
            progress(f"timing, round {number + 1} of {rounds}", (number + 1) / rounds)
    return {name: summary(values) for name, values in samples.items()}


def burst_length(runtime: Runtime, session: Any, x: np.ndarray, burst_ms: float) -> int:
    """How many runs a turn has; also warms up."""
    shortest = min(runtime.time_once(session, x) for _ in range(WARM_UP))
    return int(np.clip(np.ceil(burst_ms / max(shortest, 1e-6)), 1, LONGEST_BURST))


def summary(values: list[float]) -> Timing:
    low, middle = np.quantile(values, [0.1, 0.5])
    return Timing(float(min(values)), float(low), float(middle), len(values))
