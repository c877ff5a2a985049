"""Tuning a search to a target cost, on searches whose cost is a known curve of their coefficient."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singlepath.errors import SinglepathError, UserError
from singlepath.search import hyper, proposals
from singlepath.search.hyper import Outcome, Trial, Tuning, choose, results, tune, work
from singlepath.search.ledger import Ledger
from singlepath.search.proposals import Range, halton

COEFFICIENT, RATE = Range(0.003, 10.0), Range(0.03, 0.2)
TARGET, SHARE = 60.0, 100


def tuning(folder: Path, trials: int = 12, total: int | None = None, **other: Any) -> Tuning:
    ranges = other.pop("ranges", {"coefficient": COEFFICIENT})
    total = trials * SHARE if total is None else total
    return Tuning(folder, ranges, TARGET, trials, SHARE, total, **{"enough": 99, **other})


class Curve:
    """A search whose cost falls from `most` to `least` with its coefficient; it counts what it computes in a file.

    `passes` a search; `ripple` is how far its cost, in a way that looks random, is from the curve.
    """

    def __init__(
        self, folder: Path, middle: float = 0.2, slope: float = 1.0, most: float = 110.0, least: float = 35.0,
        ripple: float = 0.0, passes: int = SHARE,
    ) -> None:  # fmt: skip
        self.file, self.middle, self.slope, self.most, self.least = folder / "calls", middle, slope, most, least
        self.ripple, self.passes = ripple, passes
        folder.mkdir(parents=True, exist_ok=True)

    def cost(self, settings: Mapping[str, float]) -> float:
        speed = settings.get("rate", 0.08) / 0.08
        share = 1 / (1 + (settings["coefficient"] / self.middle * speed**0.5) ** self.slope)
        noise = self.ripple * math.sin(1e4 * sum(settings.values()))
        return math.exp(math.log(self.least) + share * math.log(self.most / self.least) + noise)

    def __call__(self, number: int, settings: Mapping[str, float]) -> Outcome:
        with open(self.file, "a") as file:
            file.write(json.dumps([number, dict(settings), self.passes, os.getpid()]) + "\n")
        cost = self.cost(settings)
        return Outcome(cost, 3.0 - cost / 100, self.passes, (f"{cost:.6g}",))

    @property
    def calls(self) -> list[Any]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.is_file() else []


def never(number: int, settings: Mapping[str, float]) -> Outcome:
    raise AssertionError("no search was to run")


# -- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "ranges"),
    [
        ({"middle": 0.03, "slope": 0.7}, {"coefficient": COEFFICIENT}),
        ({"middle": 1.7, "slope": 1.4, "ripple": 0.01}, {"coefficient": COEFFICIENT}),
        ({"middle": 0.15, "ripple": 0.01}, {"coefficient": COEFFICIENT, "rate": RATE}),
    ],
)
def test_the_target_is_met_within_three_per_cent_and_within_the_ledger(
    tmp_path: Path, shape: dict[str, Any], ranges: dict[str, Range]
) -> None:
    asked, search = tuning(tmp_path, ranges=ranges), Curve(tmp_path, **shape)
    found = tune(search, asked)
    assert found.hit and found.chosen and found.chosen.outcome
    assert 0.97 * TARGET <= found.chosen.outcome.cost <= TARGET
    assert search.cost(found.chosen.settings) == found.chosen.outcome.cost
    assert len(found.trials) == 12 and {t.state for t in found.trials} == {"done"}
    for t in found.trials:
        assert t.settings.keys() == ranges.keys()
        assert all(ranges[n].low <= v <= ranges[n].high for n, v in t.settings.items())
    assert sum(c[2] for c in search.calls) == asked.ledger.spent == asked.ledger.total
    assert max(math.log(t.settings["coefficient"]) for t in found.trials[:4]) - min(
        math.log(t.settings["coefficient"]) for t in found.trials[:4]
    ) > 0.5 * math.log(COEFFICIENT.high / COEFFICIENT.low), "the first trials look everywhere"


def test_no_new_trial_is_begun_once_enough_networks_hit_the_target(tmp_path: Path) -> None:
    whole = tune(Curve(tmp_path / "whole"), tuning(tmp_path / "whole")).trials
    met = [t.number for t in whole if t.outcome and 0.97 * TARGET <= t.outcome.cost <= TARGET]
    assert len(met) >= 2
    for enough in (1, 2):
        asked = tuning(tmp_path / str(enough), enough=enough)
        found = tune(Curve(asked.folder), asked)
        assert found.trials == whole[: met[enough - 1] + 1] and found.hit
        assert asked.ledger.spent == len(found.trials) * SHARE < asked.ledger.total
        assert tune(never, asked) == found


def done(number: int, cost: float, entropy: float) -> Trial:
    return Trial(number, {"coefficient": 1.0}, "done", Outcome(cost, entropy, 1, ()))


def test_no_network_above_the_target_is_ever_the_answer() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        trials = [done(i, float(rng.uniform(50, 70)), float(rng.uniform(0, 1))) for i in range(rng.integers(0, 6))]
        trials.append(Trial(99, {}, "failed"))
        found = choose(trials, TARGET)
        below = [t for t in trials if t.outcome and t.outcome.cost <= TARGET]
        near = [t for t in below if t.outcome and t.outcome.cost >= 0.97 * TARGET]
        assert found.hit == bool(near) and (found.chosen is None) == (not below)
        if not found.chosen or not found.chosen.outcome:
            continue
        assert found.chosen in below
        if near:
            assert found.chosen in near
            assert all(found.chosen.outcome.cross_entropy <= t.outcome.cross_entropy for t in near if t.outcome)
        else:
            assert all(found.chosen.outcome.cost >= t.outcome.cost for t in below if t.outcome)
    assert choose([done(0, TARGET, 0.5)], TARGET).hit and not choose([done(0, TARGET * 1.0001, 0.1)], TARGET).chosen
    assert choose([done(0, 0.9701 * TARGET, 0.5)], TARGET).hit
    assert not choose([done(0, 0.9699 * TARGET, 0.5)], TARGET).hit


def test_a_target_out_of_reach_gives_the_nearest_below_or_nothing(tmp_path: Path) -> None:
    cheap = tune(Curve(tmp_path / "a", most=50.0), tuning(tmp_path / "a", 5))
    assert not cheap.hit and cheap.chosen and cheap.chosen.outcome
    assert cheap.chosen.outcome.cost == max(t.outcome.cost for t in cheap.trials if t.outcome)
    dear = tune(Curve(tmp_path / "b", least=61.0), tuning(tmp_path / "b", 5))
    assert dear.chosen is None and not dear.hit and len(dear.trials) == 5


def test_trials_are_a_function_of_the_seed(tmp_path: Path) -> None:
    made = [
        tune(Curve(tmp_path / name), tuning(tmp_path / name, 6, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert made[0] == made[1]
    assert made[0].trials[:4] == made[2].trials[:4] and made[0].trials[4:] != made[2].trials[4:]


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_a_ledger_refuses_what_goes_beyond_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json", 100)
    ledger.reserve(0, 60)
    ledger.reserve(0, 60)
    assert (ledger.spent, ledger.left, ledger.held(0), ledger.of(0)) == (0, 40, 60, 60)
    for charge in (lambda: ledger.charge("more", 41), lambda: ledger.reserve(1, 41)):
        with pytest.raises(SinglepathError, match="41 image passes, and the ledger has 40 left"):
            charge()
    ledger.charge("repeated", 40, 0)
    ledger.settle(0, 55)
    assert (ledger.spent, ledger.left, ledger.held(0), ledger.of(0)) == (95, 5, None, 95)
    ledger.reserve(0, 60)
    assert ledger.left == 5, "a settled trial has its row"
    for trial in (0, 3):
        with pytest.raises(SinglepathError, match=f"trial {trial} took 56 image passes"):
            ledger.settle(trial, 56)
    assert Ledger(tmp_path / "ledger.json", 100).rows() == ledger.rows()
    assert json.loads((tmp_path / "ledger.json").read_text())["total"] == 100


def test_charges_at_the_same_time_are_all_written_down(tmp_path: Path) -> None:
    def charge(worker: int) -> None:
        ledger = Ledger(tmp_path / "ledger.json", 1000)
        for _ in range(10):
            ledger.charge("more", 1, worker)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(charge, range(4)))
    assert [Ledger(tmp_path / "ledger.json", 1000).of(worker) for worker in range(4)] == [10] * 4


def test_trials_end_with_the_ledger(tmp_path: Path) -> None:
    asked, search = tuning(tmp_path, 12, total=3 * SHARE + SHARE - 1), Curve(tmp_path, passes=SHARE - 10)
    found = tune(search, asked)
    assert len(found.trials) == len(search.calls) == 4, "what the first ones left is used"
    assert asked.ledger.spent == 4 * (SHARE - 10) and asked.ledger.left < SHARE
    greedy = tuning(tmp_path / "greedy", 3)
    with pytest.raises(SinglepathError, match="trial 0 took 101 image passes, 100 were set aside"):
        tune(Curve(tmp_path / "greedy", passes=SHARE + 1), greedy)


def test_a_search_that_diverges_is_charged_and_the_others_go_on(tmp_path: Path) -> None:
    search = Curve(tmp_path)

    def sometimes(number: int, settings: Mapping[str, float]) -> Outcome:
        if number == 1:
            raise SinglepathError("training diverged")
        made = search(number, settings)
        return made._replace(cross_entropy=math.nan) if number == 2 else made

    asked = tuning(tmp_path, 6)
    found = tune(sometimes, asked)
    assert [t.state for t in found.trials] == ["done", "failed", "failed", "done", "done", "done"]
    assert found.trials[1].reason == "training diverged" and "not a finite" in str(found.trials[2].reason)
    assert asked.ledger.of(1) == SHARE and asked.ledger.spent == 6 * SHARE

    def wrong(number: int, settings: Mapping[str, float]) -> Outcome:
        raise UserError("no data")

    with pytest.raises(UserError, match="no data"):
        tune(wrong, tuning(tmp_path / "wrong", 6))


# -- interruptions ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_a_tuning_killed_after_any_write_goes_on_to_the_same_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the disk changes only when something is flushed: every such moment is one to be killed at."""
    monkeypatch.setattr(proposals, "FIRST", 2)
    real, done, last = os.fsync, 0, math.inf

    def fsync(descriptor: int) -> None:
        nonlocal done
        real(descriptor)
        done += 1
        if done == last:
            raise Killed

    monkeypatch.setattr(os, "fsync", fsync)
    whole = tune(Curve(tmp_path / "whole"), tuning(tmp_path / "whole", 3))
    writes = done
    assert writes > 30
    for moment in range(1, writes + 1):
        asked, search = tuning(tmp_path / str(moment), 3, total=10 * SHARE), Curve(tmp_path / str(moment))
        done, last = 0, moment
        with pytest.raises(Killed):
            tune(search, asked)
        done, last = 0, math.inf
        assert tune(search, asked) == whole, moment
        assert asked.ledger.spent == 3 * SHARE and asked.ledger.left == 7 * SHARE
        assert len(search.calls) <= 4, "only the search that was going on is run again"
        calls = search.calls
        assert tune(never, asked) == whole and search.calls == calls, "nothing is left to do"


