"""Labels for files: the preprocessing of training, the right names, one line for every mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.pipeline.helpers import run

from singlepath.data import Preprocess
from singlepath.errors import UserError
from singlepath.export import predict, predict_network
from singlepath.runtimes import RUNTIMES

from .helpers import STRANGE, make_network, make_preprocess, make_space, write_pictures

onnx = pytest.importorskip("onnx")
MODELS = ("model.onnx", "model.safetensors", "model.py", ".")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 5)


def probabilities(exported, files: list[Path]) -> torch.Tensor:
    """As training and evaluation compute them."""
    preprocess = exported.preprocess
    pixels = torch.stack([preprocess.image(Image.open(file)) for file in files])
    with torch.no_grad():
        return exported.network.eval()(preprocess.normalise(pixels)).softmax(1)


@pytest.mark.parametrize("model", MODELS)
def test_equals_eager(exported, pictures: list[Path], model: str) -> None:
    wanted = probabilities(exported, pictures)
    found = predict(exported.folder / model, pictures, top=3)
    assert [p.file for p in found] == pictures
    assert len({p.label for p in found}) > 1
    for one, row in zip(found, wanted, strict=True):
        values, places = row.topk(3)
        assert one.label == STRANGE[int(places[0])]
        assert [name for name, _ in one.top] == [STRANGE[int(i)] for i in places]
        assert [p for _, p in one.top] == pytest.approx(values.tolist(), abs=1e-4)
        assert one.probability == one.top[0][1]


def test_network_in_memory(exported, pictures: list[Path]) -> None:
    network, preprocess, classes, _ = exported
    network.train()
    found = predict_network(network, preprocess, classes, pictures)
    assert network.training
    network.eval()
    stored = predict(exported.folder / "model.onnx", pictures)
    assert [p.label for p in found] == [p.label for p in stored]
    assert [p.probability for p in found] == pytest.approx([p.probability for p in stored], abs=1e-4)
    assert json.loads(json.dumps(found[0].as_dict()))["label"] == found[0].label
    assert len(found[0].top) == 1


def test_grey_network(tmp_path: Path, pictures: list[Path]) -> None:
    network = make_network(make_space("mobile-small", {"in_channels": 1}), 0)
    preprocess = make_preprocess(network.spec)
    assert len(predict_network(network, preprocess, STRANGE, pictures)) == 5


def test_folders_and_many_images(exported, pictures: list[Path], tmp_path: Path) -> None:
    for number in range(34):
        (tmp_path / "deep").mkdir(exist_ok=True)
        shutil.copy(pictures[number % 5], tmp_path / "deep" / f"{number:02d}.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    found = predict(exported.folder, [tmp_path, pictures[0]])
    assert [p.file.name for p in found] == [*(f"{n:02d}.PNG" for n in range(34)), "0.png"]
    assert found[0].probability == pytest.approx(found[-1].probability, abs=1e-4)
    assert found[33].label == found[3].label


def test_top_is_at_most_the_classes(exported, pictures: list[Path]) -> None:
    found = predict(exported.folder, pictures[:1], top=99)[0]
    assert len(found.top) == len(STRANGE)
    assert sum(p for _, p in found.top) == pytest.approx(1)


def relabelled(exported, folder: Path, **properties: str | None) -> Path:
    """A copy of the ONNX file with other metadata."""
    model = onnx.load(exported.folder / "model.onnx")
    kept = {p.key: p.value for p in model.metadata_props} | {f"singlepath.{k}": v for k, v in properties.items()}
    onnx.helper.set_model_props(model, {key: value for key, value in kept.items() if value is not None})
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


PREPROCESS = json.dumps(Preprocess(16, 16, (0.5,) * 3, (0.5,) * 3, 3).as_dict())


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"classes": None}, ["singlepath.classes"]),
        ({"classes": None, "preprocess": None}, ["singlepath.classes", "singlepath.preprocess"]),
        ({"classes": "[1]"}, ["classes"]),
        ({"classes": "{"}, ["metadata"]),
        ({"preprocess": "3"}, ["preprocess"]),
        ({"preprocess": "{}"}, ["preprocess", "size"]),
        ({"preprocess": PREPROCESS}, ["[3, 16, 16]", "[3, 32, 32]"]),
        ({"preprocess": PREPROCESS.replace("[0.5", "[null")}, ["preprocess"]),
        ({"classes": '["a"]'}, ["1 classes"]),
    ],
)
def test_metadata_that_is_wrong(exported, pictures: list[Path], tmp_path: Path, properties: dict, words: list) -> None:
    file = relabelled(exported, tmp_path, **properties)
    with pytest.raises(UserError) as caught:
        predict(file, pictures)
    assert all(word in str(caught.value) for word in [*words, "changed.onnx"]), caught.value
    assert "\n" not in str(caught.value)


def test_onnx_of_somebody_else(pictures: list[Path], tmp_path: Path) -> None:
    RUNTIMES["onnxruntime"].convert(torch.nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8), tmp_path / "x.onnx", {})
    with pytest.raises(UserError, match=r"singlepath\.classes and singlepath\.preprocess"):
        predict(tmp_path / "x.onnx", pictures)


def test_mistakes_are_one_line(exported, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(pictures[0].read_bytes()[:60])
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty").mkdir()
    model = exported.folder
    cases: list[tuple[Path, list[Path], int, str]] = [
        (tmp_path / "absent.onnx", pictures, 1, "absent.onnx"),
        (tmp_path / "absent", pictures, 1, "absent"),
        (tmp_path / "text.onnx", pictures, 1, "text.onnx"),
        (tmp_path / "broken.png", pictures, 1, "broken.png"),
        (tmp_path / "empty", pictures, 1, "model.onnx"),
        (model, [], 1, "no image"),
        (model, [tmp_path / "no.png"], 1, "no.png"),
        (model, [tmp_path / "broken.png"], 1, "broken.png"),
        (model, [*pictures, tmp_path / "no.png"], 1, "no.png"),
        (model, [tmp_path / "broken.png"] * 40, 1, "none of the 40 images can be read"),
        (model, [tmp_path / "empty"], 1, "empty"),
        (model, pictures, 0, "top 0"),
    ]
    for path, images, top, word in cases:
        with pytest.raises(UserError) as caught:
            predict(path, images, top)
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_unreadable_images_are_skipped(exported, pictures: list[Path], tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.png").write_bytes(pictures[number % 5].read_bytes())
    broken = [tmp_path / f"{number:02d}.png" for number in (0, 3, 35)]
    for file in broken:
        file.write_bytes(file.read_bytes()[:60])
    skipped: list[tuple[Path, str]] = []
    found = predict(exported.folder, [tmp_path], skip=lambda file, why: skipped.append((file, why)))
    assert [file for file, _ in skipped] == broken
    assert all(why and "\n" not in why for _, why in skipped)
    assert [p.file for p in found] == [f for f in sorted(tmp_path.iterdir()) if f not in broken]
    whole = predict(exported.folder, pictures)
    assert all(p.label == whole[int(p.file.stem) % 5].label for p in found)


def test_a_whole_batch_of_unreadable_images(exported, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"skipped '.*broken\.png'"):
        found = predict(exported.folder, [tmp_path / "broken.png"] * 33 + pictures[:1])
    assert [p.file for p in found] == pictures[:1]


def test_the_command_names_what_it_skips(
    exported, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("singlepath.pipeline.commands.note", said.append)
    (tmp_path / "bad\nname.png").write_bytes(b"no image")
    shutil.copy(pictures[0], tmp_path / "good.png")
    code, out, _ = run("predict", exported.folder, tmp_path, "--json")
    printed = json.loads(out.splitlines()[-1])
    assert code == 0 and [Path(p["file"]).name for p in printed["predictions"]] == ["good.png"]
    assert [Path(p["file"]).name for p in printed["skipped"]] == ["bad\nname.png"] and printed["skipped"][0]["reason"]
    assert len(said) == 1 and r"bad\nname.png" in said[0] and "\n" not in said[0]
    (tmp_path / "good.png").unlink()
    code, out, err = run("predict", exported.folder, tmp_path)
    assert code == 2 and out == "" and err.count("\n") == 1 and r"bad\nname.png" in err and len(said) == 1


def test_channels_that_no_file_has(pictures: list[Path]) -> None:
    network = make_network(make_space("mobile-small", {"in_channels": 2}), 0)
    with pytest.raises(UserError, match="2 channels"):
        predict_network(network, Preprocess(32, 32, (0.5, 0.5), (0.5, 0.5), 2), STRANGE, pictures)
