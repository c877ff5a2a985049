"""Networks out of the tool: files that run without it, checked against the original, and labels for images.

Every format is one function ``(network, preprocess, classes, path, extra_metadata) -> file written``; for all of them
`path` may be a folder. Preprocessing is the same everywhere: a centre square of pixels 0..255 goes in; it is normalised
inside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from singlepath.export.check import TOLERANCE, Checked, check_export
from singlepath.export.onnx_ import export_onnx
from singlepath.export.predict import Prediction, predict, predict_network
from singlepath.export.source import export_source
from singlepath.export.weights import Loaded, load_weights, save_weights

__all__ = [
    "FORMATS",
    "TOLERANCE",
    "Checked",
    "Loaded",
    "Prediction",
    "check_export",
    "export_onnx",
    "export_source",
    "load_weights",
    "predict",
    "predict_network",
    "save_weights",
]

FORMATS: dict[str, Callable[..., Path]] = {"onnx": export_onnx, "source": export_source}
