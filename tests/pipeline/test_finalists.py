"""`design --finalists`: the search's first networks are trained, and both figures decide."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline.helpers import run
from tests.pipeline.test_design import check_summary, design

import singlepath
from singlepath.costs import Budget, count_costs
from singlepath.data import load
from singlepath.pipeline.searching import search_in
from singlepath.runs import Run
from singlepath.spaces import make

pytest.importorskip("onnxruntime")
deciding = importlib.import_module("singlepath.pipeline.finalists")
training = importlib.import_module("singlepath.pipeline.trainings")
COUNT = 3


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each training saw, in order."""
    seen: list[int] = []
    real = training.train_network

    def counted(spec: Any, data: Any, recipe: Any, **more: Any) -> Any:
        images = more.get("images")
        seen.append(len(data.all_train if images is None else images))
        return real(spec, data, recipe, **more)

    monkeypatch.setattr(training, "train_network", counted)
    return seen


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_the_lowest_sum_is_taken_and_trained_on_all_images(tmp_path: Path, trained_on: list[int]) -> None:
    folder = tmp_path / "run"
    found = design(folder, "--budget", "4MMACs", "--finalists", COUNT)
    result = check_summary(found, folder)
    data = load("digits", size=16, seed=0, limit=200)
    assert trained_on[:COUNT] == [len(data.train)] * COUNT, "held-out images judge them"
    assert set(trained_on[COUNT:]) == {len(data.all_train)}
    rows = result["selection"]["finalists"]
    assert len(rows) == len({row["string"] for row in rows}) == COUNT and rows[0]["behind"] == 0
    assert all(0.9 * 4 <= row["predicted"] <= 4 for row in rows)
    (taken,) = (row for row in rows if row["taken"])
    assert taken == min(rows, key=lambda row: row["cross_entropy"] + row["behind"])
    assert found["architecture"] == taken["string"] and found["predicted"] == taken["predicted"]
    kept = json.loads((folder / "architecture.json").read_text())
    assert kept["choices"] == taken["choices"]
    assert result["selection"]["finalist_passes"] == COUNT * len(data.train)
    assert "Finalists" in Path(found["report"]).read_text()
    trained_on.clear()
    (folder / "summary.json").unlink()
    assert design_again(folder)["architecture"] == found["architecture"] and trained_on == []


def design_again(folder: Path) -> dict[str, Any]:
    code, out, err = run("design", "--resume", folder, "--json")
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A design that has ended."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    design(folder, "--budget", "4MMACs", "--finalists", COUNT)
    return folder


@pytest.mark.parametrize("place", range(COUNT))
def test_the_search_and_the_training_weigh_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path, place: int
) -> None:
    """What a training says for one network is what the search says against it, but for a little."""
    folder = shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr(deciding, "evaluate", Figures(folder, place))
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    with Run.open(folder, options, resume=True) as opened:
        found, made = search_in(opened, options)
        taken = deciding.decided(opened, options, found, made)
    rows = result_of(folder)["selection"]["finalists"]
    assert rows[0]["behind"] <= rows[1]["behind"] < rows[2]["behind"]
    assert [row["taken"] for row in rows] == [i == place for i in range(COUNT)]
    assert list(taken.architecture.choices) == rows[place]["choices"]
    assert result_of(folder)["architecture"]["string"] == rows[place]["string"]
    assert result_of(folder)["cost"]["predicted"] == rows[place]["predicted"]
    assert ("score" in taken.selection) == (place == 0), "the supernet's score is of the search's choice"


