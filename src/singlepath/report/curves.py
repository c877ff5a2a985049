"""What the search and the training logged: losses, expected cost against the budget, gates over time."""

from __future__ import annotations

import re

from singlepath.report.charts import Line, line_chart, path
from singlepath.report.fields import missing
from singlepath.report.markup import Safe, caption, el, join
from singlepath.report.run_data import Metrics, RunData, Series

__all__ = ["curves_section"]

LAYERS = 64
GATE_CLASS = {"skip": "s3", "kernel": "s1", "expansion": "s2", "se": "s4", "option": "s1"}


def curves_section(run: RunData) -> Safe:
    search, train = run.search, run.train
    charts = [
        c
        for c in (_loss(search), _expected(run), _multiplier(search), _training(train), _training_accuracy(train))
        if c
    ]
    if not charts and not search.gates:
        return missing("No metrics were recorded.")
    return join(el("div", charts, class_="grid"), _gates(run))


def _chart(
    title: str, metrics: Metrics, lines: list[Line], y_name: str, references: list[tuple[str, float]] | None = None
) -> Safe | None:
    lines = [line for line in lines if line.series.x]
    if not lines:
        return None
    ends = "; ".join(f"{line.name} from {line.series.y[0]:.4g} to {line.series.y[-1]:.4g}" for line in lines)
    svg = line_chart(f"{title}: {ends}", lines, ("step", y_name), references or [], metrics.warm_up)
    return el("figure", caption(title), svg)


def _series(metrics: Metrics, key: str) -> Series:
    return metrics.series.get(key, Series())


def _loss(m: Metrics) -> Safe | None:
    lines = [Line("training", _series(m, "loss"), "s1"), Line("held-out", _series(m, "held_out_loss"), "s2")]
    return _chart("Search: loss", m, lines, "cross-entropy")


def _expected(run: RunData) -> Safe | None:
    limits = [(key, value) for key in ("budget",) if (value := run.number("cost", key)) is not None]
    lines = [Line("expected cost", _series(run.search, "expected_cost"), "s1")]
    return _chart("Search: expected cost against the budget", run.search, lines, run.unit, limits)


def _multiplier(m: Metrics) -> Safe | None:
    return _chart(
        "Search: multiplier of the budget", m, [Line("multiplier", _series(m, "multiplier"), "s3")], "multiplier"
    )


def _training(m: Metrics) -> Safe | None:
    lines = [Line("training", _series(m, "loss"), "s1"), Line("held-out", _series(m, "held_out_loss"), "s2")]
    return _chart("Final training: loss", m, lines, "cross-entropy")


def _training_accuracy(m: Metrics) -> Safe | None:
    return _chart("Final training: accuracy", m, [Line("training", _series(m, "accuracy"), "s1")], "accuracy")


def _gates(run: RunData) -> Safe | None:
    """A small chart for every layer: how likely each of its gates is open, over the search."""
    layers: dict[str, dict[str, Series]] = {}
    for name, series in run.search.gates.items():
        match = re.match(r"(\d+\.\d+)\.(.+)", name)
        layer, gate = (match[1], match[2]) if match else (name.rpartition(".")[0] or name, name.rpartition(".")[2])
        layers.setdefault(layer, {})[gate] = series
    if not layers:
        return None
    tokens = {str(b.get("name")): str(b.get("token")) for b in run.rows("blocks")}
    panels = [_panel(layer, gates, tokens.get(layer)) for layer, gates in list(layers.items())[:LAYERS]]
    keys = [
        el(
            "li",
            el(
                "svg",
                el("path", d="M0 5h26", class_=f"curve {c}"),
                viewBox="0 0 26 10",
                class_="sample",
                aria_hidden="true",
            ),
            name,
        )
        for name, c in (("kernel", "s1"), ("expansion", "s2"), ("skip", "s3"), ("squeeze-and-excitation", "s4"))
        if any(_kind(g) == c for gates in layers.values() for g in gates)
    ]
    note = "The probability of each gate, 0 (bottom) to 1 (top). Beneath: the last values; above: the choice."
    return el(
        "figure",
        caption("Gates over time"),
        el("p", note),
        el("ul", keys, class_="legend"),
        el("div", panels, class_="panels"),
    )


def _kind(gate: str) -> str:
    return next((c for name, c in GATE_CLASS.items() if gate.startswith(name)), "s1")


def _panel(layer: str, gates: dict[str, Series], token: str | None) -> Safe:
    lines, words = [], []
    for gate, series in gates.items():
        low, high = series.x[0], max(series.x[-1], series.x[0] + 1)
        xs = [2 + 136 * (x - low) / (high - low) for x in series.x]
        lines.append(el("path", d=path(xs, [52 - 50 * y for y in series.y]), class_=f"curve thin {_kind(gate)}"))
        words.append(f"{re.sub(r'(?<=[a-z])(?=[0-9])', ' ', gate[:16])} {series.y[-1]:.2f}")
    spoken = f"Gates of block {layer}: {', '.join(words)}" + (f"; chosen {token}" if token else "")
    frame = el("path", d="M2 2v50h136M2 27h136", class_="grid-line")
    svg = el("svg", frame, lines, viewBox="0 0 140 54", role="img", aria_label=spoken)
    chosen = el("code", token) if token else None
    return el("div", el("b", layer), " ", chosen, svg, el("small", [el("span", w) for w in words]), class_="panel")
