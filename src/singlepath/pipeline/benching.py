"""`singlepath bench`: a comparison of search methods with its statistics, as records, a table and a page.

A task is a table of trained networks (`bench.tasks`), or images, whose networks are trained here (`image_trials`).

The folder: `records/` (a file a trial), `supernets/` (of images), `bench.json` (all figures), `records.parquet` (a row
a trial), `report.html`, `timing.jsonl`, and `config.yaml` as in every run folder. Where and how many at once trials run
is no option of the comparison: a stopped one may go on under another engine.
"""

from __future__ import annotations

import inspect
import json
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from os import times
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from singlepath.bench import records, tabular
from singlepath.bench.ablation import ablation
from singlepath.bench.engines import Done, Engine, make_engine
from singlepath.bench.protocol import OURS, Comparison, Job, contender, contenders_of, fill, ranking_trials, trials_of
from singlepath.bench.rows import write_parquet
from singlepath.bench.summary import WITHIN, summarise
from singlepath.bench.tasks import TASKS
from singlepath.errors import optional, unknown, user_error
from singlepath.pipeline import image_ranking, image_trials
from singlepath.pipeline import options as o
from singlepath.pipeline.progress import note, progress
from singlepath.pipeline.setup import default_out
from singlepath.report import write_report
from singlepath.report.markup import embed
from singlepath.runs import Run, read_config
from singlepath.search.queries import Pool
from singlepath.search.query_methods import QUERY_METHODS, make_method
from singlepath.spaces import parse_id

__all__ = ["bench", "command_of", "in_words", "split_texts"]

# what is compared where nothing is said: on tables, where networks cost nothing, and on images
TABLES: dict[str, Any] = {"methods": "random,evolution,local,weaknas", "seeds": 30, "queries": 300, "networks": 100}
IMAGES: dict[str, Any] = {"methods": "single-path,random,evolution,weaknas", "seeds": 3, "queries": 100, "networks": 8}
RECORDS, SUPERNETS = "records", "supernets"
IMAGE_OPTIONS = ("space", "budget", "limit", "search_epochs", "epochs", "trainings", "depths", "recipe", "protocol")
SENTENCES = 30  # about tests, in a terminal
LARGEST_SEED = 2**62  # what parquet holds, with room for the seeds that follow
ALLOWED = {  # far beyond what ends, well below what does not fit into memory
    "seeds": (1, 100_000), "queries": (1, 1_000_000), "networks": (2, 1_000_000), "seed": (0, LARGEST_SEED),
    "trainings": (1, 1_000), "epochs": (1, 100_000), "search_epochs": (1, 100_000), "limit": (1, 10**9),
}  # fmt: skip
OF_IMAGES = {"networks": (2, 10_000), "seed": (0, 10_000)}  # a seed is also the number of its random network
NEEDS = (("scipy.special", "search"), ("pyarrow.parquet", "data"))  # of the verdict, which comes last
WHERE = ("engine", "address", "workers", "cpus", "gpus", "out", "resume")  # how it is run, not what


