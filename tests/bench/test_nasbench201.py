"""NAS-Bench-201: which cells are one network, encodings, what is searched and judged, the published file."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from singlepath.bench.stats import expected_best_without_replacement
from singlepath.bench.tables import nasbench201
from singlepath.bench.tables.nasbench201 import EDGES, OPERATIONS, effective, function_of, path_counts
from singlepath.bench.tasks import load_task, search_task
from singlepath.errors import UserError
from singlepath.search.query_methods import make_method

CODES = np.array(list(itertools.product(range(5), repeat=6)))
PUBLISHED = {
    "cifar10": (6111, 91.6067, 94.3733),
    "cifar100": (9930, 73.4933, 73.5133),
    "imagenet16": (10676, 46.7333, 46.2),
}


def outputs(codes: np.ndarray) -> np.ndarray:
    """What cells make of an input [3], with operations that are none, the identity, and three curved maps, [K, 3]."""
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(3, 3)) for _ in range(3)]
    operations = [
        np.zeros_like,
        lambda x: x,
        *(lambda x, m=m: np.where(x.any(1, keepdims=True), np.cos(x @ m), 0) for m in maps),
    ]
    nodes = [np.tile(rng.normal(size=3), (len(codes), 1))]
    for node in (1, 2, 3):
        total = np.zeros((len(codes), 3))
        for edge, (source, target) in enumerate(EDGES):
            if target == node:
                results = np.stack([operation(nodes[source]) for operation in operations])
                total += results[codes[:, edge], np.arange(len(codes))]
        nodes.append(total)
    return nodes[3]


def test_equal_text_is_equal_function() -> None:
    """Cells have one text exactly where generic operations make the same of an input."""
    texts = np.unique([function_of(code) for code in CODES.tolist()], return_inverse=True)[1]
    made = np.unique(np.round(outputs(CODES), 9), axis=0, return_inverse=True)[1]
    assert texts.max() == made.max() == 4930 - 1
    assert len(np.unique(np.stack([texts, made]), axis=1).T) == 4930


def test_the_effective_code_computes_the_same_and_has_no_edge_to_spare() -> None:
    shorter = effective(CODES)
    assert np.allclose(outputs(shorter), outputs(CODES))
    assert ((shorter == CODES) | (shorter == 0)).all()
    assert [function_of(c) for c in shorter[::7].tolist()] == [function_of(c) for c in CODES[::7].tolist()]
    used = [(code, edge) for code in shorter[::211] for edge in np.flatnonzero(code)]
    without = np.array([np.where(np.arange(6) == edge, 0, code) for code, edge in used])
    assert (np.abs(outputs(without) - outputs(np.array([c for c, _ in used]))).max(1) > 1e-9).all()


def test_paths_count_the_ways_from_input_to_output() -> None:
    rows = path_counts(CODES)
    assert rows.shape == (15_625, 40)
    all_skips, one_conv = rows[(CODES == 1).all(1)][0], rows[(CODES == [1, 0, 0, 0, 3, 0]).all(1)][0]
    assert all_skips.tolist() == [4] + [0] * 39
    assert one_conv.tolist() == [0, 0, 1, *[0] * 37]
    alive = (effective(CODES) != 0).any(1)
    assert ((rows.sum(1) > 0) == alive).all()


def test_the_optimum_by_validation_has_the_published_test_accuracy(shared_data: Path) -> None:
    for dataset, (cell, validation, test) in PUBLISHED.items():
        task = load_task(f"nasbench201/{dataset}", shared_data)
        assert (task.best, task.validation[cell]) == (cell, pytest.approx(validation))
        assert task.test()[cell] == pytest.approx(test)
        assert len(task.pool.distinct) == 4930
        found, _ = search_task(make_method("weaknas"), task, seed=7, queries=300)
        assert found.validation - task.validation[cell] > -0.1


def test_a_network_is_stood_for_by_its_cheapest_cell(shared_data: Path) -> None:
    pool = load_task("nasbench201/cifar10", shared_data).pool
    for network in (0, 1000, 4929, int(np.argmax(np.bincount(pool.same)))):
        members = np.flatnonzero(pool.same == network)
        assert pool.distinct[network] in members
        assert pool.costs[pool.distinct[network]] == pool.costs[members].min()
        assert len({function_of(pool.codes[i]) for i in members}) == 1


def test_costs_are_macs_parameters_or_a_device_in_the_same_row_order(shared_data: Path) -> None:
    name = "nasbench201/cifar10"
    macs, latency = (load_task(name, shared_data, cost).pool.costs for cost in ("", "pixel3"))
    assert np.corrcoef(macs, latency)[0, 1] > 0.5
    assert np.array_equal(load_task(name, shared_data, "parameters").pool.costs % 1, np.zeros(15_625))
    with pytest.raises(UserError, match="pixel3"):
        load_task(name, shared_data, "pixel9")


def test_random_search_has_its_exact_expectation(shared_data: Path) -> None:
    task = load_task("nasbench201/cifar100", shared_data)
    tests = [search_task(make_method("random"), task, seed=seed, queries=100)[0].test for seed in range(200)]
    exact = expected_best_without_replacement(task.validation, 100, task.test())
    assert abs(np.mean(tests) - exact) < 3 * np.std(tests, ddof=1) / np.sqrt(200)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nasbench201\.parquet does not exist"):
        load_task("nasbench201/cifar10", tmp_path)


@pytest.mark.parametrize("how", ["empty", "text", "torn", "other names", "other operations", "no numbers"])
def test_a_damaged_table_is_named_in_one_line(how: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    ops = ["".join(map(str, code)) for code in CODES]
    columns: dict[str, list[Any]] = {"ops": ops, "flops_c10_M": [1.0] * len(ops), "params_c10": [1] * len(ops)}
    changes: dict[str, dict[str, list[Any]]] = {
        "other names": {"ops": ["0000x0", *ops[1:]]}, "other operations": {"ops": ["999999", *ops[1:]]},
        "no numbers": {"params_c10": ["many"] * len(ops)},
    }  # fmt: skip
    path = tmp_path / nasbench201.FILE
    path.parent.mkdir()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns | changes.get(how, {})), path)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no table", "torn": content[: len(content) // 2]}.get(how, content))
    with pytest.raises(UserError, match=r"nasbench201\.parquet .*; fetch it again$") as caught:
        load_task("nasbench201/cifar10", tmp_path)
    assert "\n" not in str(caught.value)


# -- the published file -----------------------------------------------------------------------------------------------


def published_run(dataset: str, seed: int, accuracies: dict[str, Any]) -> tuple[tuple[str, int], dict[str, Any]]:
    """A run as the authors' file holds it: every epoch of every split; only the last one counts."""
    every = {f"{split}@{epoch}": 1.0 for split in accuracies for epoch in range(200)}
    last = {f"{split}@199": value for split, value in accuracies.items()}
    run = {
        "name": "infer.tiny", "net_state_dict": None, "train_acc1es": {0: 10.0}, "arch_config": {"channel": 16},
        "params": 0.129306, "flop": 15.64737, "seed": seed, "epochs": 200, "latency": [0.01],
        "eval_names": list(accuracies), "eval_acc1es": every | last, "eval_losses": {}, "eval_times": {},
    }  # fmt: skip
    return (dataset, seed), run


