"""`singlepath bench` on images: the random networks at other depths, and by the supernet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import kendalltau
from tests.pipeline.helpers import printed, run
from tests.pipeline.test_benching_images import HERE, IMAGES, records_of, table_of

from singlepath.bench.protocol import is_beside
from singlepath.bench.records import Record, read
from singlepath.costs import count_costs
from singlepath.data import Data
from singlepath.pipeline import image_ranking, image_trials
from singlepath.search.scoring import Scorer
from singlepath.spaces import make
from singlepath.spaces.depth import at_depth, carried

SPACE = make("mobile-small(width=0.25, input_size=16)")
RANKED = [*IMAGES, "--methods", "random", *HERE]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished comparison at the searched depth."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("plain") / "run"
    return folder, printed(*RANKED, "--out", folder)


@pytest.fixture(scope="module")
def deep(plain: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The same at two depths."""
    folder = tmp_path_factory.mktemp("deep") / "run"
    return folder, printed(*RANKED, "--depths", "1,2", "--out", folder)


def networks_of(folder: Path) -> tuple[list[Record], list[Record]]:
    """Random networks at the searched depth and beside it, by number."""
    networks = [r for r in records_of(folder) if r.trial.method == "random-network"]
    parts = [[r for r in networks if is_beside(r.trial) == beside] for beside in (False, True)]
    return parts[0], parts[1]


def test_the_same_networks_are_trained_alike_at_both_depths(deep: tuple[Path, dict[str, Any]]) -> None:
    folder, found = deep
    own, others = networks_of(folder)
    space, costs = at_depth(SPACE, 2), count_costs(at_depth(SPACE, 2), "macs")
    assert len(own) == len(others) == 3 and found["trials"] == 2 + 3 + 3 + 2
    for one, other in zip(own, others, strict=True):
        expected = carried(SPACE.parse(one.network), SPACE, space)
        assert other.network == space.string(expected) != one.network
        assert (one.trial.search_seed, one.trial.training_seed) == (other.trial.search_seed, other.trial.training_seed)
        assert one.trial.protocol == other.trial.protocol and one.trial.budget == other.trial.budget
        assert one.spent("passes", "training") == other.spent("passes", "training") > 0
        assert other.cost is not None and other.cost.amount == pytest.approx(costs.of(space.indices(expected)))
    (task,) = found["tasks"]
    assert task["depth_gap"]["depths"][1]["test"] == pytest.approx(sum(r.test or 0.0 for r in others) / 3)
    assert "3 networks are too few" in task["depth_gap"]["pairs"][0]["sentence"]


def test_other_depths_change_no_figure_of_the_comparison(
    plain: tuple[Path, dict[str, Any]], deep: tuple[Path, dict[str, Any]]
) -> None:
    from pyarrow import parquet

    (first,), (second,) = plain[1]["tasks"], deep[1]["tasks"]
    assert first["depth_gap"] is None
    assert {**second, "depth_gap": None} == first and deep[1]["tests"] == plain[1]["tests"]
    rows = parquet.read_table(deep[0] / "records.parquet").to_pylist()
    assert [json.loads(row["settings"]) for row in rows if row["method"] == "random-network"] == [{}] * 3 + [
        {"depth": 2}
    ] * 3
    assert all(row["training_passes"] > 0 for row in rows if row["validation"] is not None)


