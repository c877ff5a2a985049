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

from singlepath.costs import LatencyTable, activation_bytes, count_costs, macs, parameters, parse_budget
from singlepath.costs.budget import resolve
from singlepath.data import Data
from singlepath.devices import device as find_device
from singlepath.devices import measure as measure_space
from singlepath.devices import measure_network, unmeasurable
from singlepath.errors import unknown, user_error
from singlepath.export import FORMATS, Loaded, load_weights, save_weights
from singlepath.export import predict as predict_images
from singlepath.export.files import make_folder
from singlepath.pipeline import finishing
from singlepath.pipeline import options as o
from singlepath.pipeline.bench_together import are_benches, judged_together
from singlepath.pipeline.checking import check_data, search_estimate, space_named_in
from singlepath.pipeline.design import design_in
from singlepath.pipeline.front import front_of, supernet_of
from singlepath.pipeline.outcome import architecture_of, forget, read_result, update_result
from singlepath.pipeline.progress import note, timing_progress
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
from singlepath.spaces.named import resolve as resolve_architecture
from singlepath.training import evaluate as evaluate_network

__all__ = ["COMMANDS"]

Select = Annotated[
    str | None,
    typer.Option(
        help="how the network is read off the supernet: score, gates, evolution, weaknas or perturbation",
    ),
]


def opened(command: Callable[..., Any], values: dict[str, Any]) -> Run:
    """The run folder of a command: a new one, or the one to go on with, whose options stand for those not given."""
    out, resume = values["out"], values["resume"]
    own = {k: v for k, v in values.items() if k not in ("out", "resume", "allow_changed")}
    check_names(own)
    if resume is not None and (Path(resume) / "config.yaml").is_file():
        before = read_config(Path(resume))["options"]
        defaults = {k: p.default for k, p in inspect.signature(command).parameters.items()}
        own |= {k: before[k] for k in own if k in before and own[k] == defaults[k]}
    own |= {"threads": thread_count(own["threads"]), "compute": best_device()}
    folder = Path(resume or out or default_out(command.__name__))
    return Run.open(folder, own, resume=resume is not None, allow_changed=values["allow_changed"], note=note)


def design(
    data: o.DataSource = "digits", device: o.DeviceName = "host", budget: o.BudgetText = "60%",
    space: o.SpaceName = "mobile-small", out: o.Out = None, recipe: o.RecipeName = "base", mode: o.Mode = "single-path",
    select: Select = None,
    epochs: o.Epochs = None,
    train_epochs: Annotated[int | None, typer.Option(help="epochs of the final trainings")] = None,
    time_limit: Annotated[str | None, typer.Option(help="90s, 30m or 2h: chooses the epochs, and says so")] = None,
    random: Annotated[int, typer.Option(help="random networks of the budget to train beside it")] = 3,
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
        return design_in(run, run.config["options"])


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
        found, made = search_in(run, run.config["options"])
        cost = read_result(run.path)["cost"]
        return {
            "run": str(run.path), "architecture": made.space.string(found.architecture),
            "choices": list(found.architecture.choices), "predicted": cost["predicted"], "unit": cost["unit"],
            "budget": cost["budget"], "macs": cost["macs"], "parameters": cost["parameters"],
            "underfilled_reason": found.underfilled_reason, "selection": found.selection,
        }  # fmt: skip


def train(
    run: o.RunFolder, recipe: o.RecipeName = "base", epochs: o.Epochs = None, batch_size: o.BatchSize = None,
    init: Annotated[str, typer.Option(help="scratch, or inherited: the supernet's weights")] = "scratch",
    name: Annotated[str, typer.Option(help="the training's folder inside the run")] = "train",
    seed: o.Seed = 0, threads: o.Threads = None, quick: o.Quick = False, allow_changed: o.AllowChanged = False,
) -> dict[str, Any]:  # fmt: skip
    """Train the network a search found, on all its training data; an interrupted training goes on.

    Example: singlepath train runs/a --recipe full
    """
    check_names({"recipe": recipe})
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
    write_atomic(run / WEIGHTS, job.weights.read_bytes())
    now = {"recipe": chosen.name, "epochs": chosen.epochs, "seed": seed, "init": init, "name": name}
    if result.get("training") != now:
        forget(run, "accuracy", "export")  # they belong to other weights
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
    if split == "test":
        update_result(run, accuracy={"test": scored["accuracy"], "per_class": rows, "confusion": scored["confusion"]})
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
    model: Annotated[Path, typer.Argument(help="model.onnx, an export folder, a .safetensors file or a run folder")],
    images: Annotated[list[Path], typer.Argument(help="image files, or folders of them")],
    top: Annotated[int, typer.Option(help="labels to list for every image")] = 1,
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
        print(f"{p.file}\t{p.label}\t{p.probability:.3f}")
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
    budgets: Annotated[str, typer.Option(help="budgets apart by commas: 20%,40%,60%")] = "30%,40%,50%,60%,70%,80%,90%",
    table: Annotated[str | None, typer.Option(help="a latency table of the space; by default the run's own")] = None,
) -> dict[str, Any]:
    """The best network of every budget, read off one finished search in minutes.

    Example: singlepath front runs/a --budgets 20%,40%,60%
    """
    run = Path(run)
    result = read_result(run)
    texts = [text.strip() for text in budgets.split(",") if text.strip()]
    wanted = [parse_budget(text) for text in texts]
    latencies = None
    own, share_of = run / "table.json", result["cost"]["kind"]
    if table or own.is_file():
        latencies, share_of = LatencyTable.load(table or own), "latency"
    if latencies is None and any(w.kind == "latency" for w in wanted):
        raise user_error(f"the run in {run} has no latency table", "budgets in ms need one", "type --table host.json")
    return front_of(run, result["options"], texts, latencies, share_of)


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


def measure(
    space: o.SpaceName = "mobile-small", out: Annotated[Path | None, typer.Option(help="the table's file")] = None,
    runtime: o.RuntimeName = "onnxruntime", runtime_threads: Annotated[int, typer.Option(help="of the runtime")] = 1,
    batch: Annotated[int, typer.Option(help="images a run")] = 1, width: o.SpaceWidth = None,
    input_size: o.SpaceInput = None, kernels: o.SpaceKernels = None, expansions: o.SpaceExpansions = None,
    se: o.SpaceSe = None, activation: o.SpaceActivation = None, classes: int | None = None, seed: o.Seed = 0,
    quick: o.Quick = False,
) -> dict[str, Any]:  # fmt: skip
    """Time a space's blocks on this host and write a latency table, validated on whole networks.

    Example: singlepath measure --space mobile-small --out host.json
    """
    chosen = make_space(
        space, width=width, input_size=input_size, kernels=kernels, expansions=expansions, se=se, activation=activation,
        classes=classes,
    )  # fmt: skip
    path = Path(out or f"{chosen.name}-host.json")
    if path.exists():
        raise user_error(f"the file {path} exists", "allowed: a new file", "type --out another.json")
    make_folder(path.parent)
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
    loaded = check_data(data, chosen, seed, limit) if data else None
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


COMMANDS = {
    f.__name__: f for f in (design, check, measure, search, train, evaluate, predict, latency, export, front, report)
}  # fmt: skip
