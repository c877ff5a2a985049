"""Images of more detail than the network sees: said, with what to type."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.pipeline.helpers import printed

from singlepath.costs import count_costs
from singlepath.pipeline import commands, setup
from singlepath.spaces import make

SMALL = ["--space", "mobile-small(width=0.5, input_size=16)", "--budget", "0.9MMACs"]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of data; what a search costs is not asked."""
    notes: list[str] = []
    monkeypatch.setattr(setup, "note", notes.append)
    monkeypatch.setattr(commands, "search_estimate", lambda *_: {})
    return notes


def of_side(folder: Path, side: int) -> Path:
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (side, side + 9)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("side", "space", "ways"),
    [
        (50, "mobile-small", ["--input-size 48"]),
        (64, "mobile-small", ["--input-size 64"]),
        (100, "mobile-small", ["--input-size 64", "--space mobile --input-size 96"]),
        (500, "mobile-small(width=0.5)", ["--input-size 64", "--space 'mobile(width=0.5)' --input-size 224"]),
        (500, "mobile-small(input_size=64)", ["--space mobile --input-size 224"]),
        (100, "mobile(input_size=40, in_channels=1)", ["--input-size 80"]),
        (100, "mobile-small(padding='same')", ["--input-size 64", "--space mobile --input-size 96"]),  # paper mode
        (500, "macro", ["--input-size 64", "--space mobile --input-size 224"]),
    ],
)
def test_images_of_more_detail_than_the_network_sees(
    tmp_path: Path, said: list[str], side: int, space: str, ways: list[str]
) -> None:
    """Each way that is named is one that the command takes, and sees more."""
    folder = of_side(tmp_path, side)

    def checked(name: str, *size: str) -> dict[str, Any]:
        chosen = make(name, input_size=int(size[1])) if size else make(name)
        budget = f"{count_costs(chosen, 'macs').middle()}MMACs"
        return printed("check", "--data", folder, "--budget", budget, "--space", name, *size)["data"]

    before = checked(space)
    assert before["shorter_edge"] == side
    (text,) = said
    assert f"about {side} px (shorter edge) and the network sees {before['input_size']}: " in text
    assert f": {', or '.join(ways)} shows it more, for" in text
    for way in ways:
        words = shlex.split(way)
        name, size = (words[1], words[2:]) if words[0] == "--space" else (space, words)
        assert checked(name, *size)["input_size"] > before["input_size"]


@pytest.mark.parametrize(("side", "size"), [(16, 16), (30, 16), (30, 20), (15, 10), (47, 32), (300, 160)])
def test_images_of_about_the_inputs_size_need_no_word(tmp_path: Path, said: list[str], side: int, size: int) -> None:
    space = make("mobile", input_size=size)
    budget = f"{count_costs(space, 'macs').largest}MMACs"
    printed("check", "--space", space.id, "--budget", budget, "--data", of_side(tmp_path, side))
    assert said == []


def test_detail_is_spoken_of_while_something_can_be_changed(tmp_path: Path, said: list[str]) -> None:
    folder = tmp_path / "run"
    printed("search", *SMALL, "--data", of_side(tmp_path / "photos", 64), "--quick", "--out", folder)
    (text,) = said
    assert "--input-size 32" in text
    (folder / "found.json").unlink()  # as if it had been stopped
    printed("search", "--resume", folder)
    printed("train", folder, "--quick")
    printed("evaluate", folder)
    assert said == [text]
