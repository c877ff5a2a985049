"""A network as one ``.safetensors`` file that says itself what it is: weights, description, classes, preprocessing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor

from singlepath.architecture import NetworkSpec
from singlepath.blocks import Network, to_channels_last
from singlepath.data import Preprocess
from singlepath.errors import user_error
from singlepath.export.described import check_fit, preprocess_dict, read_labels, text_values, version
from singlepath.export.files import write

__all__ = ["Loaded", "load_weights", "save_weights"]

KEY = "singlepath"


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
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        labels = read_labels(about["preprocess"], about["classes"])
        network = Network(NetworkSpec.from_dict(about["network"]))
        network.load_state_dict(state)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise user_error(
            f"{str(path)!r} is not a network that singlepath saved ({type(error).__name__}: {reason})",
            "allowed: a .safetensors file with weights and their description", "export it again",
        ) from None  # fmt: skip
    check_fit(network, labels.preprocess, labels.classes)
    return Loaded(to_channels_last(network).eval(), labels.preprocess, labels.classes)
