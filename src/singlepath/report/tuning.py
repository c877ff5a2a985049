"""The tuning of a search's own settings: trials, the chosen coefficient, the ledger, and the direct way beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from singlepath.report.charts import Axis, Frame, diamond, keys, text
from singlepath.report.fields import short
from singlepath.report.markup import Safe, caption, el, join, scroll, table
from singlepath.report.numbers import cost, number, percent, quantity, signed
from singlepath.report.run_data import RunData

__all__ = ["tuning_section"]

TRIALS, SETTINGS, ROWS = 60, 4, 60
WIDTH, HEIGHT = 600, 330
VERDICTS = {"better": "better", "worse": "worse", "same": "not different"}


@dataclass(frozen=True)
class Decades(Axis):
    """An axis of logarithms to base 10, labelled with the values themselves."""

    def label(self, tick: float) -> str:
        return f"{10.0**tick:.3g}" if abs(tick) < 300 else "–"


def tuning_section(run: RunData) -> Safe | None:
    """None where nothing was tuned."""
    part = run.part("tuning")
    rows = run.rows("tuning", "trials")[:TRIALS]
    if not rows:
        return None
    return join(
        _intro(run, part), _figure(run, part, rows), _numbers(run, part, rows), _ledger(run), _direct(run, part)
    )


def _intro(run: RunData, part: dict[str, Any]) -> Safe:
    name, unit = short(part.get("coefficient_name", "coefficient"), 40), _unit(part)
    target, gap, value = (number(part.get(key)) for key in ("target", "gap", "coefficient"))
    sentence = (
        "Every trial is a short search with a fixed coefficient; its network is what the gates say, and nothing keeps "
        "the budget. Their signed distance from the target guides which settings come next. The answer is a network at "
        f"or below the target: within {percent(number(part.get('window')), 0)} of it the one of the lowest held-out "
        "cross-entropy, otherwise the nearest."
    )
    found = [f"The {name} that was found: ", _quantity("tuning.coefficient", value, "{:.4g}")]
    found += [f", for a target of {cost(target, unit)}"] if target is not None else []
    if gap is not None:
        hit = "which hits it" if part.get("hit") else "which does not hit it"
        found.append(f". Its network is {signed(100 * gap)} from that, {hit}")
    return join(el("p", sentence), el("p", found, "."))


def _figure(run: RunData, part: dict[str, Any], rows: list[dict[str, Any]]) -> Safe | None:
    name, unit, target = str(part.get("coefficient_name")), _unit(part), number(part.get("target"))
    points = [(row, number(_settings(row).get(name)), number(row.get("cost"))) for row in rows]
    drawn = [(row, math.log10(x), y) for row, x, y in points if x is not None and x > 0 and y is not None]
    if not drawn or target is None:
        return None
    least = target * (1 - (number(part.get("window")) or 0.0))
    found = Axis.of([x for _, x, _ in drawn], 58, WIDTH - 12, margin=0.08)
    frame = Frame(
        Decades(found.low, found.high, found.start, found.end, found.ticks),
        Axis.of([*(y for _, _, y in drawn), target, least], HEIGHT - 44, 30, margin=0.12),
        f"{short(name, 40)}, a logarithmic scale",
        f"cost of the trial's network, {unit}",
    )
    x, top, bottom = frame.x, frame.y(target), frame.y(least)
    band = el("rect", x=x.start, y=top, width=x.end - x.start, height=bottom - top, class_="shade")
    line = el("line", x1=x.start, x2=x.end, y1=top, y2=top, class_="limit")
    label = text(x.end, top - 5, f"target {cost(target, unit)}", "limit-name", "end")
    spoken = "; ".join(f"{10**a:.3g}: {cost(b, unit)}" for _, a, b in drawn)
    svg = el(
        "svg", band, frame.grid(), line, label,
        [_mark(row, x(a), frame.y(b), row.get("number") == part.get("chosen")) for row, a, b in drawn],
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
        aria_label=f"Cost of each trial's network beside its coefficient: {spoken}"[:1500],
        class_="chart wide front",
    )  # fmt: skip
    shapes = [("a trial", el("circle", cx="8", cy="8", r="5", class_="mark front")), ("the chosen one", diamond(8, 8))]
    note = "Numbers count the trials. The band is what hits the target."
    return el("figure", scroll("The trials", svg), el("ul", keys(shapes), class_="legend"), caption(note))


def _mark(row: dict[str, Any], x: float, y: float, chosen: bool) -> list[Safe]:
    mark = diamond(x, y) if chosen else el("circle", cx=x, cy=y, r="5", class_="mark front")
    return [mark, text(x + 8, y - 6, short(row.get("number", "?"), 6), "key")]


def _numbers(run: RunData, part: dict[str, Any], rows: list[dict[str, Any]]) -> Safe:
    names = [short(name, 40) for name in _object(part.get("ranges"))][:SETTINGS]
    failed = any(row.get("reason") for row in rows)
    whole = len(run.rows("tuning", "trials"))
    title = "The trials" + (f" (the first {TRIALS} of {whole})" if whole > TRIALS else "")
    columns = [
        "Trial",
        *names,
        "Cost",
        "From the target",
        "Cross-entropy",
        "Image passes",
        *(["Why"] if failed else []),
    ]
    return scroll("The trials as a table", table(title, columns, [_cells(run, part, r, names, failed) for r in rows]))


def _cells(run: RunData, part: dict[str, Any], row: dict[str, Any], names: list[str], failed: bool) -> list[Any]:
    settings, chosen = _settings(row), row.get("number") == part.get("chosen")
    value, gap = number(row.get("cost")), number(row.get("gap"))
    cells = [
        short(row.get("number", "?"), 8) + (" (chosen)" if chosen else ""),
        *(_plain(settings.get(name), "{:.4g}") for name in names),
        "–" if value is None else cost(value, _unit(part)),
        "–" if gap is None else signed(100 * gap),
        _plain(row.get("cross_entropy"), "{:.4f}"),
        _plain(row.get("passes"), "{:,.0f}"),
    ]
    return [*cells, short(row.get("reason") or "–", 200)] if failed else cells


def _ledger(run: RunData) -> Safe:
    """What the tuning cost: image passes held, computed and left, and what they went to."""
    total, spent, left = (run.number("tuning", "ledger", key) for key in ("total", "spent", "left"))
    by: dict[str, float] = {}
    for row in run.rows("tuning", "ledger", "rows"):
        by[short(row.get("what", "?"), 40)] = by.get(short(row.get("what", "?"), 40), 0.0) + (
            number(row.get("passes")) or 0
        )
    names = {"search": "Trials", "repeated": "Repeated after an interruption"}
    rows = [[names.get(what, what.capitalize()), f"{passes:,.0f}"] for what, passes in list(by.items())[:ROWS]]
    rows += [
        ["In all", _quantity("tuning.ledger.spent", spent, "{:,.0f}")],
        ["Left", _quantity("tuning.ledger.left", left, "{:,.0f}")],
        ["The ledger held", _quantity("tuning.ledger.total", total, "{:,.0f}")],
    ]
    note = (
        "An image pass is one image, forward and backward; one that is only forward counts a third of it. "
        "Nothing is computed that the ledger does not hold."
    )
    return join(el("p", note), table("The ledger, image passes", [], rows))


def _direct(run: RunData, part: dict[str, Any]) -> Safe | None:
    direct, unit = _object(part.get("direct")), _unit(part)
    if not direct:
        return None
    same = _object(direct.get("tuned_with_same_weights"))
    said = VERDICTS.get(str(same.get("verdict")), "not compared")
    intro = (
        "The direct way had the same ledger: one search whose multiplier is moved until the expected cost meets the "
        "target, and whose network an exact knapsack chooses. Cross-entropies are read with that search's weights. "
        f"The tuned network against the direct one, beyond two standard errors: {said}."
    )
    spent = _object(part.get("ledger")).get("spent")
    rows = [
        _beside("Tuned", run.number("cost", "predicted"), part.get("gap"), same.get("cross_entropy"), spent, unit),
        _beside(
            "Direct", direct.get("cost"), direct.get("gap"), direct.get("cross_entropy"), direct.get("passes"), unit
        ),
    ]
    columns = ["", "Cost", "From the target", "Cross-entropy", "Image passes"]
    return join(el("p", intro), scroll("Beside the direct way", table("Tuned and direct", columns, rows)))


def _beside(name: str, value: Any, gap: Any, entropy: Any, passes: Any, unit: str) -> list[Any]:
    share, figure = number(gap), number(value)
    return [
        name, "–" if figure is None else cost(figure, unit), "–" if share is None else signed(100 * share),
        _plain(entropy, "{:.4f}"), _plain(passes, "{:,.0f}"),
    ]  # fmt: skip


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    return _object(row.get("settings"))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unit(part: dict[str, Any]) -> str:
    return short(part.get("unit") or "ms", 16)


def _plain(value: Any, form: str) -> str:
    found = number(value)
    return "–" if found is None else form.format(found)


def _quantity(key: str, value: float | None, form: str) -> Any:
    return "–" if value is None else quantity(key, value, form.format(value))
