"""The main job in one command: measure, search, train, compare, export, time, report. Every step is kept, and
resumable."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from singlepath.architecture import NetworkSpec
from singlepath.costs import macs
from singlepath.costs.budget import parse_budget, resolve
from singlepath.devices import measure, measure_network, unmeasurable
from singlepath.export import load_weights
from singlepath.pipeline import comparing, finalists, finishing
from singlepath.pipeline.checking import search_seconds, seconds_per_image
from singlepath.pipeline.outcome import random_parts, relative_improvement, set_aside, update_result
from singlepath.pipeline.progress import note, timing_progress
from singlepath.pipeline.searching import data_limit, prepared_in, retimed, search_in, search_settings, was_retimed
from singlepath.pipeline.setup import Prepared, best_device, cost_models, seconds, set_threads
from singlepath.pipeline.trainings import WEIGHTS, Job, parallel, recipe_for, train_all
from singlepath.report import write_report
from singlepath.runs import Run, read_json, write_atomic
from singlepath.search import Found
from singlepath.search.single_path import CHILDREN
from singlepath.training import evaluate

__all__ = ["design_in"]

BOTH = ("onnx", "source")
MOST_EPOCHS = 200  # that a time limit chooses


def design_in(run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """All steps inside an open run folder; returns the summary that `design --json` prints."""
    if run.has("summary.json") and not run.moved:
        return run.read("summary.json") | {"run": str(run.path), "report": str(run.path / "report.html")}
    set_threads(options["threads"])
    with timed(run, "measure"):
        made = prepared_in(run, options)
    options = within_time(run, options, made)
    with timed(run, "search"):
        found, made = search_in(run, options, made)
        found, made = checked_drift(run, options, found, made)
    if finalists.trainings_of(options):
        with timed(run, "finalists"):
            found = finalists.decided(run, options, found, made)
    with timed(run, "train"):
        if "training" in run.read("result.json"):  # somebody trained the found network otherwise since
            set_aside(run.path)
        accuracy = compared(run, options, found, made)
    with timed(run, "export"):
        parts = finishing.export_all(run.path, run.path / WEIGHTS, BOTH, finishing.real_images(made.data))
        update_result(run.path, export=parts, kind="design")
        time_final(run, made)
    result = update_result(run.path, accuracy=accuracy, seconds=clock(run.path))
    page = write_report(run.path)
    summary = summarise(run.path, result, page)
    run.write("summary.json", summary)
    return summary


def within_time(run: Run, options: dict[str, Any], made: Prepared) -> dict[str, Any]:
    """The options with the epochs that a time limit leaves; they are kept, so that a resumed run has the same.

    A third of the limit goes to the search, its scoring included (not a perturbation's fine-tuning), and half to the
    trainings; the rest is for measuring, export and surprises.
    """
    if not options["time_limit"]:
        return options
    if not run.has("plan.json"):
        limit, each = seconds(options["time_limit"]), seconds_per_image(made.space, options["seed"])
        beside = options["random"] + 1 + len(comparing.BASELINES)
        rounds = sum(
            count / parallel(count, set_threads(options["threads"]))
            for count in (finalists.trainings_of(options), beside)  # these wait for those
        )
        images, held_out, settings = len(made.data.train), len(made.data.val), search_settings(options)
        networks = 2 if settings.get("select") == "gates" else settings.get("candidates")

        def takes(epochs: int) -> float:
            if options["mode"] != "single-path":
                return each * epochs * images
            return search_seconds(each, epochs * images * CHILDREN, held_out, networks)

        search = max((e for e in range(1, MOST_EPOCHS + 1) if takes(e) <= limit / 3), default=1)
        train = int(limit / 2 / each / len(made.data.all_train) / rounds)
        chosen = {"epochs": search, "train_epochs": min(max(train, 1), MOST_EPOCHS)}
        run.write("plan.json", {"time_limit_s": limit, "seconds_per_image": each, **chosen})
    chosen = run.read("plan.json")
    note(f"within {options['time_limit']}: {chosen['epochs']} epochs of search, {chosen['train_epochs']} of training")
    given = {k: options[k] or chosen[k] for k in ("epochs", "train_epochs")}
    return {**options, **given}


@contextmanager
def timed(run: Run, name: str):
    """Note what a step took, in timing.jsonl too, also where it is interrupted: a resumed run adds to it."""
    started = time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - started
        run.time({"design": name, "seconds": took})
    note(f"{name}: {took:.0f} s")


def clock(folder: Path) -> dict[str, float]:
    """What each step took, s, over every process of the run; of one that was killed the last step is not known."""
    took: dict[str, float] = {}
    for line in (folder / "timing.jsonl").read_text().splitlines():
        with suppress(json.JSONDecodeError):  # half a line, of a process that was killed
            row = json.loads(line)
            if "design" in row:
                took[row["design"]] = took.get(row["design"], 0.0) + row["seconds"]
    return {name: round(seconds, 1) for name, seconds in took.items()}


def checked_drift(run: Run, options: dict[str, Any], found: Found, made: Prepared) -> tuple[Found, Prepared]:
    """Compare the machine with what it was when the table was timed; beyond 20 % drift the table is timed again, once.

    The supernet stays: with the new table the same search is read off again, under the new budget. Once networks have
    been chosen to train, the table is what it was.
    """
    begun = run.has("baselines.json") or run.has("finalists.json")
    if made.table is None or unmeasurable(made.table) or was_retimed(run) or begun:
        return found, made
    spec = made.space.network(found.architecture)
    seen = measure_network(spec, made.table)
    drift = seen.drift or 1.0
    note(f"common drift since the table was timed: {drift:.3f}")
    if abs(drift - 1) <= finishing.DRIFT:
        return found, made
    note("more than 20 %: the table is timed again")
    with timing_progress("measure again") as report:
        table = measure(
            made.space, runtime=made.table.runtime, threads=made.table.threads, batch=made.table.batch,
            seed=options["seed"] + 1, quick=options["quick"], progress=report,
        )  # fmt: skip
    budget = resolve(parse_budget(options["budget"]), cost_models(made.space, table))
    retimed(run, table)
    return search_in(run, options, replace(made, table=table, budget=budget))


def compared(run: Run, options: dict[str, Any], found: Found, made: Prepared) -> dict[str, Any]:
    """Train the found network, the random ones and the off-the-shelf ones alike; then read the test data, once."""
    spec = made.space.network(found.architecture)
    recipe = recipe_for(options["recipe"], made.data, options["train_epochs"], options["batch_size"], options["quick"])
    predicted = made.budget.costs.of(made.space.indices(found.architecture))
    rivals = comparing.random_rivals(made, options["random"], options["seed"])
    shelf = baseline_rivals(run, made, found)
    everyone = [comparing.Rival("found", spec, predicted), *rivals, *shelf]
    threads = set_threads(options["threads"])
    jobs = [
        Job(
            r.name, run.path / "networks" / r.name, r.spec, recipe, options["seed"], options["data"],
            data_limit(options), options["seed"], threads, workers=options["workers"],
            allow_changed=run.allow_changed,
        )
        for r in everyone
    ]  # fmt: skip
    networks = train_all(jobs, made.data)
    write_atomic(run.path / WEIGHTS, jobs[0].weights.read_bytes())
    test = made.data.open_test()
    where = {"device": best_device(), "workers": options["workers"]}
    scores = {
        name: evaluate(network, test, made.data.preprocess, classes=len(made.data.classes), **where)
        for name, network in networks.items()
    }
    accuracies = {name: s["accuracy"] for name, s in scores.items()}
    random = random_parts(comparing.rows(rivals, accuracies)) if rivals else None
    update_result(run.path, data={"test": len(test), "skipped": made.data.skipped})
    return {
        "test": accuracies["found"], "cross_entropy": scores["found"]["cross_entropy"],
        "confusion": scores["found"]["confusion"], "random": random, "recipe": recipe.name, "epochs": recipe.epochs,
        "per_class": [
            {"class": c, "accuracy": a, "count": n}
            for c, a, n in zip(
                made.data.classes, scores["found"]["per_class"], scores["found"]["counts"], strict=True
            )
        ],
        "baselines": comparing.rows(shelf, accuracies),
        "relative_improvement": relative_improvement(accuracies["found"], random["mean"]) if random else None,
    }  # fmt: skip


def baseline_rivals(run: Run, made: Prepared, found: Found) -> list[comparing.Rival]:
    """The off-the-shelf networks; their widths, chosen by timing, are kept so that a resumed run trains the same
    ones."""
    if run.has("baselines.json"):
        kept = read_json(run.path / "baselines.json")
        return [comparing.Rival(**{**row, "spec": NetworkSpec.from_dict(row["spec"])}) for row in kept]
    shelf = comparing.baselines(made, macs(made.space.network(found.architecture)))
    run.write(
        "baselines.json",
        [{**r._asdict(), "spec": r.spec.as_dict()} for r in shelf],
    )
    return shelf


def time_final(run: Run, made: Prepared) -> None:
    """Time the exported file among the table's calibration networks."""
    if made.table is None:
        return
    network = load_weights(run.path / WEIGHTS).network
    measured = finishing.time_exported(run.path / "export" / "onnx" / "model.onnx", network, made.table)
    result = finishing.keep_measured(run.path, measured)
    if measured.corrected_ms is None:
        note(f"not timed: {measured.reason}")
        return
    cost = result["cost"]
    note(
        f"measured {measured.ms:.4f} ms, common drift {measured.drift:.3f} divided out: "
        f"{measured.corrected_ms:.4f} ms; "
        f"predicted {cost['predicted']:.4f} ms, {against_budget(cost)}"
    )


def against_budget(cost: dict[str, Any]) -> str:
    """The measured latency beside the budget, in words."""
    share = 100 * (cost["measured"] / cost["budget"] - 1)
    return f"{abs(share):.1f} % {'below' if cost['measured_holds'] else 'above'} the budget of {cost['budget']:.4f} ms"


def summarise(run: Path, result: dict[str, Any], page: Path) -> dict[str, Any]:
    """What `design --json` prints."""
    cost, accuracy = result["cost"], result["accuracy"]
    latency = cost["kind"] == "latency"
    random = accuracy["random"] or {"mean": None, "std": None}
    return {
        "run": str(run), "architecture": result["architecture"]["string"],
        "budget_ms": cost["budget"] if latency else None, "predicted_ms": cost["predicted"] if latency else None,
        "measured_ms": cost["measured"], "test_accuracy": accuracy["test"], "random_accuracy_mean": random["mean"],
        "random_accuracy_std": random["std"], "relative_improvement": accuracy["relative_improvement"],
        "baselines": {
            b["name"]: {k: b[k] for k in ("accuracy", "predicted", "width", "macs", "parameters")}
            for b in accuracy["baselines"]
        },
        "underfilled_reason": cost["underfilled_reason"],
        "onnx_max_abs_difference": result["export"]["onnx"]["max_abs_difference"], "report": str(page),
        "measured_raw_ms": cost.get("measured_raw"), "drift": cost["drift"], "measured_reason": cost["measured_reason"],
        "measured_holds": cost.get("measured_holds"),
        "budget": cost["budget"], "predicted": cost["predicted"], "unit": cost["unit"], "seconds": result["seconds"],
    }  # fmt: skip
