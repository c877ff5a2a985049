"""A run over its life: moved, resumed, trained again, given wrong values; nothing is lost and nothing is mixed up."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.helpers import printed, run

import singlepath
from singlepath import UserError
from singlepath.pipeline import commands
from singlepath.runs import Run, read_config

SPACE = "mobile-small(width=0.5, input_size=16)"


def photos(folder: Path) -> Path:
    """Three classes of 20 images, which grey values tell apart."""
    random = np.random.default_rng(0)
    for level, name in enumerate("abc"):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.clip(random.normal(60 + 60 * level, 10, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and a run on them that is trained and evaluated."""
    root = tmp_path_factory.mktemp("life")
    folder, data = root / "run", photos(root / "my photos")
    printed("search", "--data", data, "--space", SPACE, "--budget", "0.9MMACs", "--quick", "--out", folder)
    printed("train", folder, "--quick")
    printed("evaluate", folder)
    return root


@pytest.fixture
def life(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt; images as named in the run lie in `made`."""
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copytree(made / "my photos", tmp_path / "elsewhere" / "my photos")
    return tmp_path


def refused(*arguments: object) -> str:
    code, out, err = run(*arguments)
    assert code == 2 and err.count("\n") == 1, (code, out, err)
    return err.strip()


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_other_images_are_refused_whatever_may_change(life: Path) -> None:
    """One image more gives another split, in which training images would be test images."""
    moved = life / "elsewhere" / "my photos"
    shutil.copy(moved / "a" / "00.png", moved / "c" / "99.png")
    for more in ([], ["--allow-changed"]):
        message = refused("search", "--resume", life / "run", "--data", moved, *more)
        assert "changed since the run" in message and "--allow-changed" not in message
    assert printed("evaluate", life / "run")["accuracy"] == result_of(life / "run")["accuracy"]["test"]


def test_moved_images_are_found_again(made: Path, life: Path) -> None:
    before, moved = printed("evaluate", life / "run"), life / "elsewhere" / "my photos"
    (made / "my photos").rename(made / "gone")
    try:
        message = refused("evaluate", life / "run")
        assert "are not at" in message and f"singlepath search --resume {life / 'run'} --data NEW/PLACE" in message
        again = printed("search", "--resume", life / "run", "--data", moved)
        assert again["run"] == str(life / "run")
        after = printed("evaluate", life / "run")
        assert {**after, "run": ""} == {**before, "run": ""}
        assert read_config(life / "run")["options"]["data"] == str(moved)
        printed("train", life / "run", "--quick")  # is read back
        moved = moved.rename(moved.with_name("others"))
        message = refused("search", "--resume", life / "run", "--data", moved)
        assert "called others" in message and "called my photos" in message
    finally:
        (made / "gone").rename(made / "my photos")


def test_a_resumed_run_says_which_flag_it_does_not_take(life: Path) -> None:
    """Also where the value typed is the command's default."""
    assert "type --budget 0.9MMACs" in refused("search", "--resume", life / "run", "--budget", "60%")
    assert "type --budget 0.9MMACs" in refused("search", "--resume", life / "run", "--budget", "50%")
    assert "leave --out out" in refused("search", "--resume", life / "run", "--out", life / "other")
    assert not (life / "other").exists()
    assert printed("search", "--resume", life / "run", "--budget", "0.9MMACs")["run"] == str(life / "run")


def test_what_belongs_to_other_weights_is_set_aside(life: Path) -> None:
    before = result_of(life / "run")
    printed("train", life / "run", "--epochs", 2, "--name", "longer")
    now = result_of(life / "run")
    assert now["training"]["epochs"] == 2 and "accuracy" not in now
    assert result_of(life / "run" / "before-1") == before
    printed("evaluate", life / "run")
    printed("train", life / "run", "--epochs", 2, "--name", "longer")
    assert "accuracy" in result_of(life / "run") and not (life / "run" / "before-2").exists()


def test_a_designs_comparison_survives_another_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = printed(
        "design", "--quick", "--data", "digits", "--limit", 100, "--space", SPACE, "--budget", "0.9MMACs",
        "--random", 1, "--out", folder,
    )  # fmt: skip
    weights = (folder / "weights.safetensors").read_bytes()
    shutil.copytree(folder, tmp_path / "copy")
    elsewhere = printed("design", "--resume", tmp_path / "copy")
    assert elsewhere == {**found, "run": str(tmp_path / "copy"), "report": str(tmp_path / "copy" / "report.html")}
    printed("train", folder, "--epochs", 2)
    assert (folder / "before-1" / "summary.json").is_file() and not (folder / "summary.json").exists()
    assert (folder / "weights.safetensors").read_bytes() != weights
    assert (folder / "before-1" / "export" / "onnx" / "model.onnx").is_file()
    again = printed("design", "--resume", folder)
    same = ("test_accuracy", "random_accuracy_mean", "relative_improvement", "baselines")
    assert {k: again[k] for k in same} == {k: found[k] for k in same}
    assert (folder / "weights.safetensors").read_bytes() == weights, "of the design again"


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("search", {"epochs": -1}, "--epochs -1; allowed: 1 or more; type --epochs 1"),
        ("search", {"seed": -4}, "--seed -4; allowed: 0 to "),
        ("search", {"batch_size": 0}, "--batch-size 0"),
        ("search", {"workers": -1}, "--workers -1; allowed: 0 or more"),
        ("design", {"train_epochs": 0}, "--train-epochs 0"),
        ("design", {"random": -1}, "--random -1; allowed: 0 or more"),
        ("train", {"epochs": -1}, "--epochs -1"),
        ("train", {"name": "../outside"}, "--name ../outside"),
        ("measure", {"batch": 0}, "--batch 0"),
        ("measure", {"classes": 0}, "classes 0"),
        ("search", {"epochs": "3"}, "--epochs '3'; allowed: a whole number (int); give epochs a whole number (int)"),
        ("search", {"epochs": 2.0}, "--epochs 2.0; allowed: a whole number"),
        ("search", {"epochs": True}, "--epochs True; allowed: a whole number"),
        ("search", {"seed": None}, "--seed None; allowed: a whole number"),
        ("search", {"seed": np.int64(1)}, "--seed np.int64(1); allowed: a whole number"),
        ("search", {"width": "wide"}, "--width 'wide'; allowed: a number (float)"),
        ("tune", {"trials": "7"}, "--trials '7'; allowed: a whole number"),
        ("measure", {"batch": 1.5}, "--batch 1.5; allowed: a whole number"),
    ],
)
def test_python_takes_what_the_command_line_takes(life: Path, command: str, options: Any, says: str) -> None:
    place: dict[str, Any] = {"run": life / "run"} if command == "train" else {"out": life / "new"}
    with pytest.raises(UserError) as caught:
        getattr(singlepath, command)(**place, **options)
    assert says in str(caught.value) and not (life / "new").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": "digits"}, "search --resume"),
        ({"data": "digits", "random": 3}, "design --resume"),
        ({"trials": 3}, "tune --resume"),
        ({"methods": "random"}, "bench --resume"),
        ({"network": "..."}, "the run that this training belongs to"),
    ],
)
def test_a_run_that_was_interrupted_says_how_it_goes_on(tmp_path: Path, options: Any, says: str) -> None:
    Run.open(tmp_path / "run", options).close()
    assert says in refused("train", tmp_path / "run")
    if "search" not in says:
        assert says in refused("search", "--resume", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    assert "give a folder that search or design made" in refused("train", tmp_path / "empty")


def test_a_folder_called_like_a_built_in_set_is_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    how: dict[str, Any] = {"space": SPACE, "budget": "0.9MMACs", "quick": True, "mode": "random"}
    singlepath.search(data=cast(Any, Path("digits")), out=tmp_path / "own", **how)
    singlepath.search(data="digits", out=tmp_path / "built in", limit=100, **how)
    classes = [json.loads((tmp_path / f / "data.json").read_text())["classes"] for f in ("own", "built in")]
    assert classes[0] == ["a", "b", "c"] and len(classes[1]) == 10


def test_a_spoilt_result_is_named(life: Path) -> None:
    for text in ("{}", "[]", '{"options": {}}', "no JSON"):
        (life / "run" / "result.json").write_text(text)
        for command in ("train", "evaluate", "export", "front"):
            assert "result.json" in refused(command, life / "run")


def test_results_are_in_words_without_json(life: Path) -> None:
    code, out, _ = run("evaluate", life / "run")
    rows = [line for line in out.splitlines() if "\ttaken for " in line]
    assert code == 0 and [row[0] for row in rows] == ["a", "b", "c"]
    code, out, _ = run("front", life / "run")
    assert code == 0 and out.count("held-out cross-entropy") == 7
    picture = life / "elsewhere" / "my photos" / "a" / "00.png"
    code, out, _ = run("predict", life / "run", picture, "--top", 3)
    fields = out.splitlines()[0].split("\t")
    assert code == 0 and fields[0] == str(picture) and sorted(fields[1::2]) == ["a", "b", "c"]
    assert sum(map(float, fields[2::2])) == pytest.approx(1, abs=0.01)


def test_a_front_has_the_budgets_that_some_network_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folder = tmp_path / "run"
    printed(
        "search", "--space", "mobile-small(width=0.5, input_size=16, expansions=(3,))", "--budget", "1MMACs",
        "--data", "digits", "--limit", 100, "--quick", "--out", folder,
    )  # fmt: skip
    noted: list[str] = []
    monkeypatch.setattr(sys.modules["singlepath.pipeline.front"], "note", noted.append)
    assert len(printed("front", folder)["front"]) == 6
    assert noted == ["left out 30%: the smallest network takes 33%"]
    message = refused("front", folder, "--budgets", "10%")
    assert "below the smallest" in message and "--budgets" in message


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_half(life: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before, noted = sorted(p.name for p in (life / "run").iterdir()), list[str]()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        patched.setattr(commands, "note", noted.append)
        assert "No space left on device" in refused("report", life / "run")
        code, out, _ = run("evaluate", life / "run")
        assert code == 0 and out.count("taken for") == 3 and "accuracy: " in out, "its figures are shown all the same"
        assert len(noted) == 1 and noted[0].endswith("result.json keeps its old figures: No space left on device")
    assert sorted(p.name for p in (life / "run").iterdir()) == before
    with Run.open(life / "fresh", {}) as opened, monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            opened.save({}, 0, "search")
        assert not list((life / "fresh" / "checkpoints").iterdir())


def test_commands_are_the_public_functions() -> None:
    assert set(commands.__all__) < set(singlepath.__all__)
