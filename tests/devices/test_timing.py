"""The schedule and the statistics, on sessions that are lists of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from singlepath.devices import time_interleaved
from singlepath.runtimes import RUNTIMES, Runtime

X = np.zeros(1)


def scripted(order: list[str], extra: list[float] | None = None) -> Runtime:
    """Sessions are (name, ms); every third run is late by what `extra` holds."""

    def time_once(session: tuple[str, float], x: np.ndarray) -> float:
        order.append(session[0])
        late = extra[0] if extra and len(order) % 3 == 0 else 0.0
        return session[1] + late

    return RUNTIMES["torch"]._replace(time_once=time_once)


def test_every_round_times_everything_in_an_order_of_its_own() -> None:
    order: list[str] = []
    names = [f"s{i}" for i in range(12)]
    timings = time_interleaved({n: ((n, 2.0), X) for n in names}, scripted(order), rounds=6, seed=0)
    turns = order[3 * len(names) :: 2]  # after the warm-up: one untimed and one timed run a turn
    rounds = [turns[i : i + 12] for i in range(0, len(turns), 12)]
    assert len(rounds) == 6 and all(sorted(r) == sorted(names) for r in rounds)
    assert len({tuple(r) for r in rounds}) == 6
    assert all(t.rounds == 6 for t in timings.values())
    again: list[str] = []
    time_interleaved({n: ((n, 2.0), X) for n in names}, scripted(again), rounds=6, seed=0)
    assert again == order


def test_a_short_session_runs_longer_in_its_turn() -> None:
    order: list[str] = []
    sessions = {"short": (("short", 0.1), X), "long": (("long", 5.0), X), "tiny": (("tiny", 1e-4), X)}
    time_interleaved(sessions, scripted(order), rounds=4, seed=0)
    count = {n: order.count(n) for n in sessions}
    assert count == {"short": 3 + 4 * 11, "long": 3 + 4 * 2, "tiny": 3 + 4 * 21}


def test_a_late_run_within_a_turn_does_not_count() -> None:
    timings = time_interleaved({"a": (("a", 0.1), X)}, scripted([], [50.0]), rounds=5, seed=0)
    assert timings["a"].ms == timings["a"].median == pytest.approx(0.1)


def test_statistics_are_low_quantiles_of_the_rounds() -> None:
    values = iter([5.0] * 3 + [v for ms in range(101, 1, -1) for v in (9e9, float(ms))])
    runtime = RUNTIMES["torch"]._replace(time_once=lambda s, x: next(values))
    timing = time_interleaved({"a": (Path(), X)}, runtime, rounds=100, seed=0)["a"]
    assert (timing.min, timing.rounds) == (2.0, 100)
    assert timing.p10 == pytest.approx(11.9) and timing.median == pytest.approx(51.5) and timing.ms == timing.p10
