"""All records of a benchmark as one table: `records.parquet`, a row a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from singlepath.bench.records import Record, canonical
from singlepath.errors import optional
from singlepath.runs import write_atomic

__all__ = ["row", "write_parquet"]


def row(record: Record) -> dict[str, Any]:
    """A record as one flat row: ledger lines as columns `search_queries`, nested options as JSON texts."""
    trial = record.trial
    costs: dict[str, float] = {}
    for entry in record.ledger:
        name = f"{entry.phase}_{entry.unit}"
        costs[name] = costs.get(name, 0.0) + entry.amount
    texts = {
        "settings": trial.settings,
        "protocol": trial.protocol,
        "budget": trial.budget,
        "scores": {str(number): score for number, score in record.scores.items()},
        "versions": record.versions,
    }
    return {
        "task": trial.task, "method": trial.method, "contender": trial.contender, "search_seed": trial.search_seed,
        "training_seed": trial.training_seed, "network": record.network, "validation": record.validation,
        "test": record.test, "cost": record.cost.amount if record.cost else None,
        "cost_of": record.cost.of if record.cost else None, "cost_unit": record.cost.unit if record.cost else None,
        "hypervolume": record.hypervolume, **costs, **{name: canonical(dict(value)) for name, value in texts.items()},
        "curve": [asdict(point) for point in record.curve],
        "incumbents": [asdict(each) for each in record.incumbents], "commit": record.commit, "digest": trial.digest,
    }  # fmt: skip


def write_parquet(path: Path, records: Sequence[Record]) -> Path:
    """All records as one table, a row each, columns as `row` names them; a cost that a row does not have is 0."""
    arrow, parquet = optional("pyarrow", "data"), optional("pyarrow.parquet", "data")
    rows = [row(r) for r in records]
    point = [("queries", arrow.float64()), ("network", arrow.string()), ("validation", arrow.float64()),
             ("test", arrow.float64())]  # fmt: skip
    incumbent = [("scored", arrow.int64()), ("cross_entropy", arrow.float64()), ("part", arrow.bool_())]
    types = dict.fromkeys(("search_seed", "training_seed"), arrow.int64())
    types |= {"curve": arrow.list_(arrow.struct(point)), "incumbents": arrow.list_(arrow.struct(incumbent))}
    costs = sorted({f"{e.phase}_{e.unit}" for r in records for e in r.ledger})
    types |= dict.fromkeys(("validation", "test", "cost", "hypervolume", *costs), arrow.float64())
    first = ("task", "method", "contender", "search_seed", "training_seed", "network", "validation", "test")
    more = ("settings", "protocol", "budget", "versions", "curve", "incumbents", "scores", "commit", "digest")
    names = (*first, "cost", "cost_of", "cost_unit", "hypervolume", *costs, *more)
    schema = arrow.schema([(name, types.get(name, arrow.string())) for name in names])
    table = arrow.Table.from_pylist([dict.fromkeys(costs, 0.0) | r for r in rows], schema=schema)
    sink = arrow.BufferOutputStream()
    parquet.write_table(table, sink)
    return write_atomic(path, sink.getvalue().to_pybytes())
