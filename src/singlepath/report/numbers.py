"""Figures as people read them: a unit behind every one, the same rounding everywhere on the page."""

from __future__ import annotations

import math
from typing import Any

from singlepath.report.markup import Safe, el

__all__ = ["amount", "cost", "duration", "number", "percent", "quantity", "share", "signed", "size"]

NBSP = "\u00a0"
MINUS = "\u2212"


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def quantity(key: str, value: Any, text: str) -> Safe:
    """A figure with the exact value behind it; `key` is its place in result.json."""
    return el("data", text, value=repr(value), data_key=key)


def cost(value: float | None, unit: str) -> str:
    """`1.23 ms`, `0.123 ms`, `33.5 M MACs`."""
    if value is None:
        return "not known"
    return f"{plain_cost(value, unit)}{NBSP}{unit}"


def plain_cost(value: float, unit: str) -> str:
    """A cost without its unit."""
    if unit == "ms":
        decimals = 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
        return f"{value:.{decimals}f}"
    return amount(value)


def amount(value: float | None) -> str:
    """A count with a prefix from ten thousand on: `333.5 M`."""
    if value is None:
        return "not known"
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if prefix == "k" else limit)
            return f"{scaled:.{1 if scaled >= 100 else 2}f}{NBSP}{prefix}"
    return f"{value:.4g}" if value != int(value) else f"{int(value)}"


def size(value: float | None) -> str:
    return (
        "not known" if value is None else f"{value / 1e6:.2f}{NBSP}MB" if value >= 1e6 else f"{value / 1e3:.1f}{NBSP}kB"
    )


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction of one as per cent."""
    return "not known" if fraction is None else f"{100 * fraction:.{decimals}f}{NBSP}%"


def share(part: float | None, whole: float | None) -> str:
    return percent(part / whole) if part is not None and whole else "not known"


def signed(points: float, unit: str = "%", decimals: int = 1) -> str:
    """A difference that is in `unit` already, its sign written."""
    text = f"{abs(points):.{decimals}f}"
    sign = "±" if not float(text) else "+" if points > 0 else MINUS
    return f"{sign}{text}{NBSP}{unit}"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f}{NBSP}s"
    if seconds < 5400:
        return f"{seconds / 60:.1f}{NBSP}min"
    return f"{seconds / 3600:.1f}{NBSP}h"
