"""Predicted and measured cost, and how far the latency table can be trusted."""

from __future__ import annotations

from typing import Any

from singlepath.report.charts import Axis, text
from singlepath.report.fields import figure, missing, scalars
from singlepath.report.markup import Safe, caption, el, join, table
from singlepath.report.numbers import amount, cost, number, percent, quantity, signed, size
from singlepath.report.run_data import RunData
from singlepath.report.words import above_budget

__all__ = ["cost_section"]


def cost_section(run: RunData) -> Safe:
    if run.number("cost", "predicted") is None and run.number("cost", "measured") is None:
        return missing("The cost of this network is not known: no latency table was used and nothing was measured.")
    why = run.text("cost", "underfilled_reason")
    note = el("p", el("strong", "Less than 90 % of the budget is used. "), why) if why else None
    return join(note, el("div", _gauge(run), _cost_table(run), class_="pair"), _table_quality(run))


def _gauge(run: RunData) -> Safe:
    """Bars from zero: the space's limits, the budget, and the found network as predicted and as measured."""
    rows = [
        ("smallest of the space", run.number("space", "smallest"), "g-space"),
        ("predicted", run.number("cost", "predicted"), "g-found"),
        ("measured", run.number("cost", "measured"), "g-measured"),
        ("budget", run.number("cost", "budget"), "g-budget"),
        ("largest of the space", run.number("space", "largest"), "g-space"),
    ]
    known = [(name, value, kind) for name, value, kind in rows if value is not None]
    axis = Axis.of([0.0, *(v for _, v, _ in known)], 138, 352, margin=0.0)
    bars = [_gauge_row(i, row, axis, run.unit) for i, row in enumerate(known)]
    budget = run.number("cost", "budget")
    tall = 34 * len(known) + 6
    line = el("line", x1=axis(budget), x2=axis(budget), y1=2, y2=tall, class_="limit") if budget is not None else None
    spoken = "; ".join(f"{name} {cost(value, run.unit)}" for name, value, _ in known)
    svg = el("svg", bars, line, viewBox=f"0 0 430 {tall + 4}", role="img", aria_label=f"Cost: {spoken}", class_="chart")
    return el("figure", svg, caption("The dashed line is the budget: an upper limit on the predicted figure."))


def _gauge_row(index: int, row: tuple[str, float, str], axis: Axis, unit: str) -> list[Safe]:
    name, value, kind = row
    y = 8 + 34 * index
    return [
        text(128, y + 15, name, "key", "end"),
        el("rect", x=axis.start, y=y, width=max(1.0, axis(value) - axis.start), height=20, class_=kind),
        text(428, y + 15, cost(value, unit), "figure", "end"),
    ]


def _cost_table(run: RunData) -> Safe:
    unit, rows = run.unit, []
    for key, name in (
        ("budget", "Budget"),
        ("target", "Aimed at (budget less the table's error)"),
        ("predicted", "Predicted"),
    ):
        if (value := run.number("cost", key)) is not None:
            rows.append([name, quantity(f"cost.{key}", value, cost(value, unit))])
    rows += _measured(run)
    if (value := run.number("cost", "error95")) is not None:
        rows.append(["Error of a prediction (95 %)", quantity("cost.error95", value, percent(value))])
    for key, name, form in (
        ("macs", "MACs", amount),
        ("parameters", "Parameters", amount),
        ("activation_bytes", "Peak activation memory", size),
    ):
        if (value := run.number("cost", key)) is not None:
            rows.append([name, quantity(f"cost.{key}", value, form(value))])
    return table("Predicted and measured", [], rows)


def _measured(run: RunData) -> list[list[Any]]:
    measured, predicted = run.number("cost", "measured"), run.number("cost", "predicted")
    if measured is None:
        return [
            [
                "Measured",
                f"not measured: {run.text('cost', 'measured_reason') or 'the network was not timed on the device'}",
            ]
        ]
    shown, above = quantity("cost.measured", measured, cost(measured, run.unit)), above_budget(run)
    rows: list[list[Any]] = [["Measured", [shown, ", ", el("strong", above)] if above else shown]]
    if predicted:
        rows.append(["Measured against predicted", signed(100 * (measured / predicted - 1))])
    if (drift := run.number("cost", "drift")) is not None:
        rows.append(["Common drift, divided out", quantity("cost.drift", drift, f"{drift:.3f}")])
    return rows


def _table_quality(run: RunData) -> Safe:
    made = run.part("table")
    if not made:
        return missing("No latency table belongs to this run.")
    words = [
        f"{key} {made[key]}"
        for key in ("device", "runtime", "precision", "threads", "batch")
        if made.get(key) not in (None, "")
    ]
    checked = run.part("table", "validation")
    names = {
        "networks": "Whole networks it was checked on",
        "rmse_ms": "Root mean square error, ms",
        "mean_ms": "Mean latency of those, ms",
        "error95": "Error of a prediction (95 %)",
        "spearman": "Rank correlation (Spearman)",
    }
    rows: list[list[Any]] = [[names.get(key, key), figure(key, value)] for key, value in scalars(checked)]
    rmse, mean = number(checked.get("rmse_ms")), number(checked.get("mean_ms"))
    if rmse is not None and mean:
        rows.append(["Error over mean", percent(rmse / mean)])
    rows += [[f"Correction: {key}", figure(key, value)] for key, value in scalars(run.part("table", "correction"))]
    said = el("p", f"The latency table: {', '.join(words)}.") if words else None
    if not rows:
        return join(said, missing("The table was not checked against whole networks."))
    return join(said, table("How well the table predicts", [], rows))
