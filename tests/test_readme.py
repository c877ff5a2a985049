"""Every command of the README's and the guide's blocks, and the README's Python code, run as a reader would type them,
with --quick."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.test_design import SPACE, table_of

from singlepath.cli import status
from singlepath.costs import LatencyTable
from singlepath.pipeline import measuring, setup
from singlepath.spaces import Space

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": (ROOT / "README.md").read_text(), "docs/guide.md": (ROOT / "docs/guide.md").read_text()}
QUICK = {"check", "design", "measure", "search", "train", "latency"}  # commands with --quick


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def commands(page: str = "README.md") -> list[list[str]]:
    lines = "\n".join(blocks("bash", page)).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("singlepath ")]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `my-photos`: two classes of small pictures that differ in colour."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog")):
        folder = tmp_path / "my-photos" / name
        folder.mkdir(parents=True)
        for i in range(24):
            pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
            pixels[..., number] += 120
            Image.fromarray(pixels).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_names_the_main_commands() -> None:
    assert {c[1] for c in commands()} == {
        "check", "design", "predict", "measure", "search", "train", "evaluate", "export", "front", "report", "latency",
        "bench", "tune",
    }  # fmt: skip


TIMED: dict[tuple[Any, ...], LatencyTable] = {}


@pytest.fixture
def timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one command has timed serves the others, of both pages: the same space and options."""
    real = setup.measure

    def measure(space: Space, *, progress: Any, **asked: Any) -> LatencyTable:
        key = (space.id, *sorted(asked.items()))
        if key not in TIMED:
            TIMED[key] = real(space, progress=progress, **asked)
        return TIMED[key]

    monkeypatch.setattr(setup, "measure", measure)
    monkeypatch.setattr(measuring, "measure_space", measure)


@pytest.mark.parametrize(("page", "folder"), [("README.md", "photos"), ("docs/guide.md", "board")])
def test_every_command_runs(
    photos: Path, timed_once: None, capsys: pytest.CaptureFixture[str], page: str, folder: str
) -> None:  # fmt: skip
    for command in commands(page):
        if command[1] == "tune" or {"digits", "ray"} & {*command}:  # minutes, or an extra; tests run them otherwise
            continue
        arguments = [*command[1:], *(["--quick"] if command[1] in QUICK else [])]
        code = status(arguments)
        said = capsys.readouterr()
        assert code == 0, f"{' '.join(command)}: {said.err}"
    assert (photos / "runs" / folder / "export/onnx/model.onnx").is_file()
    assert (photos / "runs" / folder / "report.html").is_file()


def test_the_python_code_runs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    assert "sp.design(" in code
    (photos / "board.json").write_text(table_of(SPACE).to_json())  # so nothing is timed; the commands above do that
    namespace: dict[str, object] = {}
    exec(code.replace("sp.design(", f"sp.design(quick=True, device='board.json', space='{SPACE}', "), namespace)
    assert "against" in capsys.readouterr().out
    assert type(namespace["child"]).__name__ == "Network"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_linked_to_exist(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page]):
        assert ((ROOT / page).parent / target).is_file(), target
