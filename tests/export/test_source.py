"""The stand-alone model.py: same numbers, PyTorch alone, harmless names, fit to be read."""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from singlepath.data import Preprocess
from singlepath.data.pictures import open_picture
from singlepath.errors import UserError
from singlepath.export import export_source, load_weights, save_weights
from singlepath.export.source import listing, literal, source_text

from .helpers import (
    SPACES,
    STRANGE,
    eager,
    import_file,
    make_network,
    make_pixels,
    make_preprocess,
    make_space,
    write_pictures,
)


@pytest.mark.parametrize(("name", "options"), SPACES, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("seed", range(3))
def test_equals_eager(name: str, options: dict, seed: int, tmp_path: Path) -> None:
    network = make_network(make_space(name, options), seed)
    preprocess = make_preprocess(network.spec)
    module = import_file(export_source(network, preprocess, STRANGE, tmp_path))
    loaded = module.load()
    assert not loaded.training
    assert tuple(module.CLASSES) == STRANGE
    assert Preprocess.from_dict(module.PREPROCESS) == preprocess
    for count in (5, 1):
        pixels = make_pixels(preprocess, count, seed)
        for given_pixels in (pixels, pixels.float()):
            with torch.no_grad():
                found = loaded(given_pixels)
            torch.testing.assert_close(found, eager(network, preprocess, pixels), atol=1e-4, rtol=0)


def test_needs_torch_alone(exported, tmp_path: Path) -> None:
    script = f"""
import sys
import torch
before = set(sys.modules)
sys.path.insert(0, {str(exported.folder)!r})
import model
model.load()(torch.zeros(2, 3, 32, 32))
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(sorted(new - set(sys.stdlib_module_names) - {{"model", "torch"}}), "safetensors" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] False"


def test_imports_as_written(exported) -> None:
    tree = ast.parse((exported.folder / "model.py").read_text(encoding="utf-8"))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    outside = {str(name).split(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert outside == {"torch", "PIL"}
    first = {str(n.module).split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom)}
    assert "PIL" not in first  # only where image files are labelled


def test_only_the_parts_it_has(tmp_path: Path) -> None:
    plain = make_network(make_space("macro", {}), 1)
    text = source_text(plain.spec, make_preprocess(plain.spec), STRANGE)
    for absent in ("SqueezeExcite", "SameConv2d", "DepthwiseSeparable", "#:", "se: int"):
        assert absent not in text
    many = make_space("mobile-small", {"in_channels": 5, "padding": "same", "se": (0.0, 0.5)})
    spec = many.network(many.largest())
    text = source_text(spec, Preprocess(32, 32, (0.5,) * 5, (0.5,) * 5, 5), STRANGE)
    for present in ("SqueezeExcite", "SameConv2d", "DepthwiseSeparable", "se: int"):
        assert present in text
    for absent in ("Reduction", "PIL", "sys", "#:"):
        assert absent not in text


@pytest.mark.parametrize(("name", "options"), SPACES, ids=lambda value: value if isinstance(value, str) else "")
def test_is_tidy(name: str, options: dict, tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    space = make_space(name, options)
    text = source_text(space.network(space.largest()), make_preprocess(space), STRANGE)
    assert max(map(len, text.splitlines())) <= 120
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", "--target-version=py311"]
    command += ["--select=E,F,W,I,UP,B,SIM", "--stdin-filename=model.py", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stdout


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_literal_is_the_text(text: str) -> None:
    assert ast.literal_eval(literal(text)) == text
    assert literal(text).isprintable()


@given(st.lists(st.text(max_size=60), max_size=40))
@settings(max_examples=100, deadline=None)
def test_listing_is_the_list(names: list[str]) -> None:
    written = listing(map(literal, names))
    assert ast.literal_eval(written) == names
    for line in written.splitlines():
        assert len(line) <= 110 or line.count(", ") <= max(name.count(", ") for name in names)


def test_names_are_not_code(tmp_path: Path) -> None:
    space = make_space("mobile-small", {}, classes=2)
    names = ('"]\nraise SystemExit("run")\n#', "'''\nraise SystemExit\n")
    text = source_text(space.network(space.largest()), make_preprocess(space), names)
    scope: dict = {"__name__": "model", "__file__": str(tmp_path / "model.py")}
    exec(compile(text, "model.py", "exec"), scope)
    assert tuple(scope["CLASSES"]) == names


def test_same_input_same_bytes(exported, tmp_path: Path) -> None:
    export_source(exported.network, exported.preprocess, STRANGE, tmp_path, {"run": "r1"})
    for name in ("model.py", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (exported.folder / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.py", "model.safetensors"]


def picture_files(folder: Path) -> list[Path]:
    """One picture in every form that a file may have."""
    image = Image.open(write_pictures(folder, 1)[0])
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 256 + 77
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif, quality=95)
    image.convert("L").save(folder / "grey.png")
    image.convert("P").save(folder / "palette.png")
    image.convert("RGBA").save(folder / "alpha.png")
    image.resize((200, 30)).save(folder / "wide.png")
    image.resize((3, 401)).save(folder / "thin.png")
    image.resize((37, 37)).save(folder / "exact.png")
    Image.fromarray(grey).save(folder / "sixteen.png")
    Image.fromarray(grey.astype(np.int32)).save(folder / "whole.tif")
    Image.frombytes("I;16B", grey.shape[::-1], grey.astype(">u2").tobytes()).save(folder / "big-endian.tif")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_read_as_in_training(channels: int, tmp_path: Path) -> None:
    space = make_space("mobile-small", {"in_channels": channels})
    preprocess = make_preprocess(space)
    network = make_network(space, 0)
    module = import_file(export_source(network, preprocess, STRANGE, tmp_path / "model"))
    files = picture_files(tmp_path / "pictures")
    assert len(files) == 11
    for file in files:
        assert torch.equal(module.read_picture(str(file)), preprocess.image(open_picture(file))), file.name


def test_labels_images_on_the_command_line(tmp_path: Path) -> None:
    classes = tuple("abcdefghij")
    network = make_network(make_space("mobile-small", {}), 0)
    preprocess = make_preprocess(network.spec)
    file = export_source(network, preprocess, classes, tmp_path / "model")
    images = write_pictures(tmp_path / "pictures", 2)
    (tmp_path / "broken.png").write_bytes(images[0].read_bytes()[:60])
    command = [sys.executable, "-P", "-B", str(file), *map(str, images)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pixels = torch.stack([preprocess.image(Image.open(path)) for path in images])
    wanted = [classes[i] for i in eager(network, preprocess, pixels).argmax(1).tolist()]
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == wanted
    command.insert(5, "broken.png")
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert again.returncode == 1 and again.stdout == done.stdout, "one that cannot be read costs the others nothing"
    assert again.stderr.startswith("cannot read broken.png") and again.stderr.count("\n") == 1


@pytest.mark.parametrize(("arguments", "word"), [([], "usage"), (["no.png"], "no.png"), (["broken.png"], "broken.png")])
def test_mistakes_on_the_command_line(exported, tmp_path: Path, monkeypatch, arguments: list[str], word: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=word) as caught:
        import_file(exported.folder / "model.py").main(arguments)
    assert "\n" not in str(caught.value)


def test_weights_round_trip(exported) -> None:
    loaded = load_weights(exported.folder / "model.safetensors")
    assert not loaded.network.training
    assert loaded.preprocess == exported.preprocess
    assert loaded.classes == STRANGE
    assert loaded.network.spec == exported.network.spec
    wanted = exported.network.state_dict()
    for name, value in loaded.network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, wanted[name])


def damaged(data: bytes) -> dict[str, bytes]:
    """Ways in which a file of weights can be wrong."""
    length = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]

    def packed(change: dict) -> bytes:
        text = json.dumps({**header, **change}).encode()
        return len(text).to_bytes(8, "little") + text + values

    about = json.loads(header["__metadata__"]["singlepath"])
    wider = {**about, "network": {**about["network"], "head_channels": 8}}
    return {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "not ours": packed({"__metadata__": {"format": "pt"}}),
        "other network": packed({"__metadata__": {"singlepath": json.dumps(wider)}}),
        "not JSON": packed({"__metadata__": {"singlepath": "{"}}),
        "no classes": packed({"__metadata__": {"singlepath": json.dumps({**about, "classes": 3})}}),
        "a list": packed({"__metadata__": {"singlepath": "[]"}}),
        "a list inside": packed({"__metadata__": {"singlepath": json.dumps({**about, "network": []})}}),
        "another crop": packed(
            {
                "__metadata__": {
                    "singlepath": json.dumps({**about, "preprocess": {**about["preprocess"], "crop": "top"}})
                }
            }
        ),
    }


def test_damaged_weights(exported, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for what, data in damaged((exported.folder / "model.safetensors").read_bytes()).items():
        file.write_bytes(data)
        with pytest.raises(UserError) as caught:
            load_weights(file)
        assert "\n" not in str(caught.value), what
        assert str(file) in str(caught.value), what


def test_half_precision_networks_are_saved_in_single(exported, tmp_path: Path) -> None:
    half = copy.deepcopy(exported.network).bfloat16()
    loaded = load_weights(save_weights(half, exported.preprocess, STRANGE, tmp_path / "w.safetensors"))
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
