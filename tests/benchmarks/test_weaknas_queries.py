"""The last line of benchmarks/weaknas_queries.py, and that it goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.benchmarks.test_contract import named, result


def test_weaknas_queries(shared_data: Path, tmp_path: Path) -> None:
    options = ("--data", str(shared_data), "--jobs", "1", "--out", str(tmp_path / "out"))
    status, found = result("weaknas_queries", *options)
    assert status == (0 if found["holds"] else 1)
    figures = found["results"]
    means = named(found, "mean queries")
    assert means == [figures["ours"][name]["mean"] for name in list(figures["ours"])[:3]]
    assert max(means) < 200, "ours is far from the cap of 300"
    assert max(named(found, "test accuracy of the best validated")) <= 0.005
    assert list(figures["random, exact"].values()) == pytest.approx([7813, 7813, 7813, 1985])
    assert max(named(found, "random search from its expectation")) < 4
    for name, release in figures["release"].items():
        assert release["free_validation"]["mean"] <= 61
        assert release["oracle_100"] >= release["honest_100"]
        assert figures["searches"][name]["test"] > release["honest_100"] - 1
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "out").iterdir()}
    again = result("weaknas_queries", *options)[1]["results"]
    assert again["ours"] == figures["ours"]
    assert again["release"] == figures["release"]
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "out").iterdir()} == files
