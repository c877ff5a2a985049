"""A run folder, read: its result, its metrics, its configuration.

Any part may be missing; what could not be read is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from singlepath.errors import user_error
from singlepath.report.numbers import number
from singlepath.runs import begun_by

__all__ = ["Metrics", "RunData", "Series", "load"]

POINTS = 300
GATE_POINTS = 48
MAX_RESULT = 64 << 20
MAX_LINE = 1 << 20


@dataclass
class Series:
    """Values over steps."""

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    def add(self, x: float, y: float) -> None:
        self.x.append(x)
        self.y.append(y)

    def thinned(self, points: int = POINTS) -> Series:
        """At most `points` points: means of equal groups of neighbours."""
        if len(self.x) <= points:
            return self
        cuts = [round(i * len(self.x) / points) for i in range(points + 1)]
        groups = [slice(a, b) for a, b in pairwise(cuts)]
        return Series([_mean(self.x[g]) for g in groups], [_mean(self.y[g]) for g in groups])


@dataclass
class Metrics:
    """What one loop logged.

    Attributes:
        series: name -> values, thinned.
        gates: gate name -> probability over steps, thinned.
        warm_up: the last step of the warm-up, None where there are no others.
        rows: how many rows were read.
    """

    series: dict[str, Series] = field(default_factory=dict)
    gates: dict[str, Series] = field(default_factory=dict)
    warm_up: float | None = None
    rows: int = 0


@dataclass(frozen=True)
class RunData:
    """One run folder as values.

    Attributes:
        name: the folder's name.
        result: result.json as it stands, {} where there is none.
        search, train: the metrics of both loops; of a design, the found network's training.
        config: config.yaml as text, None where there is none.
        command: the one that began the run, None where that is not known.
        problems: sentences about what could not be read.
    """

    name: str
    result: dict[str, Any]
    search: Metrics = field(default_factory=Metrics)
    train: Metrics = field(default_factory=Metrics)
    config: str | None = None
    command: str | None = None
    problems: tuple[str, ...] = ()

    def part(self, *keys: str) -> dict[str, Any]:
        """A nested object of the result, {} where it is missing."""
        value: Any = self.result
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def rows(self, *keys: str) -> list[dict[str, Any]]:
        """A nested list of objects of the result, [] where it is missing."""
        value = self.part(*keys[:-1]).get(keys[-1])
        return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []

    def number(self, *keys: str) -> float | None:
        return number(self.part(*keys[:-1]).get(keys[-1]))

    def text(self, *keys: str) -> str | None:
        value = self.part(*keys[:-1]).get(keys[-1])
        return None if value is None or value == "" or isinstance(value, dict | list) else str(value)

    @property
    def unit(self) -> str:
        return self.text("cost", "unit") or "ms"


def load(run: Path) -> RunData:
    """Read a run folder.

    Raises:
        UserError: there is no such folder, or it holds nothing of a run.
    """
    known = ("result.json", "metrics.jsonl", "config.yaml")
    if not run.is_dir() or not any((run / name).is_file() for name in known):
        raise user_error(
            f"{run} is not a run folder", f"a run folder holds {', '.join(known)}", "type the folder given to --out"
        )
    result, problem = _result(run / "result.json")
    config = run / "config.yaml"
    text = config.read_text("utf-8", "replace")[:MAX_LINE] if config.is_file() else None
    own = list(_lines(run / "metrics.jsonl")) or list(_lines(run / "search" / "metrics.jsonl"))
    own_training = result.get("training")
    named = own_training.get("name") if isinstance(own_training, dict) else None
    places = [Path(str(named)).name] if named else ["networks/found", "train"]
    apart = next((rows for place in places if (rows := list(_lines(run / place / "metrics.jsonl")))), [])
    train = apart or [row for row in own if row.get("phase") == "train"]
    search = [row for row in own if row.get("phase") != "train"]
    if result.get("kind") == "train" and not train:
        train, search = search, []
    problems = (problem,) if problem else ()
    return RunData(run.resolve().name, result, _metrics(search), _metrics(train), text, _command(text), problems)


def _command(config: str | None) -> str | None:
    try:
        options = yaml.safe_load(config or "")["options"]
        whole = {"data", "methods"} & {*options} and "network" not in options  # a training or a trial is a part of one
        return begun_by(options) if whole else None
    except (yaml.YAMLError, TypeError, KeyError, ValueError, RecursionError):
        return None


def _result(path: Path) -> tuple[dict[str, Any], str | None]:
    if not path.is_file():
        return {}, "There is no result.json in this folder: the run has not ended."
    if path.stat().st_size > MAX_RESULT:
        return {}, "result.json is too large to be one of a run and was not read."
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        return {}, f"result.json cannot be read ({error})."
    return (value, None) if isinstance(value, dict) else ({}, "result.json does not hold an object.")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics file; a torn line (the run was cut off) is passed over."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line) if len(line) <= MAX_LINE else None
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row


def _metrics(rows: list[dict[str, Any]]) -> Metrics:
    metrics = Metrics(rows=len(rows))
    steps = _steps(rows)
    gated = [i for i, row in enumerate(rows) if isinstance(row.get("gates"), dict)]
    kept = set(gated[:: max(1, len(gated) // GATE_POINTS)] + gated[-1:])
    for i, (step, row) in enumerate(zip(steps, rows, strict=True)):
        for key, value in row.items():
            if key not in ("epoch", "step") and (y := number(value)) is not None:
                metrics.series.setdefault(key, Series()).add(step, y)
        if i in kept:
            for gate, probability in _gates(row["gates"]):
                metrics.gates.setdefault(gate, Series()).add(step, probability)
        if row.get("warm_up") is True:
            metrics.warm_up = step
    metrics.series = {key: series.thinned() for key, series in metrics.series.items()}
    return metrics


def _steps(rows: list[dict[str, Any]]) -> list[float]:
    """The steps the rows name; where they are missing or start again with every epoch, the rows' own numbers."""
    given = [number(row.get("step")) for row in rows]
    steps = [s for s in given if s is not None]
    rising = all(a <= b for a, b in pairwise(steps))
    return steps if len(steps) == len(rows) and rising else [float(i) for i in range(len(rows))]


def _gates(value: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """``{"1.1.skip": p}`` as it is; ``{"1.1": [p, ...]}`` as one gate an option."""
    for name, given in value.items():
        many = enumerate(given) if isinstance(given, list) else [(-1, given)]
        for i, each in many:
            if (p := number(each)) is not None:
                yield (name if i < 0 else f"{name}.option{i}"), min(1.0, max(0.0, p))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
