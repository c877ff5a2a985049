"""The commands, as plain functions: the command line and the Python API are both made of them.

Every function returns the JSON object that ``--json`` prints; every option is documented in `options` or beside its
parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from singlepath.costs import LatencyTable, count_costs, parse_budget
from singlepath.costs.budget import resolve
from singlepath.data import BUILTIN, Data
from singlepath.errors import unknown, user_error
from singlepath.export import FORMATS, Loaded, load_weights, save_weights
from singlepath.export import predict as predict_images
from singlepath.pipeline import finishing
from singlepath.pipeline import options as o
from singlepath.pipeline.bench_together import are_benches, judged_together
from singlepath.pipeline.checking import check_data, search_estimate
from singlepath.pipeline.design import design_in
from singlepath.pipeline.front import front_of, supernet_of
from singlepath.pipeline.outcome import architecture_of, read_result, set_aside, update_result
from singlepath.pipeline.progress import note
from singlepath.pipeline.searching import check_names, data_limit, search_in, searched_data
from singlepath.pipeline.setup import (
    best_device,
    cost_models,
    counted,
    default_out,
    make_space,
    seconds,
    set_threads,
    table_for,
    thread_count,
)
from singlepath.pipeline.trainings import WEIGHTS, Job, recipe_for, train_one
from singlepath.report import write_report
from singlepath.runs import Run, read_config, write_atomic
from singlepath.training import evaluate as evaluate_network

__all__ = ["check", "design", "evaluate", "export", "front", "predict", "report", "search", "train"]

Select = Annotated[
    str | None,
    typer.Option(
        help="how the network is read off the supernet: score, gates, evolution, weaknas or perturbation; with options "
        "as in 'score(candidates=500)' or 'perturbation(fine_tune=20)', steps of fine-tuning between its decisions",
    ),
]


def opened(command: Callable[..., Any], values: dict[str, Any]) -> Run:
    """The run folder of a command: a new one, or the one to go on with, whose options stand for those not given."""
    out, resume = values["out"], values["resume"]
    own = {k: v for k, v in values.items() if k not in ("out", "resume", "allow_changed")}
    if isinstance(own.get("data"), Path) and str(own["data"]) in BUILTIN:
        own["data"] = f"./{own['data']}"  # a folder that is called like a built-in set
    o.check_place(out, resume)
    o.check_numbers(command, values)
    check_names(own)
    may_differ = o.ANEW
    if resume is not None and (Path(resume) / "config.yaml").is_file():
        before = read_config(Path(resume))["options"]
        defaults = {k: p.default for k, p in inspect.signature(command).parameters.items()}
        own |= {k: before[k] for k in own if k in before and own[k] == defaults[k]}
        may_differ += tuple(k for k in o.LATER if k not in before and own.get(k) == defaults.get(k))
    own |= {"threads": thread_count(own["threads"]), "compute": best_device()}
    folder = Path(resume or out or default_out(command.__name__))
    return Run.open(
        folder, own, resume=resume is not None, allow_changed=values["allow_changed"], note=note, movable=may_differ
    )


def design(
    data: o.DataSource = "digits", device: o.DeviceName = "host", budget: o.BudgetText = "60%",
    space: o.SpaceName = "mobile-small", out: o.Out = None, recipe: o.RecipeName = "base", mode: o.Mode = "single-path",
    select: Select = None,
    epochs: o.Epochs = None,
    train_epochs: o.TrainEpochs = None,
    time_limit: Annotated[str | None, typer.Option(help="90s, 30m or 2h: chooses the epochs, and says so")] = None,
    random: Annotated[int, typer.Option(min=0, help="random networks of the budget to train beside it")] = 3,
    finalists: Annotated[
        int, typer.Option(min=1, help="the search's first networks, trained without the held-out images to choose one")
    ] = 1,
    batch_size: o.BatchSize = None, limit: o.Limit = None, runtime: o.RuntimeName = "onnxruntime",
    width: o.SpaceWidth = None, input_size: o.SpaceInput = None, kernels: o.SpaceKernels = None,
    expansions: o.SpaceExpansions = None, se: o.SpaceSe = None, activation: o.SpaceActivation = None, seed: o.Seed = 0,
    threads: o.Threads = None, workers: o.Workers = 0, quick: o.Quick = False, resume: o.Resume = None,
    allow_changed: o.AllowChanged = False,
) -> dict[str, Any]:  # fmt: skip
    """Design a network for your images, device and budget: measure, search, train, compare, export, time and report.

    Example: singlepath design --data my-photos --budget 60% --out runs/photos
    """
    values = dict(locals())
    if time_limit is not None:
        seconds(time_limit)
    with opened(design, values) as run:
        return design_in(run, run.options)


def search(
    data: o.DataSource = "digits", device: o.DeviceName = "host", budget: o.BudgetText = "60%",
    space: o.SpaceName = "mobile-small", out: o.Out = None, mode: o.Mode = "single-path",
    select: Select = None,
    epochs: o.Epochs = None, batch_size: o.BatchSize = None, limit: o.Limit = None,
    runtime: o.RuntimeName = "onnxruntime", width: o.SpaceWidth = None, input_size: o.SpaceInput = None,
    kernels: o.SpaceKernels = None, expansions: o.SpaceExpansions = None, se: o.SpaceSe = None,
    activation: o.SpaceActivation = None, seed: o.Seed = 0, threads: o.Threads = None, workers: o.Workers = 0,
    quick: o.Quick = False, resume: o.Resume = None, allow_changed: o.AllowChanged = False,
) -> dict[str, Any]:  # fmt: skip
    """Search an architecture within a budget and write it to a run folder.

    Example: singlepath search --data photos --device pixel1 --space mobile --budget 80ms --out runs/a
    """
    values = dict(locals())
    with opened(search, values) as run:
        found, made = search_in(run, run.options)
        cost = read_result(run.path)["cost"]
        return {
            "run": str(run.path), "architecture": made.space.string(found.architecture),
            "choices": list(found.architecture.choices), "predicted": cost["predicted"], "unit": cost["unit"],
            "budget": cost["budget"], "macs": cost["macs"], "parameters": cost["parameters"],
            "underfilled_reason": found.underfilled_reason, "selection": found.selection,
        }  # fmt: skip


def train(
    run: o.RunFolder, recipe: o.RecipeName = "base", epochs: o.FinalEpochs = None, batch_size: o.BatchSize = None,
    init: Annotated[str, typer.Option(help="scratch, or inherited: the supernet's weights")] = "scratch",
    name: Annotated[str, typer.Option(help="the training's folder inside the run")] = "train",
    seed: o.Seed = 0, threads: o.Threads = None, quick: o.Quick = False, allow_changed: o.AllowChanged = False,
) -> dict[str, Any]:  # fmt: skip
    """Train the network a search found, on all its training data; an interrupted training goes on.

    Example: singlepath train runs/a --recipe full
    """
    o.check_numbers(train, locals())
    check_names({"recipe": recipe})
    if Path(name).name != name:
        raise user_error(f"--name {name}", "allowed: the name of a folder inside the run", "type --name train")
    run = Path(run)
    result = read_result(run)
    options = result["options"]
    space, data = searched_data(run, options)
    _, architecture = architecture_of(run)
    chosen = recipe_for(recipe, data, epochs, batch_size, quick)
    if init not in ("scratch", "inherited"):
        raise unknown("init", init, ("scratch", "inherited"), "--init")
    start = inherited(run, space, architecture, data) if init == "inherited" else None
    job = Job(
        name, run / name, space.network(architecture), chosen, seed, options["data"], data_limit(options),
        options["seed"], set_threads(threads), start, options["workers"], allow_changed,
    )  # fmt: skip
    train_one(job, data)
    now = {"recipe": chosen.name, "epochs": chosen.epochs, "seed": seed, "init": init, "name": name}
    if result.get("training") != now:
        set_aside(run)
    write_atomic(run / WEIGHTS, job.weights.read_bytes())
    update_result(run, training=now)
    return {
        "run": str(run), "weights": str(run / WEIGHTS), "recipe": chosen.name, "epochs": chosen.epochs,
        "architecture": result["architecture"]["string"], "images": len(data.all_train),
    }  # fmt: skip


def inherited(run: Path, space: Any, architecture: Any, data: Any) -> Path:
    """The supernet's weights of an architecture, as a file to start from."""
    supernet = supernet_of(run, space)
    target = run / "inherited.safetensors"
    save_weights(supernet.extract(architecture), data.preprocess, data.classes, target)
    return target


