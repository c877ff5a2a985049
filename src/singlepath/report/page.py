"""The page put together: one run, or several side by side."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from singlepath.report.accuracy import accuracy_section, class_section
from singlepath.report.cost import cost_section
from singlepath.report.curves import curves_section
from singlepath.report.drawing import block_table, drawing
from singlepath.report.fields import missing
from singlepath.report.finalists import finalists_section
from singlepath.report.front import front_section
from singlepath.report.markup import Safe, el, embed, join, scroll, table
from singlepath.report.numbers import amount, cost, percent, quantity, signed
from singlepath.report.run_data import RunData
from singlepath.report.sections import data_section, files_section, options_section, repeat_section
from singlepath.report.tuning import tuning_section
from singlepath.report.words import above_budget, answer, asked, comparison, title

__all__ = ["document", "render"]

EMBEDDED = 90_000
DRAWN = 10
HEAVY = (
    "accuracy.per_class",
    "data.classes",
    "options",
    "versions",
    "accuracy.random.networks",
    "data.skipped",
    "blocks",
    "table",
    "selection",
    "asked",
    "front_random",
    "front",
    "tuning",
)


def render(runs: list[RunData]) -> str:
    """The page of one run, or a comparison of several, as HTML. Under 300 kB whatever the runs hold."""
    if not runs:
        raise ValueError("render needs at least one run")
    return _single(runs[0]) if len(runs) == 1 else _comparison(runs)


def _single(run: RunData) -> str:
    sections = [
        ("network", "The found network", _network(run)),
        ("cost", "Cost", cost_section(run)),
        ("accuracy", "Accuracy", accuracy_section(run)),
        ("classes", "Class by class", class_section(run)),
        ("search", "Search and training", curves_section(run)),
        ("files", "Exported files", files_section(run)),
        ("data", "Data and space", data_section(run)),
        ("again", "Have it again", repeat_section(run)),
        ("options", "Options and versions", options_section(run)),
    ]
    if (front := front_section(run)) is not None:
        sections.insert(4, ("front", "Other budgets", front))
    if (few := finalists_section(run)) is not None:
        sections.insert(1, ("finalists", "Finalists", few))
    if (tuning := tuning_section(run)) is not None:
        sections.insert(1, ("tuning", "Tuning", tuning))
    header = [
        el("h1", title(run)),
        el("p", asked(run), class_="asked"),
        el("p", answer(run), class_="answer"),
        _problems(run),
        _readout(run),
    ]
    return document(title(run), header, sections, _slim(run.result, EMBEDDED))


def _network(run: RunData) -> Safe:
    drawn = drawing(run)
    if drawn is None:
        ended = run.part("accuracy") or run.part("architecture")
        reason = (
            "The blocks of this network are not recorded."
            if ended
            else "There is no network yet: the search has not ended."
        )
        return missing(reason)
    space = run.text("architecture", "space") or run.text("space", "id")
    intro = el("p", "Drawn from input to output" + (f", in the space {space}" if space else "") + ".")
    fold = el("details", el("summary", "The drawing as a table"), block_table(run))
    return join(intro, el("figure", drawn), fold)


def _problems(run: RunData) -> list[Safe]:
    return [el("p", sentence, class_="missing") for sentence in run.problems]


def _readout(run: RunData) -> Safe:
    """The figures a reader looks for first."""
    found, mean, std = (run.number("accuracy", *keys) for keys in (("test",), ("random", "mean"), ("random", "std")))
    predicted, measured = run.number("cost", "predicted"), run.number("cost", "measured")
    compared, over = comparison(run), above_budget(run)
    kind = (run.text("cost", "kind") or "cost").replace("macs", "MACs")
    cells = [
        (f"Predicted {kind}", "cost.predicted", predicted, cost(predicted, run.unit)),
        ("Measured", "cost.measured", measured, "not measured" if measured is None else cost(measured, run.unit)),
        ("Test accuracy", "accuracy.test", found, "not trained yet" if found is None else percent(found)),
        (
            "Random networks",
            "accuracy.random.mean",
            mean,
            "not trained" if mean is None else f"{percent(mean)}\u00a0±\u00a0{100 * (std or 0):.1f}",
        ),
        (
            "Relative improvement",
            "accuracy.relative_improvement",
            compared and compared.improvement,
            signed(compared.improvement) if compared else "not measured",
        ),
        ("Parameters", "cost.parameters", run.number("cost", "parameters"), amount(run.number("cost", "parameters"))),
    ]
    return el(
        "dl",
        [
            el(
                "div",
                el("dt", name),
                el("dd", quantity(key, v, said) if v is not None else el("span", said, class_="none")),
                el("dd", over, class_="over") if over and key == "cost.measured" else None,
            )
            for name, key, v, said in cells
        ],
        class_="readout",
    )


def _comparison(runs: list[RunData]) -> str:
    names = _names(runs)
    sections = [("table", "Side by side", _side_by_side(runs, names))]
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        if i < DRAWN:
            drawn = drawing(run, f"Network of {name}", runs) or missing(
                "There is no network yet: the search has not ended."
            )
            sections.append((f"run-{i + 1}", name, join(_problems(run), el("p", answer(run)), el("figure", drawn))))
    if len(runs) > DRAWN:
        sections.append(
            ("more", "Further runs", el("p", f"{len(runs) - DRAWN} further networks are drawn in their own reports."))
        )
    heading = f"Comparison of {len(runs)} runs"
    header = [el("h1", heading), el("p", _headline(runs, names), class_="answer")]
    return document(heading, header, sections, [_slim(run.result, EMBEDDED // len(runs)) for run in runs])


def _names(runs: list[RunData]) -> list[str]:
    """The folders' names; those that come twice are numbered."""
    every = [run.name for run in runs]
    return [name if every.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(every)]


