"""What a found network costs, and the area of cost and validation value that a search leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.bench.test_protocol import comparison, filled, judged

from singlepath.bench import stats
from singlepath.bench.protocol import RANDOM_NETWORK
from singlepath.bench.records import Cost, Record, Trial
from singlepath.bench.tabular import opened, protocol_of, run_trial
from singlepath.bench.tasks import search_task
from singlepath.search.query_methods import make_method


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return filled(tmp_path_factory.mktemp("costs"), comparison(["random", "nsga2"], queries=60, seeds=4))


def test_every_record_has_its_networks_cost(found: list[Record]) -> None:
    assert all(r.cost == Cost("size", "size", sum(map(int, r.network))) for r in found), "toy counts its options"


def test_the_summary_has_mean_costs_and_leaves_out_what_older_records_lack(found: list[Record]) -> None:
    (task,) = judged(found)["tasks"]
    for row in task["methods"]:
        costs = [r.cost.amount for r in found if r.trial.method == row["method"] and r.cost]
        low, high = stats.mean_interval(costs)
        assert row["cost"] == {"of": "size", "unit": "size", "mean": np.mean(costs), "interval": [low, high]}
    assert task["random_networks"]["cost"]["unit"] == "size"
    first = next(i for i, r in enumerate(found) if r.trial.method == "random")
    older = [replace(r, cost=None, hypervolume=None) if i == first else r for i, r in enumerate(found)]
    rows = {row["method"]: row for row in judged(older)["tasks"][0]["methods"]}
    assert not {"cost", "hypervolume"} & rows["random"].keys() and {"cost", "hypervolume"} <= rows["nsga2"].keys()


def test_the_hypervolume_is_of_all_that_was_asked(found: list[Record]) -> None:
    task = opened("toy", "", "")
    costs, values = task.pool.costs, task.validation
    ends = float(costs.max()), float(values.min())
    whole = stats.hypervolume(costs, values, *ends)
    for record in found:
        if record.trial.method == RANDOM_NETWORK:
            assert record.hypervolume is None
            continue
        _, state = search_task(make_method(record.trial.method), task, seed=record.trial.search_seed, queries=60)
        share = 100 * stats.hypervolume(costs[state["asked"]], values[state["asked"]], *ends) / whole
        assert record.hypervolume == pytest.approx(share) and 0 < share < 100
    rows = {row["method"]: row["hypervolume"]["mean"] for row in judged(found)["tasks"][0]["methods"]}
    assert rows["nsga2"] > rows["random"], "it searches for the front"


def test_the_latency_of_a_published_device(shared_data: Path) -> None:
    pytest.importorskip("pyarrow")
    data, name = str(shared_data), "nasbench201/cifar10"
    task = opened(name, data, "raspi4")
    trial = Trial(name, "random", 0, None, {}, protocol_of(task, "raspi4"), {"queries": 20})
    record = run_trial({"data": data, "cost": "raspi4"}, trial)
    index = task.pool.find(np.array([[int(digit) for digit in record.network]]))
    assert record.cost == Cost("raspi4", "ms", float(task.pool.measures["raspi4"][index[0]]))
