"""Curves over queries with what lies around their mean: regret, or the best score so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from singlepath.report.bench_cells import Values, part
from singlepath.report.charts import Axis, Frame, path
from singlepath.report.fields import short
from singlepath.report.markup import Safe, caption, el, scroll
from singlepath.report.numbers import number

__all__ = ["Band", "LogAxis", "band_chart", "curves"]

COLOURS = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
WIDTH, HEIGHT, LEFT, TOP = 620, 340, 52, 30
LEAST, MOST_DECADES = 1e-3, 4
SCORES = (
    "Lowest held-out cross-entropy by the supernet among the networks within the budget scored so far: mean over "
    "searches, and from the lowest to the highest of them."
)
PARTS = (
    " A sample scored on parts of the held-out images counts by these until the first network is scored on all of them."
)


class LogAxis(Axis):
    """A logarithmic axis: `low` and `high` are values above 0; ticks at powers of ten, and at 2 and 5 where few."""

    @classmethod
    def over(cls, low: float, high: float, start: float, end: float) -> LogAxis:
        decades = range(math.floor(math.log10(low) - 1e-9), math.ceil(math.log10(high) + 1e-9) + 1)
        steps = (1,) if math.log10(high / low) > 3.5 else (1, 3) if math.log10(high / low) > 1.6 else (1, 2, 5)
        ticks = tuple(m * 10.0**d for d in decades for m in steps if low * 0.999 <= m * 10.0**d <= high * 1.001)
        return cls(low, high, start, end, ticks)

    def __call__(self, value: float) -> float:
        share = math.log(min(self.high, max(self.low, value)) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def label(self, tick: float) -> str:
        return f"{tick:,.0f}".replace(",", "\u202f") if tick >= 1 else f"{tick:g}"


@dataclass(frozen=True)
class Band:
    """A curve and the interval around it; `class_` is its colour."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    class_: str


def curves(rows: Sequence[dict[str, Any]], level: str) -> Safe | None:
    """The first methods' curves with a legend: regret on a table, on images the best score so far; None without any.

    Args:
        level: of the intervals, in words.
    """
    scores = any(part(row, "curve").get("cross_entropy") for row in rows)
    name = "cross_entropy" if scores else "regret"
    bands = [band for row, c in zip(rows, COLOURS, strict=False) if (band := _band(row, name, c)) is not None]
    if not bands:
        return None
    if scores:
        title, names, note = "Best score so far", ("networks scored", "held-out cross-entropy, nats"), SCORES
        note += PARTS if any(part(row, "curve").get("part") is True for row in rows) else ""
    else:
        title, names = "Regret over queries", ("queries", "regret of validation, points")
        note = f"Best validation accuracy of the table minus the best so far, mean and {level} interval; what is 0 "
        note += "ends at the foot."
    note += f" The first {len(COLOURS)} of {len(rows)} methods." if len(rows) > len(COLOURS) else ""
    spoken = f"{title}, mean: " + "; ".join(f"{b.name} ends at {b.y[-1]:.3g}" for b in bands)
    items = [el("li", swatch(b.class_), b.name) for b in bands]
    chart = band_chart(spoken, bands, names, linear=scores)
    return el("figure", el("ul", items, class_="legend"), scroll(title, chart), caption(note))


def _band(row: Values, name: str, class_: str) -> Band | None:
    curve = part(row, "curve")
    columns = [curve.get(key) if isinstance(curve.get(key), list) else [] for key in ("queries", name)]
    points = [(x, y) for x, y in zip(*columns, strict=False) if number(x) is not None and number(y) is not None]
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    bounds = [[number(v) for v in curve.get(key) or []] for key in ("low", "high")]
    low, high = ((each + [None] * len(xs))[: len(xs)] for each in bounds)
    if len(xs) == 1:  # a dash, for a line of no length is not seen
        xs, ys, low, high = (xs[0] * 0.97, xs[0]), ys * 2, low * 2, high * 2
    return Band(short(row.get("method"), 60), xs, ys, low, high, class_)


def band_chart(label: str, bands: Sequence[Band], names: tuple[str, str], *, linear: bool = False) -> Safe:
    """Curves over a logarithmic x; on a logarithmic y what falls to 0, or below the axis, is drawn at its foot.

    Args:
        label: what a screen reader says.
        names: of the x and the y axis.
        linear: the y axis is, and holds all bounds.
    """
    xs = [x for band in bands for x in band.x]
    x_axis = LogAxis.over(max(1.0, min(xs)), max(2.0, *xs), LEFT, WIDTH - 18)
    frame = Frame(x_axis, _linear_axis(bands) if linear else _log_axis(bands), *names)
    shades = [_shade(frame, band) for band in bands]
    curves = [
        el("path", d=path([frame.x(x) for x in b.x], [frame.y(y) for y in b.y]), class_=f"curve {b.class_}")
        for b in bands
    ]
    return el(
        "svg", shades, frame.grid(), curves, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
        aria_label=label[:1500], class_="chart wide bench",
    )  # fmt: skip


def _linear_axis(bands: Sequence[Band]) -> Axis:
    values = [v for band in bands for row in (band.y, band.low, band.high) for v in row if v is not None]
    return Axis.of(values, HEIGHT - 44, TOP)


def _log_axis(bands: Sequence[Band]) -> Axis:
    ys = [y for band in bands for y in band.y if y > 0] or [1.0]
    high = max(max(ys), LEAST * 10)
    low = max(LEAST, high / 10**MOST_DECADES, 10 ** math.floor(math.log10(min(ys))))
    return LogAxis.over(min(low, high / 10), high * 1.15, HEIGHT - 44, TOP)


def _shade(frame: Frame, band: Band) -> Safe | None:
    """The area between both bounds, where there are any."""
    rows = [(x, a, b) for x, a, b in zip(band.x, band.low, band.high, strict=True) if a is not None and b is not None]
    if len(rows) < 2:
        return None
    xs = [frame.x(x) for x, _, _ in rows]
    lows, highs = [frame.y(a) for _, a, _ in rows], [frame.y(b) for _, _, b in rows]
    return el("path", d=path([*xs, *reversed(xs)], [*lows, *reversed(highs)]) + "z", class_=f"band {band.class_}")


def swatch(class_: str) -> Safe:
    """A piece of the curve, for a legend."""
    return el(
        "svg",
        el("path", d="M0 5h26", class_=f"curve {class_}"),
        viewBox="0 0 26 10",
        class_="sample",
        aria_hidden="true",
    )