def test_a_run_from_before_is_one_without(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = design(folder, "--budget", "4MMACs")
    config = folder / "config.yaml"
    config.write_text("".join(line for line in config.open() if "finalists" not in line))
    code, _, err = run("design", "--resume", folder, "--finalists", 2)
    assert code == 2 and "--finalists" in err.splitlines()[-1], "it cannot have them now"
    assert design_again(folder)["architecture"] == found["architecture"]
    assert yaml.safe_load(config.read_text())["options"]["finalists"] == 1


def test_where_the_network_stood_on_a_front_is_forgotten_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    """A front that was read before the finalists decided."""
    folder = shutil.copytree(whole, tmp_path / "run")
    result = result_of(folder)
    taken = next(i for i, row in enumerate(result["selection"]["finalists"]) if row["taken"])
    point = {"predicted": 3.0, "held_out_cross_entropy": 2.0}
    (folder / "result.json").write_text(json.dumps({**result, "front_chosen": point}))
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    for place, kept in ((taken, point), ((taken + 1) % COUNT, None)):
        monkeypatch.setattr(deciding, "evaluate", Figures(folder, place))
        with Run.open(folder, options, resume=True) as opened:
            deciding.decided(opened, options, *search_in(opened, options))
        assert result_of(folder)["front_chosen"] == kept
    assert run("report", folder)[0] == 0


@pytest.mark.parametrize("count", ["x", None, 2.5])
def test_from_python_a_count_is_a_whole_number(tmp_path: Path, count: Any) -> None:
    with pytest.raises(singlepath.UserError, match="finalists"):
        singlepath.design(finalists=count, out=tmp_path / "run")


def test_a_figure_that_is_no_number_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    figures = iter([float("nan"), 1.0, float("inf")])
    monkeypatch.setattr(deciding, "evaluate", lambda *_, **__: {"accuracy": 0.1, "cross_entropy": next(figures)})
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    with Run.open(folder, options, resume=True) as opened:
        deciding.decided(opened, options, *search_in(opened, options))
    rows = result_of(folder)["selection"]["finalists"]
    assert [(row["cross_entropy"], row["taken"]) for row in rows] == [(None, False), (1.0, True), (None, False)]
    assert run("report", folder)[0] == 0


def test_what_has_been_decided_is_not_written_again(tmp_path: Path, whole: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    before = (folder / "result.json").read_text()
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    with Run.open(folder, options, resume=True) as opened:
        deciding.decided(opened, options, *search_in(opened, options))
    assert (folder / "result.json").read_text() == before, "a design's, with its accuracies and timings"


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("place", range(2))
def test_what_is_taken_says_why_it_leaves_budget_unused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path, place: int, filled: bool
) -> None:
    """The search's reason is of the search's own choice; another network has its own where it needs one."""
    folder = shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr(deciding, "evaluate", Figures(folder, place))
    monkeypatch.setattr(Budget, "filled", lambda budget, cost: filled)
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    with Run.open(folder, options, resume=True) as opened:
        found, made = search_in(opened, options)
        found = found._replace(underfilled_reason="the search's")
        taken = deciding.decided(opened, options, found, made)
    if place == 0:
        assert taken.underfilled_reason == "the search's"
    else:
        assert (taken.underfilled_reason is None) == filled
        assert taken.underfilled_reason != "the search's"


class Figures:
    """Cross-entropies that make up for what the search says, and a little more for one network."""

    def __init__(self, folder: Path, place: int) -> None:
        self.folder, self.place, self.asked = folder, place, 0

    def __call__(self, *_: Any, **__: Any) -> dict[str, float]:
        behind = json.loads((self.folder / "finalists.json").read_text())[self.asked]["behind"]
        self.asked += 1
        return {"accuracy": 0.5, "cross_entropy": 1 - behind - 1e-6 * (self.asked - 1 == self.place)}


def test_killed_among_its_finalists_it_goes_on(tmp_path: Path, trained_on: list[int], whole: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    found = json.loads((folder / "summary.json").read_text())
    for name in ("summary.json", "baselines.json", "report.html", "weights.safetensors"):
        (folder / name).unlink()
    for name in ("finalist-1", "finalist-2", "found", "random-0", "random-1", "mobilenetv2", "spnasnet_100"):
        shutil.rmtree(folder / "networks" / name)
    trained_on.clear()
    again = design_again(folder)
    assert len(trained_on) == COUNT - 1 + 5, "what was trained is read back"
    same = ("architecture", "test_accuracy", "random_accuracy_mean", "baselines")
    assert {k: again[k] for k in same} == {k: found[k] for k in same}
    assert result_of(folder)["selection"] == result_of(whole)["selection"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--select", "gates"), "--finalists 2 with gates"),
        (("--select", "evolution(candidates=9)"), "--finalists 2 with evolution"),
        (("--mode", "random"), "--finalists 2 with --mode random"),
        (("--mode", "paper"), "--finalists 2 with --mode paper"),
    ],
)
def test_what_has_no_order_has_no_finalists(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    code, _, err = run("design", "--quick", "--finalists", 2, *options, "--out", tmp_path / "run")
    assert code == 2 and said in err.splitlines()[-1] and not (tmp_path / "run").exists()


def test_a_budget_with_one_network_has_one_finalist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_on: list[int]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(deciding, "note", said.append)
    space = make("mobile-small(input_size=16)")
    smallest = count_costs(space, "macs").smallest
    budget = f"{1.0001 * smallest}MMACs"
    found = design(tmp_path / "run", "--budget", budget, "--finalists", COUNT, "--random", 0)
    assert len(result_of(tmp_path / "run")["selection"]["finalists"]) == 1
    assert found["predicted"] == pytest.approx(smallest)
    assert len(set(trained_on)) == 1, "nothing is trained to choose among one"
    assert any(f"1 of {COUNT} finalists" in text for text in said)
