"""The accuracy-cost front: the best network of every budget, and random networks beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from singlepath.report.charts import Axis, Frame, diamond, keys, path, text
from singlepath.report.fields import short
from singlepath.report.markup import Safe, caption, el, join, scroll, table
from singlepath.report.numbers import NBSP, cost, number, quantity
from singlepath.report.run_data import RunData

__all__ = ["front_section"]

BUDGETS, RANDOM = 40, 60
WIDTH, HEIGHT = 600, 330
NAME = 6.6  # pixels a letter


@dataclass(frozen=True)
class Point:
    """One network: its predicted cost and its held-out cross-entropy."""

    predicted: float
    entropy: float
    name: str = ""


def _point(row: dict[str, Any]) -> Point | None:
    predicted, entropy = number(row.get("predicted")), number(row.get("held_out_cross_entropy"))
    if predicted is None or entropy is None:
        return None
    return Point(predicted, entropy, short(row.get("text", "?"), 16))


def _points(rows: list[dict[str, Any]], most: int) -> list[Point]:
    return [p for p in map(_point, rows[:most]) if p]


def front_section(run: RunData) -> Safe | None:
    """None where no front was made."""
    rows = run.rows("front")[:BUDGETS]
    if not rows:
        return None
    intro = (
        "The best network of every budget, read off the same trained supernet. All networks here are scored alike, by "
        "cross-entropy on the held-out images with the supernet's weights; none was trained on its own for this. Each "
        "point of the line is the better of two that a model of all scores proposes for its budget, so that it lies "
        "under random ones partly by choice: how much it is worth, only training both tells."
    )
    return join(el("p", intro), _figure(run, rows), _numbers(run, rows))


def _figure(run: RunData, rows: list[dict[str, Any]]) -> Safe | None:
    unit = _unit(run, rows[0])
    front = sorted(_points([r for r in rows if _unit(run, r) == unit], BUDGETS), key=lambda p: p.predicted)
    if not front:
        return None
    drawn, chosen = _points(run.rows("front_random"), RANDOM), _point(run.part("front_chosen"))
    every = [*front, *drawn, *([chosen] if chosen else [])]
    frame = Frame(
        Axis.of([p.predicted for p in every], 58, WIDTH - 12, margin=0.08),
        Axis.of([p.entropy for p in every], HEIGHT - 44, 30, margin=0.12),
        f"predicted cost, {unit}",
        "held-out cross-entropy, less is better",
    )
    xs, ys = [frame.x(p.predicted) for p in front], [frame.y(p.entropy) for p in front]
    spoken = "; ".join(f"{p.name}: {cost(p.predicted, unit)}, {p.entropy:.4f}" for p in front)
    svg = el(
        "svg",
        frame.grid(),
        [_circle(p, frame, "random") for p in drawn],
        el("path", d=path(xs, ys), class_="curve s1"),
        [_circle(p, frame, "front") for p in front],
        diamond(frame.x(chosen.predicted), frame.y(chosen.entropy)) if chosen else None,
        _names(front, xs, ys),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"Held-out cross-entropy beside predicted cost, a point for every budget: {spoken}"[:1500],
        class_="chart wide front",
    )
    note = "The line only joins the points: between two of them nothing was looked for."
    return el("figure", scroll("The front", svg), _keys(bool(drawn), bool(chosen)), caption(note))


def _unit(run: RunData, row: dict[str, Any]) -> str:
    return short(row.get("unit") or run.unit, 16)


def _circle(point: Point, frame: Frame, kind: str) -> Safe:
    return el("circle", cx=frame.x(point.predicted), cy=frame.y(point.entropy), r="5", class_=f"mark {kind}")


def _names(front: list[Point], xs: list[float], ys: list[float]) -> list[Safe]:
    """The budgets under their points, where two names do not meet."""
    parts, end = [], 0.0
    for point, x, y in zip(front, xs, ys, strict=True):
        half = NAME * len(point.name) / 2
        if x - half > end:
            parts.append(text(x, y + 19, point.name, "key", "middle"))
            end = x + half + 4
    return parts


def _keys(drawn: bool, chosen: bool) -> Safe:
    shapes = [("the best network of a budget", el("circle", cx="8", cy="8", r="5", class_="mark front"))]
    if chosen:
        shapes.append(("the network of this run", diamond(8, 8)))
    if drawn:
        shapes.append(("random networks of the budgets", el("circle", cx="8", cy="8", r="5", class_="mark random")))
    return el("ul", keys(shapes), class_="legend")


def _numbers(run: RunData, rows: list[dict[str, Any]]) -> Safe:
    whole = len(run.rows("front"))
    title = "The same numbers" + (f" (the first {BUDGETS} of {whole})" if whole > BUDGETS else "")
    columns = ["Budget", "Predicted", "Cross-entropy", "Architecture", f"Where less than 90{NBSP}% is used, why"]
    why = any(row.get("underfilled_reason") for row in rows)
    cells = [_cells(i, row, _unit(run, row)) for i, row in enumerate(rows)]
    return scroll("The front as a table", table(title, columns[: 4 + why], [c[: 4 + why] for c in cells], "front"))


def _cells(index: int, row: dict[str, Any], unit: str) -> list[Any]:
    limit, predicted = number(row.get("budget")), number(row.get("predicted"))
    entropy, said = number(row.get("held_out_cross_entropy")), short(row.get("text", "?"), 24)
    resolved = None if limit is None else quantity(f"front.{index}.budget", limit, cost(limit, unit))
    return [
        [said, el("br"), resolved] if resolved else said,
        "–" if predicted is None else quantity(f"front.{index}.predicted", predicted, cost(predicted, unit)),
        "–" if entropy is None else quantity(f"front.{index}.held_out_cross_entropy", entropy, f"{entropy:.4f}"),
        el("code", short(row.get("architecture", "?"), 600)),
        short(row.get("underfilled_reason") or "–"),
    ]
