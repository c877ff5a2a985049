"""The record of one trial of a benchmark: what was run, what it cost, what it found, and with which code.

A trial has its name, a digest of everything that its result depends on, before it runs. A folder holds one file a
trial, `<digest>.jsonl`, with one line of JSON; it is written whole or not at all. So a benchmark that was stopped goes
on with the trials that have no file, and several processes may fill one folder. `cat *.jsonl` is the whole benchmark.

Rows are compared only where their recipes agree: everything but the method, its own settings and the seeds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from singlepath.bench.stats import Trace
from singlepath.errors import user_error
from singlepath.runs import write_atomic
from singlepath.search.incumbents import Incumbent

__all__ = [
    "Cost", "Entry", "Point", "Record", "Trial", "canonical", "compare", "find", "path_of", "plain",
    "read", "trace", "write",
]  # fmt: skip

MOST_BYTES = 64 << 20
SHOWN = 3  # differing fields named in one message


@dataclass(frozen=True)
class Trial:
    """What is run, in plain values: they are kept as JSON.

    Attributes:
        task: what is searched, "nasbench201/cifar10".
        settings: the method's own options, by name.
        protocol: the recipe: everything else that the result depends on, equal for every method that is compared.
        budget: what the method may spend, by unit ("queries", "passes").
        search_seed: seeds the search.
        training_seed: seeds the final training; None where nothing is trained.
    """

    task: str
    method: str
    search_seed: int
    training_seed: int | None
    settings: Mapping[str, Any]
    protocol: Mapping[str, Any]
    budget: Mapping[str, float]

    def __post_init__(self) -> None:
        for name in ("settings", "protocol", "budget"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name the trial; another value anywhere gives another name."""
        return hashlib.sha256(canonical(asdict(self)).encode()).hexdigest()[:16]

    @property
    def contender(self) -> str:
        """The method with its settings, as a reader tells two rows of one method apart."""
        named = ", ".join(f"{k}={_shown(v)}" for k, v in sorted(self.settings.items()))
        return f"{self.method}({named})" if named else self.method


@dataclass(frozen=True)
class Entry:
    """One line of the cost ledger; `unit` says of what: "queries", "passes" (an image through a network, trained) or
    "forward" (only scored)."""

    phase: Literal["search", "tuning", "training", "ranking"]
    unit: str
    amount: float


@dataclass(frozen=True)
class Point:
    """After so many queries this network was found; `test` is filled in after the search has ended, if at all."""

    queries: float
    network: str
    validation: float
    test: float | None = None


@dataclass(frozen=True)
class Cost:
    """What a network costs: `of` names the measure or the device, "mmacs", "raspi4"; `amount` is in `unit`."""

    of: str
    unit: str
    amount: float


@dataclass(frozen=True)
class Record:
    """One finished trial.

    Attributes:
        network: the best validated network, as its task writes it.
        validation: its validation value, what the search went by; None where a supernet scored networks and no more.
        test: its test value, read once at the end; None where it was not read.
        ledger: all that was spent, tuning included.
        curve: what was found when, by ascending queries: every query, or those that improved.
        versions, commit: of the code, as `environment` gives them.
        cost: of the network; None where nothing was counted, and in records older than this field.
        hypervolume: of cost and validation value of all networks asked, per cent of the whole table's; None likewise.
        scores: held-out cross-entropy of random networks by the supernet of the search seed, nats, by their numbers.
        incumbents: the best held-out scores so far of a search on a supernet; no test image has a part in them.
    """

    trial: Trial
    network: str
    validation: float | None
    test: float | None
    ledger: tuple[Entry, ...]
    curve: tuple[Point, ...]
    versions: Mapping[str, str]
    commit: str | None
    cost: Cost | None = None
    hypervolume: float | None = None
    incumbents: tuple[Incumbent, ...] = ()
    scores: Mapping[int, float] = field(default_factory=dict)

    def spent(self, unit: str, phase: str | None = None) -> float:
        """Sum of the ledger in one unit, over all phases or one."""
        return sum(e.amount for e in self.ledger if e.unit == unit and phase in (None, e.phase))

    @property
    def queries(self) -> float:
        """Queries that the search used; tuning is not in it."""
        return self.spent("queries", "search")


# -- files ------------------------------------------------------------------------------------------------------------


def path_of(folder: Path, trial: Trial) -> Path:
    return folder / f"{trial.digest}.jsonl"


def write(folder: Path, record: Record) -> Path:
    """Keep a finished trial; the file appears whole or not at all.

    Raises:
        UserError: something else stands where the folder or the file belongs.
    """
    _check_place(path := path_of(folder, record.trial))
    return write_atomic(path, canonical(plain(asdict(record))) + "\n")


def find(folder: Path, trial: Trial) -> Record | None:
    """The trial's record, None where it has not finished yet.

    Raises:
        UserError: it is broken, or something else stands where the folder or the file belongs.
    """
    _check_place(path := path_of(folder, trial))
    return _load(path) if path.is_file() else None


def _check_place(path: Path) -> None:
    for place, kind, wrong in (
        (path.parent, "a folder", path.parent.exists() and not path.parent.is_dir()),
        (path, "a file", path.exists() and not path.is_file()),
    ):
        if wrong:
            raise user_error(f"{place} is not {kind}", "records of trials belong there", "move it away")


