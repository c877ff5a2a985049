"""Fixtures for the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

LONG = ("test_contract.py", "test_readme.py", "test_tuning.py", "test_searches.py", "test_resume.py")  # minutes each


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first: one that begins last is waited for by an idle process."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """A command run in this process sets torch's threads; the next test gets back what it would have had alone."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real tables and images; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SINGLEPATH_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set SINGLEPATH_DATA")
    return folder
