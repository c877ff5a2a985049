"""The trials of a tuning: what one answers with, what they share, their image passes, length and number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.search.helpers import problem

from singlepath.architecture import Architecture
from singlepath.errors import SinglepathError, UserError
from singlepath.pipeline import trials
from singlepath.pipeline.trials import (
    SHORT,
    Trials,
    alone,
    counted,
    epochs_within,
    finished,
    read_off,
    scored_passes,
    scorer_of,
    share_of,
    shared_epochs,
)
from singlepath.pipeline.tuning_size import sized
from singlepath.runs import Run, load_checkpoint
from singlepath.search import METHODS
from singlepath.search import single_path as sp
from singlepath.search.ledger import Ledger

SPACE = "mobile-small(width=0.5, input_size=16)"


def test_a_trial_is_the_last_network_that_hits_or_the_nearest_below() -> None:
    asked = problem("0.8MMACs")
    rng = np.random.default_rng(0)
    networks = [asked.space.canonical(asked.space.sample(rng)) for _ in range(400)]
    cost = {a: asked.cost(a) / asked.budget.target for a in networks}
    near = [a for a in networks if 0.97 <= cost[a] <= 1]
    below = sorted((a for a in networks if cost[a] < 0.97), key=lambda a: cost[a])
    above = sorted((a for a in networks if cost[a] > 1), key=lambda a: cost[a])
    assert len(near) > 1 and len(below) > 1 and len(above) > 1

    def read(*said: Architecture) -> Architecture:
        return read_off(asked, [asked.space.indices(a) for a in said])

    assert read(above[0], near[0], near[1], below[-1]) == near[0], "the latest that hits, not the nearest"
    assert read(above[0], below[0], below[-1], above[1]) == below[-1]
    assert read(above[-1], above[0], above[1]) == above[0]


def test_what_the_gates_said_last_is_kept_the_latest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "READ", 8)
    said: list[tuple[int, ...]] = []
    real = sp.decision_step

    def decided(asked: Any, state: Any, batch: Any) -> Any:
        metrics = real(asked, state, batch)
        said.append(asked.space.indices(sp.said_by_gates(asked, state["model"]).architecture))
        return metrics

    monkeypatch.setattr(sp, "decision_step", decided)
    asked = replace(problem(epochs=8, gate_lr=0.5), settings={**SHORT["single-path"], "gate_lr": 0.5})
    with Run.open(tmp_path / "run", {"seed": 0}) as held:
        _, state = finished(asked, "single-path", held, "search")
    assert len(said) > 8 and len(set(said[-8:])) > 1
    assert [tuple(s) for s in state["said"]] == said[:-9:-1]


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("single-path", SHORT["single-path"]), ("single-path", {"select": "gates"}), ("single-path", {}), ("paper", {})],
)
def test_passes_are_those_that_networks_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, settings: dict[str, Any]
) -> None:
    """Images that go forward and backward through a network are counted where it is called."""
    space = "mobile-small(width=0.5, input_size=16, padding='same')" if mode == "paper" else SPACE
    from singlepath.spaces import make
    from singlepath.supernet.network import Supernet
    from singlepath.supernet.paper import PaperSupernet

    seen = 0
    for kind in (Supernet, PaperSupernet):
        real = kind.forward

        def forward(self: Any, x: torch.Tensor, *rest: Any, _real: Any = real, **more: Any) -> torch.Tensor:
            nonlocal seen
            seen += len(x) if torch.is_grad_enabled() else 0
            return _real(self, x, *rest, **more)

        monkeypatch.setattr(kind, "forward", forward)
    asked = replace(problem("0.9MMACs", make(space), epochs=4, candidates=4), settings={"candidates": 4, **settings})
    with Run.open(tmp_path / "run", {"seed": 0}) as held:
        _, state = finished(asked, mode, held, "search")
    assert state["passes"] == seen > 0
    whole = state["passes"] + scored_passes(scorer_of(asked, mode, state))
    assert whole <= alone(asked, mode) < 1.5 * whole


def test_the_most_epochs_within_a_ledger() -> None:
    for passes in (0, 9, 10, 11, 29, 30, 31, 1000, 12345):
        assert epochs_within(passes, lambda epochs: 10 * epochs) == passes // 10


def test_the_size_of_a_tuning() -> None:
    asked = replace(problem("0.9MMACs"), settings=SHORT["single-path"])
    unbounded = sized(replace(asked, epochs=None), "single-path", None, None)
    assert unbounded.trials == 40 and unbounded.epochs >= 8
    given = replace(asked, epochs=6)
    size = sized(given, "single-path", 5, None)
    assert size.epochs == 6 and size.trials == 5 and size.share == share_of(given, "single-path")
    assert size.total == 5 * size.share + (size.total - 5 * size.share) and size.total > 5 * size.share
    fewer = sized(given, "single-path", 5, size.total - 1)
    assert (fewer.trials, fewer.share, fewer.total) == (4, size.share, size.total - 1)
    as_many = sized(given, "single-path", None, size.total + size.share)
    assert as_many.trials == 6
    longer = sized(replace(asked, epochs=None), "single-path", 5, 3 * size.total)
    assert longer.epochs > 6 and longer.trials == 5 and longer.total == 3 * size.total
    spent = longer.total - sized(replace(asked, epochs=longer.epochs), "single-path", 5, None).total
    assert (
        0
        <= spent
        < sized(replace(asked, epochs=longer.epochs + 1), "single-path", 5, None).total - longer.total + spent
    )
    with pytest.raises(UserError, match="40 trials of one epoch take"):
        sized(replace(asked, epochs=None), "single-path", None, 500)


def test_trials_go_on_from_one_warm_up_that_is_charged_once(tmp_path: Path) -> None:
    asked = replace(problem("0.9MMACs", epochs=4), settings=SHORT["single-path"])
    trials, ledger = Trials(asked, "single-path", tmp_path, 1), Ledger(tmp_path / "ledger.json", 10**6)
    assert shared_epochs(asked, "single-path") == 3
    trials.warm_up(ledger)
    before = load_checkpoint(trials.shared, "search")
    assert before and before["decisions"] == 0
    seen: list[Any] = []
    method = counted(METHODS["single-path"], "single-path", before)
    for coefficient in (0.01, 5.0):
        state = method.start(replace(asked, settings={**asked.settings, "coefficient": coefficient}))
        assert state["passes"] == 0 and state["multiplier"] == coefficient
        assert state["step"] == before["step"] == 3 * sp.plan(asked, {}).steps_per_epoch
        assert all(torch.equal(v, before["model"][k]) for k, v in state["model"].state_dict().items())
        seen.append(trials.search_once(len(seen), {"coefficient": coefficient, "gate_lr": 0.2}))
    assert seen[1].cost < seen[0].cost
    assert all(o.passes <= share_of(asked, "single-path") for o in seen)
    spent = ledger.spent
    trials.warm_up(ledger)
    assert ledger.spent == spent > 0, "what is done is not charged again"
    assert trials.search_once(0, {}) == seen[0], "nor searched again"


def test_a_score_that_is_no_number_fails_its_trial_each_time_it_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(problem("0.9MMACs", epochs=4), settings=SHORT["single-path"])
    made = Trials(asked, "single-path", tmp_path, 1)
    made.warm_up(Ledger(tmp_path / "ledger.json", 10**6))
    monkeypatch.setattr(trials, "scorer_of", lambda *_: lambda _: float("nan"))
    for _ in range(2):
        with pytest.raises(SinglepathError, match="not a finite number"):
            made.search_once(0, {"coefficient": 0.01, "gate_lr": 0.2})


def test_a_trial_answers_with_a_network_that_it_passed_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(problem("0.9MMACs", epochs=4), settings=SHORT["single-path"])
    made, ledger = Trials(asked, "single-path", tmp_path, 1), Ledger(tmp_path / "ledger.json", 10**6)
    made.warm_up(ledger)
    rng, real = np.random.default_rng(0), trials.finished
    drawn = [asked.space.canonical(asked.space.sample(rng)) for _ in range(300)]
    near = next(a for a in drawn if 0.97 <= asked.cost(a) / asked.budget.target <= 1)

    def passed(*given: Any) -> Any:
        found, state = real(*given)
        return found, state | {
            "said": [list(asked.space.indices(asked.space.largest())), list(asked.space.indices(near))]
        }

    monkeypatch.setattr(trials, "finished", passed)
    outcome = made.search_once(0, {"coefficient": 0.01, "gate_lr": 0.2})
    assert outcome.choices == near.choices and outcome.cost == pytest.approx(asked.cost(near))