def evaluate(
    run: o.RunFolder,
    split: Annotated[str, typer.Option(help="test; train; or val, which decided and then was trained on")] = "test",
    threads: o.Threads = None,
) -> dict[str, Any]:
    """Accuracy of a run's trained network on a split: overall, per class, and the confusion matrix.

    Example: singlepath evaluate runs/a --split test
    """
    run, options, loaded, data = opened_trained(run, threads)
    splits = {"test": data.open_test, "val": lambda: data.val, "train": lambda: data.train}
    if split not in splits:
        raise unknown("split", split, splits, "--split")
    scored = evaluate_network(
        loaded.network, splits[split](), data.preprocess, classes=len(data.classes), device=best_device(),
        workers=options["workers"],
    )  # fmt: skip
    rows = [
        {"class": c, "accuracy": a, "count": n}
        for c, a, n in zip(data.classes, scored["per_class"], scored["counts"], strict=True)
    ]
    for row, found in zip(rows, scored["confusion"], strict=True):
        counted_as = ", ".join(f"{n} {c}" for c, n in zip(data.classes, found, strict=True) if n) or "no image"
        print(f"{row['class']}\t{row['accuracy']:.3f} of {row['count']}\ttaken for {counted_as}")
    if split == "test":
        kept = {"test": scored["accuracy"], "per_class": rows, "confusion": scored["confusion"]}
        try:
            update_result(run, accuracy=kept)
        except OSError as error:  # the figures are what was asked for
            note(f"{run / 'result.json'} keeps its old figures: {error.strerror}")
    return {"run": str(run), "split": split, **scored, "per_class": rows}