def bench(
    methods: Annotated[
        str | None, typer.Option(help="methods apart by commas, with settings: 'random,weaknas(batch=10)'; by default "
                                      f"{TABLES['methods']}, of images {IMAGES['methods']}; "
                                      f"known: {', '.join(QUERY_METHODS)}, of images single-path too")
    ] = None,
    task: Annotated[
        str, typer.Option(help="tasks apart by commas: nasbench201/cifar10, nasbench201-distinct/cifar10 (equal cells "
                               "are one), macro, toy ..., or images: digits, a name in --data, with options of the "
                               "space: 'flowers17(input_size=64)'")
    ] = "toy",
    data: Annotated[Path | None, typer.Option(help="the folder of the published tables and of images")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="searches of every method on every task; by default 30, of images 3")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="networks that a search may ask; by default 300, of images 100")
    ] = None,
    networks: Annotated[
        int | None, typer.Option(help="k, the random networks beside the methods; by default 100, of images 8")
    ] = None,
    tuning_queries: Annotated[
        str, typer.Option(help="queries that settings were chosen with: 500, or 'weaknas=500,evolution=200'")
    ] = "0",
    cost: Annotated[
        str, typer.Option(help="the second objective: mmacs, parameters, or a device; of images what budgets limit")
    ] = "",
    protocol: Annotated[str, typer.Option(help="of images: reduced, for a laptop, or full")] = "reduced",
    space: Annotated[str | None, typer.Option(help="of images: mobile-small, 'mobile(width=0.5)' ...")] = None,
    budget: Annotated[str, typer.Option(help="of images: 60% of the largest network's MACs, 20MMACs, 80ms")] = "60%",
    limit: Annotated[int | None, typer.Option(help="of images: use only so many training images")] = None,
    search_epochs: Annotated[int | None, typer.Option(help="of images: epochs of a search's supernet")] = None,
    epochs: Annotated[int | None, typer.Option(help="of images: epochs that a found network is trained")] = None,
    trainings: Annotated[int, typer.Option(help="of images: how often it is trained, from other seeds")] = 1,
    depths: Annotated[
        str | None, typer.Option(help="of images: train the random networks at these depths of the space too: 1,2")
    ] = None,
    recipe: Annotated[str, typer.Option(help="of images: base (no tricks), full (with), or single-path")] = "base",
    ablate: Annotated[str | None, typer.Option(help="a method: compare it with each of its settings changed")] = None,
    factors: Annotated[str, typer.Option(help="only these settings, apart by commas")] = "",
    engine: Annotated[str, typer.Option(help="local (processes), or ray (many machines)")] = "local",
    address: Annotated[str | None, typer.Option(help="of a Ray to join: host:port, or auto")] = None,
    workers: Annotated[int, typer.Option(help="processes at once on this machine; 0 is this process")] = 2,
    cpus: Annotated[float, typer.Option(help="of a machine for each Ray task; fractions allowed")] = 1.0,
    gpus: Annotated[float, typer.Option(help="of a machine for each Ray task; fractions allowed")] = 0.0,
    seed: Annotated[int, typer.Option(help="the first search seed")] = 0, out: o.Out = None, resume: o.Resume = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare search methods at equal budgets over seeds, random networks beside them, and say what differs.

    Example: singlepath bench --methods random,weaknas --task nasbench201/cifar10 --seeds 100 --data tables

    Example: singlepath bench --methods single-path,random,weaknas --task digits --seeds 3 --queries 100
    """
    values = dict(locals())
    o.check_place(out, resume)
    for module, extra in NEEDS:
        optional(module, extra)
    started, before = time.perf_counter(), times()
    options = _options(values)
    running = make_engine(engine, workers=workers, address=address, cpus=cpus, gpus=gpus, say=note)
    compared, texts = _checked(options)
    folder = Path(resume or out or default_out("bench"))
    with Run.open(folder, options, resume=resume is not None, note=note) as run:
        work = _images(run, compared, options) if _of_images(compared.tasks) else _tables(compared, options)
        if ablate := options["ablate"]:
            texts = ablation(ablate, work.pool(), split_texts(options["factors"]))
            compared = _comparison(options, texts)
        found = _run_all(run, compared, work, running, max(1, workers))
        after = times()
        spent = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": sum(after[:4]) - sum(before[:4]),  # this process and those that it waited for
        }
        against = contender(ablate).name if ablate else None
        return _written(run, found, work, against, spent)


# -- before -----------------------------------------------------------------------------------------------------------


def _options(values: dict[str, Any]) -> dict[str, Any]:
    """What is compared; a resumed folder's options stand for those not given."""
    own = {key: value for key, value in values.items() if key not in WHERE}
    own["data"] = None if own["data"] is None else str(Path(own["data"]).resolve())
    resume = values["resume"]
    if resume is not None and (Path(resume) / "config.yaml").is_file():
        kept = read_config(Path(resume))["options"]
        defaults = {name: p.default for name, p in inspect.signature(bench).parameters.items()}
        own |= {name: kept[name] for name in own if name in kept and own[name] == defaults[name]}
    usual = IMAGES if (images := _of_images(split_texts(own["task"]))) else TABLES
    own["cost"] = image_trials.located(own["cost"]) if images else own["cost"]
    if own["ablate"] and resume is None and own["methods"] not in (None, usual["methods"]):
        raise user_error(
            "--methods with --ablate", "an ablation compares one method with itself", "leave --methods out"
        )
    return own | {name: value for name, value in usual.items() if own[name] is None}


