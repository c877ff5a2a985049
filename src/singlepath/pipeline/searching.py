"""The search step: from a prepared problem to architecture.json, or on with an interrupted one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from singlepath.architecture import Architecture
from singlepath.costs import Budget, LatencyTable
from singlepath.data import BUILTIN, Data
from singlepath.errors import unknown, user_error
from singlepath.pipeline.outcome import architecture_of, found_parts, going_on, update_result
from singlepath.pipeline.progress import note, progress
from singlepath.pipeline.setup import Prepared, best_device, load_data, prepare, set_threads
from singlepath.runs import Run, read_config, read_json, write_json
from singlepath.runtimes import RUNTIMES
from singlepath.search import METHODS, Found, Problem, run_search
from singlepath.search.selection import selection_settings
from singlepath.spaces import Space
from singlepath.training.recipe import RECIPES

__all__ = ["check_names", "data_limit", "problem_of", "search_in", "search_settings", "searched_data", "write_found"]

SPACE_OPTIONS = ("width", "input_size", "kernels", "expansions", "se", "activation")
ASKED = ("data", "space", "device", "budget", "mode", "seed")  # of the options, what a result begins with
OURS = "single-path"  # the mode whose selections read a supernet
QUICK = {"candidates": 8}
QUICK_EPOCHS, QUICK_LIMIT = 1, 600


def search_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The method's own settings."""
    settings = dict(QUICK) if options["quick"] else {}
    if options.get("finalists", 1) > 1:
        settings["finalists"] = options["finalists"]
    return settings | (selection_settings(options["select"]) if options.get("select") else {})


def prepared_in(run: Run, options: dict[str, Any]) -> Prepared:
    made = prepare(
        run, data=options["data"], space=options["space"], device_name=options["device"], budget=options["budget"],
        runtime=options["runtime"], seed=options["seed"], limit=data_limit(options), quick=options["quick"],
        padding="same" if options["mode"] == "paper" else None, **{name: options[name] for name in SPACE_OPTIONS},
    )  # fmt: skip
    check_images(run.path, made.data)
    moved = {name: value for name, value in run.moved.items() if name in ASKED}
    if moved and run.has("result.json"):
        update_result(run.path, options=moved, asked=moved)
    run.keep_moved()
    facts = {"name": made.data.name, "fingerprint": made.data.fingerprint, "classes": list(made.data.classes)}
    run.write("data.json", facts)
    return made


def check_images(run: Path, data: Data) -> None:
    """Refuse images that are not those a run began with: another split would put training images into the test part."""
    known = run / "data.json"
    if not known.is_file():
        return
    before = read_json(known)
    if before["classes"] != list(data.classes):
        raise user_error(
            f"the images in {data.name} have {len(data.classes)} classes", f"the run in {run} has {before['classes']}",
            "give it back its images, or begin another run",
        )  # fmt: skip
    if (name := before.get("name", data.name)) != data.name:
        raise user_error(
            f"the images are called {data.name}", f"those of the run in {run} are called {name}",
            "give the folder or file that name",
        )  # fmt: skip
    if before["fingerprint"] != data.fingerprint:
        raise user_error(
            f"the images in {data.name} changed since the run in {run} began", "a run keeps its images",
            "give it back its images, or begin another run",
        )  # fmt: skip


def data_limit(options: dict[str, Any]) -> int | None:
    """How many training images the run uses."""
    return options["limit"] or (QUICK_LIMIT if options["quick"] else None)


def searched_data(run: Path, options: dict[str, Any]) -> tuple[Space, Data]:
    """The space of a finished search and its data, loaded again."""
    space, _ = architecture_of(run)
    if options["data"] not in BUILTIN and not Path(options["data"]).exists():
        raise user_error(
            f"the images of the run in {run} are not at {options['data']!r} any more",
            "allowed: the same images at another place", f"{going_on(run)} --data NEW/PLACE",
        )  # fmt: skip
    data = load_data(options["data"], space, seed=options["seed"], limit=data_limit(options))
    check_images(run, data)
    return space, data


def problem_of(space: Space, data: Data, budget: Budget, options: dict[str, Any]) -> Problem:
    epochs = options["epochs"] or (QUICK_EPOCHS if options["quick"] else None)
    return Problem(
        space, data, budget, options["seed"], epochs, options["batch_size"], best_device(), options["workers"],
        search_settings(options),
    )  # fmt: skip


