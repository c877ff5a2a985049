"""Exported files run in a process that does not have singlepath, and what differs is found."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from singlepath.errors import SinglepathError, UserError
from singlepath.export import FORMATS, check_export
from singlepath.export.check import RUNNER, Checked, environment

from .helpers import SPACES, STRANGE, make_network, make_pixels, make_preprocess, make_space

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("name", "options"), SPACES[1::2], ids=lambda value: value if isinstance(value, str) else "")
def test_same_in_a_fresh_process(kind: str, name: str, options: dict, tmp_path: Path) -> None:
    network = make_network(make_space(name, options), 11)
    preprocess = make_preprocess(network.spec)
    written = FORMATS[kind](network, preprocess, STRANGE, tmp_path)
    network.train()
    images = make_pixels(preprocess, 37)  # a batch of 32, one of 5, and batches of 1 for the time
    checked = check_export(kind, written, network, preprocess, images)
    assert network.training
    assert checked.max_abs_difference <= 1e-4
    assert checked.holds
    assert checked.agreement == 1.0
    assert 0 < checked.ms < 1000
    assert checked.file == str(written)
    assert checked.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())  # and nothing was left there


def test_large_logits_may_differ_by_their_rounding(exported) -> None:
    images = make_pixels(exported.preprocess, 4)
    assert check_export("onnx", exported.folder, exported.network, exported.preprocess, images).allowed < 1.1e-4
    big = Checked(max_abs_difference=5e-4, allowed=1e-4 + 1.3e-6 * 3600, agreement=1, ms=1, bytes=1, file="")
    assert big.holds and not replace(big, max_abs_difference=5e-3).holds


def test_differences_are_found(exported) -> None:
    other = make_network(make_space("mobile-small", {"input_size": 32, "in_channels": 3}), 3)
    images = make_pixels(exported.preprocess, 8)
    assert check_export("onnx", exported.folder / "model.onnx", other, exported.preprocess, images).holds
    with torch.no_grad():
        other.classifier.bias[0] += 100
    checked = check_export("onnx", exported.folder, other, exported.preprocess, images)
    assert not checked.holds
    assert checked.max_abs_difference == pytest.approx(100, rel=1e-3)
    assert checked.agreement < 1


@pytest.mark.parametrize("line", ["import singlepath", "raise ValueError('first\\nlast')"])
def test_source_that_does_not_stand_alone(exported, tmp_path: Path, line: str) -> None:
    shutil.copytree(exported.folder, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "model.py").read_text(encoding="utf-8")
    (tmp_path / "model.py").write_text(text.replace("import json\n", f"import json\n{line}\n"), encoding="utf-8")
    images = make_pixels(exported.preprocess, 1)
    with pytest.raises(SinglepathError) as caught:
        check_export("source", tmp_path, exported.network, exported.preprocess, images)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_environment_leaves_singlepath_out(tmp_path: Path) -> None:
    source = RUNNER.parents[2]
    given = {"PYTHONPATH": os.pathsep.join([str(source), str(tmp_path)]), "OMP_NUM_THREADS": "8", "PATH": "/bin"}
    made = environment(given)
    assert made["PYTHONPATH"] == str(tmp_path)
    assert made["OMP_NUM_THREADS"] == "1"
    assert made["PATH"] == "/bin"


def test_wrong_arguments(exported, tmp_path: Path) -> None:
    network, preprocess = exported.network, exported.preprocess
    images = make_pixels(preprocess, 1)
    with pytest.raises(UserError, match="onnx"):
        check_export("onx", exported.folder, network, preprocess, images)
    with pytest.raises(UserError, match=r"no model\.onnx"):
        check_export("onnx", tmp_path, network, preprocess, images)
    with pytest.raises(UserError, match=r"no other\.onnx"):
        check_export("onnx", tmp_path / "other.onnx", network, preprocess, images)
    shutil.copy(exported.folder / "model.py", tmp_path)
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        check_export("source", tmp_path, network, preprocess, images)
    for wrong in (images.float(), images[:0], images[:, :1], images[..., 1:]):
        with pytest.raises(ValueError, match="uint8"):
            check_export("onnx", exported.folder, network, preprocess, wrong)
