"""The file of a network's weights: what it gives back, and what it refuses before taking memory for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from singlepath.blocks import Network
from singlepath.errors import UserError
from singlepath.export import load_weights, save_weights

from .helpers import STRANGE, make_network, make_preprocess, make_space

Change = Callable[[dict[str, Any], dict[str, Tensor]], None]


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network(make_space("mobile-small", {"se": (0.0, 0.25)}), 3)


@pytest.fixture
def saved(network: Network, tmp_path: Path) -> Path:
    return save_weights(network, make_preprocess(network.spec), STRANGE, tmp_path / "w.safetensors")


def changed(path: Path, change: Change) -> Path:
    """The file with another description or other tensors."""
    with safetensors.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["singlepath"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about, tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"singlepath": json.dumps(about)}))
    return path


def test_the_network_comes_back_and_can_be_trained_without_touching_the_file(network: Network, saved: Path) -> None:
    before, loaded = saved.read_bytes(), load_weights(saved).network
    x = torch.randn(2, network.spec.in_channels, network.spec.input_size, network.spec.input_size)
    with torch.no_grad():
        assert torch.equal(loaded(x), network.eval()(x))
    for ours, theirs in zip(loaded.state_dict().items(), network.state_dict().items(), strict=True):
        assert ours[0] == theirs[0] and ours[1].stride() == theirs[1].stride()
    loaded.train()(x).sum().backward()
    with torch.no_grad():
        for parameter in loaded.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
    assert saved.read_bytes() == before


def bomb(key: str, size: int) -> Change:
    return lambda about, tensors: about["network"].update({key: size})


def block(**values: Any) -> Change:
    return lambda about, tensors: about["network"]["blocks"][1].update(values)


def test_a_description_of_a_giant_is_refused_before_it_is_built(saved: Path) -> None:
    text = saved.read_bytes()
    for change in (
        bomb("head_channels", 10**9), bomb("stem_channels", 10**9), bomb("stem_channels", 10**30),
        block(out_channels=10**9), block(expansion=1e9), block(kernel=10**6 + 1),
    ):  # fmt: skip
        saved.write_bytes(text)
        started = time.monotonic()
        with pytest.raises(UserError, match="not a network that singlepath saved"):
            load_weights(changed(saved, change))
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "change",
    [
        lambda about, tensors: tensors.pop("bn1.bias"),
        lambda about, tensors: tensors.update(more=torch.zeros(1)),
        lambda about, tensors: tensors.update({"bn1.bias": torch.zeros(1)}),
        lambda about, tensors: tensors.update({"bn1.bias": tensors["bn1.bias"].half()}),
        lambda about, tensors: about["network"].update(blocks=[]),
        lambda about, tensors: about.update(network=[]),
    ],
    ids=["missing", "more", "shape", "precision", "no blocks", "no network"],
)
def test_weights_of_another_network_are_refused(change: Change, saved: Path) -> None:
    with pytest.raises(UserError, match="not a network that singlepath saved") as caught:
        load_weights(changed(saved, change))
    assert "\n" not in str(caught.value)
