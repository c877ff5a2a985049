"""`singlepath bench`: what it prints and leaves, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.helpers import printed, run

from singlepath.bench.records import read
from singlepath.errors import UserError
from singlepath.pipeline.benching import bench, in_words, split_texts

TOY = ["bench", "--task", "toy", "--seeds", 3, "--queries", 25, "--networks", 4]
HERE = ["--workers", 0]
FILES = {"bench.json", "config.yaml", "records", "records.parquet", "report.html", "timing.jsonl"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished comparison, made by two processes."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("bench") / "first"
    methods = ["--methods", "local, weaknas(batch=3, predictor='ridge')", "--workers", 2]
    return folder, printed(*TOY, *methods, "--tuning-queries", "local=9", "--out", folder)


def test_what_it_prints(made: tuple[Path, dict[str, Any]]) -> None:
    folder, found = made
    assert found["run"] == str(folder) and found["trials"] == 13 and found["seconds"] > 0 < found["cpu_seconds"]
    (task,) = found["tasks"]
    names = ["random", "local", "weaknas(batch=3, predictor='ridge')"]
    assert [m["method"] for m in task["methods"]] == names
    assert all(m["test_interval"][0] <= m["test"] <= m["test_interval"][1] for m in task["methods"])
    assert all({"ri", "verdict", "to_optimum", "ri_exact"} <= m.keys() for m in task["methods"])
    assert [m["ledger"]["tuning"] for m in task["methods"]] == [0, 9, 0]
    assert task["table"]["optimum"]["sentence"].startswith("the optimum by validation has test accuracy 9")
    assert task["random_networks"]["runs"] == 4 and task["random_search"]["holds"] is True
    assert {(t["of"], t["first"], t["second"]) for t in found["tests"]} >= {
        ("accuracy", "random", "random networks"), ("accuracy", names[2], "local"), ("queries", names[2], "random"),
    }  # fmt: skip


def test_what_it_leaves(made: tuple[Path, dict[str, Any]]) -> None:
    from pyarrow import parquet

    folder, found = made
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == FILES
    rows = parquet.read_table(folder / "records.parquet").to_pylist()
    kept = {r.trial.digest: r for r in read(folder / "records")}
    assert len(rows) == len(kept) == 13 == len((folder / "timing.jsonl").read_text().splitlines())
    assert all(row["test"] == kept[row["digest"]].test for row in rows)
    assert {row["tuning_queries"] for row in rows if row["method"] == "local"} == {9.0}
    assert all(row["cost"] == sum(map(int, row["network"])) and row["cost_of"] == "size" for row in rows)
    assert all((row["hypervolume"] is None) == (row["method"] == "random-network") for row in rows)
    summary = json.loads((folder / "bench.json").read_text())
    assert summary["versions"]["python"] and summary["asked"]["queries"] == 25
    assert [m["test"] for m in summary["tasks"][0]["methods"]] == [m["test"] for m in found["tasks"][0]["methods"]]
    page = Path(found["report"]).read_text("utf-8")
    assert page.count('class="curve') >= 3 and "weaknas(batch=3" in page and "Cost, size" in page
    words = "\n".join(in_words(summary))
    assert re.search(r"standard errors, within 3\n", words) and re.search(r"local: .*, cost [\d.]+ size\n", words)


def values(folder: Path) -> dict[str, Any]:
    """Everything that the comparison found, without commits and versions."""
    summary = json.loads((folder / "bench.json").read_text())
    records = {p.name: re.sub(r'"commit": [^,]*, ', "", p.read_text()) for p in (folder / "records").iterdir()}
    return {"records": records, "tasks": summary["tasks"], "tests": summary["tests"], "asked": summary["asked"]}


def test_the_command_on_the_page_makes_the_same_comparison(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    import shlex

    folder, _ = made
    program, *again = shlex.split(values(folder)["asked"]["command"])
    assert program == "singlepath" and again[-2:] == ["--out", "AGAIN"]
    printed(*again[:-1], tmp_path / "again", *HERE)
    assert values(tmp_path / "again") == values(folder), "in this process as in two others"


def test_a_stopped_one_goes_on_to_the_same_end_with_other_workers(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole = values(made[0])
    options = ["--methods", "local, weaknas(batch=3, predictor='ridge')", "--tuning-queries", "local=9"]
    printed(*TOY, *options, *HERE, "--out", tmp_path / "run")
    kept = sorted((tmp_path / "run" / "records").iterdir())
    for path in [*kept[::2], tmp_path / "run" / "bench.json", tmp_path / "run" / "report.html"]:
        path.unlink()
    stamp = {p: p.stat().st_mtime_ns for p in kept[1::2]}
    found = printed("bench", "--resume", tmp_path / "run", *HERE)
    assert found["trials"] == 13 and values(tmp_path / "run") == whole
    assert {p: p.stat().st_mtime_ns for p in kept[1::2]} == stamp, "what had ended did not run again"
    assert bench(resume=tmp_path / "run", workers=0)["trials"] == 13, "from Python the folder's options stand too"
    code, _, err = run("bench", "--resume", tmp_path / "run", "--queries", 30, *HERE)
    assert code == 2 and "queries is 30" in err and "made with 25" in err
    (tmp_path / "run" / "report.html").unlink()
    code, _, _ = run("report", tmp_path / "run")
    assert code == 0 and "Benchmark: toy" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_from_python(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    found = bench(
        methods="evolution", task="flat,toy", seeds=2, queries=10, networks=2, workers=0, out=tmp_path / "run"
    )  # fmt: skip
    assert [t["task"] for t in found["tasks"]] == ["flat", "toy"]
    assert all([m["method"] for m in t["methods"]] == ["random", "evolution"] for t in found["tasks"])


def test_an_ablation(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    found = printed(*TOY, *HERE, "--ablate", "weaknas(batch=5)", "--factors", "distinct", "--out", tmp_path / "run")
    names = [m["method"] for m in found["tasks"][0]["methods"]]
    assert names == ["random", "weaknas(batch=5)", "weaknas(batch=5, distinct=False)"]
    pairs = {(t["first"], t["second"]) for t in found["tests"] if t["second"] != "random networks"}
    assert pairs == {("random", names[1]), (names[2], names[1])}
    assert printed("bench", "--resume", tmp_path / "run", *HERE)["tests"] == found["tests"]
    config = ["--config", tmp_path / "run" / "config.yaml", *HERE]
    assert printed("bench", *config, "--out", tmp_path / "again")["tests"] == found["tests"]


WRONG: dict[str, tuple[list[object], list[str]]] = {
    "method": (["--methods", "random,weaknass"], ["unknown method 'weaknass'", "type --methods weaknas"]),
    "setting": (["--methods", "weaknas(bach=2)"], ["'bach'", "did you mean 'batch'?"]),
    "no method": (["--methods", " ,"], ["no methods", "type --methods random,"]),
    "twice": (["--methods", "local,local"], ["every method once"]),
    "task": (["--task", "nasbench201/cifar"], ["task 'nasbench201/cifar'", "macro", "type --task nasbench201/"]),
    "no task": (["--task", ""], ["unknown task ''"]),
    "engine": (["--engine", "rai"], ["unknown engine 'rai'", "type --engine ray"]),
    "address": (["--address", "a:1"], ["--address a:1 with --engine local", "type --engine ray"]),
    "seeds": (["--seeds", 0], ["--seeds 0", "1 to 100000", "type --seeds 1"]),
    "too many seeds": (["--seeds", 10**9], ["--seeds 1000000000", "1 to 100000", "type --seeds 100000"]),
    "too many queries": (["--queries", 99999999999999999999999], ["1 to 1000000", "type --queries 1000000"]),
    "networks without end": (["--networks", 10**12], ["2 to 1000000", "type --networks 1000000"]),
    "seed": (["--seed", 2**63], ["allowed: 0 to", f"type --seed {2**62}"]),
    "too many networks": (["--networks", 5000], ["toy has 4096", "type --networks 4096"]),
    "share": (["--methods", "weaknas(explore=-1)"], ["explore=-1", "a share, 0 to 1", "type explore=0.0"]),
    "count": (["--methods", "evolution(tournament=0)"], ["tournament=0", "1 or more", "type tournament=6"]),
    "scale": (["--methods", "weaknas(scale=3)"], ["scale=3", "(mean, deviation)"]),
    "said twice": (["--methods", "weaknas(batch=1,batch=2)"], ["name or name(option=value, ...)"]),
    "two brackets": (["--methods", "weaknas(batch=1)(batch=2)"], ["name or name(option=value, ...)"]),
    "encoding": (["--methods", "random,weaknas(encoding='zzz')"], ["encoding 'zzz'", "one-hot, pairs"]),
    "endless": (["--tuning-queries", "inf"], ["--tuning-queries 'inf'"]),
    "tuned twice": (["--tuning-queries", "local=5,local=6"], ["a number, or numbers by method"]),
    "a share of nothing": (["--engine", "ray", "--cpus", "nan"], ["--cpus nan", "from 0", "type --cpus 1"]),
    "no such machine": (["--engine", "ray", "--cpus", 8, "--workers", 2], ["wait forever", "type --workers 8"]),
    "queries": (["--queries", 0], ["--queries 0", "1 to"]),
    "networks": (["--networks", 1], ["--networks 1", "2 to"]),
    "workers": (["--workers", -1], ["--workers -1", "0 or more"]),
    "no data": (["--task", "macro"], ["task macro without --data", "type --data FOLDER"]),
    "data": (["--task", "macro", "--data", "no/folder"], ["there is no folder", "no/folder", "correct --data"]),
    "table": (["--task", "macro", "--data", "."], ["nas-bench-macro_cifar10.json does not exist", "xiusu/NAS"]),
    "tuning": (["--tuning-queries", "many"], ["--tuning-queries 'many'", "a number, or numbers by method"]),
    "tuned": (["--tuning-queries", "brp-nas=9"], ["tuning queries of 'brp-nas'", "random, evolution, local, weaknas"]),
    "ablate": (["--ablate", "random"], ["random has no settings", "type --ablate weaknas"]),
    "ablate two": (["--ablate", "weaknas", "--methods", "local"], ["--methods with --ablate", "leave --methods out"]),
    "factors": (["--factors", "batch"], ["--factors without --ablate"]),
    "factor": (["--ablate", "weaknas", "--factors", "bach"], ["unknown setting of weaknas 'bach'", "batch"]),
    "resume": (["--resume", "no/run"], ["no/run"]),
}  # fmt: skip


def test_a_resumed_bench_stays_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a resumed run stays where it is; leave --out out"):
        bench(out=tmp_path / "a", resume=tmp_path / "b")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, says = WRONG[case]
    code, out, err = run("bench", "--out", tmp_path / "run", *arguments)
    lines = [line for line in err.splitlines() if line]
    assert code == 2 and out == "" and len(lines) == 1 and lines[0].startswith("singlepath: "), (code, out, err)
    assert all(part in err for part in says), err
    assert not list(tmp_path.iterdir())


def test_a_file_where_records_belong_is_said_in_one_line(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (folder := tmp_path / "run").mkdir()
    (folder / "config.yaml").write_text((made[0] / "config.yaml").read_text())
    (folder / "records").write_text("")
    code, _, err = run("bench", "--resume", folder, *HERE)
    assert code == 2 and len(err.splitlines()) == 1, err
    assert f"{folder / 'records'} is not a folder; records of trials belong there; move it away" in err


def test_a_folder_that_exists_is_not_touched(made: tuple[Path, dict[str, Any]]) -> None:
    code, _, err = run(*TOY, *HERE, "--out", made[0])
    assert code == 2 and "exists and is not empty; type --resume" in err.replace("; allowed: a new folder", "")


@pytest.mark.parametrize("text", ["task: toy", "options: {}", "options: {}\nversions: {}"])
def test_a_damaged_configuration_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    code, _, err = run("bench", "--resume", tmp_path)
    assert code == 2 and "config.yaml is damaged; needed: hardware, options, versions" in err
    assert len(err.splitlines()) == 1


def test_random_search_is_stated_where_tuning_took_more_than_the_table_has(tmp_path: Path) -> None:
    tuned = ["--methods", "random,evolution", "--tuning-queries", "evolution=50000"]
    found = printed(*TOY, *tuned, *HERE, "--out", tmp_path / "run")
    (row,) = (m for m in found["tasks"][0]["methods"] if m["method"] == "evolution")
    assert row["random_at_equal_cost"]["queries"] == 4096


def test_commas_inside_brackets_and_quotes_do_not_part() -> None:
    assert split_texts("a, b(x=1, y='(,'),c(t=(1, 2)) ,") == ["a", "b(x=1, y='(,')", "c(t=(1, 2))"]