def read(folder: Path) -> list[Record]:
    """All records of a folder, by task, contender and seeds.

    Raises:
        UserError: the folder is not there, or a file is not the record that its name says.
    """
    if not folder.is_dir():
        raise user_error(f"{folder} is not a folder", "needed: a folder of records", "run the benchmark first")
    return sorted(map(_load, folder.glob("*.jsonl")), key=_order)


def _order(record: Record) -> tuple[Any, ...]:
    trial = record.trial
    training = -1 if trial.training_seed is None else trial.training_seed
    return trial.task, trial.contender, trial.search_seed, training, trial.digest


def _load(path: Path) -> Record:
    def broken(why: str) -> Exception:
        given = f"{path} is not the record of a trial ({why})"
        return user_error(
            given, "needed: the file as the benchmark wrote it", f"delete {path.name}: its trial runs again"
        )

    if path.stat().st_size > MOST_BYTES:
        raise broken(f"more than {MOST_BYTES >> 20} MiB")
    try:
        record = _adapter().validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise broken(f"{where}: {first['msg']}" if where else first["msg"]) from None
    if record.trial.digest != path.stem:
        raise broken(f"its trial has the digest {record.trial.digest}")
    if why := impossible(record):
        raise broken(why)
    return record


def impossible(record: Record) -> str:
    """What no trial can have ended with, in words; empty where there is nothing."""
    at = [point.queries for point in record.curve]
    cost = record.cost.amount if record.cost else None
    measured = [v for p in (record, *record.curve) for v in (p.validation, p.test)]
    scores = [*(each.cross_entropy for each in record.incumbents), *record.scores.values()]
    figures = [cost, record.hypervolume, *at, *measured, *scores]
    if not all(figure is None or math.isfinite(figure) for figure in figures):
        return "a figure is not finite"
    if bool(at) != (record.validation is not None) or sorted(set(at)) != at:
        return "its curve is empty or does not ascend"
    scored = [each.scored for each in record.incumbents]
    if sorted(set(scored)) != scored or (scored and not 0 < scored[0] <= scored[-1] <= max(1, record.queries)):
        return "its incumbents do not ascend from 1 to its queries"
    if any(not 0 <= entry.amount < math.inf for entry in record.ledger):
        return "its ledger has impossible amounts"
    if record.queries > record.trial.budget.get("queries", math.inf):
        return f"it spent {record.queries:g} queries of {record.trial.budget['queries']:g}"
    return ""


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def trace(record: Record, *, test: bool = False) -> Trace:
    """The record's curve for `stats.regret_curve`; with `test` it shows test values, chosen by validation.

    Raises:
        ValueError: test values are asked for and a point has none.
    """
    reads = [p.test for p in record.curve]
    if test and None in reads:
        raise ValueError(f"the trial {record.trial.digest} has points without a test value")
    queries, values = [p.queries for p in record.curve], [p.validation for p in record.curve]
    return Trace(queries, values, [float(r) for r in reads if r is not None] if test else None)


# -- comparing --------------------------------------------------------------------------------------------------------


def compare(records: Iterable[Record]) -> dict[str, dict[str, list[Record]]]:
    """Records by task and contender, in a fixed order, once they may be compared.

    Within a task the protocol and the budget have to agree; between tasks nothing is compared. Methods may have other
    settings, rows other seeds, and versions may differ: they are in the record.

    Raises:
        UserError: two recipes differ; names the fields, with both values. Also where a trial is there twice.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    firsts: dict[str, Record] = {}
    seen: set[str] = set()
    for record in sorted(records, key=_order):
        trial = record.trial
        if trial.digest in seen:
            raise user_error(
                f"{_called(record)} of {trial.task} is there twice", "allowed: every trial once",
                "leave one of the two folders out",
            )  # fmt: skip
        seen.add(trial.digest)
        _same_recipe(firsts.setdefault(trial.task, record), record)
        found.setdefault(trial.task, {}).setdefault(trial.contender, []).append(record)
    return found


def _same_recipe(first: Record, second: Record) -> None:
    ours, theirs = (_flat({"protocol": r.trial.protocol, "budget": r.trial.budget}) for r in (first, second))
    differing = [k for k in sorted({*ours, *theirs}) if _text(ours, k) != _text(theirs, k)]
    if not differing:
        return
    said = [
        f"{k} is {_text(ours, k)} for {_called(first)} and {_text(theirs, k)} for {_called(second)}"
        for k in differing[:SHOWN]
    ]
    more = f" and {len(differing) - SHOWN} fields more" if len(differing) > SHOWN else ""
    raise user_error(
        f"the recipes of {first.trial.task} differ: {', '.join(said)}{more}",
        "only runs of one recipe are compared", "run one of them again with the other's value, or leave it out",
    )  # fmt: skip


def _called(record: Record) -> str:
    return f"{record.trial.contender}, seed {record.trial.search_seed}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, `protocol.recipe.epochs`; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        nested = isinstance(item, Mapping) and item
        flat |= _flat(item, f"{prefix}{key}.") if nested else {f"{prefix}{key}": item}
    return flat


def _text(fields: Mapping[str, Any], key: str) -> str:
    return canonical(fields[key]) if key in fields else "absent"


# -- plain values -----------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """What comes back from JSON as it was: mappings, lists, texts, finite numbers (3.0 as 3), truth values, None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be kept in a record")


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