def _checked(options: dict[str, Any]) -> tuple[Comparison, list[str]]:
    """The comparison, after everything that can be wrong before a table is read."""
    images = _of_images(split_texts(options["task"]))
    for name, (least, most) in (ALLOWED | (OF_IMAGES if images else {})).items():
        flag, given = f"--{name.replace('_', '-')}", options[name]
        if given is not None and not least <= given <= most:
            raise user_error(
                f"{flag} {given}", f"allowed: {least} to {most}", f"type {flag} {min(max(given, least), most)}"
            )
    if options["factors"] and not options["ablate"]:
        raise user_error("--factors without --ablate", "they are settings of one method", "type --ablate weaknas")
    tasks, data = split_texts(options["task"]), options["data"]
    if data is not None and not Path(data).is_dir():
        raise user_error(f"there is no folder {data}", "needed: the folder of the tables", "correct --data")
    _check_tasks(tasks, options)
    texts = [options["ablate"]] if options["ablate"] else split_texts(options["methods"])
    if not texts:
        raise user_error("no methods", "allowed: names apart by commas", f"type --methods {TABLES['methods']}")
    if OURS in {parse_id(text, "methods")[0] for text in texts} and not _of_images(tasks):
        raise user_error(f"{OURS} on {tasks[0]}", "it needs a supernet, so images", "type --task digits")
    return _comparison(options, texts), texts


def _check_tasks(tasks: Sequence[str], options: Mapping[str, Any]) -> None:
    """Tables or images, every one once, and each with what it needs."""
    data = options["data"]
    for name in tasks or [""]:
        if name not in TASKS and not image_trials.named(name, data):
            images = "digits, or images in --data"
            raise unknown("task", name, [*TASKS, images], "--task")
    if len(set(tasks)) < len(tasks):
        raise user_error(f"--task {options['task']}", "allowed: every task once", "leave one out")
    needing = [name for name in tasks if name in TASKS and name not in tabular.MADE_UP]
    if needing and data is None:
        raise user_error(f"task {needing[0]} without --data", "its table is in a folder", "type --data FOLDER")
    if _of_images(tasks):
        if named := [name for name in tasks if name in TASKS]:
            raise user_error(f"{named[0]} beside images", "allowed: tables or images", "make two comparisons")
        if options["protocol"] not in image_trials.PROTOCOLS:
            raise unknown("protocol", options["protocol"], image_trials.PROTOCOLS, "--protocol")
        return
    defaults = {name: p.default for name, p in inspect.signature(bench).parameters.items()}
    for name in IMAGE_OPTIONS:
        if options[name] != defaults[name]:
            flag = f"--{name.replace('_', '-')}"
            raise user_error(f"{flag} with {tasks[0]}", "it is for images", f"leave {flag} out")


def _of_images(tasks: Sequence[str]) -> bool:
    return any(name not in TASKS for name in tasks)


def _comparison(options: Mapping[str, Any], texts: Sequence[str]) -> Comparison:
    tasks = tuple(split_texts(options["task"]))
    images = _of_images(tasks)
    return Comparison(
        tasks, contenders_of(texts, _tuning(options["tuning_queries"])), options["queries"], options["seeds"],
        options["seed"], options["networks"], options["trainings"] * images, _depths(options["depths"]),
    )  # fmt: skip


