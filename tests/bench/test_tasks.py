"""Tables as tasks: what is searched, what is judged, what a trial charges."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from singlepath.bench.tables import nas_bench_macro
from singlepath.bench.tasks import BudgetSpent, load_task, one_blas_thread, search_task
from singlepath.errors import UserError
from singlepath.search.query_methods import make_method
from singlepath.spaces import make

NOWHERE = Path("no data needed")


def test_macro_is_searched_by_one_run_and_judged_by_the_others(shared_data: Path) -> None:
    task, space = load_task("macro", shared_data), make("macro")
    rows = nas_bench_macro.load(shared_data, space)
    assert len(task.pool) == len(rows) == 3969
    for i, (architecture, row) in enumerate(list(rows.items())[::97]):
        index = 97 * i
        assert task.pool.codes[index].tolist() == list(space.indices(architecture))
        assert task.validation[index] == row.accuracies[0]
        assert task.test()[index] == pytest.approx((row.accuracies[1] + row.accuracies[2]) / 2)
        assert (task.pool.costs[index], task.pool.measures["parameters"][index]) == (row.mmacs, row.parameters)
    assert np.array_equal(load_task("macro", shared_data, "parameters").pool.costs, task.pool.measures["parameters"])
    with pytest.raises(UserError, match="mmacs, parameters"):
        load_task("macro", shared_data, "mmac")


def test_macro_s_neighbours_are_networks_not_names(shared_data: Path) -> None:
    """22212220 and its neighbours: identities stand at the end of a stage, wherever the change put them."""
    pool, space = load_task("macro", shared_data).pool, make("macro")
    index = int(pool.find(np.array([space.indices(space.parse("22212220"))]))[0])
    found = {tuple(pool.codes[i].tolist()) for i in pool.neighbours(index, np.random.default_rng(0))}
    wanted = {space.indices(space.canonical(a)) for a in space.neighbours(space.parse("22212220"))}
    assert found == wanted - {tuple(pool.codes[index].tolist())}


ROW = {"test_acc": [90.0, 91.0, 92.0], "flops": 1e7, "params": 3}


@pytest.mark.parametrize(
    "text",
    [
        "{", "\udcff", "[]", "{}", '{"00000000": 3}', json.dumps({"0000000z": ROW}), json.dumps({"0": ROW}),
        json.dumps({"00000000": {"flops": 1}}), json.dumps({"00000000": ROW | {"test_acc": [90.0]}}),
        json.dumps({"00000000": ROW | {"test_acc": ["a", 1, 2]}}), json.dumps({"00000000": ROW | {"params": None}}),
    ],
)  # fmt: skip
def test_a_damaged_macro_table_is_named_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"json does not exist; .*; fetch it from github\.com/xiusu/NAS-Bench-Macro"):
        load_task("macro", tmp_path)
    path = tmp_path / nas_bench_macro.FILE
    path.parent.mkdir()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="is not the published table") as caught:
        load_task("macro", tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_text(json.dumps({"00000000": ROW}))
    assert load_task("macro", tmp_path).validation.tolist() == [90.0]


def test_a_trial_charges_what_is_new_and_a_resumed_one_what_was_spent() -> None:
    task = load_task("toy", NOWHERE)
    trial = task.trial(3, asked=[7, 7])
    assert (trial.left, trial.ask(7), trial.left) == (2, task.validation[7], 2)
    assert [trial.ask(1), trial.ask(2), trial.left] == [task.validation[1], task.validation[2], 0]
    assert trial.ask(1) == task.validation[1], "what is known stays known"
    with pytest.raises(BudgetSpent, match="3 queries"):
        trial.ask(3)
    with pytest.raises(ValueError, match="not asked"):
        trial.finish(3)
    assert trial.finish(2) == trial.finish(1), "a trial ends once"
    assert trial.finish(2).network == 2


def test_the_answer_is_the_best_validated_network_and_its_own_test_value() -> None:
    task, luckier = load_task("toy", NOWHERE), 0
    for seed in range(40):
        outcome, state = search_task(make_method("random"), task, seed=seed, queries=200)
        best = max(state["asked"], key=lambda i: task.validation[i])
        assert outcome == (best, task.validation[best], task.test()[best], 200)
        luckier += bool(outcome.test < task.test()[state["asked"]].max())
    assert luckier > 0, "somewhere the best tested network is not the best validated one"


def test_made_up_tables_are_what_they_say() -> None:
    toy, flat = load_task("toy", NOWHERE), load_task("flat", NOWHERE)
    one_hot = toy.pool.encoding("pairs")
    for task, explained in ((toy, 0.99), (flat, 0.2)):
        y = task.validation - task.validation.mean()
        fitted = one_hot @ np.linalg.lstsq(one_hot, y, rcond=None)[0]
        assert (1 - ((y - fitted) ** 2).sum() / (y**2).sum() > 0.9) == (explained > 0.9)
        assert 0.05 < np.std(task.test() - task.validation) < 0.15
    assert np.corrcoef(toy.pool.costs, toy.validation)[0, 1] > 0.3


def test_one_blas_thread_is_undone() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    before = threads()
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == before
