"""A search's finalists: the networks that it puts first, trained to tell which of them is the best.

A supernet tells networks of a budget apart as well as one full training of each does, and not better; the two know
different things. So both are read, as held-out cross-entropies in nats:

    answer = argmin over the finalists   CE of the network, trained alone   +   CE that the search's model expects

The held-out images are not trained on. Their number, and the luck of one training, make the first term noisy: by it
alone the best of four is no better than the search's own choice, or worse, as soon as that noise is as large as what
they differ by; the sum is better at any noise that was tried (docs/results.md, "Finalists"). Ours.
"""

from __future__ import annotations

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


def trainings_of(options: dict[str, Any]) -> int:
    """Networks that are trained to decide; a choice of one needs none."""
    return options["finalists"] if options["finalists"] > 1 else 0


def decided(run: Run, options: dict[str, Any], found: Found, made: Prepared) -> Found:
    """Train the finalists on the images that are not held out, with the design's recipe, and take the best of them;
    architecture.json and result.json say which it is. Resumable; the same for the same run."""
    rows: list[dict[str, Any]] = found.selection.get("finalists", [])
    if len(rows) < options["finalists"]:
        note(f"{len(rows)} of {options['finalists']} finalists: the budget has no more networks that fill it")
    if len(rows) < 2:
        return found
    space, held_out, costs = made.space, made.data.val, made.budget.costs
    names = [Architecture(space.id, tuple(row["choices"])) for row in rows]
    recipe = recipe_for(options["recipe"], made.data, options["train_epochs"], options["batch_size"], options["quick"])
    run.write("finalists.json", rows)  # from here on the table is what it was
    jobs = [
        Job(
            f"finalist-{i}", run.path / "networks" / f"finalist-{i}", space.network(a), recipe, options["seed"],
            options["data"], data_limit(options), options["seed"], set_threads(options["threads"]),
            workers=options["workers"], allow_changed=run.allow_changed, judged=True,
        )
        for i, a in enumerate(names)
    ]  # fmt: skip
    networks = train_all(jobs, made.data)
    where = {"device": best_device(), "workers": options["workers"]}
    for row, a, job in zip(rows, names, jobs, strict=True):
        scored = evaluate(
            networks[job.name], held_out, made.data.preprocess, classes=len(made.data.classes), **where
        )  # fmt: skip
        row |= {
            "string": space.string(a), "predicted": costs.of(space.indices(a)), "accuracy": scored["accuracy"],
            "cross_entropy": scored["cross_entropy"],
        }  # fmt: skip
    best = min(range(len(rows)), key=lambda i: rows[i]["cross_entropy"] + rows[i]["behind"])  # the first of equals
    for i, row in enumerate(rows):
        row["taken"] = i == best
    passes = len(rows) * recipe.epochs * len(made.data.train)
    why = found.underfilled_reason if best == 0 else None
    if best and not made.budget.filled(rows[best]["predicted"]):
        why = reason(problem_of(space, made.data, made.budget, options), names[best])
    selection = {**found.selection, "finalists": rows, "finalist_passes": passes}
    chosen = Found(names[best], selection, why)
    write_found(run.path, options, made, chosen)
    note(f"of {len(rows)} finalists, trained, the search's number {best + 1} is taken")
    return chosen
