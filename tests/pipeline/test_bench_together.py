"""`singlepath report` of several runs of bench: judged together where their recipes agree, and refused where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.helpers import printed, run

from singlepath.bench.records import read

TOY = ["bench", "--task", "toy", "--seeds", 3, "--queries", 25, "--networks", 4, "--workers", 0]
MADE: dict[str, list[Any]] = {
    "first": [*TOY, "--methods", "local"], "seeds": [*TOY, "--methods", "local", "--seed", 50],
    "methods": [*TOY, "--methods", "evolution"], "longer": [*TOY, "--methods", "local", "--queries", 40],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("together")
    for name, arguments in MADE.items():
        printed(*arguments, "--out", folder / name)
    return {name: folder / name for name in MADE}


def refused(*arguments: object) -> str:
    code, out, err = run("report", *arguments)
    assert code == 2 and not out and len(err.splitlines()) == 1 and err.startswith("singlepath: "), err
    return err


def test_more_seeds_and_more_methods_are_one_comparison(made: dict[str, Path]) -> None:
    own = {name: (folder / "report.html").read_bytes() for name, folder in made.items()}
    found = printed("report", made["first"], made["seeds"], made["methods"])
    page = made["first"] / "report-compared.html"
    assert found["report"] == str(page) and {n: (f / "report.html").read_bytes() for n, f in made.items()} == own
    (task,) = found["tasks"]
    rows = {row["method"]: row for row in task["methods"]}
    assert {name: row["runs"] for name, row in rows.items()} == {"random": 6, "local": 6, "evolution": 3}
    assert next(iter(rows)) == "random" and task["random_networks"]["runs"] == 8, "shared trials count once"
    tests = [r.test for n in ("first", "seeds") for r in read(made[n] / "records") if r.trial.method == "local"]
    assert rows["local"]["test"] == pytest.approx(sum(t for t in tests if t is not None) / 6)
    assert task["random_search"]["expected"] and rows["local"]["to_optimum"] and rows["local"]["ri_exact"]
    kept = json.loads((made["first"] / "bench-compared.json").read_text())
    assert kept["tests"] == found["tests"] and kept["asked"]["seeds"] == "3 to 6"
    text = page.read_text("utf-8")
    assert "Benchmark: toy" in text and "3 to 6 searches of each" in text and "evolution" in text


def test_recipes_that_differ_are_refused_by_name(made: dict[str, Path]) -> None:
    before = (made["longer"] / "report.html").read_bytes()
    err = refused(made["longer"], made["first"])
    assert "the recipes of toy differ: budget.queries is 40" in err or "budget.queries is 25" in err
    assert (made["longer"] / "report.html").read_bytes() == before
    assert not (made["longer"] / "report-compared.html").exists()


def test_a_run_of_another_command_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("options: {}")
    for order in ((made["first"], tmp_path), (tmp_path, made["first"])):
        assert f"{tmp_path} has no bench.json" in refused(*order)
    assert not (tmp_path / "report.html").exists()


def test_a_trial_that_ended_in_two_ways_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "records").mkdir(parents=True)
    (other / "bench.json").write_text((made["first"] / "bench.json").read_text())
    path = next((made["first"] / "records").iterdir())
    record = json.loads(path.read_text())
    (other / "records" / path.name).write_text(json.dumps({**record, "test": 12.5}))
    assert "is there twice" in refused(made["first"], other)


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"tasks": [1]}', '{"tasks": [{"task": "toy", "table": {"a": 1}}]}'])
def test_a_damaged_file_is_said_in_one_line(made: dict[str, Path], tmp_path: Path, text: str) -> None:
    (tmp_path / "bench.json").write_text(text)
    (tmp_path / "records").mkdir()
    assert str(tmp_path / "bench.json") in refused(made["first"], tmp_path)