def trained(run: Path) -> Loaded:
    """A run's trained network."""
    if not (run / WEIGHTS).is_file():
        raise user_error(
            f"the run in {run} has no trained network", "training comes first", f"type: singlepath train {run}"
        )
    return load_weights(run / WEIGHTS)


def opened_trained(run: Path, threads: int | None) -> tuple[Path, dict[str, Any], Loaded, Data]:
    """A run whose network is trained: its folder, its options, the network and the data it was searched on."""
    set_threads(threads)
    run = Path(run)
    options, loaded = read_result(run)["options"], trained(run)
    _, data = searched_data(run, options)
    return run, options, loaded, data


def predict(
    model: Annotated[Path, typer.Argument(help="model.onnx or its folder, a .safetensors file or a run folder")],
    images: Annotated[list[Path], typer.Argument(help="image files, or folders of them")],
    top: Annotated[int, typer.Option(min=1, help="labels to list for every image")] = 1,
) -> dict[str, Any]:
    """Label images with a run or an exported file, its preprocessing included; unreadable images are named and skipped.

    Example: singlepath predict runs/a/export/onnx/model.onnx photo.jpg
    """
    model = Path(model)
    file = model / WEIGHTS if (model / WEIGHTS).is_file() else model
    skipped: list[dict[str, str]] = []
    found = predict_images(file, images, top, lambda f, why: skipped.append({"file": str(f), "reason": why}))
    for row in skipped:
        note(f"skipped {row['file']!r}: {row['reason']}")
    for p in found:
        print("\t".join([str(p.file), *(f"{label}\t{share:.3f}" for label, share in p.top)]))
    return {"model": str(model), "predictions": [p.as_dict() for p in found], "skipped": skipped}


def export(
    run: o.RunFolder,
    format: Annotated[str, typer.Option(help="onnx, source (model.py beside its weights), or all")] = "all",
    threads: o.Threads = None,
) -> dict[str, Any]:
    """Write a run's trained network as files that run without singlepath, compare their numbers and time them.

    Example: singlepath export runs/a --format onnx
    """
    formats = tuple(FORMATS) if format == "all" else (format,)
    if any(f not in FORMATS for f in formats):
        raise unknown("format", format, [*FORMATS, "all"], "--format")
    run, _, _, data = opened_trained(run, threads)
    parts = finishing.export_all(run, run / WEIGHTS, formats, finishing.real_images(data))
    update_result(run, export=parts)
    return {"run": str(run), "export": parts}


