"""Counted costs, latency tables and budgets against published facts, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singlepath.costs import LatencyTable, activation_bytes, count_costs, macs, parameters, parse_budget, shipped_tables
from singlepath.costs.budget import resolve
from singlepath.costs.model import CostModel
from singlepath.errors import UserError
from singlepath.spaces import make
from singlepath.spaces.named import resolve as architecture

MOBILE, SMALL, MACRO = make("mobile"), make("mobile-small"), make("macro")
PIXEL1 = LatencyTable.load("pixel1")


def test_pixel1_is_the_published_table() -> None:
    costs = PIXEL1.costs(MOBILE)
    assert costs.of(MOBILE.indices(architecture("spnasnet_100", MOBILE))) == pytest.approx(80.44, abs=0.005)
    assert costs.smallest == pytest.approx(30.63, abs=0.005)
    assert costs.largest == pytest.approx(131.46, abs=0.005)
    assert not PIXEL1.measurable


def test_pixel1_agrees_with_the_release(shared_data: Path) -> None:
    release = json.loads((shared_data / "latency" / "pixel1_runtime_model.json").read_text())
    tokens = ("k3_e3", "k3_e6", "k5_e3", "k5_e6")
    for number, layer in enumerate(MOBILE.searchable, start=1):
        for key, token in enumerate(tokens):
            assert PIXEL1.layers[layer.name][token].ms == pytest.approx(release[str(number)][str(key)], abs=6e-5)


def test_nas_bench_macro_macs_and_parameters_of_all_networks(shared_data: Path) -> None:
    table = json.loads((shared_data / "nas_bench_macro" / "nas-bench-macro_cifar10.json").read_text())
    assert len(table) == 6561
    models = {"flops": count_costs(MACRO, "macs"), "params": count_costs(MACRO, "parameters")}
    for digits, row in table.items():
        indices = MACRO.indices(MACRO.parse(digits))
        for key, model in models.items():
            assert round(model.of(indices) * 1e6) == row[key], (digits, key)


def test_nas_bench_macro_networks_counted_whole(shared_data: Path) -> None:
    table = json.loads((shared_data / "nas_bench_macro" / "nas-bench-macro_cifar10.json").read_text())
    for digits in np.random.default_rng(0).choice(sorted(table), 12):
        spec = MACRO.network(MACRO.parse(str(digits)))
        assert (macs(spec), parameters(spec)) == (table[digits]["flops"], table[digits]["params"])


@given(st.integers(0, 2**32 - 1), st.sampled_from(["macs", "parameters"]))
@settings(max_examples=6, deadline=None)
def test_counted_costs_are_exactly_additive(seed: int, kind: str) -> None:
    space = make("mobile-small(se=(0.0, 0.25), kernels=(3, 5, 7))")
    chosen = space.sample(np.random.default_rng(seed))
    whole = (macs if kind == "macs" else parameters)(space.network(chosen))
    assert count_costs(space, kind).of(space.indices(chosen)) * 1e6 == pytest.approx(whole, abs=0.5)


def test_expected_cost_is_the_mean_over_draws_and_exact_at_corners() -> None:
    costs = count_costs(SMALL, "macs")
    uniform = [
        torch.full((len(layer.options),), 1 / len(layer.options), dtype=torch.float64) for layer in SMALL.searchable
    ]
    assert float(costs.expected(uniform)) == pytest.approx(costs.middle(), rel=1e-12)
    corner = [torch.nn.functional.one_hot(torch.tensor(len(p) - 1), len(p)).double() for p in uniform]
    assert float(costs.expected(corner)) == pytest.approx(costs.of([len(p) - 1 for p in uniform]), rel=1e-12)
    uniform[0].requires_grad_()
    costs.expected(uniform).backward()
    assert uniform[0].grad is not None
    assert uniform[0].grad.tolist() == pytest.approx(list(costs.layers[0]))


def test_activation_memory_of_one_block_by_hand() -> None:
    spec = SMALL.spec(SMALL.network(SMALL.largest()).blocks[:1])
    assert activation_bytes(spec) == 4 * max(3 * 32**2 + 16 * 32**2, 16 * 32**2 * 2)
    assert activation_bytes(MACRO.network(MACRO.largest())) > activation_bytes(MACRO.network(MACRO.parse("0" * 8)))


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("80ms", "latency", 80.0), ("80 ms", "latency", 80.0), ("0.08s", "latency", 80.0), ("800us", "latency", 0.8),
        ("800µs", "latency", 0.8), ("300MMACs", "macs", 300.0), ("300mmacs", "macs", 300.0),
        ("0.3GMACs", "macs", 300.0),
        ("500kMACs", "macs", 0.5), ("3e8MACs", "macs", 300.0), ("4Mparams", "parameters", 4.0),
        ("400kparams", "parameters", 0.4), ("60%", "", 0.6), ("100 %", "", 1.0), (" 1.5ms ", "latency", 1.5),
    ],
)  # fmt: skip
def test_budgets_as_people_write_them(text: str, kind: str, value: float) -> None:
    limit = parse_budget(text)
    assert (limit.kind, limit.text) == (kind, text)
    assert limit.value == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "80 parsecs", "ms", "80", "", "-5ms", "0ms", "120%", "0%", "1.2.3ms", "nanms", "infms", "..ms", ".ms",
        "1e999MMACs",
    ],
)  # fmt: skip
def test_wrong_budgets_say_what_to_type(text: str) -> None:
    with pytest.raises(UserError, match="80ms, 300MMACs, 4Mparams or 60%") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["300MFLOPs", "300 mflops", "0.6GFLOPS", "3e8flop"])
def test_flops_are_refused_naming_mmacs(text: str) -> None:
    with pytest.raises(UserError, match=r"FLOPs in two ways.*type 300MMACs"):
        parse_budget(text)


def costs_of(kind: str) -> CostModel:
    return PIXEL1.costs(MOBILE) if kind == "latency" else count_costs(MOBILE, kind)


def test_a_percentage_is_of_the_largest_network() -> None:
    budget = resolve(parse_budget("60%"), costs_of)
    assert budget.limit == pytest.approx(0.6 * 131.4578, abs=1e-3)
    assert budget.target == budget.limit  # a table without an error margin


def test_the_target_leaves_the_tables_error_free() -> None:
    costs = CostModel("latency", "ms", 1.0, ((1.0, 3.0),), error95=0.05)
    budget = resolve(parse_budget("3ms"), lambda _: costs)
    assert budget.target == pytest.approx(3 / 1.05)
    assert budget.holds(3.0)
    assert not budget.holds(3.001)
    assert budget.filled(2.7)
    assert not budget.filled(2.69)
    assert resolve(parse_budget("2.01ms"), lambda _: costs).target == 2.0  # never below the smallest network


def test_a_budget_below_the_smallest_network_names_it() -> None:
    with pytest.raises(UserError, match=r"30\.63") as caught:
        resolve(parse_budget("20ms"), costs_of)
    assert "\n" not in str(caught.value)
    typed = str(caught.value).split("--budget ")[1].split()[0]
    assert resolve(parse_budget(typed), costs_of).limit >= costs_of("latency").smallest


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ("mobile(input_size=192)", "224 px"),
        ("mobile(width=0.5)", "space mobile"),
        ("mobile(kernels=(3, 5, 7))", "space mobile"),
        ("mobile(activation='hard_swish')", "space mobile"),
        ("mobile-small", "224 px"),
    ],
)
def test_a_table_refuses_other_spaces(space: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        PIXEL1.costs(make(space))
    assert "singlepath measure" in str(caught.value)


def test_a_table_takes_another_number_of_classes() -> None:
    assert PIXEL1.costs(make("mobile(classes=10)")).largest == PIXEL1.costs(MOBILE).largest


def test_published_figures_hold_for_either_padding_and_measured_ones_do_not() -> None:
    same = make("mobile(padding='same')")
    assert PIXEL1.costs(same).largest == PIXEL1.costs(MOBILE).largest
    measured = PIXEL1.model_copy(update={"protocol": {}})
    with pytest.raises(UserError, match="space mobile"):
        measured.costs(same)


def test_a_table_reads_back_and_misses_are_named() -> None:
    assert LatencyTable.from_json(PIXEL1.to_json()) == PIXEL1
    assert set(shipped_tables()) >= {"pixel1"}
    with pytest.raises(UserError, match="pixel1"):
        LatencyTable.load("pixel2")
    layers = {name: dict(row) for name, row in PIXEL1.layers.items()}
    del layers["3.1"]["k5_e3"]
    with pytest.raises(UserError, match=r"no k5_e3 for layer 3\.1"):
        PIXEL1.model_copy(update={"layers": layers}).costs(MOBILE)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "x"}', '{"a": 1}'])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a latency table"):
        LatencyTable.from_json(text)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "-1.0"])
@pytest.mark.parametrize("field", ["ms", "rest_ms", "slope", "intercept", "rmse_ms", "error95"])
def test_figures_that_are_no_amounts_are_refused(field: str, value: str) -> None:
    table = json.loads(PIXEL1.to_json())
    table["validation"] = {"rmse_ms": 1.0, "mean_ms": 9.0, "error95": 0.1, "spearman": 0.9, "networks": 5}
    owner = {"ms": table["layers"]["3.1"]["k5_e3"], "rest_ms": table, "slope": table["correction"]}
    owner |= {"intercept": table["correction"], "rmse_ms": table["validation"], "error95": table["validation"]}
    LatencyTable.from_json(json.dumps(table))
    owner[field][field] = float(value)
    if (field, value) == ("intercept", "-1.0"):
        assert LatencyTable.from_json(json.dumps(table)).correction.intercept == -1
        return
    with pytest.raises(UserError, match=rf"not a latency table \(.*{field}"):
        LatencyTable.from_json(json.dumps(table))


@pytest.mark.parametrize("intercept", [-1000.0, 1e308])
def test_networks_that_take_no_time_or_forever_are_refused(intercept: float) -> None:
    correction = PIXEL1.correction.model_copy(update={"intercept": intercept, "slope": 1e306 if intercept > 0 else 1})
    with pytest.raises(UserError, match="above 0, and finite"):
        PIXEL1.model_copy(update={"correction": correction}).costs(MOBILE)


def test_a_table_of_no_images_or_no_threads_is_refused(tmp_path: Path) -> None:
    for field in ("batch", "threads"):
        table = json.loads(PIXEL1.to_json()) | {field: 0}
        with pytest.raises(UserError, match=field):
            LatencyTable.from_json(json.dumps(table))
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="not a latency table"):
        LatencyTable.load(tmp_path / "binary")


def test_a_correction_is_applied_to_the_whole_network() -> None:
    correction = PIXEL1.correction.model_copy(update={"slope": 2.0, "intercept": 1.0})
    corrected = PIXEL1.model_copy(update={"correction": correction}).costs(MOBILE)
    assert corrected.largest == pytest.approx(1 + 2 * PIXEL1.costs(MOBILE).largest)
