"""What travels with exported weights: class names, preprocessing, architecture, version."""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from singlepath.blocks import Network
from singlepath.data import Preprocess
from singlepath.errors import user_error

__all__ = ["Labels", "check_fit", "plain", "preprocess_dict", "read_labels", "version"]

CROP, INTERPOLATION, RANGE = "center", "bilinear", "0..255"


@dataclass(frozen=True)
class Labels:
    """How images become a network's input, and what its outputs are called."""

    preprocess: Preprocess
    classes: tuple[str, ...]


def version() -> str:
    """The installed version of singlepath."""
    try:
        return importlib.metadata.version("singlepath")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def preprocess_dict(preprocess: Preprocess) -> dict[str, Any]:
    """The evaluation path of an image in words anyone can follow; `Preprocess.from_dict` reads it back.

    `mean` and `std` are for information: exported networks take pixels of 0..255 and normalise them inside.
    """
    return {
        "size": preprocess.size,
        "resize": preprocess.resize,
        "crop": CROP,
        "interpolation": INTERPOLATION,
        "channels": preprocess.channels,
        "range": RANGE,
        "normalised": "inside the network",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
    }


def read_labels(preprocess: Any, classes: Any) -> Labels:
    """From values that were JSON.

    Raises:
        ValueError: they are not what `preprocess_dict` and a list of class names look like.
    """
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes must be a list of names")
    try:
        found = Preprocess.from_dict(preprocess)
    except (KeyError, TypeError) as error:
        raise ValueError(f"preprocess lacks or misstates {error}") from None
    said = {"crop": CROP, "interpolation": INTERPOLATION, "range": RANGE}
    for key, value in said.items():
        if preprocess.get(key, value) != value:
            raise ValueError(f"preprocess has {key} {preprocess[key]!r}, only {value!r} is known")
    return Labels(found, tuple(classes))


def check_fit(network: Network, preprocess: Preprocess, classes: Sequence[str]) -> None:
    """Refuse preprocessing or class names that belong to another network.

    Raises:
        UserError: names what differs.
    """
    spec = network.spec
    pairs = (
        ("input size", preprocess.size, spec.input_size),
        ("number of channels", preprocess.channels, spec.in_channels),
        ("number of classes", len(classes), spec.classes),
    )
    for what, given, wanted in pairs:
        if given != wanted:
            raise user_error(
                f"the data has {what} {given}", f"the network has {wanted}", "use the data it was trained on"
            )


def plain(network: Network) -> Network:
    """A copy to export: evaluation mode, float32, on the CPU. The network itself is left as it is."""
    return copy.deepcopy(network).cpu().float().eval()


def text_values(values: Mapping[str, Any] | None) -> dict[str, str]:
    """Metadata as files hold it: text both sides."""
    return {str(key): str(value) for key, value in (values or {}).items()}
