"""A network as one ``.safetensors`` file that says itself what it is: weights, description, classes, preprocessing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from singlepath.architecture import NetworkSpec
from singlepath.blocks import Network, to_channels_last
from singlepath.data import Preprocess
from singlepath.errors import user_error
from singlepath.export.described import check_fit, preprocess_dict, read_labels, text_values, version
from singlepath.export.files import write

__all__ = ["Loaded", "load_weights", "save_weights"]

KEY = "singlepath"
WRONG = (
    OSError, safetensors.SafetensorError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError,
    RuntimeError,
)  # fmt: skip


class Loaded(NamedTuple):
    """What `load_weights` reads: the network in evaluation mode."""

    network: Network
    preprocess: Preprocess
    classes: tuple[str, ...]


def save_weights(
    network: Network,
    preprocess: Preprocess,
    classes: Sequence[str],
    path: Path | str,
    extra_metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network's weights, float32, and everything needed to use them; the same input gives the same bytes.

    Tensors are named as in timm. How many batches BN has seen is left out: nothing here depends on it.

    Raises:
        UserError: data and network do not fit together, or the folder cannot be made.
    """
    check_fit(network, preprocess, classes)
    about = {
        "network": network.spec.as_dict(),
        "architecture": network.spec.string(),
        "classes": list(classes),
        "preprocess": preprocess_dict(preprocess),
        "version": version(),
        "extra": text_values(extra_metadata),
    }
    # One key only: the order in which safetensors writes several changes from run to run.
    return write(Path(path), safetensors.torch.save(tensors(network), {KEY: json.dumps(about)}))


def tensors(network: Network) -> dict[str, Tensor]:
    """The tensors to save, float32 on the CPU."""
    state = network.state_dict().items()
    return {name: value.cpu().float().contiguous() for name, value in state if value.is_floating_point()}


def load_weights(path: Path | str) -> Loaded:
    """The inverse of `save_weights`.

    Raises:
        UserError: not such a file, or its weights are not those of the network it describes.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
            labels = read_labels(about["preprocess"], about["classes"])
            network = loaded(NetworkSpec.from_dict(about["network"]), file)
    except WRONG as error:
        reason = (str(error).splitlines() or [""])[0]
        raise user_error(
            f"{str(path)!r} is not a network that singlepath saved ({type(error).__name__}: {reason})",
            "allowed: a .safetensors file with weights and their description", "export it again",
        ) from None  # fmt: skip
    check_fit(network, labels.preprocess, labels.classes)
    return Loaded(to_channels_last(network).eval(), labels.preprocess, labels.classes)


def loaded(spec: NetworkSpec, file: Any) -> Network:
    """The network of a description with an open file's weights; no memory is taken before the shapes agree.

    Raises:
        ValueError: the file's weights are not those of the network described.
    """
    with torch.device("meta"):
        network = Network(spec)
    wanted = {name: list(t.shape) for name, t in network.state_dict().items() if t.is_floating_point()}
    parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    for name in {**wanted, **parts}:
        found = (parts[name].get_dtype(), parts[name].get_shape()) if name in parts else None
        if found != ("F32", wanted.get(name)):
            raise ValueError(f"{name} is {found}, the network described has {('F32', wanted.get(name))}")
    network.load_state_dict({name: file.get_tensor(name).clone() for name in parts}, assign=True)
    return network