def test_they_go_on_where_they_were_stopped(
    deep: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, trained = tmp_path / "again", list[Any]()
    shutil.copytree(deep[0], again)
    lost = networks_of(again)[1][1].trial.digest
    (again / "records" / f"{lost}.jsonl").unlink()
    real = image_trials.train_network
    monkeypatch.setattr(image_trials, "train_network", lambda *a, **k: (trained.append(a[0]), real(*a, **k))[1])
    assert printed("bench", "--resume", again, *HERE)["tasks"] == deep[1]["tasks"] and len(trained) == 1
    code, _, err = run("bench", "--resume", again, "--depths", "1,3", *HERE)
    assert code == 2 and "depths is '1,3'" in err and "made with '1,2'" in err


@pytest.fixture
def both(plain: tuple[Path, dict[str, Any]], deep: tuple[Path, dict[str, Any]], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the run without other depths and of the one with them."""
    first, second = tmp_path / "first", tmp_path / "second"
    return Path(shutil.copytree(plain[0], first)), Path(shutil.copytree(deep[0], second))


def test_runs_with_and_without_are_judged_together(both: tuple[Path, Path], deep: tuple[Path, dict[str, Any]]) -> None:
    first, second = both
    found = printed("report", first, second)
    assert found["tasks"][0]["depth_gap"] == deep[1]["tasks"][0]["depth_gap"] and found["trials"] == 10


def test_an_older_run_without_scores_is_judged_with_a_new_one(
    both: tuple[Path, Path], deep: tuple[Path, dict[str, Any]]
) -> None:
    first, second = both
    for path in (first / "records").iterdir():
        record = json.loads(path.read_text())
        del record["incumbents"]
        path.write_text(json.dumps(record))
    for order in ((first, second), (second, first)):
        assert printed("report", *order)["trials"] == 10, "a trial of both runs counts once"
        (row,) = json.loads((order[0] / "bench-compared.json").read_text())["tasks"][0]["methods"]
        assert len(row["curve"]["cross_entropy"]) > 1, "and with what the new record knows"


def test_a_table_of_one_depth_gives_no_cost_at_another(tmp_path: Path) -> None:
    arguments = [1 if value == 2 else 2 if value == 3 else value for value in RANKED]
    table = table_of(SPACE, tmp_path / "board.json", 1.0)
    found = printed(*arguments, "--cost", table, "--depths", "1,2", "--out", tmp_path / "run")
    own, others = networks_of(tmp_path / "run")
    assert all(r.cost is not None and r.cost.unit == "ms" for r in own) and all(r.cost is None for r in others)
    first, second = found["tasks"][0]["depth_gap"]["depths"]
    assert "cost" in first and "cost" not in second


def test_every_supernet_scores_the_random_networks_as_its_methods_do(
    deep: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = deep
    ranked = [r for r in read(folder / "records") if r.validation is None]
    assert [r.trial.search_seed for r in ranked] == [0, 1] and not any(r.queries for r in ranked)
    own, _ = networks_of(folder)
    monkeypatch.setattr(Data, "open_test", lambda self: pytest.fail("the test part is not read"))
    for record in ranked:
        task = image_trials.opened("digits", "", json.dumps(record.trial.protocol["asked"]))
        problem = task.problem(record.trial.search_seed)
        supernet, _ = image_trials.supernet_of(problem, record.trial, folder / "supernets")
        scorer = Scorer.of(problem, supernet)
        scores = {r.trial.search_seed: scorer(SPACE.parse(r.network)) for r in own}
        assert record.scores == pytest.approx(scores, rel=1e-5) and len(set(scores.values())) == 3
        assert record.spent("forward", "ranking") == scorer.passes == 3 * scorer.images() == record.spent("forward")
        assert record.network == own[min(scores, key=lambda number: scores[number])].network
        again = image_ranking.run_trial({"data": None, "supernets": str(folder / "supernets")}, record.trial)
        assert again.scores == record.scores
    ranks = found["tasks"][0]["supernet_ranks"]
    assert len(ranks["seeds"]) == 2 and "3 networks are too few" in ranks["sentence"]
    values = [-ranked[0].scores[number] for number in range(3)]
    tau = kendalltau(values, [r.validation for r in own])[0]
    assert ranks["seeds"][0]["validation"]["tau"] == pytest.approx(tau, nan_ok=True)


def test_they_are_scored_after_the_searches(deep: tuple[Path, dict[str, Any]]) -> None:
    kinds = {r.trial.digest: r.validation is None for r in read(deep[0] / "records")}
    ended = [kinds[json.loads(line)["trial"]] for line in (deep[0] / "timing.jsonl").read_text().splitlines()]
    assert ended == [False] * 8 + [True] * 2


def test_random_networks_of_a_later_first_seed_keep_their_numbers(tmp_path: Path) -> None:
    few = [1 if value == 2 else 2 if value == 3 else value for value in RANKED]
    printed(*few, "--seed", 2, "--out", tmp_path / "run")
    own, _ = networks_of(tmp_path / "run")
    (record,) = (r for r in read(tmp_path / "run" / "records") if r.validation is None)
    assert set(record.scores) == {2, 3} == {r.trial.search_seed for r in own}
    best = min(record.scores, key=lambda number: record.scores[number])
    assert record.network == next(r.network for r in own if r.trial.search_seed == best)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "toy", "--depths", "1,2"], "--depths with toy; it is for images; leave --depths out"),
        (["--depths", "2"], "--depths '2'; allowed: several whole numbers, each once; type --depths 1,2"),
        (["--depths", "1,1"], "each once"),
        (["--depths", "1,deep"], "--depths '1,deep'"),
        (["--depths", "1,2.5"], "--depths '1,2.5'"),
        (["--depths", "0,1"], "--depths '0,1'"),
        (["--depths", "1,9"], "is searched, 1, and multiples of it up to 8; type --depths 1,2"),
        (
            ["--depths", "2,3"],
            "allowed: the depth that is searched, 1, and multiples of it up to 8; type --depths 1,2,3",
        ),
        (
            ["--task", "digits(depth=2)", "--depths", "1,3"],
            "is searched, 2, and multiples of it up to 8; type --depths 2,4",
        ),
        (["--space", "mobile-small(depth=9)"], "depth 9; allowed: whole numbers from 1 to 8"),
        (["--space", "mobile-small(depth=5)", "--depths", "5,10"], "multiples of it up to 8; leave --depths out"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[Any], said: str, tmp_path: Path) -> None:
    task = [] if "toy" in arguments else ["--task", "digits", "--limit", 200]
    code, out, err = run("bench", *task, *arguments, *HERE, "--out", tmp_path / "run")
    assert code == 2 and not out and said in err.splitlines()[-1] and "Traceback" not in err
