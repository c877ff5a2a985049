"""Cells of a benchmark's tables, from values of which any may be missing: a dash stands where there is no figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from singlepath.report.fields import short
from singlepath.report.markup import el, join
from singlepath.report.numbers import number, quantity

__all__ = [
    "Values", "bounds_of", "cost_name", "cost_of", "figure", "mean_of", "part", "rows_of", "thousands", "with_interval",
]  # fmt: skip

Values = Mapping[str, Any]


def rows_of(values: Values, key: str) -> list[dict[str, Any]]:
    found = values.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def part(values: Values, *keys: str) -> dict[str, Any]:
    for key in keys:
        found = values.get(key)
        values = found if isinstance(found, dict) else {}
    return dict(values)


def figure(values: Values, name: str, key: str, decimals: int = 2, form: Callable[[float], str] | None = None) -> Any:
    """A figure with all its digits behind it, a dash where there is none."""
    value = number(values.get(name))
    return "–" if value is None else quantity(key, value, form(value) if form else f"{value:.{decimals}f}")


def thousands(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def with_interval(value: Any, low: Any, high: Any, key: str, decimals: int = 2) -> Any:
    """`94.35 [94.32, 94.37]`."""
    middle, bounds = number(value), (number(low), number(high))
    if middle is None:
        return "–"
    shown = quantity(key, middle, f"{middle:.{decimals}f}")
    if None in bounds:
        return shown
    return join(shown, el("small", f" [{bounds[0]:.{decimals}f}, {bounds[1]:.{decimals}f}]", class_="interval"))


def bounds_of(values: Values, name: str) -> tuple[Any, Any]:
    found = values.get(name)
    return (found[0], found[1]) if isinstance(found, list) and len(found) == 2 else (None, None)


def cost_name(cost: Values) -> str:
    """`Cost, raspi4, ms`; a measure that is its own unit is named once."""
    of, unit = short(cost.get("of"), 40), short(cost.get("unit"), 20)
    return f"Cost, {unit}" if of.lower() == unit.lower() else f"Cost, {of}, {unit}"


def cost_of(values: Values, key: str) -> Any:
    mean = number(part(values, "cost").get("mean")) or 0.0
    return mean_of(values, "cost", key, 0 if mean >= 1000 else 2 if mean >= 1 else 4)


def mean_of(values: Values, name: str, key: str, decimals: int) -> Any:
    found = part(values, name)
    return with_interval(found.get("mean"), *bounds_of(found, "interval"), f"{key}.{name}.mean", decimals)
