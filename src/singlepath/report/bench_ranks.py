"""What a benchmark says about rankings: under another training seed, at another depth, and by the supernet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from singlepath.report.bench_cells import (
    Values,
    bounds_of,
    cost_name,
    cost_of,
    figure,
    part,
    rows_of,
    thousands,
    with_interval,
)  # fmt: skip
from singlepath.report.fields import short
from singlepath.report.markup import Safe, el, join, scroll, table
from singlepath.report.numbers import number

__all__ = ["depth_section", "seed_section", "supernet_section"]

Tasks = list[dict[str, Any]]
MOST_SEEDS = 30
COEFFICIENTS = {"tau": "Kendall's tau", "rho": "Spearman's rho"}


def seed_section(tasks: Tasks) -> Safe | None:
    """How far a ranking holds under another training seed; None where that is not known."""
    places = {
        "networks": 0, "seeds": 0, "tau": 3, "tau_top": 3, "best_place": 1, "difference": 2, "most": 2,
    }  # fmt: skip
    rows = [[short(t.get("task"), 60), *_numbers(part(t, "seed_ranks"), places)] for t in tasks if t.get("seed_ranks")]
    if not rows:
        return None
    columns = [
        "Task", "Networks", "Seeds", "Kendall's tau", "tau in the top tenth", "Place of one seed's best",
        "Mean difference, points", "Largest",
    ]  # fmt: skip
    return scroll("Seeds", table("The same networks trained with another seed", columns, rows))


def _numbers(values: Values, places: Mapping[str, int]) -> list[str]:
    """Cells of a table: each figure with so many places behind the point."""
    found = [(number(values.get(name)), places[name]) for name in places]
    return ["–" if value is None else f"{value:,.{decimals}f}" for value, decimals in found]


# -- depth ------------------------------------------------------------------------------------------------------------


def depth_section(tasks: Tasks, level: str) -> Safe | None:
    """Whether random networks rank alike at several depths; None where they were trained at one."""
    parts = [_depths(task, f"tasks.{i}.depth_gap", level) for i, task in enumerate(tasks) if part(task, "depth_gap")]
    intro = el(
        "p", "The random networks with every searchable layer repeated, whatever that costs: the same recipe and the "
        "same training seeds. Those of other depths stand beside the comparison: no mean, RI or test has them.",
    )  # fmt: skip
    return join(intro, *parts) if parts else None


def _depths(task: Values, key: str, level: str) -> Safe:
    gap, name = part(task, "depth_gap"), short(task.get("task"), 60)
    depths, pairs = rows_of(gap, "depths"), rows_of(gap, "pairs")
    costs = [cost for row in depths if (cost := part(row, "cost"))]
    columns = ["Depth", "Networks", "Test accuracy, %", "Validation, %", *map(cost_name, costs[:1])]
    rows = [_at_depth(row, f"{key}.depths.{i}", bool(costs)) for i, row in enumerate(depths)]
    return join(
        scroll("Depths", table(f"{name}: at each depth", [*columns, "Image passes of all trainings"], rows)),
        correlations(f"{name}: rank correlations between depths, {level} bootstrap intervals over networks", [
            (f"{short(row.get('first'), 9)} and {short(row.get('second'), 9)}, {_kind(kind)}", part(row, kind),
             f"{key}.pairs.{i}.{kind}")
            for i, row in enumerate(pairs) for kind in ("test", "validation") if part(row, kind)
        ]),
        [el("p", sentence(row)) for row in pairs if row.get("sentence")],
    )  # fmt: skip


def _at_depth(row: Values, key: str, costs: bool) -> list[Any]:
    cells = [
        short(row.get("depth"), 9), figure(row, "networks", f"{key}.networks", 0),
        with_interval(row.get("test"), *bounds_of(row, "test_interval"), f"{key}.test"),
        figure(row, "validation", f"{key}.validation"),
    ]  # fmt: skip
    return [*cells, *[cost_of(row, key)] * costs, figure(row, "passes", f"{key}.passes", 0, thousands)]


def sentence(row: Values) -> str:
    text = short(row.get("sentence"))
    return f"{text[:1].upper()}{text[1:]}."


def _kind(name: str) -> str:
    return {"test": "test accuracy", "validation": "validation accuracy"}[name]


def correlations(title: str, rows: list[tuple[str, Values, str]]) -> Safe:
    """Rows of (name, an agreement, its place in the file): how many networks, and each coefficient with its interval;
    no interval where networks are too few."""
    cells = [
        [
            name, figure(values, "networks", f"{key}.networks", 0),
            *(with_interval(values.get(c), *bounds_of(values, f"{c}_interval"), f"{key}.{c}") for c in COEFFICIENTS),
        ]
        for name, values, key in rows
    ]  # fmt: skip
    return scroll("Rank correlations", table(title, ["", "Networks", *COEFFICIENTS.values()], cells))


# -- the supernet -----------------------------------------------------------------------------------------------------


def supernet_section(tasks: Tasks, level: str) -> Safe | None:
    """How far supernets rank the random networks as training does; None where none scored them."""
    shown = [(task, f"tasks.{i}.supernet_ranks") for i, task in enumerate(tasks) if part(task, "supernet_ranks")]
    intro = el(
        "p", "The random networks scored by the supernet of every search seed, as the methods score theirs, and ranked "
        "beside their own trainings: a tau of 1 where a lower held-out cross-entropy always goes with a higher "
        "accuracy. No query of any method pays for it; its forward passes are in the ledger.",
    )  # fmt: skip
    return join(intro, *[_supernets(task, key, level) for task, key in shown]) if shown else None


def _supernets(task: Values, key: str, level: str) -> Safe:
    found, name = part(task, "supernet_ranks"), short(task.get("task"), 60)
    seeds = rows_of(found, "seeds")
    rows = [
        [f"search seed {short(row.get('seed'), 20)}", *_taus(row, f"{key}.seeds.{i}")]
        for i, row in enumerate(seeds[:MOST_SEEDS])
    ]  # fmt: skip
    rows += [[f"mean of {len(seeds)}", *_taus(found, key)]] if len(seeds) > 1 else []
    title = f"{name}: Kendall's tau, {level} bootstrap intervals over networks"
    columns = ["Supernet", "Networks", "with validation accuracy", "with test accuracy"]
    return join(
        scroll("Supernet ranks", table(title, columns, rows)),
        el("p", f"{len(seeds) - MOST_SEEDS} seeds more are in the file.") if len(seeds) > MOST_SEEDS else None,
        el("p", sentence(found)) if found.get("sentence") else None,
    )


def _taus(values: Values, key: str) -> list[Any]:
    kinds = {kind: part(values, kind) for kind in ("validation", "test")}
    return [
        figure(kinds["validation"], "networks", f"{key}.validation.networks", 0),
        *(with_interval(v.get("tau"), *bounds_of(v, "tau_interval"), f"{key}.{k}.tau") for k, v in kinds.items()),
    ]  # fmt: skip
