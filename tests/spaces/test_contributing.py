"""The space that CONTRIBUTING.md shows is one: registered, it is made narrow and searched in like any other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.conformance.test_searches import kept, problem

from singlepath.costs import macs
from singlepath.search import METHODS, run_search
from singlepath.spaces import SPACES, Layer, Space, make
from singlepath.spaces.mobile import scaled

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(def tiny\(.*?)```", TEXT, re.DOTALL)
    names = {"Layer": Layer, "Space": Space, "scaled": scaled}
    exec(code, names)
    monkeypatch.setitem(SPACES, "tiny", names["tiny"])


def test_it_takes_what_every_space_takes() -> None:
    space = make("tiny", width=0.5, input_size=16, classes=3, in_channels=1, padding="same")
    assert make(space.id) == space and space.size == (4 * 5) ** 2
    assert (space.classes, space.in_channels, space.padding) == (3, 1, "same")
    assert macs(space.network(space.largest())) < macs(make("tiny", input_size=16).network(space.largest()))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_searches_in_it(method: str) -> None:
    asked = problem("tiny")
    found, _ = run_search(asked, METHODS[method])
    kept(asked, found)