def check_names(options: dict[str, Any]) -> None:
    """Refuse unknown names before anything is measured or trained."""
    named = {"mode": METHODS, "recipe": RECIPES, "runtime": RUNTIMES}
    for option, known in named.items():
        if options.get(option) is not None and options[option] not in known:
            raise unknown(option, options[option], known, f"--{option}")
    chosen = search_settings({"quick": False, **options})
    by = chosen.get("select", "score") if options.get("mode", OURS) == OURS else f"--mode {options['mode']}"
    if "finalists" in chosen and by != "score":
        raise user_error(
            f"--finalists {chosen['finalists']} with {by}", "only the selection `score` puts networks in an order",
            "leave --finalists out, or --mode and --select",
        )  # fmt: skip


def search_in(run: Run, options: dict[str, Any], made: Prepared | None = None) -> tuple[Found, Prepared]:
    """Search inside an open run folder; a search that is already done is read back, an interrupted one goes on."""
    set_threads(options["threads"])
    made = made or prepared_in(run, options)
    known = kept(run, made)
    if known is not None:
        return known, made
    method, started = METHODS[options["mode"]], time.monotonic()
    target = f"{made.budget.limit:.4g} {made.budget.costs.unit}"
    with progress("search", target) as report:
        problem = replace(problem_of(made.space, made.data, made.budget, options), progress=report)
        found, state = run_search(problem, method, run)
    seconds = time.monotonic() - started
    run.time({"phase": "search and selection", "seconds": seconds})
    if "over_budget" in found.selection:
        note(f"warning: {found.selection['over_budget']}")
    if weights := method.weights(state):
        run.save({"supernet": dict(weights)}, 0, "supernet")
    if sampled := state.get("sampled"):
        run.write("scores.json", [[list(a.choices), *score] for a, score in sampled.items()])
    write_found(run.path, options, made, found)
    run.write(
        "found.json", {"budget": budget_of(made), **found._asdict(), "architecture": found.architecture.as_dict()}
    )
    return found, made


def budget_of(made: Prepared) -> list[float]:
    """What tells the budget, and the costs it is about, from those of another table."""
    costs = made.budget.costs
    return [made.budget.limit, made.budget.target, costs.smallest, costs.largest]


def kept(run: Run, made: Prepared) -> Found | None:
    """The answer of a search that has ended, if it was for this budget (a table that was timed again changes it)."""
    if not run.has("found.json"):
        return None
    saved = run.read("found.json")
    if saved.pop("budget") != budget_of(made):
        return None
    return Found(Architecture.from_dict(saved.pop("architecture")), **saved)


def write_found(path: Path, options: dict[str, Any], made: Prepared, found: Found) -> None:
    """architecture.json and the search's part of result.json."""
    space, table = made.space, made.table
    spec = space.network(found.architecture)
    write_json(
        path / "architecture.json",
        {**found.architecture.as_dict(), "timm": spec.timm, "network": spec.as_dict()},
    )
    asked = {name: options[name] for name in ASKED}
    if (path / "result.json").is_file():
        before = read_json(path / "result.json")
        if "front_chosen" in before and before.get("architecture", {}).get("choices") != list(
            found.architecture.choices
        ):
            update_result(path, front_chosen=None)  # where another network stood among other budgets
    parts = found_parts(
        space, found.architecture, made.budget, table, made.data, found.selection, found.underfilled_reason
    )
    update_result(path, kind="search", asked=asked, options=options, **parts, **_environment(path))


def _environment(path: Path) -> dict[str, Any]:
    config = read_config(path)
    return {
        "versions": {**config["versions"], "commit": config.get("commit")}, "hardware": config["hardware"],
    }  # fmt: skip


def was_retimed(run: Run) -> bool:
    """Whether another table has replaced the first: a run that was killed between the two files still has one alike."""
    return run.has("table-first.json") and run.read("table-first.json") != run.read("table.json")


def retimed(run: Run, table: LatencyTable) -> None:
    """Keep the first table beside the one that replaces it."""
    first = run.path / "table.json"
    if first.is_file() and not run.has("table-first.json"):
        run.write("table-first.json", read_json(first))
    run.write("table.json", table.model_dump())
