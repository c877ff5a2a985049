"""Records of trials: kept whole, found again, and compared only where their recipes agree."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singlepath.bench import records, stats
from singlepath.bench.records import Cost, Entry, Point, Record, Trial
from singlepath.bench.rows import row, write_parquet
from singlepath.errors import UserError
from singlepath.search.incumbents import Incumbent

PROTOCOL = {"recipe": {"name": "base", "epochs": 10}, "labels": "average"}


def trial(**changed: Any) -> Trial:
    given = {
        "task": "nasbench201/cifar10", "method": "random", "search_seed": 0, "training_seed": None, "settings": {},
        "protocol": PROTOCOL, "budget": {"queries": 300},
    }  # fmt: skip
    return Trial(**(given | changed))


def record(of: Trial | None = None, **changed: Any) -> Record:
    curve = (Point(1, "|conv|", 0.5, 0.49), Point(4, "|skip|", 0.625, 0.75))
    ledger = (Entry("search", "queries", 300), Entry("tuning", "queries", 40), Entry("training", "passes", 1.5e6))
    given = {
        "trial": of or trial(), "network": "|skip|", "validation": 0.625, "test": 0.75, "ledger": ledger,
        "curve": curve, "versions": {"torch": "2.13.0"}, "commit": "0123abc+",
    }  # fmt: skip
    return Record(**(given | changed))


# -- the name of a trial ----------------------------------------------------------------------------------------------

CHANGES: dict[str, Any] = {
    "task": "nasbench201/cifar100", "method": "weaknas", "search_seed": 1, "training_seed": 0,
    "settings": {"per_round": 10}, "protocol": {**PROTOCOL, "labels": "single"}, "budget": {"queries": 301},
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_another_value_is_another_trial(field: str) -> None:
    assert trial(**{field: CHANGES[field]}).digest != trial().digest


def test_the_same_values_are_the_same_trial_however_they_are_written() -> None:
    settings = {"sizes": (8, np.int64(16)), "rate": np.float64(0.5), "cap": 3.0}
    other = {"cap": 3, "rate": 0.5, "sizes": [8, 16]}
    assert trial(settings=settings).digest == trial(settings=other).digest
    assert len(trial().digest) == 16


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("a"), object()])
def test_what_json_cannot_keep_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        trial(settings={"deep": [{"value": value}]})
    with pytest.raises(TypeError, match="cannot be kept"):
        records.write(Path("never"), record(validation=value))


def test_contenders_are_told_apart_by_their_settings() -> None:
    assert trial().contender == "random"
    assert trial(method="weaknas", settings={"predictor": "ridge", "pool": 100}).contender == (
        "weaknas(pool=100, predictor=ridge)"
    )


# -- files ------------------------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
trials = st.builds(
    Trial, task=st.text(), method=st.text(), search_seed=st.integers(0, 2**40),
    training_seed=st.none() | st.integers(0, 99), settings=st.dictionaries(st.text(), plain, max_size=3),
    protocol=st.dictionaries(st.text(), plain, max_size=3), budget=st.dictionaries(st.text(), finite, max_size=2),
)  # fmt: skip
spent = st.floats(0, allow_nan=False, allow_infinity=False)
entries = st.builds(Entry, st.sampled_from(["search", "tuning", "training"]), st.text(), spent)
points = st.builds(Point, finite, st.text(), finite, st.none() | finite)
curves = st.lists(points, min_size=1, max_size=3, unique_by=lambda p: p.queries).map(
    lambda found: tuple(sorted(found, key=lambda p: p.queries))
)
all_records = st.builds(
    Record, trial=trials, network=st.text(), validation=finite, test=st.none() | finite,
    ledger=st.lists(entries, max_size=3).map(tuple), curve=curves,
    versions=st.dictionaries(st.text(), st.text(), max_size=2), commit=st.none() | st.text(),
    cost=st.none() | st.builds(Cost, st.text(), st.text(), spent), hypervolume=st.none() | spent,
    incumbents=st.sampled_from([(), (Incumbent(1, 0.5, True),)]), scores=st.dictionaries(st.integers(0, 99), finite),
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(all_records)
def test_what_is_read_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, given_record: Record) -> None:
    folder = tmp_path_factory.mktemp("records")
    path = records.write(folder, given_record)
    assert path.name == f"{given_record.trial.digest}.jsonl"
    assert len(path.read_text(encoding="utf-8").split("\n")) == 2  # one line and its end
    assert records.read(folder) == [given_record]
    assert records.find(folder, given_record.trial) == given_record


def test_a_benchmark_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    planned = [trial(method=m, search_seed=s) for m in ("random", "evolution") for s in range(3)]
    for done in planned[:4]:
        records.write(tmp_path, record(done))
    assert [t for t in planned if records.find(tmp_path, t) is None] == planned[4:]
    for left in planned[4:]:
        records.write(tmp_path, record(left))
    records.write(tmp_path, record(planned[0]))  # a trial that ran twice is one row
    seen = [(r.trial.method, r.trial.search_seed) for r in records.read(tmp_path)]
    assert seen == [(m, s) for m in ("evolution", "random") for s in range(3)]


def test_an_interrupted_write_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = record()
    records.write(tmp_path, kept)
    with monkeypatch.context() as patched:

        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(os, "replace", stopped)
        for unlucky in (record(test=0.1), record(trial(search_seed=9))):
            with pytest.raises(KeyboardInterrupt):
                records.write(tmp_path, unlucky)
    assert records.read(tmp_path) == [kept]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert records.find(tmp_path / "nothing", trial()) is None
    with pytest.raises(UserError, match="is not a folder"):
        records.read(tmp_path / "nothing")


SPOILT: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "wrong type": (lambda d: d["curve"][0], "validation", "high"),
    "test is not a number": (lambda d: d, "test", float("nan")),
    "validation without end": (lambda d: d, "validation", float("inf")),
    "cost without end": (lambda d: d, "cost", {"of": "raspi4", "unit": "ms", "amount": float("inf")}),
    "a point is not a number": (lambda d: d["curve"][1], "test", float("nan")),
    "a network's score without end": (lambda d: d, "scores", {"3": float("inf")}),
    "a curve without validation": (lambda d: d, "validation", None),
    "no curve": (lambda d: d, "curve", []),
    "a curve backwards": (lambda d: d["curve"][0], "queries", 4),
    "a negative amount": (lambda d: d["ledger"][2], "amount", -1.0),
    "a score without end": (lambda d: d, "incumbents", [{"scored": 1, "cross_entropy": float("inf")}]),
    "scores backwards": (lambda d: d, "incumbents", [{"scored": n, "cross_entropy": 0.5} for n in (2, 4, 3, 5)]),
    "a score before the first": (lambda d: d, "incumbents", [{"scored": 0, "cross_entropy": 0.5}]),
    "a score after the last": (lambda d: d, "incumbents", [{"scored": 301, "cross_entropy": 0.5}]),
    "more than the budget": (lambda d: d["ledger"][0], "amount", 301),
}


def spoil(path: Path, how: str) -> Path:
    text = path.read_text()
    if how == "torn":
        path.write_text(text[: len(text) // 2])
    elif how == "another trial":
        return path.rename(path.with_name(f"{trial(search_seed=7).digest}.jsonl"))
    elif how == "edited":
        path.write_text(text.replace('"search_seed": 0', '"search_seed": 1'))
    elif how == "not text":
        path.write_bytes(b"\xff\xfe\x00")
    else:
        data = json.loads(text)
        of, key, value = SPOILT[how]
        of(data)[key] = value
        path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("how", ["torn", "another trial", "edited", "not text", *SPOILT])
def test_a_spoilt_file_is_named_in_one_line(how: str, tmp_path: Path) -> None:
    path = spoil(records.write(tmp_path, record()), how)
    with pytest.raises(UserError) as raised:
        records.read(tmp_path)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert f"delete {path.name}" in message


def test_a_record_from_before_costs_is_read(tmp_path: Path) -> None:
    best = (Incumbent(2, 0.75, True), Incumbent(9, 0.5))
    path = records.write(tmp_path, record(cost=Cost("raspi4", "ms", 2.5), hypervolume=80.0, incumbents=best))
    (kept,) = records.read(tmp_path)
    assert kept.cost == Cost("raspi4", "ms", 2.5) and kept.hypervolume == 80 and kept.incumbents == best
    older = json.loads(path.read_text())
    del older["cost"], older["hypervolume"], older["incumbents"], older["scores"]
    path.write_text(json.dumps(older))
    assert records.read(tmp_path) == [record()]
    assert row(record())["cost"] is None and row(kept)["cost"] == 2.5


def test_a_file_of_unreasonable_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records.write(tmp_path, record())
    monkeypatch.setattr(records, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="MiB"):
        records.find(tmp_path, trial())


def test_what_stands_where_records_belong_is_named(tmp_path: Path) -> None:
    (taken := tmp_path / "records").write_text("")
    (other := records.path_of(tmp_path, trial())).mkdir()
    for folder, place in ((taken, taken), (tmp_path, other)):
        for use in (lambda f: records.find(f, trial()), lambda f: records.write(f, record())):
            with pytest.raises(UserError, match=f"^{place} is not a f.*; move it away$"):
                use(folder)
    assert not list(tmp_path.glob(".*")), "nothing half written"


# -- rows -------------------------------------------------------------------------------------------------------------


def test_the_ledger_counts_tuning_apart() -> None:
    seen = record()
    assert seen.queries == 300
    assert seen.spent("queries") == 340
    assert seen.spent("passes", "training") == 1.5e6
    assert seen.spent("passes", "search") == 0


def test_rows_become_one_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    free = record(
        trial(method="weaknas", settings={"pool": 9}),
        ledger=(Entry("search", "queries", 3), Entry("search", "queries", 4)),
        test=None,
        curve=(),
        incumbents=(Incumbent(5, 0.25),),
        scores={3: 0.5, 12: 0.25},
    )
    path = write_parquet(tmp_path / "all.parquet", [record(trial(training_seed=3)), free])
    table = parquet.read_table(path)
    first, second = table.to_pylist()
    assert (first["method"], first["contender"], first["search_seed"], first["training_seed"]) == (
        "random",
        "random",
        0,
        3,
    )
    assert (first["search_queries"], first["tuning_queries"], first["training_passes"]) == (300, 40, 1.5e6)
    assert (first["network"], first["validation"], first["test"]) == ("|skip|", 0.625, 0.75)
    assert first["curve"] == [asdict(p) for p in record().curve] and first["incumbents"] == []
    assert (json.loads(first["scores"]), json.loads(second["scores"])) == ({}, {"3": 0.5, "12": 0.25})
    assert second["incumbents"] == [{"scored": 5, "cross_entropy": 0.25, "part": False}]
    assert json.loads(first["protocol"]) == PROTOCOL
    assert json.loads(first["budget"]) == {"queries": 300}
    assert (json.loads(first["versions"]), first["commit"]) == ({"torch": "2.13.0"}, "0123abc+")
    assert (second["search_queries"], second["tuning_queries"], second["test"], second["curve"]) == (7, 0, None, [])
    assert (second["contender"], second["training_seed"]) == ("weaknas(pool=9)", None)
    assert json.loads(second["settings"]) == {"pool": 9}
    assert {str(f.type) for f in table.schema if f.name.endswith(("_queries", "_passes"))} == {"double"}
    empty = write_parquet(tmp_path / "none.parquet", [])
    assert parquet.read_table(empty).num_rows == 0


def test_a_table_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="extra 'data'"):
        write_parquet(tmp_path / "all.parquet", [record()])


def test_a_record_draws_its_curve() -> None:
    grid = [1, 3, 4, 300]
    assert list(stats.best_so_far(records.trace(record()), grid)) == [0.5, 0.5, 0.625, 0.625]
    assert list(stats.best_so_far(records.trace(record(), test=True), grid)) == [0.49, 0.49, 0.75, 0.75]
    with pytest.raises(ValueError, match="without a test value"):
        records.trace(record(curve=(Point(1, "a", 0.5), Point(2, "b", 0.6, 0.5))), test=True)


# -- comparing --------------------------------------------------------------------------------------------------------


def test_rows_of_one_recipe_are_compared_by_task_and_contender() -> None:
    rows = [
        record(trial(method="weaknas", settings={"pool": 9}, search_seed=1)),
        record(trial(method="weaknas", settings={"pool": 5})),
        record(trial(search_seed=2)),
        record(trial(search_seed=1, training_seed=4)),
        record(trial(task="macro", protocol={"recipe": "another"})),  # another task may have another recipe
    ]
    found = records.compare(rows)
    assert {t: list(c) for t, c in found.items()} == {
        "macro": ["random"], "nasbench201/cifar10": ["random", "weaknas(pool=5)", "weaknas(pool=9)"],
    }  # fmt: skip
    assert [r.trial.search_seed for r in found["nasbench201/cifar10"]["random"]] == [1, 2]
    assert records.compare(reversed(rows)) == found


BASE = {"name": "base", "epochs": 10}
EPOCHS, LABELS = "protocol.recipe.epochs", "protocol.labels"
RECIPES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "nested": ({"protocol": PROTOCOL | {"recipe": BASE | {"epochs": 20}}}, (EPOCHS, "10", "20")),
    "absent": ({"protocol": {"recipe": BASE}}, (LABELS, '"average"', "absent")),
    "new": ({"protocol": PROTOCOL | {"tricks": {}}}, ("protocol.tricks", "absent", "{}")),
    "type": ({"protocol": PROTOCOL | {"recipe": BASE | {"epochs": "10"}}}, (EPOCHS, "10", '"10"')),
    "the word absent": ({"protocol": PROTOCOL | {"labels": "absent"}}, (LABELS, '"average"', '"absent"')),
    "budget": ({"budget": {"queries": 150}}, ("budget.queries", "300", "150")),
}


@pytest.mark.parametrize("case", RECIPES)
def test_rows_of_different_recipes_are_refused_by_name(case: str) -> None:
    changed, (field, one, other) = RECIPES[case]
    rows = [record(trial(search_seed=s)) for s in range(3)] + [
        record(trial(method="weaknas", search_seed=5, **changed))
    ]
    with pytest.raises(UserError) as raised:
        records.compare(rows)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert f"{field} is {one} for random, seed 0 and {other} for weaknas, seed 5;" in message


def test_every_differing_field_is_counted() -> None:
    other = trial(search_seed=1, protocol={"a": 1, "b": 2, "c": 3, "labels": "average"})
    with pytest.raises(UserError, match="and 2 fields more") as raised:
        records.compare([record(), record(other)])
    assert [k for k in ("protocol.a ", "protocol.c ", "protocol.recipe") if k in str(raised.value)] == [
        "protocol.a ", "protocol.c "
    ]  # fmt: skip


def test_a_trial_counts_once() -> None:
    with pytest.raises(UserError, match="twice"):
        records.compare([record(), record()])
    assert records.compare([]) == {}


def test_versions_and_outcomes_are_no_recipe() -> None:
    other = replace(record(trial(search_seed=1)), versions={"torch": "3"}, commit=None, test=None)
    assert len(records.compare([record(), other])["nasbench201/cifar10"]["random"]) == 2
