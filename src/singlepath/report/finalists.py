"""The finalists of a search, where some were trained to choose among them."""

from __future__ import annotations

from typing import Any

from singlepath.report.markup import Safe, el, join, scroll, table
from singlepath.report.numbers import number, percent, plain_cost, quantity
from singlepath.report.run_data import RunData

__all__ = ["finalists_section"]

SHOWN = 40


def finalists_section(run: RunData) -> Safe | None:
    """Every finalist's two figures and their sum; None where none was trained."""
    rows = run.rows("selection", "finalists")
    trained = [(i, row) for i, row in enumerate(rows) if number(row.get("cross_entropy")) is not None]
    if not trained:
        return None
    held_out, total = run.number("data", "held_out"), len(rows)
    images = "" if held_out is None else f"{held_out:.0f} "
    intro = el(
        "p",
        f"The search's first {total} networks, trained alike without the {images}held-out images. Taken is the lowest "
        "sum of the cross-entropy that a network has on these and of how far the search put it behind its own choice: "
        "one training is too noisy to be asked alone.",
    )
    columns = [
        "Finalist", f"Predicted, {run.unit}", "Behind, nats", "Cross-entropy, trained", "Sum", "Held-out accuracy"
    ]  # fmt: skip
    shown = [(i, row) for i, row in trained if i < SHOWN or row.get("taken") is True]
    body = table("The search's order", columns, [_cells(i, row, run.unit) for i, row in shown])
    return join(intro, scroll("Finalists", body))


def _cells(i: int, row: dict[str, Any], unit: str) -> list[Any]:
    key = f"selection.finalists.{i}"
    behind, own, accuracy, predicted = (
        number(row.get(name)) for name in ("behind", "cross_entropy", "accuracy", "predicted")
    )  # fmt: skip
    name = f"{i + 1}" + (", the search's choice" if i == 0 else "")
    return [
        el("strong", f"{name}, taken") if row.get("taken") is True else name,
        "not known" if predicted is None else plain_cost(predicted, unit),
        "–" if behind is None else quantity(f"{key}.behind", behind, f"{behind:.4f}"),
        "–" if own is None else quantity(f"{key}.cross_entropy", own, f"{own:.4f}"),
        "–" if own is None or behind is None else f"{own + behind:.4f}",
        "–" if accuracy is None else quantity(f"{key}.accuracy", accuracy, percent(accuracy, 2)),
    ]