def test_a_line_that_was_torn_is_dropped(tmp_path: Path) -> None:
    asked = tuning(tmp_path / "a", 3)
    whole = tune(Curve(tmp_path / "a"), asked)
    journal = tmp_path / "a" / hyper.JOURNAL
    text = journal.read_bytes()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / hyper.JOURNAL).write_bytes(text[:-30])
    (tmp_path / "b" / hyper.LEDGER).write_bytes((tmp_path / "a" / hyper.LEDGER).read_bytes())
    assert tune(Curve(tmp_path / "b"), tuning(tmp_path / "b", 3)) == whole


SCRIPT = """
import json, os, sys, time
from pathlib import Path
from tests.search.test_hyper import Curve, tuning
from singlepath.search.hyper import tune, work

folder, what, trials, total = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
asked, search = tuning(folder, trials, total), Curve(folder)

def stuck(number, settings):
    if number == 2:
        print("stuck", flush=True)
        time.sleep(60)
    return search(number, settings)

def slow(number, settings):
    time.sleep(0.05)
    return search(number, settings)

if what == "work":
    print("ready", flush=True)
    sys.stdin.readline()
    work(slow, asked)
else:
    tune(stuck, asked)
"""


def process(folder: Path, what: str, trials: int, total: int) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), what, str(trials), str(total)], cwd=root, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


