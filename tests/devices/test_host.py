"""A real table of a small space on this machine, and what holds of it under noise; names of devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singlepath.costs import LatencyTable
from singlepath.devices import device, hardware, measure, measure_network, networks
from singlepath.environment import cpu_name
from singlepath.errors import UserError
from singlepath.spaces import make

SPACE = make("mobile-small")


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return measure(SPACE, quick=True)


def test_it_survives_its_file_and_fits_its_space(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(table.to_json())
    again = LatencyTable.load(path)
    assert again == table
    again.check(SPACE)
    again.check(make("mobile-small", classes=5))
    assert device(str(path)).table == table and device(str(path)).name == "host"
    for other in ("mobile-small(input_size=16)", "mobile-small(width=0.5)", "macro"):
        with pytest.raises(UserError):
            again.check(make(other))


def test_it_says_how_it_was_made(table: LatencyTable) -> None:
    assert table.measurable and table.device == "host" and table.runtime == "onnxruntime" and table.input_size == 32
    assert table.protocol["rounds"] >= 20 and table.hardware == hardware()
    assert table.validation is not None and table.validation.networks >= 10 and table.correction.networks >= 10
    timing = table.layers["2.1"]["k5_e6"]
    assert {"min", "p10", "median", "rounds"} <= set(timing.statistics) and timing.ms == timing.statistics["p10"]
    assert table.layers["2.1"]["skip"].ms == 0.0
    times = [entry["ms"] for entry in table.calibration]
    assert len(times) >= 5 and times == sorted(times) and times[-1] > 1.5 * times[0]
    for entry in table.calibration:
        assert SPACE.parse(entry["string"]).choices == tuple(entry["choices"])


def test_it_is_additive(table: LatencyTable) -> None:
    costs, rng = table.costs(SPACE), np.random.default_rng(0)
    for _ in range(20):
        architecture = SPACE.sample(rng)
        blocks = sum(table.layers[n.name][t].ms for n, t in zip(SPACE.searchable, architecture.choices, strict=True))
        expected = table.correction.intercept + table.correction.slope * (table.rest_ms + blocks)
        assert costs.of(SPACE.indices(architecture)) == pytest.approx(expected)


def test_what_must_be_slower_is(table: LatencyTable) -> None:
    costs = table.costs(SPACE)
    assert costs.largest > 1.5 * costs.smallest > 0
    for layer in SPACE.searchable:
        for kernel in ("k3", "k5"):
            timings = table.layers[layer.name]
            assert timings[f"{kernel}_e6"].ms > 1.1 * timings[f"{kernel}_e3"].ms, layer.name
    assert table.validation is not None
    assert table.validation.spearman > 0.9 and table.validation.rmse_ms < 0.1 * table.validation.mean_ms


def test_a_network_measured_again_is_as_predicted(table: LatencyTable) -> None:
    architecture = SPACE.sample(np.random.default_rng(21))
    found = measure_network(SPACE.network(architecture), table, rounds=25)
    assert found.corrected_ms == pytest.approx(table.costs(SPACE).of(SPACE.indices(architecture)), rel=0.15)


def test_calibration_networks_are_opened_once_for_a_runtime_and_its_threads(
    table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = networks.open_session

    def counted(runtime: Any, module: Any, shape: Any, folder: Path, threads: int, batch: int) -> Any:
        opened.append(threads)
        return real(runtime, module, shape, folder, threads, batch)

    monkeypatch.setattr(networks, "open_session", counted)
    networks.kept_session.cache_clear()
    given, count = SPACE.network(SPACE.largest()), len(table.calibration)
    for _ in range(2):
        networks.measure_network(given, table, rounds=2)
    assert opened == [1] * (count + 2), "the network itself each time"
    networks.measure_network(given, table.model_copy(update={"threads": 2}), rounds=2)
    assert opened[count + 2 :] == [2] * (count + 1)


def test_torch_is_a_runtime_like_any_other() -> None:
    seen: list[tuple[str, float]] = []
    small = make("mobile-small(input_size=16, kernels=(3,), expansions=(1, 6), width=0.5)")
    table = measure(
        small, runtime="torch", rounds=4, networks_fit=3, networks_validate=3, progress=lambda t, f: seen.append((t, f))
    )
    assert table.runtime == "torch" and table.costs(small).largest > table.costs(small).smallest
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == pytest.approx(1.0)


def test_devices_by_name(tmp_path: Path) -> None:
    assert device("host").table is None
    pixel = device("pixel1")
    assert pixel.name == "pixel1" and pixel.table is not None and not pixel.table.measurable
    (tmp_path / "bad.json").write_text(json.dumps({"a": 1}))
    for name, words in (
        ("pixle1", "--device pixel1"),
        (str(tmp_path / "absent.json"), "no file"),
        (str(tmp_path / "bad.json"), "not a latency table"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            device(name)
        assert "\n" not in str(caught.value)


def test_wrong_counts_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"rounds": 0}, {"threads": 0}, {"batch": 0}, {"networks_fit": 1}]
    for options in [*wrong, {"networks_validate": -1}]:
        with pytest.raises(UserError, match="allowed"):
            measure(SPACE, **options)
    with pytest.raises(UserError, match="--runtime"):
        measure(SPACE, runtime="tensor")


def test_hardware_names_no_machine(tmp_path: Path) -> None:
    import platform

    found = hardware()
    assert set(found) == {"cpu", "cores", "os", "machine"} and all(found.values())
    assert platform.node() not in found.values()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    assert cpu_name(tmp_path / "absent")
    arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
    (tmp_path / "cpuinfo").write_text(arm)
    assert cpu_name(tmp_path / "cpuinfo") == f"{platform.machine()} 0x41 0xd0c", "all such machines are not one"
    (tmp_path / "cpuinfo").write_text(arm + "Model\t\t: Some Board 4\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Some Board 4"
