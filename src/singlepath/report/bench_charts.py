"""Curves over queries with the interval of their mean, on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from singlepath.report.charts import Axis, Frame, path
from singlepath.report.markup import Safe, el

__all__ = ["COLOURS", "Band", "LogAxis", "band_chart", "swatch"]

COLOURS = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
WIDTH, HEIGHT, LEFT, TOP = 620, 340, 52, 30
LEAST, MOST_DECADES = 1e-3, 4


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


def band_chart(label: str, bands: Sequence[Band], names: tuple[str, str]) -> Safe:
    """Curves over a logarithmic x; what falls to 0, or below the axis, is drawn at its foot.

    Args:
        label: what a screen reader says.
        names: of the x and the y axis.
    """
    xs = [x for band in bands for x in band.x]
    ys = [y for band in bands for y in band.y if y > 0] or [1.0]
    high = max(max(ys), LEAST * 10)
    low = max(LEAST, high / 10**MOST_DECADES, 10 ** math.floor(math.log10(min(ys))))
    frame = Frame(
        LogAxis.over(max(1.0, min(xs)), max(2.0, *xs), LEFT, WIDTH - 18),
        LogAxis.over(min(low, high / 10), high * 1.15, HEIGHT - 44, TOP),
        *names,
    )
    shades = [_shade(frame, band) for band in bands]
    curves = [
        el("path", d=path([frame.x(x) for x in b.x], [frame.y(y) for y in b.y]), class_=f"curve {b.class_}")
        for b in bands
    ]
    return el(
        "svg", shades, frame.grid(), curves, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
        aria_label=label[:1500], class_="chart wide bench",
    )  # fmt: skip


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
