"""Timing whole networks against a latency table.

A machine is not the same twice: another load, another clock frequency. Networks are therefore timed in one schedule
with networks of the table's own calibration; what those take now over what they took then is the common drift, and is
divided out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.architecture import Architecture, NetworkSpec
from singlepath.blocks import build
from singlepath.costs import LatencyTable
from singlepath.devices.host import hardware
from singlepath.devices.timing import Progress, Timing, open_session, time_interleaved
from singlepath.errors import user_error
from singlepath.runtimes import Runtime, get
from singlepath.spaces import make

__all__ = ["Measured", "Opened", "measure_network", "time_networks", "unmeasurable"]

ROUNDS = 60
SESSIONS = 16  # kept open: about 30 MB each of `mobile` at 224 px
FEWEST = 5  # calibration networks a drift is read off
Opened = tuple[Any, np.ndarray]  # a session of the table's runtime, and its input


@dataclass(frozen=True)
class Measured:
    """What a network took.

    Attributes:
        ms: as the clock said; None where it cannot be timed here, with the `reason` in one sentence.
        drift: how much slower (above 1) or faster the machine is than when the table was made.
        corrected_ms: ms / drift, to be compared with the table's prediction.
        ratios: now over then, for each calibration network; the drift is their median.
    """

    ms: float | None
    drift: float | None = None
    corrected_ms: float | None = None
    ratios: tuple[float, ...] = ()
    rounds: int = 0
    timing: Timing | None = None
    reason: str = ""


def unmeasurable(table: LatencyTable) -> str:
    """Why networks cannot be timed against this table here, one sentence; empty where they can."""
    if not table.measurable:
        return f"{table.device} is a table of published figures, not a device that is connected."
    here, there = hardware()["cpu"], table.hardware.get("cpu", "")
    if there and there != here:
        return f"The table was timed on another machine ({there}; this one is {here})."
    if len(table.calibration) < FEWEST:
        return f"The table has {len(table.calibration)} calibration networks, and a drift is read off {FEWEST} or more."
    return ""


def measure_network(
    network: NetworkSpec | Opened,
    table: LatencyTable,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measured:
    """One network timed on the table's runtime, threads and batch; see `time_networks`."""
    return time_networks({"network": network}, table, rounds=rounds, seed=seed, progress=progress)["network"]


def time_networks(
    networks: Mapping[str, NetworkSpec | Opened], table: LatencyTable, *, rounds: int = ROUNDS, seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Measured]:  # fmt: skip
    """Networks timed in one schedule with one another and with the table's calibration networks.

    Args:
        networks: name -> description (fresh weights are used), or a session of the table's runtime with its input, such
            as an exported file's.

    Raises:
        UserError: the table's runtime is unknown or not installed, or its calibration does not fit its own space.
    """
    reason = unmeasurable(table)
    if reason:
        return {name: Measured(None, reason=reason) for name in networks}
    runtime = get(table.runtime)
    then = [float(entry["ms"]) for entry in table.calibration]
    sessions = {f"given {name}": opened(value, table, runtime) for name, value in networks.items()}
    for i, spec in enumerate(calibration_networks(table)):
        sessions[f"calibration {i}"] = kept_session(spec, runtime, table.threads, table.batch)
    timings = time_interleaved(sessions, runtime, rounds, seed, progress)
    ratios = tuple(timings[f"calibration {i}"].ms / ms for i, ms in enumerate(then))
    drift = float(np.median(ratios))
    return {name: measured(timings[f"given {name}"], drift, ratios) for name in networks}


def measured(timing: Timing, drift: float, ratios: tuple[float, ...]) -> Measured:
    return Measured(timing.ms, drift, timing.ms / drift, ratios, timing.rounds, timing)


def calibration_networks(table: LatencyTable) -> list[NetworkSpec]:
    """The networks the drift is read off.

    Raises:
        UserError: an entry is no network of the table's space, or has no time.
    """
    space = make(table.space)
    for number, entry in enumerate(table.calibration):
        ms = entry.get("ms")
        if not isinstance(entry.get("choices"), list) or not isinstance(ms, int | float) or not ms > 0:
            raise user_error(
                f"calibration network {number} of the table", "allowed: choices and a positive ms", "measure it again"
            )
    return [space.network(Architecture(space.id, tuple(entry["choices"]))) for entry in table.calibration]


def opened(value: NetworkSpec | Opened, table: LatencyTable, runtime: Runtime) -> Opened:
    return session_of(value, runtime, table.threads, table.batch) if isinstance(value, NetworkSpec) else value


def session_of(network: NetworkSpec, runtime: Runtime, threads: int, batch: int) -> Opened:
    """A session with fresh weights."""
    shape = (network.in_channels, network.input_size, network.input_size)
    with tempfile.TemporaryDirectory(prefix="singlepath-") as folder:
        return open_session(runtime, build(network, 0), shape, Path(folder), threads, batch)


kept_session = lru_cache(maxsize=SESSIONS)(session_of)  # calibration networks come back with everything that is timed
