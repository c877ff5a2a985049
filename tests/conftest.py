"""Fixtures for the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real tables and images; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SINGLEPATH_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set SINGLEPATH_DATA")
    return folder
