"""A search's finalists: the networks that it puts first, trained to tell which of them is the best.

The supernet and one training of each network err differently. So both are read, as held-out cross-entropies in nats:

    answer = argmin over the finalists   CE of the network, trained alone   +   CE that the search's model expects

The held-out images are not trained on. Their number, and the luck of one training, make the first term noisy: alone it
chooses worse than the search did where that noise is about as large as what finalists differ by. The sum gains where
the noise is small or the supernet is wrong, and loses where held-out images are few (docs/results.md, "Finalists"):
below `FEW` of them the search alone chooses about as well, and a note says so. Ours.
"""

from __future__ import annotations

import math
from typing import Any

from singlepath.architecture import Architecture
from singlepath.pipeline.progress import note
from singlepath.pipeline.searching import data_limit, problem_of, write_found
from singlepath.pipeline.setup import Prepared, best_device, set_threads
from singlepath.pipeline.trainings import Job, recipe_for, train_all
from singlepath.runs import Run
from singlepath.search import Found
from singlepath.search.scoring import reason
from singlepath.training import evaluate

__all__ = ["decided", "trainings_of"]

FEW = 1_500  # held-out images


def trainings_of(options: dict[str, Any]) -> int:
    """Networks that are trained to decide; a choice of one needs none."""
    return options["finalists"] if options["finalists"] > 1 else 0


def decided(run: Run, options: dict[str, Any], found: Found, made: Prepared) -> Found:
    """Train the finalists on the images that are not held out, with the design's recipe, and take the best of them;
    architecture.json and result.json say which it is. Resumable; the same for the same run."""
    listed: list[dict[str, Any]] = found.selection.get("finalists", [])
    if len(listed) < options["finalists"]:
        note(f"{len(listed)} of {options['finalists']} finalists: the search names no more networks of this budget")
    if len(listed) < 2:
        return found
    if len(made.data.val) < FEW:
        note(f"{len(made.data.val)} held-out images tell finalists apart little: below {FEW} the search does as well")
    run.write("finalists.json", listed)  # from here on the table is what it was
    rows, passes = trained(run, options, listed, made)
    best = min(range(len(rows)), key=lambda i: total(rows[i]))  # the first of equals
    rows = [{**row, "taken": i == best} for i, row in enumerate(rows)]
    architecture, why = architecture_of(made, rows[best]), found.underfilled_reason if best == 0 else None
    if best and not made.budget.filled(rows[best]["predicted"]):
        why = reason(problem_of(made.space, made.data, made.budget, options), architecture)
    selection = {**found.selection, "finalists": rows, "finalist_passes": passes}
    if best:
        del selection["score"]  # the supernet's, of the search's own choice
    chosen = Found(architecture, selection, why)
    if run.read("result.json")["selection"] != selection:  # else it says so already, and more since
        write_found(run.path, options, made, chosen)
    note(f"finalist {best + 1} of {len(rows)} is taken" + ("" if best else ", the search's own choice"))
    return chosen


def architecture_of(made: Prepared, row: dict[str, Any]) -> Architecture:
    return Architecture(made.space.id, tuple(row["choices"]))


def total(row: dict[str, Any]) -> float:
    """What the lowest is taken of, nats up to a constant; a network that says no number comes last."""
    return math.inf if row["cross_entropy"] is None else row["cross_entropy"] + row["behind"]


def trained(
    run: Run, options: dict[str, Any], listed: list[dict[str, Any]], made: Prepared
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """(the rows with what the held-out images say of each network, trained; the image passes that took)."""
    space, data = made.space, made.data
    recipe = recipe_for(options["recipe"], data, options["train_epochs"], options["batch_size"], options["quick"])
    names = [architecture_of(made, row) for row in listed]
    jobs = [
        Job(
            f"finalist-{i}", run.path / "networks" / f"finalist-{i}", space.network(a), recipe, options["seed"],
            options["data"], data_limit(options), options["seed"], set_threads(options["threads"]),
            workers=options["workers"], allow_changed=run.allow_changed, judged=True,
        )
        for i, a in enumerate(names)
    ]  # fmt: skip
    networks, where = train_all(jobs, data), {"device": best_device(), "workers": options["workers"]}
    rows = []
    for row, a, job in zip(listed, names, jobs, strict=True):
        scored = evaluate(networks[job.name], data.val, data.preprocess, classes=len(data.classes), **where)
        entropy = scored["cross_entropy"] if math.isfinite(scored["cross_entropy"]) else None
        said = {"accuracy": scored["accuracy"], "cross_entropy": entropy}
        rows.append({**row, "string": space.string(a), "predicted": made.budget.costs.of(space.indices(a)), **said})
    return rows, len(jobs) * recipe.epochs * len(data.train)
