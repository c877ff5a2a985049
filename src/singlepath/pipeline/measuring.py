"""The commands that time a device: a space's blocks as a latency table, and one network beside what a table says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from singlepath.costs import activation_bytes, macs, parameters
from singlepath.devices import device as find_device
from singlepath.devices import measure as measure_space
from singlepath.devices import measure_network, unmeasurable
from singlepath.errors import user_error
from singlepath.export.files import make_folder
from singlepath.pipeline import options as o
from singlepath.pipeline.checking import space_named_in
from singlepath.pipeline.progress import timing_progress
from singlepath.pipeline.setup import make_space, table_for
from singlepath.runs import write_atomic
from singlepath.spaces.named import resolve as resolve_architecture

__all__ = ["latency", "measure"]


def measure(
    space: o.SpaceName = "mobile-small", out: Annotated[Path | None, typer.Option(help="the table's file")] = None,
    runtime: o.RuntimeName = "onnxruntime", runtime_threads: Annotated[
        int, typer.Option(min=1, help="of the runtime")
    ] = 1,
    batch: Annotated[int, typer.Option(min=1, help="images a run")] = 1, width: o.SpaceWidth = None,
    input_size: o.SpaceInput = None, kernels: o.SpaceKernels = None, expansions: o.SpaceExpansions = None,
    se: o.SpaceSe = None, activation: o.SpaceActivation = None, classes: int | None = None, seed: o.Seed = 0,
    quick: o.Quick = False,
) -> dict[str, Any]:  # fmt: skip
    """Time a space's blocks on this host and write a latency table, validated on whole networks.

    Example: singlepath measure --space mobile-small --out host.json
    """
    o.check_numbers(measure, locals())
    chosen = make_space(
        space, width=width, input_size=input_size, kernels=kernels, expansions=expansions, se=se, activation=activation,
        classes=classes,
    )  # fmt: skip
    path = Path(out or f"{chosen.name}-host.json")
    if path.exists():
        raise user_error(f"the file {path} exists", "allowed: a new file", "type --out another.json")
    make_folder(path.parent)
    if not os.access(path.parent, os.W_OK):  # timing takes minutes
        raise user_error(f"the folder {path.parent} is not writable", "allowed: one that is", "type --out another.json")
    with timing_progress("measure") as shown:
        table = measure_space(
            chosen, runtime=runtime, threads=runtime_threads, batch=batch, seed=seed, quick=quick, progress=shown
        )
    write_atomic(path, table.to_json())
    costs = table.costs(chosen)
    validation = table.validation.model_dump() if table.validation else None
    return {
        "table": str(path), "device": table.device, "runtime": runtime, "space": chosen.id,
        "smallest_ms": costs.smallest, "largest_ms": costs.largest, "validation": validation,
    }  # fmt: skip


def latency(
    architecture: o.ArchitectureText, device: o.DeviceName = "host", space: Annotated[str | None, typer.Option(
        help="the architecture's space; by default the table's")] = None,
    runtime: o.RuntimeName = "onnxruntime", seed: o.Seed = 0, quick: o.Quick = False,
) -> dict[str, Any]:  # fmt: skip
    """Predicted and measured latency of one architecture, side by side.

    Example: singlepath latency --architecture spnasnet_100 --device pixel1
    """
    found = find_device(device)
    chosen = make_space(space or (found.table.space if found.table else space_named_in(architecture)))
    arch = resolve_architecture(architecture, chosen)
    table = found.table or table_for(chosen, device, runtime=runtime, seed=seed, quick=quick)
    spec = chosen.network(arch)
    reason = unmeasurable(table)
    measured = None if reason else measure_network(spec, table)
    return {
        "architecture": chosen.string(arch), "device": table.device, "space": chosen.id,
        "predicted_ms": table.costs(chosen).of(chosen.indices(arch)),
        "measured_ms": measured.corrected_ms if measured else None, "measured_reason": reason or None,
        "drift": measured.drift if measured else None, "macs": macs(spec), "parameters": parameters(spec),
        "activation_bytes": activation_bytes(spec),
    }  # fmt: skip