def front(
    run: o.RunFolder,
    budgets: Annotated[
        str | None, typer.Option(help="budgets apart by commas: 20%,40%,60%; by default 30% to 90%")
    ] = None,
    table: Annotated[str | None, typer.Option(help="a latency table of the space; by default the run's own")] = None,
) -> dict[str, Any]:
    """The best network of every budget, read off one finished search in minutes.

    Example: singlepath front runs/a --budgets 20%,40%,60%
    """
    run = Path(run)
    result = read_result(run)
    texts = None if budgets is None else [text.strip() for text in budgets.split(",") if text.strip()]
    wanted = [parse_budget(text) for text in texts or ()]
    latencies = None
    own, share_of = run / "table.json", result["cost"]["kind"]
    if table or own.is_file():
        latencies, share_of = LatencyTable.load(table or own), "latency"
    if latencies is None and any(w.kind == "latency" for w in wanted):
        raise user_error(f"the run in {run} has no latency table", "budgets in ms need one", "type --table host.json")
    found = front_of(run, result["options"], texts, latencies, share_of)
    for row in found["front"]:
        print(
            f"{row['text']}\t{row['predicted']:.4g} of {row['budget']:.4g} {row['unit']}\t"
            f"held-out cross-entropy {row['held_out_cross_entropy']:.4g}\t{row['architecture']}"
        )
    return found


def report(
    run: o.RunFolder,
    others: Annotated[list[Path] | None, typer.Argument(help="more runs, to compare")] = None,
) -> dict[str, Any]:
    """Rebuild the page of a run; of several, a comparison (report-compared.html); bench runs are judged together.

    Example: singlepath report runs/a
    """
    folders = [Path(run), *(Path(other) for other in others or [])]
    if len(folders) > 1 and are_benches(folders):
        return judged_together(folders)
    return {"run": str(run), "report": str(write_report(*folders))}


def check(
    space: o.SpaceName = "mobile-small", device: o.DeviceName = "host", budget: o.BudgetText = "60%",
    data: Annotated[str | None, typer.Option(help="also load this data set (see search --help)")] = None,
    limit: o.Limit = None, runtime: o.RuntimeName = "onnxruntime", width: o.SpaceWidth = None,
    input_size: o.SpaceInput = None, kernels: o.SpaceKernels = None, expansions: o.SpaceExpansions = None,
    se: o.SpaceSe = None, activation: o.SpaceActivation = None, seed: o.Seed = 0, quick: o.Quick = False,
) -> dict[str, Any]:  # fmt: skip
    """Before spending an hour: can the budget be met, does the data load, what will the search cost on this machine?

    Example: singlepath check --space mobile --device pixel1 --budget 80ms
    """
    wanted = parse_budget(budget)
    options = {
        "width": width, "input_size": input_size, "kernels": kernels, "expansions": expansions, "se": se,
        "activation": activation,
    }  # fmt: skip
    chosen = make_space(space, **options)
    loaded = check_data(data, chosen, device, seed, limit) if data else None
    images = loaded or {}
    if loaded:  # as a search does: the classifier is part of the cost
        chosen = make_space(space, classes=loaded["classes"], **options)
    table: LatencyTable | None = None
    if not counted(wanted):
        table = table_for(chosen, device, runtime=runtime, seed=seed, quick=quick)
    resolved = resolve(wanted, cost_models(chosen, table))
    costs = resolved.costs
    suffix = {"ms": "ms", "MMACs": "mmacs", "Mparams": "mparams"}[costs.unit]
    counts = {k: count_costs(chosen, k) for k in ("macs", "parameters")}
    return {
        "space": chosen.id, "space_size": float(chosen.size), "satisfiable": True,
        f"smallest_{suffix}": costs.smallest, f"middle_{suffix}": costs.middle(), f"largest_{suffix}": costs.largest,
        f"budget_{suffix}": resolved.limit, f"target_{suffix}": resolved.target,
        "mmacs": [counts["macs"].smallest, counts["macs"].largest],
        "mparams": [counts["parameters"].smallest, counts["parameters"].largest],
        "data": loaded,
        "search": search_estimate(chosen, images.get("train"), images.get("held_out"), seed),
    }  # fmt: skip