def _headline(runs: list[RunData], names: list[str]) -> str:
    scored = [
        (a, run, name)
        for run, name in zip(runs, names, strict=True)
        if (a := run.number("accuracy", "test")) is not None
    ]
    if not scored:
        return "None of these networks is trained yet."
    if len({(run.text("data", "name"), run.number("data", "test")) for _, run, _ in scored}) > 1:
        return "These networks were tested on different images, so their accuracies do not compare."
    best, _, name = max(scored, key=lambda each: each[0])
    return f"The most accurate network is that of {name}: {percent(best)} on the test images."


def _side_by_side(runs: list[RunData], names: list[str]) -> Safe:
    def line(name: str, cell: Any) -> list[Any]:
        return [name, *(cell(run) for run in runs)]

    def said(*keys: str) -> Any:
        return lambda run: run.text(*keys) or "–"

    def figure(form: Any, *keys: str, absent: str = "–") -> Any:
        return lambda run: absent if (v := run.number(*keys)) is None else quantity(".".join(keys), v, form(v, run))

    rows = [
        line("Data", lambda run: run.text("data", "name") or run.text("asked", "data") or "–"),
        *(line(key.capitalize(), said("asked", key)) for key in ("space", "device", "budget", "seed")),
        line("Budget, as a cost", figure(lambda v, r: cost(v, r.unit), "cost", "budget")),
        line("Predicted", figure(lambda v, r: cost(v, r.unit), "cost", "predicted", absent="not known")),
        line("Measured", figure(lambda v, r: cost(v, r.unit), "cost", "measured", absent="not measured")),
        line("Measured, within the budget", _holds),
        line("Test accuracy", figure(lambda v, r: percent(v, 2), "accuracy", "test", absent="not trained yet")),
        line("Random networks", lambda run: _random(run)),
        line(
            "Relative improvement",
            lambda run: signed(c.improvement, decimals=2) if (c := comparison(run)) else "not measured",
        ),
        line("Against random", lambda run: _VERDICT[c.verdict] if (c := comparison(run)) else "–"),
        line("MACs", figure(lambda v, r: amount(v), "cost", "macs")),
        line("Parameters", figure(lambda v, r: amount(v), "cost", "parameters")),
        line(
            "Skipped blocks",
            lambda run: str(sum(b.get("token") == "skip" for b in run.rows("blocks"))) if run.rows("blocks") else "–",
        ),
    ]
    return scroll("The runs side by side", table("The runs side by side", ["", *names], rows, "compare"))


_VERDICT = {"better": "better", "worse": "worse", "same": "not different"}


def _holds(run: RunData) -> str:
    measured, budget = run.number("cost", "measured"), run.number("cost", "budget")
    return "–" if measured is None or budget is None else f"no: {over}" if (over := above_budget(run)) else "yes"


def _random(run: RunData) -> str:
    mean, std = run.number("accuracy", "random", "mean"), run.number("accuracy", "random", "std") or 0.0
    return "not trained" if mean is None else f"{percent(mean, 2)}\u00a0±\u00a0{100 * std:.2f}"


FOOTER = "Written by singlepath from the files of the run; result.json has all digits."


def document(
    heading: str, header: list[Any], sections: list[tuple[str, str, Safe]], result: Any, footer: str = FOOTER
) -> str:
    """A whole page: its header, its sections (key, name, content), and `result` embedded as JSON."""
    style, script = (
        resources.files("singlepath.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{heading} · singlepath"),
        el("style", Safe(style)),
    )
    links = el(
        "nav", el("ul", [el("li", el("a", name, href=f"#{key}")) for key, name, _ in sections]), aria_label="Sections"
    )
    body = [
        el(
            "section",
            el("h2", name, id=f"{key}-name"),
            el("div", content, class_="content"),
            id=key,
            aria_labelledby=f"{key}-name",
        )
        for key, name, content in sections
    ]
    page = join(
        Safe("<!doctype html>\n"),
        el(
            "html",
            head,
            el(
                "body",
                el("header", el("p", "singlepath", class_="maker"), header),
                links,
                el("main", body),
                el(
                    "footer",
                    el("p", footer),
                ),
                el("script", embed(result), type="application/json", id="result"),
                el("script", Safe(script)),
            ),
            lang="en",
        ),
        Safe("\n"),
    )
    return page


def _slim(result: dict[str, Any], limit: int) -> dict[str, Any]:
    """The result for embedding; where it is too long, its longest lists are left out and named under ``omitted``."""
    slim, omitted = json.loads(json.dumps(result)), []
    for place in HEAVY:
        if len(embed(slim).encode()) <= limit:
            break
        *above, last = place.split(".")
        holder = slim
        for key in above:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and holder.pop(last, None) is not None:
            omitted.append(place)
    if len(embed(slim).encode()) > limit:
        slim, omitted = (
            {k: v for k, v in slim.items() if k in ("kind", "cost") and len(embed(v)) < limit // 2},
            ["most"],
        )
    return {**slim, "omitted": omitted} if omitted else slim