@pytest.mark.parametrize(("room", "states"), [(300, ["done"] * 5), (40, ["done"] * 4), (20, ["done"] * 2 + ["failed"])])
def test_what_a_killed_search_had_computed_is_charged(tmp_path: Path, room: int, states: list[str]) -> None:
    """80 of the third search's passes were computed when it was killed, 50 of them kept: 30 are computed again."""
    total = {300: 8, 40: 4, 20: 3}[room] * SHARE + room % SHARE
    trials = 5 if room == 300 else 4 if room == 40 else 3
    killed = process(tmp_path, "tune", trials, total)
    assert killed.stdout and killed.stdout.readline() == "stuck\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    asked, search = tuning(tmp_path, trials, total), Curve(tmp_path)
    assert [c[0] for c in search.calls] == [0, 1] and asked.ledger.held(2) == SHARE
    found = tune(search, asked, interrupted=lambda number: (50, 80))
    assert [t.state for t in found.trials] == states
    assert asked.ledger.spent <= total
    rows = [(r["what"], r["trial"], r["passes"]) for r in asked.ledger.rows()]
    if room >= 30:
        assert ("repeated", 2, 30) in rows and ("search", 2, SHARE) in rows
    else:
        assert ("search", 2, 80) in rows and "interrupted" in str(found.trials[2].reason)
        assert "repeated" not in {r[0] for r in rows}
    unbroken = tune(Curve(tmp_path / "whole"), tuning(tmp_path / "whole", trials))
    assert [t.settings for t in found.trials] == [t.settings for t in unbroken.trials][: len(states)]