def split_texts(text: str) -> list[str]:
    """Parts between commas; those inside brackets or quotes do not part."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote or char in "'\"":
            quote = "" if char == quote else quote or char
        depth += (char in "([") - (char in ")]") if not quote else 0
        if char == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def _depths(text: str | None) -> tuple[int, ...]:
    """Several whole numbers, ascending."""
    parts = split_texts(text or "")
    numbers = sorted({int(part) for part in parts if part.isdecimal() and len(part) < 5} - {0})
    if text is not None and not 1 < len(numbers) == len(parts):
        raise user_error(f"--depths {text!r}", "allowed: several whole numbers, each once", "type --depths 1,2")
    return tuple(numbers)


def _tuning(text: str) -> dict[str, float] | float:
    """Queries, or queries by method."""
    parts = [part.rpartition("=") for part in split_texts(text)]
    try:
        numbers = {name.strip(): float(number) for name, _, number in parts}
    except ValueError:
        numbers = {}
    if (
        not numbers
        or len(numbers) < len(parts)
        or not all(0 <= n < math.inf for n in numbers.values())
        or ("" in numbers and len(numbers) > 1)
    ):
        raise user_error(
            f"--tuning-queries {text!r}", "allowed: a number, or numbers by method", "type --tuning-queries weaknas=500"
        )
    return numbers.get("", numbers)


# -- running ----------------------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """The tasks of a comparison: what their trials share, and what runs them.

    Attributes:
        run, setting: of a `Job`.
        ranking: what scores the random networks by the supernets; empty where there are none.
        protocols: of every task.
        facts: what a table says about itself, for the queries spent on it.
        pool: networks of the first task, for an ablation.
    """

    run: str
    setting: dict[str, Any]
    protocols: dict[str, dict[str, Any]]
    facts: Callable[[str, list[float]], dict[str, Any] | None]
    pool: Callable[[], Pool]
    ranking: str = ""


def _tables(compared: Comparison, options: Mapping[str, Any]) -> Work:
    data, cost = options["data"] or "", options["cost"]
    tables = {name: tabular.opened(name, data, cost) for name in compared.tasks}
    for name, table in tables.items():
        if compared.networks > len(table.pool):
            raise user_error(
                f"--networks {compared.networks}", f"{name} has {len(table.pool)}", f"type --networks {len(table.pool)}"
            )
        for each in compared.contenders:
            table.pool.encoding(getattr(make_method(each.method, **each.settings), "encoding", ""))
    return Work(
        tabular.RUN, {"data": data, "cost": cost},
        {name: tabular.protocol_of(table, cost) for name, table in tables.items()},
        lambda name, spent: tabular.facts_of(tables[name], data, spent), lambda: tables[compared.tasks[0]].pool,
    )  # fmt: skip


def _images(run: Run, compared: Comparison, options: Mapping[str, Any]) -> Work:
    data = options["data"]
    setting = {"data": data, "supernets": str((run.path / SUPERNETS).resolve()), "cost": options["cost"]}
    protocols = {name: image_trials.protocol_of(name, data, options, compared) for name in compared.tasks}
    first = compared.tasks[0]
    return Work(
        image_trials.RUN, setting, protocols, lambda name, spent: None,
        lambda: image_trials.pool_of(first, data, protocols[first], options["cost"]), image_ranking.RUN,
    )  # fmt: skip


def _run_all(run: Run, compared: Comparison, work: Work, engine: Engine, workers: int) -> list[records.Record]:
    jobs = [Job(work.run, work.setting, trials_of(compared, name, work.protocols[name])) for name in compared.tasks]
    if work.ranking:  # after the searches, whose supernets it reads
        jobs += [Job(work.ranking, work.setting, ranking_trials(compared, *each)) for each in work.protocols.items()]
    with progress("bench") as shown:

        def told(done: Done | None, count: int, total: int) -> None:
            if done is None:
                note(f"{count} of {total} trials have been run before" if count else f"{total} trials")
                return
            run.time({"trial": done.record.trial.digest, "seconds": done.seconds, "cpu_seconds": done.cpu_seconds})
            shown("trials", count, total, {})

        return fill(run.path / RECORDS, jobs, engine, workers=workers, told=told)


# -- after ------------------------------------------------------------------------------------------------------------


def _written(
    run: Run, found: list[records.Record], work: Work, against: str | None, spent: Mapping[str, float]
) -> dict[str, Any]:  # fmt: skip
    """Judge, write the folder's files, and return what `--json` prints."""
    spent_at = sorted({r.queries + r.spent("queries", "tuning") for r in found if r.queries})
    known = {name: facts for name in work.protocols if (facts := work.facts(name, spent_at))}
    summary, config = summarise(found, known, against=against), run.config
    asked = {**config["options"], "command": command_of(config["options"])}
    about = {name: config[name] for name in ("versions", "commit", "hardware")}
    everything = {
        "kind": "bench", "asked": asked, "protocols": work.protocols, "ablation": against, **summary, **about
    }  # fmt: skip
    run.write("bench.json", json.loads(embed(everything)))  # without NaN
    write_parquet(run.path / "records.parquet", found)
    report = write_report(run.path)
    for line in in_words(summary):
        note(line)
    tasks = [{**t, "methods": [_without(m, "curve") for m in t["methods"]]} for t in summary["tasks"]]
    return {
        "run": str(run.path), "report": str(report), "trials": len(found), **spent, "tasks": tasks,
        "tests": summary["tests"],
    }  # fmt: skip


