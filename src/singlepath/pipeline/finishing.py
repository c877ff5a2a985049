"""The last steps of a run: export, timing of the exported file, the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from singlepath.blocks import Network
from singlepath.costs import LatencyTable
from singlepath.data import Data
from singlepath.devices import Measured, measure_network, unmeasurable
from singlepath.errors import SinglepathError
from singlepath.export import FORMATS, check_export, load_weights
from singlepath.pipeline.outcome import measured_holds, read_result, update_result
from singlepath.pipeline.progress import note
from singlepath.runtimes import get

__all__ = ["export_all", "real_images", "time_exported", "time_spec"]

IMAGES = 32  # compared between the original and the exported file
DRIFT = 0.2  # beyond it the table is timed again


def real_images(data: Data, count: int = IMAGES) -> Tensor:
    """uint8 [N, C, S, S] of held-out images as the network sees them before normalisation."""
    few = data.val.subset(torch.arange(min(count, len(data.val))).numpy())
    chunks = [torch.arange(len(few))]
    return next(iter(few.stream(chunks, data.preprocess, None, 0)))


def export_all(run: Path, weights: Path, formats: tuple[str, ...], images: Tensor) -> dict[str, Any]:
    """Write every format, run each in a fresh process on real images, compare and time it.

    Raises:
        SinglepathError: an exported file's numbers differ by more than `Checked.allowed`.
    """
    loaded = load_weights(weights)
    parts: dict[str, Any] = {}
    for name in formats:
        folder = run / "export" / name
        FORMATS[name](loaded.network, loaded.preprocess, loaded.classes, folder, {"run": run.name})
        checked = check_export(name, folder, loaded.network, loaded.preprocess, images)
        if not checked.holds:
            raise SinglepathError(
                f"the exported {name} differs from the network by {checked.max_abs_difference:.2g}, "
                f"allowed {checked.allowed:.2g}"
            )
        parts[name] = {**checked.as_dict(), "file": str(Path("export", name, Path(checked.file).name))}
        note(f"exported {parts[name]['file']}: difference {checked.max_abs_difference:.1e}, {checked.ms:.3f} ms")
    return parts


def time_spec(network: Network, table: LatencyTable) -> Measured:
    """A network timed with the table's calibration networks, if the table's device is here."""
    reason = unmeasurable(table)
    return Measured(None, reason=reason) if reason else measure_network(network.spec, table)


def time_exported(file: Path, network: Network, table: LatencyTable) -> Measured:
    """The exported ONNX file itself, timed on the table's runtime among its calibration networks."""
    if table.runtime != "onnxruntime" or unmeasurable(table):
        return time_spec(network, table)
    spec, runtime = network.spec, get(table.runtime)
    example = torch.rand(table.batch, spec.in_channels, spec.input_size, spec.input_size).mul(255).numpy()
    return measure_network((runtime.load(file, table.threads), example), table)


def keep_measured(run: Path, measured: Measured) -> dict[str, Any]:
    """Put a measurement into result.json; `measured` has the common drift divided out."""
    part = {
        "measured": measured.corrected_ms, "measured_raw": measured.ms, "drift": measured.drift,
        "measured_reason": measured.reason or None,
        "measured_holds": measured_holds(read_result(run)["cost"], measured.corrected_ms),
    }  # fmt: skip
    return update_result(run, cost=part)
