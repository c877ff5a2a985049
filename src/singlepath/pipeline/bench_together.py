"""Several runs of `bench` judged together, and their page: more seeds or more methods of one recipe.

Recipes that differ are refused (`records.compare`). What a table says about itself comes from the runs' `bench.json`,
so no data are needed. A trial that two runs share, as those of random search, counts once. The first run's folder gets
`report-compared.html` and `bench-compared.json`; the runs' own pages stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from singlepath.bench import records
from singlepath.bench.protocol import RANDOM
from singlepath.bench.records import Record
from singlepath.bench.summary import summarise
from singlepath.errors import user_error
from singlepath.report import render_bench
from singlepath.report.bench_page import BENCH
from singlepath.report.markup import embed
from singlepath.runs import read_json, write_atomic

__all__ = ["are_benches", "judged_together"]

PAGE, FIGURES = "report-compared.html", "bench-compared.json"
FACTS = ("networks", "optimum", "random_search", "seed_ranks", "space")  # that a summary needs of a table


def are_benches(folders: Sequence[Path]) -> bool:
    """Whether the folders are runs of `bench`: all of them or none.

    Raises:
        UserError: some are and some are not.
    """
    others = [folder for folder in folders if not (folder / BENCH).is_file()]
    if others and len(others) < len(folders):
        first = next(folder for folder in folders if folder not in others)
        raise user_error(
            f"{others[0]} has no {BENCH} and {first} has", "compared are runs of bench, or runs of other commands",
            f"leave {others[0]} out",
        )  # fmt: skip
    return not others


def judged_together(folders: Sequence[Path]) -> dict[str, Any]:
    """Judge all trials of the runs as one comparison, write its page and figures, and return what `--json` prints.

    Raises:
        UserError: recipes differ, a trial ended in two ways, or a folder is damaged.
    """
    summaries = [_summary(folder) for folder in folders]
    found = _trials(folders)
    records.compare(found)
    facts, ablations = _facts(folders, summaries), [summary.get("ablation") for summary in summaries]
    against = ablations[0] if ablations.count(ablations[0]) == len(ablations) else None
    summary = summarise(found, facts, against=against)
    everything = {
        "kind": "bench", "asked": _asked(folders, found), "ablation": against, **summary,
        "protocols": {record.trial.task: record.trial.protocol for record in found},
        "commit": _joined([summary.get("commit") for summary in summaries]),
        **{name: _joined_parts([summary.get(name) for summary in summaries]) for name in ("versions", "hardware")},
    }  # fmt: skip
    everything = json.loads(embed(everything))  # without NaN
    write_atomic(folders[0] / FIGURES, json.dumps(everything, indent=1, ensure_ascii=False))
    page = write_atomic(folders[0] / PAGE, render_bench(everything))
    tasks = [
        {**task, "methods": [{k: v for k, v in row.items() if k != "curve"} for row in task["methods"]]}
        for task in everything["tasks"]
    ]
    return {
        "run": str(folders[0]), "report": str(page), "trials": len(found), "tasks": tasks, "tests": everything["tests"]
    }  # fmt: skip


def _summary(folder: Path) -> dict[str, Any]:
    found = read_json(folder / BENCH)
    if not isinstance(found, dict) or not isinstance(found.get("tasks"), list):
        raise _damaged(folder, "no tasks")
    return found


def _damaged(folder: Path, what: str) -> Exception:
    given = f"{folder / BENCH} is damaged ({what})"
    return user_error(given, "needed: the file as bench wrote it", f"type singlepath bench --resume {folder}")


def _trials(folders: Sequence[Path]) -> list[Record]:
    """Every trial once, random search before other methods; of a trial that ended in two ways both, for `compare` to
    refuse."""
    found: dict[Any, Record] = {}
    for folder in folders:
        for record in records.read(folder / "records"):
            same = replace(  # older records lack all but the first two
                record, versions={}, commit=None, cost=None, hypervolume=None, incumbents=()
            )
            kept = found.setdefault(repr(same), record)
            if _known(kept) < _known(record):
                found[repr(same)] = record
    return sorted(found.values(), key=lambda record: record.trial.method != RANDOM)


def _known(record: Record) -> int:
    """How much it has of what older records lack."""
    return (record.cost is not None) + bool(record.incumbents)


def _facts(folders: Sequence[Path], summaries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What tables say about themselves, by task, with the expectations of random search of all runs."""
    found: dict[str, dict[str, Any]] = {}
    for folder, summary in zip(folders, summaries, strict=True):
        for task in summary["tasks"]:
            if not isinstance(task, dict) or not isinstance(table := task.get("table"), dict):
                raise _damaged(folder, "a task without its table")
            if not table:
                continue
            if missing := [name for name in FACTS if name not in table]:
                raise _damaged(folder, f"the table of {task.get('task')} without {missing[0]}")
            known = found.setdefault(str(task.get("task")), {**table, "random_search": []})
            have = {row["queries"] for row in known["random_search"]}
            known["random_search"] += [row for row in table["random_search"] if row["queries"] not in have]
    return found


def _asked(folders: Sequence[Path], found: Sequence[Record]) -> dict[str, Any]:
    """The header's figures; searches of each are from the fewest to the most."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for record in found:
        if record.queries:
            seeds.setdefault((record.trial.task, record.trial.contender), set()).add(record.trial.search_seed)
    counts = sorted({len(each) for each in seeds.values()})
    command = " ".join(["singlepath report", *map(str, folders)])
    return {
        "seeds": " to ".join(map(str, counts[:: max(1, len(counts) - 1)])),
        "queries": _joined([f"{record.trial.budget['queries']:g}" for record in found]), "command": command,
    }  # fmt: skip


def _joined(values: Sequence[Any]) -> Any:
    """The one value, or all that differ as a text."""
    each = list(dict.fromkeys(values))
    return each[0] if len(each) == 1 else " and ".join(map(str, each))


def _joined_parts(values: Sequence[Any]) -> dict[str, Any]:
    parts = [value for value in values if isinstance(value, dict)]
    return {name: _joined([str(part.get(name)) for part in parts]) for part in parts for name in part}