def _without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def command_of(options: Mapping[str, Any]) -> str:
    """The command line that makes the same comparison."""
    defaults = {name: p.default for name, p in inspect.signature(bench).parameters.items()}
    given = {name: value for name, value in options.items() if value != defaults.get(name)}
    flags = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in given.items()]
    return " ".join(["singlepath bench", *flags, "--out AGAIN"])


def in_words(summary: Mapping[str, Any]) -> list[str]:
    """The figures that a terminal has room for."""
    lines: list[str] = []
    for task in summary["tasks"]:
        lines.append(f"{task['task']}, {task['queries']:g} queries")
        if task["table"]:
            lines.append(f"  {task['table']['optimum']['sentence']}")
        if near := task["random_search"]:
            lines.append(
                f"  random search {near['mean']:.3f}, its exact expectation {near['expected']:.3f}: "
                f"{near['standard_errors']:+.2f} standard errors, {'' if near['holds'] else 'not '}within {WITHIN:g}"
            )
        if networks := task["random_networks"]:
            spread = f"{networks['mean']:.2f} (sd {networks['sample_sd']:.2f})"
            lines.append(f"  {networks['runs']} random networks {spread}")
        for row in task["methods"]:
            low, high = row["test_interval"]
            words = f"  {row['method']}: {row['test']:.3f} [{low:.3f}, {high:.3f}]"
            if "to_optimum" in row:
                found = row["to_optimum"]
                words += f", optimum after {found['mean']:.1f} queries"
                words += f" ({found['at_cap']} of {row['runs']} not within {found['cap']:g})"
            if cost := row.get("cost"):
                words += f", cost {cost['mean']:.4g} {cost['unit']}"
            lines.append(words)
        ranks = [*(task["depth_gap"] or {}).get("pairs", []), task["supernet_ranks"] or {}]
        lines += [f"  {each['sentence']}" for each in ranks if "sentence" in each]
    tests = [f"{row['task']}: {row['sentence']}" for row in summary["tests"]]
    more = len(tests) - SENTENCES
    return lines + tests[:SENTENCES] + ([f"{more} more are on the page"] if more > 0 else [])