# -- workers ----------------------------------------------------------------------------------------------------------


def test_two_processes_share_the_journal_and_the_ledger(tmp_path: Path) -> None:
    asked, total = tuning(tmp_path, 20, 7 * SHARE + 50), 7 * SHARE + 50
    assert tune(never, replace(asked, total=0, trials=0)).trials == []
    both = [process(tmp_path, "work", 20, total) for _ in range(2)]
    for each in both:
        assert each.stdout and each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    for each in both:
        each.communicate(timeout=120)
        assert each.returncode == 0
    search = Curve(tmp_path)
    assert sorted(c[0] for c in search.calls) == list(range(7)), "every trial once, and no more than there is room for"
    assert len({c[3] for c in search.calls}) == 2, "both searched"
    found = results(asked)
    assert {t.state for t in found} == {"done"} and asked.ledger.spent == 7 * SHARE
    by_number = {c[0]: c[1] for c in search.calls}
    assert all(t.settings == by_number[t.number] for t in found)
    assert len({t.settings["coefficient"] for t in found}) == 7


def test_interrupted_trials_are_shared_out_and_an_error_of_the_others_is_raised(tmp_path: Path) -> None:
    asked = tuning(tmp_path, 3)

    def stop(number: int, settings: Mapping[str, float]) -> Outcome:
        raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            work(stop, asked)
    given: list[list[int]] = []

    class Others:
        def __init__(self, shares: list[list[int]]) -> None:
            given.extend(shares)

        def __enter__(self) -> None: ...

        def __exit__(self, kind: Any, *_: object) -> None:
            if kind is None:
                work(search, asked, given[0])

    search = Curve(tmp_path)
    found = tune(search, asked, workers=2, others=Others)
    assert given == [[1]] and [c[0] for c in search.calls] == [0, 2, 1]
    assert [t.state for t in found.trials] == ["done"] * 3 and asked.ledger.spent == 3 * SHARE


# -- small things -----------------------------------------------------------------------------------------------------


def test_ranges_and_the_first_points() -> None:
    assert [halton(i, 2) for i in range(1, 5)] == [0.5, 0.25, 0.75, 0.125]
    assert [halton(i, 3) for i in range(1, 4)] == pytest.approx([1 / 3, 2 / 3, 1 / 9])
    assert Range(0.01, 1.0).at(0.5) == pytest.approx(0.1) and Range(0.0, 1.0, False).at(0.25) == 0.25


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"'optuna' is not installed; .*singlepath\[search\]"):
        tune(never, tuning(tmp_path))
