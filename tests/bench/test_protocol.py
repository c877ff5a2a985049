"""The protocol: who is compared, at which cost, what of a stopped comparison is kept, and what may be said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singlepath.bench import stats
from singlepath.bench.ablation import ablation
from singlepath.bench.engines import Chunk, Done, Engine, make_engine
from singlepath.bench.protocol import (
    RANDOM_NETWORK,
    Comparison,
    Job,
    contender,
    contenders_of,
    fill,
    name_of,
    trials_of,
)
from singlepath.bench.ranks import seed_matrix, seed_ranks
from singlepath.bench.records import Entry, Point, Record, Trial, read
from singlepath.bench.summary import summarise
from singlepath.bench.tabular import RUN, facts_of, opened, protocol_of
from singlepath.bench.tasks import load_task
from singlepath.errors import UserError
from singlepath.report.bench_page import render_bench
from singlepath.search.query_methods import make_method
from singlepath.search.weaknas import WeakNas

HERE: dict[str, Any] = {"data": "", "cost": ""}
INSIDE = make_engine("local", workers=0)


def comparison(methods: Sequence[str] = ("random",), task: str = "toy", **options: Any) -> Comparison:
    tuning = options.pop("tuning", 0)
    return Comparison((task,), contenders_of(methods, tuning), **{"queries": 30, "seeds": 3, "networks": 3, **options})


def jobs_of(compared: Comparison) -> list[Job]:
    return [Job(RUN, HERE, trials_of(compared, task, protocol_of(opened(task, "", ""), ""))) for task in compared.tasks]


def filled(folder: Path, compared: Comparison, engine: Engine = INSIDE, **options: Any) -> list[Record]:
    return fill(folder, jobs_of(compared), engine, **options)


def judged(found: list[Record], **options: Any) -> dict[str, Any]:
    spent = {r.queries + r.spent("queries", "tuning") for r in found if r.queries}
    tasks = {r.trial.task for r in found}
    return summarise(found, {t: facts_of(opened(t, "", ""), "", sorted(spent)) for t in tasks}, **options)


# -- who is compared --------------------------------------------------------------------------------------------------


def test_random_search_is_always_among_the_methods_and_random_networks_beside_them() -> None:
    compared = comparison(["weaknas", "local"], seeds=4, seed=7, networks=5)
    assert [c.name for c in compared.contenders] == ["random", "weaknas", "local"]
    trials = jobs_of(compared)[0].trials
    assert [t.method for t in trials] == ["random"] * 4 + ["weaknas"] * 4 + ["local"] * 4 + [RANDOM_NETWORK] * 5
    assert [t.search_seed for t in trials] == [7, 8, 9, 10] * 3 + [7, 8, 9, 10, 11]
    assert len({t.digest for t in trials}) == 17 and all(t.budget == {"queries": 30} for t in trials)
    assert all(t.training_seed is None for t in trials), "nothing is trained on a table"


def test_a_row_does_not_depend_on_what_else_is_compared() -> None:
    """Six seeds, or three and three more, or two trainings of each: the same searches, from the same seeds."""

    def pairs(**given: Any) -> list[tuple[int, int | None]]:
        compared = Comparison(("digits",), contenders_of(["random"]), queries=10, networks=2, **given)
        return [(t.search_seed, t.training_seed) for t in trials_of(compared, "digits", {}) if t.method == "random"]

    six = pairs(seeds=6, trainings=1)
    assert pairs(seeds=3, trainings=1) + pairs(seed=3, seeds=3, trainings=1) == six
    assert set(six) < set(pairs(seeds=6, trainings=2)) and len(set(pairs(seeds=6, trainings=2))) == 12


def test_a_contender_is_called_by_the_settings_that_are_not_its_defaults() -> None:
    default = WeakNas().batch
    assert contender(f"weaknas(batch={default})").name == "weaknas"
    made = contender("weaknas(predictor='ridge', explore=1, batch=11)")
    assert made.name == "weaknas(batch=11, explore=1, predictor='ridge')"
    assert made.settings == asdict(WeakNas(predictor="ridge", explore=1, batch=11)), "all of them are kept"
    trial = Trial("toy", made.method, 0, None, made.settings, {}, {"queries": 3})
    assert name_of(trial) == made.name and make_method(made.name) == WeakNas(predictor="ridge", explore=1, batch=11)


@pytest.mark.parametrize(
    ("texts", "tuning", "says"),
    [
        (["weakness"], 0, "unknown method 'weakness'"),
        (["weaknas(bach=2)"], 0, "'bach'"),
        (["weaknas", "weaknas"], 0, "every method once"),
        (["weaknas"], {"local": 3}, "tuning queries of 'local'"),
    ],
)
def test_wrong_contenders(texts: list[str], tuning: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        contenders_of(texts, tuning)


def test_random_networks_are_distinct_and_the_same_ones_however_many(tmp_path: Path) -> None:
    few, many = (filled(tmp_path / str(n), comparison(seeds=1, networks=n)) for n in (5, 40))
    few, many = ([r.network for r in found if r.trial.method == RANDOM_NETWORK] for found in (few, many))
    assert many[:5] == few and len(set(many)) == 40


# -- cost -------------------------------------------------------------------------------------------------------------


def test_one_run_of_each_says_nothing_of_a_difference(tmp_path: Path) -> None:
    summary = judged(filled(tmp_path, comparison(["random", "local"], seeds=1)))
    assert summary["tests"] and all(row["different"] is None for row in summary["tests"] if row["of"] == "accuracy")
    assert "not different from it" not in render_bench(summary)


def test_tuning_is_counted(tmp_path: Path) -> None:
    found = filled(tmp_path, comparison(["random", "local", "evolution"], tuning={"evolution": 70}))
    summary = judged(found)
    ledgers = {m["method"]: m["ledger"] for m in summary["tasks"][0]["methods"]}
    assert ledgers["evolution"] == {"search": 30, "tuning": 70, "total": 100}
    assert ledgers["local"] == ledgers["random"] == {"search": 30, "tuning": 0, "total": 30}
    table = load_task("toy", "")
    for row in summary["tasks"][0]["methods"]:
        n = 100 if row["method"] == "evolution" else 30
        expected = stats.expected_best_without_replacement(table.validation, n, reads=table.test())
        assert row["random_at_equal_cost"]["mean"] == pytest.approx(expected)
    scaled = "weaknas(scale=(90, 5))"
    (mine,) = (c for c in contenders_of(["random", scaled], {scaled.replace("(90, 5)", "[90, 5]"): 9}) if c.tuning)
    tried = filled(tmp_path / "scaled", comparison(["random", scaled], tuning={mine.name: 9}))
    assert {name_of(r.trial) for r in tried if r.trial.method == "weaknas"} == {mine.name}
    assert all(r.spent("queries", "tuning") == 9 for r in tried if r.trial.method == "weaknas"), "one name for both"
    assert {c.name: c.tuning for c in contenders_of(["random", "weaknas", "local"], 9)} == {
        "random": 0, "weaknas": 9, "local": 9,
    }, "random search has nothing to tune"  # fmt: skip


def test_no_search_exceeds_its_queries_and_the_curve_is_what_was_found_when(tmp_path: Path) -> None:
    table = load_task("toy", "")
    tests = dict(zip((tuple(c) for c in table.pool.codes.tolist()), table.test(), strict=True))
    for record in filled(tmp_path, comparison(["random", "evolution", "weaknas"], queries=25)):
        if record.trial.method == RANDOM_NETWORK:
            assert record.queries == 0 and record.spent("queries") == 0
            continue
        assert record.queries == 25
        values = [p.validation for p in record.curve]
        assert values == sorted(set(values)) and record.curve[0].queries == 1
        last = record.curve[-1]
        assert (last.network, last.validation, last.test) == (record.network, record.validation, record.test)
        assert all(p.test == tests[tuple(int(d) for d in p.network)] for p in record.curve)


# -- a comparison that is stopped -------------------------------------------------------------------------------------


def counted(ran: list[str], most: int = 10**6) -> Engine:
    """Runs trials here, notes them, and is interrupted after so many."""

    def engine(chunks: Sequence[Chunk]) -> Iterator[Done]:
        for done in INSIDE(chunks):
            if len(ran) == most:
                raise KeyboardInterrupt
            ran.append(done.record.trial.digest)
            yield done

    return engine


def test_a_stopped_comparison_goes_on_to_what_an_unbroken_one_gives(tmp_path: Path) -> None:
    compared = comparison(["random", "weaknas"], seeds=4)
    whole = filled(tmp_path / "whole", compared)
    first: list[str] = []
    second: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path / "broken", compared, counted(first, most=5))
    assert len(read(tmp_path / "broken")) == 5
    again = filled(tmp_path / "broken", compared, counted(second))
    assert len(second) == 6 and not set(first) & set(second), "what had ended does not run again"
    assert again == [replace(r, commit=a.commit) for r, a in zip(whole, again, strict=True)]
    third: list[str] = []
    assert filled(tmp_path / "broken", compared, counted(third)) == again and not third


def test_results_do_not_depend_on_how_trials_are_grouped(tmp_path: Path) -> None:
    compared = comparison(["weaknas", "local"], seeds=5)
    one, many = (filled(tmp_path / str(n), compared, workers=n) for n in (1, 5))
    assert one == [replace(r, commit=o.commit) for r, o in zip(many, one, strict=True)]


def test_recipes_that_differ_are_refused(tmp_path: Path) -> None:
    short, long = (filled(tmp_path / str(n), comparison(queries=n, seeds=2, networks=2)) for n in (20, 30))
    with pytest.raises(UserError, match=r"the recipes of toy differ: budget.queries is (20 .* and 30|30 .* and 20)"):
        judged([*short, *(r for r in long if r.trial.method == "random")])
    tuned = filled(tmp_path / "tuned", comparison(["random", "local"], queries=20, tuning=5))
    with pytest.raises(UserError, match=r"protocol\.tuning"):
        judged([*short, *(r for r in tuned if r.trial.method == "local")])


# -- what is said -----------------------------------------------------------------------------------------------------


def test_random_search_equals_its_exact_expectation(tmp_path: Path) -> None:
    found = filled(tmp_path, comparison(seeds=150, queries=40, networks=60))
    task = judged(found)["tasks"][0]
    near, table = task["random_search"], load_task("toy", "")
    expected = stats.expected_best_without_replacement(table.validation, 40, reads=table.test())
    assert near["expected"] == pytest.approx(expected) and near["holds"] and abs(near["standard_errors"]) < 3
    tests = np.array([r.test for r in found if r.trial.method == "random"])
    assert near["standard_error"] == pytest.approx(tests.std(ddof=1) / 150**0.5, rel=0.2), "as the searches spread"
    networks = task["random_networks"]
    assert abs(networks["mean"] - table.test().mean()) < 4 * table.test().std() / 60**0.5


def test_fewer_queries_are_better() -> None:
    table = facts_of(opened("toy", "", ""), "", [50])
    best = table["optimum"]["validation"]
    quick = [made("local", i, [(1, 80.0), (5 + i, best)]) for i in range(4)]
    slow = [made("random", i, [(1, 80.0), (40 + i, best)]) for i in range(4)]
    (row,) = (t for t in summarise([*slow, *quick], {"toy": table})["tests"] if t["of"] == "queries")
    assert row["different"] and row["sentence"].startswith("local is better than random (-35.00 queries")


def test_methods_that_never_reached_the_optimum_are_not_compared_in_it() -> None:
    table = facts_of(opened("toy", "", ""), "", [50])
    best = table["optimum"]["validation"]
    never = [made(name, i, [(1, 80.0 + i)]) for name in ("random", "local") for i in range(3)]
    once = [made("evolution", i, [(1, 80.0), (9 + i, best)]) for i in range(3)]
    rows = [t for t in summarise([*never, *once], {"toy": table})["tests"] if t["of"] == "queries"]
    said = {(row["first"], row["second"]): row["sentence"] for row in rows}
    assert said["local", "random"] == "local and random cannot be compared: neither reached it"
    assert said["evolution", "random"].startswith("evolution is better than random")
    assert len(rows) == 3 and [r["holm"] for r in rows] == pytest.approx(list(stats.holm([r["p"] for r in rows])))


def test_not_different_is_said_where_that_is_so(tmp_path: Path) -> None:
    flat = judged(filled(tmp_path / "flat", comparison(["random", "evolution", "weaknas"], task="flat", seeds=12)))
    pairs = [row for row in flat["tests"] if row["of"] == "accuracy" and row["second"] != "random networks"]
    assert len(pairs) == 3 and not any(row["different"] for row in pairs)
    assert all(" is not different from " in row["sentence"] for row in pairs)
    toy = judged(filled(tmp_path / "toy", comparison(["random", "weaknas"], seeds=12, queries=60)))
    weaknas = next(m for m in toy["tasks"][0]["methods"] if m["method"] == "weaknas")
    assert " is better than random networks" in weaknas["verdict"] and weaknas["ri"]["low"] > 0
    better = next(row for row in toy["tests"] if (row["first"], row["second"]) == ("weaknas", "random"))
    assert better["different"] and better["sentence"].startswith("weaknas is better than random (+")


def test_holms_correction_counts_the_tests_of_all_tasks(tmp_path: Path) -> None:
    both = replace(comparison(["random", "local"], seeds=6, networks=6), tasks=("toy", "flat"))
    rows = judged(filled(tmp_path, both))["tests"]
    for of, count in (("accuracy", 6), ("queries", 2)):
        own = [row for row in rows if row["of"] == of]
        assert len(own) == count and {row["task"] for row in own} == {"toy", "flat"}
        assert [row["holm"] for row in own] == pytest.approx(list(stats.holm([row["p"] for row in own])))


def made(
    method: str, seed: int, found: list[tuple[float, float]], *, training: int | None = None, **protocol: Any
) -> Record:
    """A record whose search found these (queries, validation) on toy; test is validation minus 1."""
    trial = Trial("toy", method, seed, training, {}, protocol, {"queries": 50})
    curve = tuple(Point(q, "0", v, v - 1) for q, v in found)
    return Record(trial, "0", found[-1][1], found[-1][1] - 1, (Entry("search", "queries", 50),), curve, {}, None)


def test_queries_to_the_optimum_and_how_many_did_not_get_there() -> None:
    table = facts_of(opened("toy", "", ""), "", [50])
    best = table["optimum"]["validation"]
    records = [
        made("random", 0, [(1, 80.0), (20, best)]),
        made("random", 1, [(1, best)]),
        made("random", 2, [(1, 80.0)]),
    ]
    row = summarise(records, {"toy": table})["tasks"][0]["methods"][0]
    found = row["to_optimum"]
    assert (found["mean"], found["median"]) == (pytest.approx((20 + 1 + 50) / 3), 20)
    assert (found["reached"], found["at_cap"], found["cap"]) == (2, 1, 50)
    assert row["regret"] == pytest.approx((best - 80) / 3)
    curve = dict(zip(row["curve"]["queries"], row["curve"]["regret"], strict=True))
    assert curve[1] == pytest.approx(2 * (best - 80) / 3) and curve[50] == pytest.approx((best - 80) / 3)


def test_several_trainings_of_one_search_are_one_run() -> None:
    records = [made("random", s, [(1, 80.0 + 2 * s + t)], training=t) for s in range(2) for t in range(3)]
    row = summarise(records, {})["tasks"][0]["methods"][0]
    assert row["runs"] == 2 and row["test"] == pytest.approx(81.0) and row["test_sd"] == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("task", "test"),
    [("nasbench201/cifar10", 94.37), ("nasbench201/cifar100", 73.51), ("nasbench201/imagenet16", 46.20)],
)
def test_what_the_published_table_says_of_itself(shared_data: Path, task: str, test: float) -> None:
    pytest.importorskip("pyarrow")
    facts = facts_of(opened(task, str(shared_data), ""), str(shared_data), [300])
    assert facts["optimum"]["sentence"] == f"the optimum by validation has test accuracy {test:.2f}"
    assert facts["optimum"]["random_queries"] == 7813 and facts["networks"] == 15_625
    assert facts["random_search"][0]["mean"] < facts["optimum"]["test"] + 1 and facts["seed_ranks"] is None


# -- ablation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["weaknas", "evolution", "brp-nas", "nsga2", "local"])
def test_an_ablation_changes_one_setting_at_a_time(method: str) -> None:
    pool = opened("toy", "", "").pool
    base, *others = (contender(text) for text in ablation(method, pool))
    changed: dict[str, int] = {}
    for other in others:
        keys = [k for k in base.settings if other.settings[k] != base.settings[k]]
        assert len(keys) == 1, other.name
        changed[keys[0]] = changed.get(keys[0], 0) + 1
    names = [c.name for c in (base, *others)]
    assert len(set(names)) == len(names)
    left_out = {"encoding", "scale"}  # toy has one encoding; a scale needs statistics of the whole table
    assert set(changed) >= set(base.settings) - left_out


def test_an_ablation_keeps_what_was_given_and_takes_only_the_factors_asked_for() -> None:
    pool = opened("toy", "", "").pool
    base, *others = (contender(text) for text in ablation("weaknas(batch=7)", pool, ["predictor", "distinct"]))
    assert base.settings["batch"] == 7 and all(c.settings["batch"] == 7 for c in others)
    assert {c.settings["predictor"] for c in others} > {"ridge", "forest"} and any(
        not c.settings["distinct"] for c in others
    )
    with pytest.raises(UserError, match="unknown setting of weaknas 'bach'"):
        ablation("weaknas", pool, ["bach"])
    with pytest.raises(UserError, match="random has no settings"):
        ablation("random", pool)


def test_in_an_ablation_everything_is_tested_against_the_whole_method(tmp_path: Path) -> None:
    texts = ablation("local", opened("toy", "", "").pool)
    rows = judged(filled(tmp_path, comparison(texts)), against="local")["tests"]
    pairs = {(row["first"], row["second"]) for row in rows if row["second"] != "random networks"}
    assert pairs == {("random", "local"), ("local(eager=False)", "local")}


# -- training seeds ---------------------------------------------------------------------------------------------------


def test_what_training_seeds_do_to_a_ranking() -> None:
    order = np.arange(20.0)
    same = seed_ranks(np.stack([order, order + 5], axis=1))
    assert (same.networks, same.seeds, same.tau, same.tau_top, same.best_place) == (20, 2, 1, 1, 1)
    assert same.difference == same.most == 5
    turned = seed_ranks(np.stack([order, -order], axis=1))
    assert (turned.tau, turned.best_place) == (-1, 20)
    third = seed_ranks(np.stack([order, order, -order], axis=1))
    assert third.tau == pytest.approx((1 - 1 - 1) / 3), "the mean over pairs of seeds"
    with pytest.raises(ValueError, match="two seeds"):
        seed_ranks(order[:, None])


def trained(network: str, training: int, test: float) -> Record:
    return replace(made("random", 0, [(1, 80.0)], training=training), network=network, test=test)


def test_records_of_several_trainings_become_rankings() -> None:
    found = [trained(name, seed, 10.0 * i + seed) for i, name in enumerate("abc") for seed in (0, 1)]
    names, table = seed_matrix([*found[::-1], trained("d", 0, 1.0)])
    assert names == ["a", "b", "c"] and table.tolist() == [[0, 1], [10, 11], [20, 21]], "d was trained once"


def test_a_table_with_several_runs_shows_them(shared_data: Path) -> None:
    ranks = facts_of(opened("macro", str(shared_data), ""), str(shared_data), [10])["seed_ranks"]
    assert (ranks["networks"], ranks["seeds"]) == (3969, 3)
    assert ranks["tau_top"] < ranks["tau"] < 1 and ranks["best_place"] > 1
