"""Both runtimes give the network's own numbers; ONNX carries its metadata and is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from singlepath.blocks import Network, build
from singlepath.errors import UserError
from singlepath.runtimes import RUNTIMES, get, onnxruntime_, torch_
from singlepath.spaces import make

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def network() -> Network:
    space = make("mobile-small(se=(0.0, 0.25), activation='hard_swish')")
    spec = space.network(space.sample(np.random.default_rng(3)))
    network = build(spec, 0)
    x = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of the data itself: logits of ordinary size
    with torch.no_grad():
        network.train()(x)
    return network


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 3, 32, 32), np.float32)


def eager(network: Network, images: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_onnx_equals_eager_for_any_batch(padding: str, images: np.ndarray, tmp_path: Path) -> None:
    space = make("mobile-small", padding=padding)
    network = build(space.network(space.sample(np.random.default_rng(5))), 0)
    onnxruntime_.convert(network, torch.zeros(1, 3, 32, 32), tmp_path / "m.onnx", {})
    session = onnxruntime_.load(tmp_path / "m.onnx")
    for x in (images, images[:1]):
        expected = eager(network, x)
        assert np.abs(onnxruntime_.run(session, x) - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def test_every_runtime_equals_eager(network: Network, images: np.ndarray, tmp_path: Path) -> None:
    for name, runtime in RUNTIMES.items():
        source: Path | Network = network.train()  # the runtimes see to evaluation mode themselves
        if not runtime.in_memory:
            source = tmp_path / f"m{runtime.suffix}"
            runtime.convert(network, torch.zeros(1, 3, 32, 32), source, {})
        session = runtime.load(source, threads=1)
        assert np.abs(runtime.run(session, images) - eager(network, images)).max() <= 1e-4, name
        assert runtime.time_once(session, images) > 0, name


def test_onnx_names_metadata_opset_and_single_file(network: Network, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "m.onnx"
    onnxruntime_.convert(network, torch.zeros(1, 3, 32, 32), path, {"classes": '["a", "b"]', "singlepath": "1"})
    session = onnxruntime_.load(path)
    assert onnxruntime_.metadata(session) == {"classes": '["a", "b"]', "singlepath": "1"}
    assert [i.name for i in session.get_inputs()] == ["input"] and [o.name for o in session.get_outputs()] == ["logits"]
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    model = onnx.load(str(path))
    assert model.opset_import[0].version >= 17
    onnx.checker.check_model(model)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_convert_leaves_the_training_mode(name: str, network: Network, tmp_path: Path) -> None:
    runtime = get(name)
    for training in (True, False):
        network.train(training)
        runtime.convert(network, torch.zeros(1, 3, 32, 32), tmp_path / f"m{runtime.suffix}", {"a": "b"})
        assert all(m.training == training for m in network.modules())
    assert [p.name for p in tmp_path.iterdir()] == [f"m{runtime.suffix}"]


def test_a_torch_program_is_written_with_a_free_batch(network: Network, tmp_path: Path, images: np.ndarray) -> None:
    torch_.convert(network, torch.zeros(1, 3, 32, 32), tmp_path / "m.pt2", {"note": "here"})
    extra = {"note": ""}
    module = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    with torch.no_grad():
        assert np.abs(module(torch.from_numpy(images)).numpy() - eager(network, images)).max() <= 1e-4
    assert extra["note"] in ("here", b"here")


def test_an_open_file_is_replaced_never_overwritten(network: Network, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").hardlink_to(tmp_path / "m.onnx")
    onnxruntime_.convert(network, torch.zeros(1, 3, 32, 32), tmp_path / "m.onnx", {})
    assert (tmp_path / "link.onnx").read_bytes() == b"old" != (tmp_path / "m.onnx").read_bytes()


def test_torch_threads_are_given_back(network: Network, images: np.ndarray) -> None:
    before = torch.get_num_threads()
    torch_.time_once(torch_.load(network, threads=before + 1), images)
    assert torch.get_num_threads() == before


def test_a_failed_conversion_leaves_the_old_file(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def broken(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(onnxruntime_.os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        onnxruntime_.convert(network, torch.zeros(1, 3, 32, 32), path, {})
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_mistakes_are_one_line(tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.onnx").write_text("not a model")
    for mistake, words in (
        (lambda: get("onnxrumtime"), "--runtime onnxruntime"),
        (lambda: onnxruntime_.load(tmp_path / "absent.onnx"), "absent.onnx"),
        (lambda: onnxruntime_.load(tmp_path / "bad.onnx"), "bad.onnx"),
        (lambda: onnxruntime_.load(network), "allowed: an .onnx file"),
        (lambda: torch_.load(tmp_path / "m.pt2"), "--runtime onnxruntime"),
    ):
        with pytest.raises(UserError) as caught:
            mistake()
        assert words in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"extra 'onnx'.*singlepath\[onnx\]"):
        onnxruntime_.convert(network, torch.zeros(1, 3, 32, 32), tmp_path / "m.onnx", {})