def published_file(path: Path, **how: Any) -> Path:
    names = ["|".join(["", *(f"{OPERATIONS[o]}~{s}" for o, (s, t) in zip(code, EDGES, strict=True) if t == node), ""])
             for code in ((4, 2, 1, 2, 1, 1),) for node in (1, 2, 3)]  # fmt: skip
    runs = dict([
        published_run("cifar10-valid", 777, {"x-valid": 80.0, "ori-test": 81.0}),
        published_run("cifar10-valid", 888, {"x-valid": np.float64(84.0), "ori-test": 83.0}),
        published_run("cifar10", 777, {"ori-test": 86.0}),
        published_run("cifar100", 777, {"x-valid": 52.0, "x-test": 53.0, "ori-test": 50.0}),
        published_run("ImageNet16-120", 777, {"x-valid": 28.0, "x-test": 27.0, "ori-test": 20.0}),
    ])  # fmt: skip
    short = {"all_results": {}, "dataset_seed": {}}
    full = {"arch_index": 0, "arch_str": "+".join(names), "all_results": runs, "dataset_seed": {"cifar10": [777]}}
    content = {
        "meta_archs": ["+".join(names)],
        "arch2infos": {0: {"full": full, "less": short}},
        "evaluated_indexes": [0],
    }
    torch.save(content, path, **how)
    return path


def test_the_published_file_becomes_our_columns(tmp_path: Path, shared_data: Path) -> None:
    out = nasbench201.import_published(published_file(tmp_path / "a.pth"), tmp_path / "out.parquet")
    wanted = {
        "ops": "421211", "c10valid_val200": 82.0, "c10valid_test200": 82.0, "c10_test200": 86.0, "c100_val200": 52.0,
        "c100_test200": 53.0, "in16_val200": 28.0, "in16_test200": 27.0, "flops_c10_M": 15.64737, "params_c10": 129306,
    }  # fmt: skip
    found = nasbench201.read_columns(out, [*wanted, "arch"])
    assert {k: v[0] for k, v in found.items() if k != "arch"} == wanted
    ours = nasbench201.read_columns(shared_data / nasbench201.FILE, ["arch", "ops", "flops_c10_M", "params_c10"])
    assert {k: ours[k][0] for k in ours} == {k: found[k][0] for k in ours}


def test_numbers_that_an_older_numpy_wrote_are_read(tmp_path: Path) -> None:
    old = published_file(tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    content = old.read_bytes()
    assert b"numpy._core.multiarray\nscalar" in content
    old.write_bytes(content.replace(b"numpy._core.multiarray\nscalar", b"numpy.core.multiarray\nscalar"))
    out = nasbench201.import_published(old, tmp_path / "out.parquet")
    assert nasbench201.read_columns(out, ["c10valid_val200"])["c10valid_val200"].tolist() == [82.0]


class Hostile:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.mkdir, (str(self.folder),))


def test_a_file_that_is_more_than_data_is_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made by the file"
    torch.save({"meta_archs": [Hostile(made)], "arch2infos": {}, "evaluated_indexes": []}, tmp_path / "bad.pth")
    for path in (tmp_path / "bad.pth", tmp_path / "none.pth"):
        with pytest.raises(UserError) as caught:
            nasbench201.import_published(path, tmp_path / "out.parquet")
        assert "\n" not in str(caught.value)
    assert not made.exists() and not (tmp_path / "out.parquet").exists()
