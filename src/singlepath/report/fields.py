"""Values of a run as cells of a table: short, whatever the file held."""

from __future__ import annotations

from typing import Any

from singlepath.report.markup import Safe, el
from singlepath.report.numbers import number, percent

__all__ = ["figure", "missing", "scalars", "short"]

VALUE = 300


def missing(sentence: str) -> Safe:
    """What stands where a part of the run is not there."""
    return el("p", sentence, class_="missing")


def figure(key: str, value: Any) -> str:
    if key == "error95" and number(value) is not None:
        return percent(number(value))
    return f"{value:.4g}" if isinstance(value, float) else short(value)


def scalars(values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(short(k, 60), v) for k, v in values.items() if not isinstance(v, dict | list)][:40]


def short(value: Any, length: int = VALUE) -> str:
    words = "yes" if value is True else "no" if value is False else "none" if value is None else str(value)
    return words if len(words) <= length else words[: length - 1] + "…"
