"""result.json: what came out of a run, in plain values. Reports and commands begin with this file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from singlepath.architecture import SKIP, Architecture
from singlepath.costs import Budget, CostModel, LatencyTable, activation_bytes, macs, parameters
from singlepath.data import Data
from singlepath.errors import user_error
from singlepath.pipeline.progress import note
from singlepath.runs import begun_by, read_config, read_json, write_json
from singlepath.spaces import Space, make

OF_WEIGHTS = {"accuracy", "export", "seconds", "training"}

__all__ = [
    "architecture_of", "blocks_of", "cost_of", "going_on", "measured_holds", "put_aside", "read_result",
    "relative_improvement", "set_aside", "update_result",
]  # fmt: skip


def read_result(run: Path) -> dict[str, Any]:
    """A run's result.json.

    Raises:
        UserError: no run folder, or nothing has been found yet.
    """
    if not run.is_dir():
        raise user_error(
            f"there is no run folder {run}", "allowed: a folder made by search or design", "check the path"
        )
    if not (run / "result.json").is_file():
        raise user_error(
            f"the run in {run} has no result yet", "result.json is written when a search ends", going_on(run)
        )
    result = read_json(run / "result.json")
    if not isinstance(result, dict) or not result.keys() >= {"options", "architecture", "cost"}:
        raise user_error(
            f"{run / 'result.json'} holds no result of a search", "needed: the file as it was written", going_on(run)
        )
    return result


def going_on(run: Path) -> str:
    """How to go on with a run that was interrupted: its options say which command began it."""
    if not (run / "config.yaml").is_file():
        return "give a folder that search or design made"
    options = read_config(run)["options"]
    if "network" in options:
        return f"give the run that this training belongs to: {run.parent}"
    return f"type: singlepath {begun_by(options)} --resume {run}"


def update_result(run: Path, **parts: Any) -> dict[str, Any]:
    """Put parts into result.json (dicts are merged one level deep; how a network was chosen is said anew)."""
    result = read_json(run / "result.json") if (run / "result.json").is_file() else {}
    for name, value in parts.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict) and name != "selection":
            result[name] = {**result[name], **value}
        else:
            result[name] = value
    write_json(run / "result.json", result)
    return result


def set_aside(run: Path) -> None:
    """Keep what describes weights that are no longer the run's under other names: accuracies, files, a design's
    summary."""
    result = read_json(run / "result.json")
    if not result.keys() & OF_WEIGHTS:
        return
    aside = put_aside(run, ["report.html", "export", *["summary.json"] * (result.get("kind") == "design")])
    write_json(aside / "result.json", result)
    write_json(run / "result.json", {name: value for name, value in result.items() if name not in OF_WEIGHTS})
    note(f"other weights: accuracies, comparison, export and page of those before are in {aside}")


def put_aside(run: Path, names: Sequence[str]) -> Path:
    """Move files and folders of a run, those that are there, into a new folder inside it."""
    aside = next(folder for n in count(1) if not (folder := run / f"before-{n}").exists())
    aside.mkdir()
    for name in names:
        if (run / name).exists():
            os.replace(run / name, aside / name)
    return aside


def architecture_of(run: Path) -> tuple[Space, Architecture]:
    """The space and the architecture a run found."""
    architecture = Architecture.from_dict(read_json(run / "architecture.json"))
    space = make(architecture.space)
    return space, space.architecture(space.indices(architecture))


def blocks_of(space: Space, architecture: Architecture, costs: CostModel) -> list[dict[str, Any]]:
    """Every block position for the drawing, skipped ones included, with its share of the cost."""
    rows, searchable = [], iter(zip(costs.layers, space.indices(architecture), strict=True))
    for layer, option, block in zip(space.layers, space.options(architecture), space.blocks(architecture), strict=True):
        cost = None
        if layer.searchable:
            layer_costs, index = next(searchable)
            cost = layer_costs[index]
        rows.append(
            {
                "name": layer.name, "stage": layer.stage, "token": option.token, "kind": block.kind if block else SKIP,
                "kernel": option.kernel, "expansion": option.expansion, "se": option.se,
                "in_channels": layer.in_channels, "out_channels": layer.out_channels, "stride": layer.stride,
                "side": layer.side, "cost": cost, "searchable": layer.searchable,
            }
        )  # fmt: skip
    return rows


def cost_of(space: Space, architecture: Architecture, budget: Budget, underfilled: str | None) -> dict[str, Any]:
    """The cost part of a result, before anything is measured."""
    costs, spec = budget.costs, space.network(architecture)
    unmeasured = "not timed yet" if costs.kind == "latency" else f"the budget is on {costs.unit}; nothing was timed"
    return {
        "kind": costs.kind, "unit": costs.unit, "budget": budget.limit, "target": budget.target,
        "predicted": costs.of(space.indices(architecture)), "measured": None, "measured_reason": unmeasured,
        "measured_holds": None, "drift": None, "error95": costs.error95, "rest": costs.fixed, "macs": macs(spec),
        "parameters": parameters(spec), "activation_bytes": activation_bytes(spec), "underfilled_reason": underfilled,
    }  # fmt: skip


def measured_holds(cost: dict[str, Any], measured: float | None) -> bool | None:
    """Whether a measured latency keeps the budget; None where nothing was measured or the budget is on something
    else."""
    return None if measured is None or cost["kind"] != "latency" else measured <= cost["budget"]


def found_parts(
    space: Space, architecture: Architecture, budget: Budget, table: LatencyTable | None, data: Data,
    selection: dict[str, Any], underfilled: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The parts of result.json that a search fills."""
    keep = ("device", "runtime", "precision", "threads", "batch", "validation", "correction", "source", "input_size")
    costs = budget.costs
    return {
        "data": {
            "name": data.name, "classes": list(data.classes), "train": len(data.train), "held_out": len(data.val),
            "skipped": data.skipped, "shorter_edge": data.side, "input_size": space.input_size,
        },
        "space": {"id": space.id, "size": space.size, "smallest": costs.smallest, "largest": costs.largest},
        "architecture": {**architecture.as_dict(), "string": space.string(architecture)},
        "blocks": blocks_of(space, architecture, costs),
        "cost": cost_of(space, architecture, budget, underfilled),
        "selection": selection,
        "table": table.model_dump(include=set(keep)) if table else None,
    }  # fmt: skip


def relative_improvement(accuracy: float, random_mean: float) -> float | None:
    """RI = 100 (Acc - Acc_random) / Acc_random (arXiv 1912.12522); None where the random networks get nothing right."""
    return 100.0 * (accuracy - random_mean) / random_mean if random_mean else None


def random_parts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1) and the networks themselves."""
    values = [row["accuracy"] for row in rows]
    return {
        "mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0, "networks": rows,
    }  # fmt: skip
