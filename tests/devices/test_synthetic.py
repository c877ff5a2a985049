"""`measure` and `measure_network` against a machine whose true costs are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from singlepath.costs import LatencyTable
from singlepath.devices import Measured, measure, measure_network, time_networks
from singlepath.devices.build import draw_networks
from singlepath.runtimes import RUNTIMES
from singlepath.spaces import Space, make

from .synthetic import HEAD, STEM, Machine, block_cost

SPACE = make("mobile-small")
MACRO = make("macro")
COUNTS = {"rounds": 12, "networks_fit": 10, "networks_validate": 10}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(slope=1.2, intercept=0.4)
    monkeypatch.setitem(RUNTIMES, "synthetic", machine.runtime())
    return machine


def table_of(machine: Machine, space: Space = SPACE, **options: Any) -> LatencyTable:
    return measure(space, runtime="synthetic", **{**COUNTS, **options})


def true_rest(space: Space) -> float:
    fixed = [layer.block(layer.options[0]) for layer in space.layers if not layer.searchable]
    return STEM + HEAD + sum(block_cost(b) for b in fixed if b)


def true_ms(machine: Machine, space: Space, indices: tuple[int, ...]) -> float:
    blocks = space.blocks(space.architecture(indices))
    return machine.intercept + machine.slope * (STEM + HEAD + sum(block_cost(b) for b in blocks if b))


def test_block_costs_slope_and_intercept_are_recovered(machine: Machine) -> None:
    table = table_of(machine)
    for layer in SPACE.searchable:
        for option in layer.options:
            block, found = layer.block(option), table.layers[layer.name][option.token].ms
            assert found == pytest.approx(block_cost(block) if block else 0.0, rel=1e-9), (layer.name, option)
    assert table.rest_ms == pytest.approx(true_rest(SPACE), rel=1e-9)
    assert table.correction.slope == pytest.approx(1.2, rel=1e-6)
    assert table.correction.intercept == pytest.approx(0.4, rel=1e-6)
    assert table.validation is not None
    assert table.validation.error95 < 1e-6 and table.validation.spearman == pytest.approx(1.0)
    assert (table.correction.networks, table.validation.networks) == (10, 10)


def test_a_space_whose_identities_have_weights(machine: Machine) -> None:
    table = table_of(machine, MACRO)
    for layer in MACRO.searchable:
        for option in layer.options:
            block, found = layer.block(option), table.layers[layer.name][option.token].ms
            assert found == pytest.approx(block_cost(block) if block else 0.0, rel=1e-9), (layer.name, option)
    assert table.validation is not None and table.validation.error95 < 1e-6


def test_noise_of_neighbours_does_not_reach_the_table(machine: Machine) -> None:
    machine.noise = 0.5
    table = table_of(machine, rounds=40)
    assert table.validation is not None and table.validation.error95 < 0.02
    costs, rng = table.costs(SPACE), np.random.default_rng(7)
    for _ in range(20):
        indices = SPACE.indices(SPACE.sample(rng))
        assert costs.of(indices) == pytest.approx(true_ms(machine, SPACE, indices), rel=0.05)


def test_the_error_stated_is_the_error_on_networks_not_seen(machine: Machine) -> None:
    machine.crooked = 0.03
    table = table_of(machine, networks_fit=30, networks_validate=60)
    validation = table.validation
    assert validation is not None
    assert 0.015 < validation.rmse_ms / validation.mean_ms < 0.045  # a standard deviation of 3 %
    assert 0.035 < validation.error95 < 0.09  # 1.96 of them
    assert table.correction.slope == pytest.approx(1.2, rel=0.05)
    unseen = [SPACE.indices(a) for a in draw_networks(SPACE, 90, 0)[30:]]
    costs = table.costs(SPACE)
    errors = [abs(costs.of(i) / (0.4 + (true_ms(machine, SPACE, i) - 0.4) * crook(machine, i)) - 1) for i in unseen]
    assert float(np.quantile(errors, 0.95)) == pytest.approx(validation.error95, rel=1e-6)


def crook(machine: Machine, indices: tuple[int, ...]) -> float:
    inner = sum(block_cost(b) for b in SPACE.blocks(SPACE.architecture(indices)) if b)
    return 1 + machine.crooked * np.random.default_rng(round(inner * 1e9)).standard_normal()


@pytest.mark.parametrize("drift", [1.3, 0.7])
def test_a_common_drift_is_divided_out(machine: Machine, drift: float) -> None:
    table = table_of(machine)
    spec = SPACE.network(SPACE.sample(np.random.default_rng(11)))
    calm = measure_network(spec, table, rounds=9)
    machine.drift = drift
    later = measure_network(spec, table, rounds=9, seed=1)
    assert calm.drift == pytest.approx(1.0) and later.drift == pytest.approx(drift)
    assert later.ms == pytest.approx(drift * value(calm.ms))
    assert later.corrected_ms == pytest.approx(value(calm.ms))
    assert later.corrected_ms == pytest.approx(
        true_ms(machine, SPACE, SPACE.indices(SPACE.sample(np.random.default_rng(11))))
    )
    assert len(later.ratios) >= 5 and later.rounds == 9
    # half of the calibration networks out of line change nothing: a median
    spoiled = [dict(e, ms=e["ms"] * (0.1 if i < 3 else 1)) for i, e in enumerate(table.calibration)]
    again = measure_network(spec, table.model_copy(update={"calibration": spoiled}), rounds=9)
    assert again.drift == pytest.approx(drift)


def value(ms: float | None) -> float:
    assert ms is not None
    return ms


def test_several_networks_share_one_schedule(machine: Machine) -> None:
    table, rng = table_of(machine), np.random.default_rng(2)
    archs = {f"n{i}": SPACE.sample(rng) for i in range(3)}
    machine.runs.clear()
    found = time_networks({k: SPACE.network(a) for k, a in archs.items()}, table, rounds=10)
    for name, architecture in archs.items():
        assert found[name].corrected_ms == pytest.approx(true_ms(machine, SPACE, SPACE.indices(architecture)))
    visits = [a for a, b in zip(machine.runs, [*machine.runs[1:], ""], strict=True) if a != b]
    assert len(visits) > 0.8 * 10 * (len(archs) + len(table.calibration))  # in turn, not one after the other
    assert len({m.drift for m in found.values()}) == 1


def test_a_session_of_the_callers_own_is_timed_beside_them(machine: Machine) -> None:
    table = table_of(machine)
    machine.drift = 2.0
    own = {"ms": 5.0, "name": "own"}, np.zeros((1, 3, 32, 32), np.float32)
    assert measure_network(own, table, rounds=5).corrected_ms == pytest.approx(5.0)


def test_blocks_and_networks_are_in_one_shuffled_schedule(machine: Machine) -> None:
    table_of(machine)
    whole = [i for i, name in enumerate(machine.runs) if name.startswith("Network")]
    blocks = [i for i, name in enumerate(machine.runs) if name.startswith("Sequential")]
    third = len(machine.runs) // 3
    for part in range(3):
        inside = range(part * third, (part + 1) * third)
        assert len([i for i in whole if i in inside]) > 0.15 * len(whole)
        assert len([i for i in blocks if i in inside]) > 0.15 * len(blocks)


def test_same_seed_same_networks_other_seed_others(machine: Machine) -> None:
    a, b, c = (table_of(machine, seed=s) for s in (0, 0, 1))
    assert [e["choices"] for e in a.calibration] == [e["choices"] for e in b.calibration]
    assert [e["choices"] for e in a.calibration] != [e["choices"] for e in c.calibration]


def test_a_chain_that_noise_makes_negative_stays_positive(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = Machine.cost
    monkeypatch.setattr(
        Machine,
        "cost",
        lambda self, module, specs: (
            0.01 if len(specs) == 5 and not hasattr(module, "spec") else cost(self, module, specs)
        ),
    )
    table = table_of(machine)
    assert all(t.ms > 0 for layer in table.layers.values() for token, t in layer.items() if token != "skip")


def test_nothing_is_measured_on_a_table_that_is_only_a_table() -> None:
    found: Measured = measure_network(SPACE.network(SPACE.architecture([0] * 9)), LatencyTable.load("pixel1"))
    assert found.ms is None and found.corrected_ms is None and found.drift is None
    assert "pixel1" in found.reason and found.reason.endswith(".") and found.reason.count(".") == 1


def test_a_table_of_another_machine_or_without_calibration_says_so(machine: Machine) -> None:
    table, spec = table_of(machine), SPACE.network(SPACE.architecture([0] * 9))
    elsewhere = table.model_copy(update={"hardware": {"cpu": "Another CPU"}})
    assert "Another CPU" in measure_network(spec, elsewhere).reason
    bare = table.model_copy(update={"calibration": table.calibration[:4]})
    assert "4 calibration networks" in measure_network(spec, bare).reason
