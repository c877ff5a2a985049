"""Plain SVG charts: axes, lines, points. Colours are classes, so that the page's style decides them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from singlepath.report.markup import Safe, el
from singlepath.report.run_data import Series

__all__ = ["Axis", "Frame", "Line", "diamond", "keys", "line_chart", "path", "text"]


@dataclass(frozen=True)
class Axis:
    """A linear axis: values `low` to `high` at pixels `start` to `end`, ticks at round numbers."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, count: int = 5, margin: float = 0.06) -> Axis:
        low, high = min(values), max(values)
        if high - low < 1e-12 * max(1.0, abs(high)):
            low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
        room = margin * (high - low)
        low, high = low - room, high + room
        step = _nice((high - low) / count)
        first = math.ceil(low / step)
        ticks = tuple(step * i for i in range(first, math.floor(high / step) + 1))
        return cls(low, high, start, end, ticks)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def label(self, tick: float) -> str:
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(tick) or 1.0
        if abs(tick) >= 1e4:
            for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
                if abs(tick) >= limit:
                    return f"{tick / limit:.{_decimals(step / limit)}f}\u00a0{prefix}"
        return f"{tick:.{_decimals(step)}f}".replace("-", "\u2212")


def _decimals(step: float) -> int:
    return min(6, max(0, math.ceil(-math.log10(step) - 1e-9))) if step else 0


def _nice(step: float) -> float:
    base = 10.0 ** math.floor(math.log10(step))
    return next(m * base for m in (1, 2, 5, 10) if m * base >= step * 0.999)


def text(x: float, y: float, content: Any, class_: str | None = None, anchor: str | None = None) -> Safe:
    return el("text", content, x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """An SVG path of relative steps, in tenths of a pixel: short."""
    points = [(round(x, 1), round(y, 1)) for x, y in zip(xs, ys, strict=True)]
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for (a, b), (c, d) in pairwise(points):
        dy = f"{round(d - b, 1):g}"
        parts.append(f"l{round(c - a, 1):g}{'' if dy.startswith('-') else ' '}{dy}")
    return "".join(parts)


def diamond(x: float, y: float) -> Safe:
    """The mark of the found network."""
    return el("path", d=f"M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8-8z", class_="mark found")


def keys(shapes: Sequence[tuple[str, Safe]]) -> list[Safe]:
    """What marks mean: items of a legend, each with its shape drawn around (8, 8)."""
    return [
        el("li", el("svg", shape, viewBox="0 0 16 16", class_="sample square", aria_hidden="true"), name)
        for name, shape in shapes
    ]


@dataclass(frozen=True)
class Line:
    """One curve: `class_` is its colour and dash (``s1`` ... ``s3``)."""

    name: str
    series: Series
    class_: str = "s1"


@dataclass
class Frame:
    """The area of a chart with its axes."""

    x: Axis
    y: Axis
    x_name: str
    y_name: str
    parts: list[Safe] = field(default_factory=list)

    def grid(self) -> list[Safe]:
        x, y = self.x, self.y
        across = [el("line", x1=x.start, x2=x.end, y1=y(t), y2=y(t), class_="grid") for t in y.ticks]
        names = [text(x.start - 7, y(t) + 4, y.label(t), "tick", "end") for t in y.ticks]
        below = [text(x(t), y.start + 17, x.label(t), "tick", "middle") for t in x.ticks]
        marks = [el("line", x1=x(t), x2=x(t), y1=y.start, y2=y.start + 4, class_="axis") for t in x.ticks]
        base = el("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis")
        titles = [text(x.end, y.start + 34, self.x_name, "name", "end"), text(0, 12, self.y_name, "name")]
        return [*across, *names, base, *marks, *below, *titles]


def line_chart(
    label: str,
    lines: list[Line],
    names: tuple[str, str],
    references: Sequence[tuple[str, float]] = (),
    until: float | None = None,
) -> Safe:
    """Curves over steps.

    Args:
        label: what a screen reader says.
        names: of the x and the y axis.
        references: horizontal lines with their names.
        until: the end of the warm-up, shaded.
    """
    width, height, left, top = 430, 262, 46, 48
    xs = [v for line in lines for v in line.series.x]
    ys = [v for line in lines for v in line.series.y] + [v for _, v in references]
    frame = Frame(
        Axis.of(xs, left, width - 14, count=5, margin=0.0), Axis.of(ys, height - 40, top, count=5), names[0], names[1]
    )
    shade = _warm_up(frame, until) if until is not None and until > min(xs) else []
    curves = [el("path", d=_curve(*_placed(frame, line.series)), class_=f"curve {line.class_}") for line in lines]
    limits = [part for name, value in references for part in _reference(frame, name, value)]
    return el(
        "svg",
        shade,
        frame.grid(),
        limits,
        curves,
        _legend(lines, left),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=label,
        class_="chart",
    )


def _curve(xs: list[float], ys: list[float]) -> str:
    """A line through the points; a single one is a dash, since a line through it would not be seen."""
    return path(xs, ys) if len(xs) > 1 else path([xs[0] - 6, xs[0] + 6], [ys[0], ys[0]])


def _placed(frame: Frame, series: Series) -> tuple[list[float], list[float]]:
    return [frame.x(v) for v in series.x], [frame.y(v) for v in series.y]


def _warm_up(frame: Frame, until: float) -> list[Safe]:
    end = frame.x(min(until, frame.x.high))
    wide = end - frame.x.start
    area = el("rect", x=frame.x.start, y=frame.y.end, width=wide, height=frame.y.start - frame.y.end, class_="shade")
    return [area, text(frame.x.start + 5, frame.y.start - 6, "warm-up", "tick")] if wide > 52 else [area]


def _reference(frame: Frame, name: str, value: float) -> list[Safe]:
    y = frame.y(value)
    return [
        el("line", x1=frame.x.start, x2=frame.x.end, y1=y, y2=y, class_="limit"),
        text(frame.x.end, y - 5, name, "limit-name", "end"),
    ]


def _legend(lines: list[Line], left: float) -> list[Safe]:
    parts, x = [], left
    for line in lines:
        parts.append(el("path", d=f"M{x:g} 30h22", class_=f"curve {line.class_}"))
        parts.append(text(x + 28, 34, line.name, "key"))
        x += 40 + 6.4 * len(line.name)
    return parts
