"""The search step: from a prepared problem to architecture.json, or on with an interrupted one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from singlepath.costs import LatencyTable
from singlepath.errors import unknown
from singlepath.pipeline.outcome import found_parts, update_result
from singlepath.pipeline.progress import note, progress
from singlepath.pipeline.setup import Prepared, best_device, prepare, set_threads
from singlepath.runs import Run, read_json, write_json
from singlepath.search import METHODS, Found, Problem, run_search

__all__ = ["SEARCH_OPTIONS", "search_in", "search_settings"]

SPACE_OPTIONS = ("width", "input_size", "kernels", "expansions", "se", "activation")
SEARCH_OPTIONS = (
    "data", "space", "device", "budget", "mode", "select", "epochs", "batch_size", "limit", "runtime", "seed", "quick",
    "threads", "workers", *SPACE_OPTIONS,
)  # fmt: skip
QUICK = {"candidates": 8}
QUICK_EPOCHS, QUICK_LIMIT = 1, 600


def search_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The method's own settings."""
    settings = dict(QUICK) if options["quick"] else {}
    return settings | ({"select": options["select"]} if options.get("select") else {})


def prepared_in(run: Run, options: dict[str, Any]) -> Prepared:
    limit = options["limit"] or (QUICK_LIMIT if options["quick"] else None)
    made = prepare(
        run, data=options["data"], space=options["space"], device_name=options["device"], budget=options["budget"],
        runtime=options["runtime"], seed=options["seed"], limit=limit, quick=options["quick"],
        **{name: options[name] for name in SPACE_OPTIONS},
    )  # fmt: skip
    fingerprint = run.path / "data.json"
    if fingerprint.is_file() and read_json(fingerprint)["fingerprint"] != made.data.fingerprint:
        note("warning: the images are not those the run began with")
    run.write("data.json", {"fingerprint": made.data.fingerprint, "classes": list(made.data.classes)})
    return made


def problem_of(made: Prepared, options: dict[str, Any], reporter: Any) -> Problem:
    return Problem(
        made.space, made.data, made.budget, options["seed"],
        options["epochs"] or (QUICK_EPOCHS if options["quick"] else None), options["batch_size"], best_device(),
        options["workers"], search_settings(options), reporter,
    )  # fmt: skip


def search_in(run: Run, options: dict[str, Any], made: Prepared | None = None) -> tuple[Found, Prepared]:
    """Search inside an open run folder; a search that is already done is read back, an interrupted one goes on."""
    if options["mode"] not in METHODS:
        raise unknown("mode", options["mode"], METHODS, "--mode")
    set_threads(options["threads"])
    made = made or prepared_in(run, options)
    started = time.monotonic()
    target = f"{made.budget.limit:.4g} {made.budget.costs.unit}"
    with progress("search", target) as report:
        found, state = run_search(problem_of(made, options, report), METHODS[options["mode"]], run)
    seconds = time.monotonic() - started
    run.time({"phase": "search and selection", "seconds": seconds})
    if "over_budget" in found.selection:
        note(f"warning: {found.selection['over_budget']}")
    write_found(run.path, options, made, found)
    if "model" in state:
        run.save({"supernet": dict(state["model"].state_dict())}, 0, "supernet")
    return found, made


def write_found(path: Path, options: dict[str, Any], made: Prepared, found: Found) -> None:
    """architecture.json and the search's part of result.json."""
    space, table = made.space, made.table
    spec = space.network(found.architecture)
    write_json(
        path / "architecture.json",
        {**found.architecture.as_dict(), "timm": spec.timm, "network": spec.as_dict()},
    )
    asked = {k: options[k] for k in ("data", "space", "device", "budget", "mode", "seed")}
    parts = found_parts(
        space, found.architecture, made.budget, table, made.data, found.selection, found.underfilled_reason
    )
    update_result(path, kind="search", asked=asked, options=options, **parts, **_environment(path))


def _environment(path: Path) -> dict[str, Any]:
    config = yaml.safe_load((path / "config.yaml").read_text())
    return {
        "versions": {**config["versions"], "commit": config.get("commit")}, "hardware": config["hardware"],
    }  # fmt: skip


def retimed(run: Run, table: LatencyTable) -> None:
    """Keep the first table beside the one that replaces it."""
    first = run.path / "table.json"
    if first.is_file() and not run.has("table-first.json"):
        run.write("table-first.json", read_json(first))
    run.write("table.json", table.model_dump())
