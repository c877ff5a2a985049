"""`design --time-limit`: as many epochs as fit, the search's scoring and the other networks' trainings counted."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from singlepath.pipeline.setup import seconds
from singlepath.runs import Run
from singlepath.search.single_path import CHILDREN, candidates_for

designing = importlib.import_module("singlepath.pipeline.design")  # the package's `design` is the command
EACH, IMAGES, HELD_OUT = 0.01, 1_000, 250  # s a training pass
OPTIONS = {
    "time_limit": "30m", "seed": 0, "random": 3, "threads": 1, "mode": "single-path", "epochs": None,
    "train_epochs": None, "quick": False, "select": None, "finalists": 1,
}  # fmt: skip


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(designing, "seconds_per_image", lambda *_: EACH)
    monkeypatch.setattr(designing, "parallel", lambda jobs, threads: 2)
    data = SimpleNamespace(train=range(IMAGES), val=range(HELD_OUT), all_train=range(IMAGES + HELD_OUT))
    return cast(Any, SimpleNamespace(space=None, data=data))


def chosen(folder: Path, made: Any, **changed: Any) -> dict[str, Any]:
    options = {**OPTIONS, **changed}
    with Run.open(folder, options) as run:
        return designing.within_time(run, options, made)


def test_search_and_trainings_fit_into_the_limit(tmp_path: Path, made: Any) -> None:
    limit, found = seconds("30m"), chosen(tmp_path / "run", made)
    passes = found["epochs"] * IMAGES * CHILDREN
    scored = candidates_for(passes, HELD_OUT) * (512 + HELD_OUT) / 9
    assert 0.9 * limit / 3 < EACH * (passes + scored) <= limit / 3
    trained = found["train_epochs"] * (IMAGES + HELD_OUT) * (1 + 3 + 2) * EACH / 2
    assert 0.9 * limit / 2 < trained <= limit / 2, "six networks, two at once"


def test_finalists_are_trained_within_the_limit(tmp_path: Path, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = chosen(tmp_path / "run", made, finalists=6)["train_epochs"]
    trained = epochs * (IMAGES + HELD_OUT) * (6 + 1 + 3 + 2) * EACH / 2
    assert 0.8 * seconds("30m") / 2 < trained <= seconds("30m") / 2, "twelve networks, two at once"
    monkeypatch.setattr(designing, "parallel", lambda jobs, threads: max(1, min(jobs, 16)))
    alone, few = (chosen(tmp_path / f"of-{k}", made, finalists=k)["train_epochs"] for k in (1, 4))
    assert few == alone // 2, "the others wait for the finalists, whatever the cores"


def test_what_is_scored_is_what_is_counted(tmp_path: Path, made: Any) -> None:
    few, many = (
        chosen(tmp_path / name, made, select=name)["epochs"] for name in ("gates", "score(candidates=500)")
    )  # fmt: skip
    quick = chosen(tmp_path / "quick", made, quick=True)["epochs"]
    assert many < chosen(tmp_path / "usual", made)["epochs"] < quick <= few


def test_epochs_that_are_given_stay(tmp_path: Path, made: Any) -> None:
    found = chosen(tmp_path / "run", made, epochs=3)
    assert found["epochs"] == 3 and found["train_epochs"] > 1


def test_a_limit_too_short_leaves_one_epoch_each(tmp_path: Path, made: Any) -> None:
    found = chosen(tmp_path / "run", made, time_limit="1s")
    assert (found["epochs"], found["train_epochs"]) == (1, 1)
