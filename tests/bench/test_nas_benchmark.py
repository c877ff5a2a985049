"""The recomputation of "NAS evaluation is frustratingly hard": on its real results, and on a small folder like them."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from singlepath.bench.paper import nas_benchmark, published, released
from singlepath.bench.paper.published import DATA, METHODS, PRINTED_RI
from singlepath.errors import UserError

Columns = dict[str, list[Any]]
AROUND = np.array([-0.7, -0.5, -0.2, 0.0, 0.0, 0.2, 0.5, 0.7])  # eight runs around a mean


# -- a small folder of the same format --------------------------------------------------------------------------------


def columns_of(data: str, random: float = 80.0) -> Columns:
    """Runs whose RI are exactly the printed ones, in the order of the release's plots."""
    columns: Columns = {}
    for i, (method, ri) in enumerate(zip(METHODS, PRINTED_RI[data], strict=True)):
        base = random + i  # no two methods share their random runs
        columns[f"Random {method}"] = list(base + AROUND)
        columns[method] = list(base * (1 + ri / 100) + AROUND[::-1])
    return columns


def write_csv(path: Path, columns: Columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_array(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for data in DATA:
        write_csv(tmp_path / "performance" / f"{data}.csv", columns_of(data))
    tricks = {f" {name} ": list(95 + i + AROUND) for i, name in enumerate(published.TRICKS)}  # headers have blanks
    write_csv(tmp_path / "performance" / "Augmentation.csv", tricks)
    for name, networks in (("214_random_architectures", 8), ("56_random_mod_architectures", 6)):
        write_array(tmp_path / "modified_search_space" / f"{name}.npy", rng.uniform(90, 97, (networks, 130)))
    for count in published.CELLS:
        write_array(tmp_path / "cell_sensitivity" / f"cell_n_{count}.npy", rng.uniform(90, 97, (5, 30)))
    write_array(tmp_path / "correlation_seeds" / "different_seed_24.npy", rng.uniform(90, 97, (7, 2)))
    write_array(tmp_path / "correlation_cells" / "8_to_20_cells.npy", rng.uniform(90, 97, (9, 2)))
    return tmp_path


def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    """(exit status, the last line, the tables)"""
    status = nas_benchmark.main(["--data", str(folder), "--json"])
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert status == (0 if found["holds"] else 1)
    assert found["holds"] == all(c["holds"] for c in found["checks"])
    for check in found["checks"]:
        assert set(check) == {"name", "value", "limit", "holds"}
    return status, found, "\n".join(lines[:-1])


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a folder is refused with."""
    assert nas_benchmark.main(["--data", str(folder), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "type --data" in err
    return err


def places(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(d["place"], d["kind"]) for d in found["disagreements"]}


def figure(found: dict[str, Any], study: str, name: str) -> float:
    values = [f["value"] for f in found["figures"][study] if f["name"] == name]
    assert len(values) == 1, name
    return values[0]


def test_where_data_and_table_agree_nothing_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, _ = run(folder, capsys)
    assert status == 1  # these are not the published results, and the checks say so
    assert not any(c["holds"] for c in found["checks"] if c["name"].startswith(("accuracies", "tricks", "places")))
    assert places(found) == set()
    assert len(found["cells"]) == 40
    for cell in found["cells"]:
        assert cell["ri"] == pytest.approx(cell["printed"], abs=1e-9)
        assert cell["ri_low"] < cell["ri"] < cell["ri_high"]


def test_columns_are_found_by_their_header(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, columns = folder / "performance" / "MIT67.csv", columns_of("MIT67")
    shuffled = {name: columns[name] for name in reversed(columns)}
    write_csv(path, {f" {name}{'-LS' if name == 'MANAS' else ''} ": v for name, v in shuffled.items()})
    _, found, _ = run(folder, capsys)
    assert places(found) == set()
    assert "MIT67.csv calls MANAS MANAS-LS" in found["remarks"]
    seen = released.load(folder).performance["MIT67"]
    assert list(seen.by_header["PDARTS"].method) == columns["PDARTS"]
    assert list(seen.by_header["PDARTS"].random) == columns["Random PDARTS"]
    assert list(seen.by_position["DARTS"].random) == columns["NAO"]


def test_an_order_that_was_read_by_position_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed values are those of the columns' places; the header says they belong to each other's method."""
    columns = columns_of("Flowers102")
    names = ["Random PDARTS", "PDARTS", "Random DARTS", "DARTS", *list(columns)[4:]]
    write_csv(folder / "performance" / "Flowers102.csv", dict(zip(names, columns.values(), strict=True)))
    _, found, text = run(folder, capsys)
    assert places(found) == {("FLOWERS102", "order")}
    assert "lists PDARTS before DARTS" in text
    values = {c["method"]: c["ri"] for c in found["cells"] if c["data"] == "FLOWERS102"}
    assert (values["DARTS"], values["PDARTS"]) == pytest.approx((0.20, 0.25))


def test_another_value_than_the_printed_one_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = columns_of("CIFAR100")
    columns["PDARTS"] = list(np.array(columns["PDARTS"]) + 0.8 / 100 * 81)
    write_csv(folder / "performance" / "CIFAR100.csv", columns)
    _, found, text = run(folder, capsys)
    assert places(found) == {("PDARTS/CIFAR-100", "printed")}
    assert "PDARTS/CIFAR-100: 1.20 printed, 2.00 from its raw runs" in text


def test_missing_raw_runs_are_marked_and_not_made_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = columns_of("CIFAR100") | {"StacNAS": [""] * 8}
    write_csv(folder / "performance" / "CIFAR100.csv", columns)
    _, found, text = run(folder, capsys)
    assert places(found) == {("StacNAS/CIFAR-100", "no raw runs")}
    (cell,) = [c for c in found["cells"] if c.get("note")]
    assert (cell["data"], cell["method"], cell["ri"], cell["note"]) == ("CIFAR-100", "StacNAS", None, "no raw runs")
    assert "no raw runs (2.87)" in text
    recomputed = [c["value"] for c in found["checks"] if c["name"] == "cells of table 1 recomputed"]
    assert recomputed == [39]


def test_shared_random_runs_are_remarked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = columns_of("Flowers102")
    columns["Random ENAS"] = columns["Random DARTS"]
    write_csv(folder / "performance" / "Flowers102.csv", columns)
    assert any("DARTS and ENAS share" in r for r in run(folder, capsys)[1]["remarks"])


def test_studies_of_curves_read_best_and_last_epoch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = np.load(folder / "modified_search_space" / "214_random_architectures.npy")
    _, found, _ = run(folder, capsys)
    shown = {when: figure(found, "narrow range", f"8 networks, {when} epoch: mean") for when in ("best", "last")}
    assert shown == pytest.approx({"best": curves.max(axis=1).mean(), "last": curves[:, -1].mean()})
    tau: Any = scipy_stats.kendalltau(curves[:, 99], curves[:, -1])
    assert figure(found, "epochs", "tau of epoch 100") == pytest.approx(tau.statistic)
    smooth: Any = scipy_stats.kendalltau(curves[:, 80:100].mean(axis=1), curves[:, -1])
    assert figure(found, "epochs", "tau of 20 epochs up to 100") == pytest.approx(smooth.statistic)
    small, large = np.load(folder / "correlation_cells" / "8_to_20_cells.npy").T
    moved = np.abs(scipy_stats.rankdata(small) - scipy_stats.rankdata(large)).max()
    assert figure(found, "depth", "greatest shift in ranks (ties share theirs)") == moved
    assert figure(found, "cells", "4 cells, 5 networks, best epoch: mean") > 90


# -- what is refused --------------------------------------------------------------------------------------------------

FILES = (
    "performance/Sport8.csv", "performance/Augmentation.csv", "modified_search_space/56_random_mod_architectures.npy",
    "cell_sensitivity/cell_n_16.npy", "correlation_seeds/different_seed_24.npy", "correlation_cells/8_to_20_cells.npy",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / name).unlink()
    assert f"{name} does not exist" in refused(folder, capsys)


def test_a_folder_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a folder" in refused(tmp_path / "nothing", capsys)


def changed(columns: Columns, name: str, value: object) -> Columns:
    return columns | {name: [value, *columns[name][1:]]}


WHOLE = columns_of("CIFAR10")
TABLES = {
    "text": (changed(WHOLE, "ENAS", "about 96"), "column 'ENAS'"),
    "not finite": (changed(WHOLE, "ENAS", "nan"), "not finite"),
    "a method is missing": ({k: v for k, v in WHOLE.items() if "NAO" not in k}, "14 columns"),
    "unknown method": ({("SNAS" if k == "NAO" else k): v for k, v in WHOLE.items()}, "'SNAS'"),
    "twice": ({("NAO-LS" if k == "ENAS" else k): v for k, v in WHOLE.items()}, "repeated"),
    "no random runs": (WHOLE | {"Random DARTS": [""] * 8}, "fewer than two runs of DARTS"),
    "a single run": (WHOLE | {"CNAS": [90.0] + [""] * 7}, "fewer than two runs of CNAS"),
    "empty": ({}, "is empty"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_broken_table_is_refused(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns, words = TABLES[case]
    write_csv(folder / "performance" / "CIFAR10.csv", columns)
    message = refused(folder, capsys)
    assert "CIFAR10.csv" in message
    assert words in message


class Payload:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_a_pickled_file_is_refused_unread(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array, made = folder / "cell_sensitivity" / "cell_n_8.npy", folder / "ran"
    np.save(array, np.array([[Payload(made), 1], [2, 3]], dtype=object), allow_pickle=True)
    assert "cell_n_8.npy is not an array of numbers" in refused(folder, capsys)
    array.write_bytes(pickle.dumps(Payload(made)))
    assert "cell_n_8.npy is not an array of numbers" in refused(folder, capsys)
    assert not made.exists()


def test_an_array_that_announces_more_than_it_holds_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "cell_sensitivity" / "cell_n_8.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 600)}
        )  # fmt: skip
        file.write(b"\0" * 64)
    assert "cell_n_8.npy" in refused(folder, capsys)


@pytest.mark.parametrize(
    "array",
    [np.ones((5, 3)), np.ones(5), np.array([[1.0, np.nan]] * 3), np.array([["a", "b"]] * 3), np.ones((1, 2))],
    ids=["three columns", "flat", "not finite", "text", "one network"],
)
def test_an_array_of_another_kind_is_refused(
    array: np.ndarray, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(folder / "correlation_seeds" / "different_seed_24.npy", array)
    assert "different_seed_24.npy" in refused(folder, capsys)


def test_a_file_of_unreasonable_size_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "MOST_BYTES", 1 << 10)
    with pytest.raises(UserError, match="MiB"):
        released.load(folder)


# -- the real results -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Path:
    if not (shared_data / "nas_benchmark").is_dir():
        pytest.skip(f"no raw results of NAS-Benchmark at {shared_data / 'nas_benchmark'}")
    return shared_data / "nas_benchmark"


def column(folder: Path, data: str, name: str) -> list[float]:
    with open(folder / "performance" / f"{data}.csv", newline="") as file:
        return [float(v) for row in csv.DictReader(file) for k, v in row.items() if k.strip() == name]


def test_the_paper_is_recomputed_and_its_three_disagreements_are_named(real: Path) -> None:
    command = [sys.executable, "-m", "singlepath.bench.paper.nas_benchmark", "--data", str(real), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no raw runs (2.87)" in done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["holds"]
    assert all(c["holds"] for c in found["checks"])
    cells = {f"{c['method']}/{c['data']}": c for c in found["cells"]}
    assert [name for name, c in cells.items() if c["ri"] is None] == ["StacNAS/CIFAR-100"]
    assert len(cells) == 40
    off = {name for name, c in cells.items() if c["ri"] is not None and round(c["ri"], 2) != c["printed"]}
    assert off == {"PDARTS/CIFAR-100", "DARTS/FLOWERS102", "PDARTS/FLOWERS102"}
    assert places(found) == {
        ("PDARTS/CIFAR-100", "printed"), ("FLOWERS102", "order"), ("StacNAS/CIFAR-100", "no raw runs")
    }  # fmt: skip
    assert {n for n, c in cells.items() if c.get("different")} == {"MANAS/MIT67", "PDARTS/CIFAR-100", "ENAS/CIFAR-100"}
    assert "not different" in cells["PDARTS/CIFAR-10"]["sentence"]
    assert cells["PDARTS/CIFAR-10"]["p_holm"] == pytest.approx(0.060, abs=5e-4)
    tested: Any = scipy_stats.ttest_ind(
        column(real, "CIFAR100", "ENAS"), column(real, "CIFAR100", "Random ENAS"), equal_var=False
    )
    assert cells["ENAS/CIFAR-100"]["p"] == pytest.approx(tested.pvalue)
    darts, random = column(real, "Flowers102", "DARTS"), column(real, "Flowers102", "Random DARTS")
    assert cells["DARTS/FLOWERS102"]["ri"] == pytest.approx(100 * (np.mean(darts) / np.mean(random) - 1))
    assert figure(found, "seeds", "tau, 32 networks") == pytest.approx(0.476, abs=5e-4)
    assert figure(found, "seeds", "tau, the 24 networks of the file") == pytest.approx(0.583, abs=5e-4)
    assert figure(found, "depth", "tau, 32 networks") == pytest.approx(0.535, abs=5e-4)
    assert figure(found, "tricks", "spread of the means") == pytest.approx(97.87 - 94.96, abs=0.01)
    assert figure(found, "narrow range", "214 networks, best epoch: mean") == pytest.approx(97.03, abs=0.005)
    assert figure(found, "narrow range", "214 networks, last epoch: mean") == pytest.approx(96.95, abs=0.005)


def test_a_changed_result_makes_the_checks_fail(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run of one network, two points off: the cell, its accuracies and the named places do not hold any more."""
    for source in real.rglob("*"):
        if source.is_file():
            target = tmp_path / source.relative_to(real)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    path = tmp_path / "performance" / "CIFAR10.csv"
    path.write_text(path.read_text().replace("97.47", "95.47", 1))
    status, found, _ = run(tmp_path, capsys)
    assert status == 1
    failed = {c["name"].split(":")[0] for c in found["checks"] if not c["holds"]}
    assert {"relative improvement, the other cells", "accuracies, mean and sd"} <= failed
    assert ("DARTS/CIFAR-10", "printed") in places(found)
