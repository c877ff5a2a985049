"""The ONNX file: same numbers, clean graph, metadata."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from singlepath.data import Preprocess
from singlepath.errors import UserError
from singlepath.export import export_onnx
from singlepath.runtimes import RUNTIMES

from .helpers import SPACES, STRANGE, eager, make_network, make_pixels, make_preprocess, make_space

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(("name", "options"), SPACES, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("seed", range(3))
def test_equals_eager(name: str, options: dict, seed: int, tmp_path: Path) -> None:
    network = make_network(make_space(name, options), seed)
    preprocess = make_preprocess(network.spec)
    file = export_onnx(network, preprocess, STRANGE, tmp_path)
    runtime = RUNTIMES["onnxruntime"]
    session = runtime.load(file, 1)
    for count in (5, 1):
        pixels = make_pixels(preprocess, count, seed)
        found = runtime.run(session, pixels.float().numpy())
        assert found.shape == (count, len(STRANGE))
        np.testing.assert_allclose(found, eager(network, preprocess, pixels), atol=1e-4)


def test_graph_is_standard(exported) -> None:
    model = onnx.load(exported.folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input]
    assert shapes == [["batch", 3, 32, 32]]
    assert [v.name for v in model.graph.input] == ["input"]
    assert [v.name for v in model.graph.output] == ["logits"]
    for secret in (str(Path.home()), str(Path(__file__).parents[2])):
        assert secret.encode() not in model.SerializeToString()


def test_padding_is_a_constant(tmp_path: Path) -> None:
    """Odd sizes were padded wrongly while the graph computed its padding."""
    network = make_network(make_space("macro", {"padding": "same", "input_size": 33}), 0)
    model = onnx.load(export_onnx(network, make_preprocess(network.spec), STRANGE, tmp_path))
    assert not {"Shape", "Div"} & {node.op_type for node in model.graph.node}


def test_metadata(exported) -> None:
    properties = {p.key: p.value for p in onnx.load(exported.folder / "model.onnx").metadata_props}
    assert json.loads(properties["singlepath.classes"]) == list(STRANGE)
    stated = json.loads(properties["singlepath.preprocess"])
    assert Preprocess.from_dict(stated) == exported.preprocess
    assert (stated["crop"], stated["interpolation"], stated["range"]) == ("center", "bilinear", "0..255")
    assert properties["singlepath.architecture"] == exported.network.spec.string()
    assert properties["singlepath.version"]
    assert properties["run"] == "r1"


def test_extra_metadata_cannot_replace_ours(exported, tmp_path: Path) -> None:
    file = export_onnx(
        exported.network,
        exported.preprocess,
        STRANGE,
        tmp_path / "deep" / "m.onnx",
        {"singlepath.classes": "[]", "n": 3},
    )
    assert file == tmp_path / "deep" / "m.onnx"
    properties = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert json.loads(properties["singlepath.classes"]) == list(STRANGE)
    assert properties["n"] == "3"


def test_network_is_left_as_it_is(tmp_path: Path) -> None:
    network = make_network(make_space("mobile-small", {"padding": "same", "input_size": 17}), 0)
    preprocess = make_preprocess(network.spec)
    network.train()
    network.bn1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes, names = [m.training for m in network.modules()], [name for name, _ in network.named_modules()]
    export_onnx(network, preprocess, STRANGE, tmp_path)
    assert [m.training for m in network.modules()] == modes
    assert [name for name, _ in network.named_modules()] == names
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("change", "word"), [("size", "input size"), ("channels", "number of channels"), ("classes", "number of classes")]
)
def test_other_networks_data_is_refused(exported, tmp_path: Path, change: str, word: str) -> None:
    preprocess, classes = exported.preprocess, exported.classes
    if change == "size":
        preprocess = Preprocess(16, 16, preprocess.mean, preprocess.std, 3)
    elif change == "channels":
        preprocess = Preprocess(32, 32, (0.5,), (0.5,), 1)
    else:
        classes = classes[1:]
    with pytest.raises(UserError, match=word):
        export_onnx(exported.network, preprocess, classes, tmp_path)


def test_file_in_the_way(exported, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(UserError, match="cannot make the folder"):
        export_onnx(exported.network, exported.preprocess, STRANGE, tmp_path / "taken")
