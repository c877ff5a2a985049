"""Data, exported files, and how to have the run again."""

from __future__ import annotations

from typing import Any

from singlepath.report.fields import figure, missing, scalars, short
from singlepath.report.markup import Safe, el, join, scroll, table
from singlepath.report.numbers import cost, duration, number, quantity, size
from singlepath.report.run_data import RunData
from singlepath.report.words import commands

__all__ = ["data_section", "files_section", "options_section", "repeat_section"]

ROWS = 300


def data_section(run: RunData) -> Safe:
    rows: list[list[Any]] = []
    classes = run.part("data").get("classes")
    if isinstance(classes, list):
        rows.append(["Classes", str(len(classes))])
    for key, name in (
        ("train", "Training images"),
        ("held_out", "Held-out images (they decide)"),
        ("test", "Test images (read once)"),
    ):
        if (value := run.number("data", key)) is not None:
            rows.append([name, quantity(f"data.{key}", value, f"{value:.0f}")])
    for key, name in (("shorter_edge", "Images' shorter edge, about"), ("input_size", "The network sees a square of")):
        if (value := run.number("data", key)) is not None:
            rows.append([name, quantity(f"data.{key}", value, f"{value:.0f} px")])
    skipped = run.part("data").get("skipped")
    if isinstance(skipped, list) and skipped:
        names = ", ".join(short(s, 60) for s in skipped[:12]) + (" …" if len(skipped) > 12 else "")
        rows.append(["Images that could not be read", f"{len(skipped)}: {names}"])
    for key, name in (("id", "Space"), ("size", "Networks in the space")):
        if (value := run.part("space").get(key)) is not None:
            count = number(value)
            rows.append([name, short(value) if count is None else f"{count:,.0f}" if count < 1e9 else f"{count:.4g}"])
    rows += [[f"Selection: {key}", figure(key, value)] for key, value in scalars(run.part("selection"))]
    return table("What went in", [], rows, "words") if rows else missing("Nothing is recorded about the data.")


def files_section(run: RunData) -> Safe:
    exports = [(key, value) for key, value in run.part("export").items() if isinstance(value, dict)]
    if not exports:
        return missing("Nothing is exported yet.")
    rows = []
    for key, value in exports[:20]:
        ms, difference = number(value.get("ms")), number(value.get("max_abs_difference"))
        rows.append(
            [
                short(key, 40),
                el("code", short(value.get("file", "?"), 80)),
                size(number(value.get("bytes"))),
                "not compared" if difference is None else f"{difference:.1e}",
                "not measured" if ms is None else cost(ms, "ms"),
            ]
        )
    columns = ["Format", "File", "Size", "Greatest difference", "Time"]
    return scroll("Exported files", table("Run again in a fresh process and compared", columns, rows))


def repeat_section(run: RunData) -> Safe:
    lines = commands(run)
    parts: list[Any] = [
        el(
            "div",
            el("pre", el("code", line)),
            el("button", "Copy", type="button", class_="copy", hidden=True),
            class_="command",
        )
        for line in lines
    ]
    string = run.text("architecture", "string")
    parts += (
        [el("p", "The network as one line:"), el("div", el("pre", el("code", string[:6000])), class_="command")]
        if string
        else []
    )
    times = [(key, value) for key, value in run.part("seconds").items() if number(value) is not None]
    if times:
        total = sum(value for _, value in times) or 1.0
        rows = [
            [key, el("span", class_="bar", style=f"width:{100 * max(0.0, value) / total:.1f}%"), duration(value)]
            for key, value in times[:40]
        ]
        parts.append(table("Where the time went", ["Step", "", "Time"], rows, "classes times"))
    return join(parts) if parts else missing("Neither the configuration nor the options are recorded.")


def options_section(run: RunData) -> Safe:
    folds = []
    for key, name in (("options", "Every option"), ("versions", "Every version")):
        rows = [[short(k, 60), short(v)] for k, v in list(run.part(key).items())[:ROWS]]
        if rows:
            folds.append(el("details", el("summary", f"{name} ({len(rows)})"), table(name, [], rows, "words")))
    if run.config:
        folds.append(el("details", el("summary", "config.yaml"), el("pre", el("code", run.config[:12_000]))))
    return join(folds) if folds else missing("Neither options nor versions are recorded.")
