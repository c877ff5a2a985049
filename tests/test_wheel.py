"""The wheel as a user gets it: built, installed into a fresh environment and run from an unrelated folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(command: list[str | Path], cwd: Path) -> str:
    """Standard output of a command that must succeed; nothing of this process's own import path reaches it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the source so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy2(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source], cwd=out)
    (built,) = out.glob("singlepath-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a clean environment: the wheel itself, and the packages it requires from the present environment.

    A folder named in a .pth file is searched, but the .pth files inside it are not read: an editable install of
    singlepath in the present environment is not seen.
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder).strip())
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        cwd=folder,
    )
    present = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site / "requirements.pth").write_text("".join(f"{path}\n" for path in present), encoding="utf-8")
    return python


def test_wheel_imports_with_its_data(wheel: Path, python: Path, tmp_path: Path) -> None:
    script = """
import json
from importlib.metadata import version
from importlib.resources import files
import singlepath
root = files("singlepath")
table = json.loads((root / "costs" / "tables" / "pixel1.json").read_text(encoding="utf-8"))
print(json.dumps({
    "file": singlepath.__file__,
    "version": singlepath.__version__,
    "metadata": version("singlepath"),
    "table": bool(table),
    "typed": (root / "py.typed").is_file(),
}))
"""
    seen = json.loads(run([python, "-c", script], cwd=tmp_path).splitlines()[-1])
    assert Path(seen["file"]).resolve().is_relative_to(python.parents[1].resolve()), "not the wheel's own copy"
    assert seen["version"] == seen["metadata"] == wheel.name.split("-")[1]
    assert seen["table"]
    assert seen["typed"]


def test_wheel_holds_every_file_of_the_package(python: Path, tmp_path: Path) -> None:
    folder = Path(run([python, "-c", "import singlepath; print(singlepath.__path__[0])"], cwd=tmp_path).strip())
    source = ROOT / "src" / "singlepath"
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert wanted <= {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_command_explains_itself(python: Path, tmp_path: Path) -> None:
    by_module = run([python, "-m", "singlepath", "--help"], cwd=tmp_path)
    by_script = run([python.parent / ("singlepath.exe" if os.name == "nt" else "singlepath"), "--help"], cwd=tmp_path)
    for text in (by_module, by_script):
        assert "design" in text
        assert "search" in text
