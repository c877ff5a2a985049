"""Accuracy: the found network beside random networks of its budget and off-the-shelf ones, then class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from singlepath.report.charts import Axis, Frame, diamond, keys, text
from singlepath.report.markup import Safe, caption, el, join, scroll, table
from singlepath.report.numbers import amount, number, percent, plain_cost, quantity, signed
from singlepath.report.run_data import RunData
from singlepath.report.words import comparison, margin, trained

__all__ = ["accuracy_section", "class_section", "scatter"]

WORST = 20
CLASS_BYTES = 60_000
NETWORKS = 60
WIDTH, HEIGHT = 600, 330


@dataclass(frozen=True)
class Entry:
    """One trained network of the comparison."""

    kind: str
    name: str
    accuracy: float
    predicted: float | None
    macs: float | None = None
    parameters: float | None = None
    key: str | None = None


def _entries(run: RunData) -> list[Entry]:
    found = run.number("accuracy", "test")
    cost = run.part("cost")
    entries = []
    if found is not None:
        counts = number(cost.get("predicted")), number(cost.get("macs")), number(cost.get("parameters"))
        entries.append(Entry("found", "found network", found, *counts, "accuracy.test"))
    for i, row in enumerate(run.rows("accuracy", "random", "networks")):
        entries += _entry("random", f"random {i + 1}", row, f"accuracy.random.networks.{i}.accuracy")
    for i, row in enumerate(run.rows("accuracy", "baselines")):
        width = number(row.get("width"))
        name = f"{str(row.get('name', '?'))[:60]}" + (f" ×{width:g}" if width is not None else "")
        entries += _entry("baseline", name, row, f"accuracy.baselines.{i}.accuracy")
    return entries


def _entry(kind: str, name: str, row: dict[str, Any], key: str) -> list[Entry]:
    accuracy = number(row.get("accuracy"))
    if accuracy is None:
        return []
    counts = number(row.get("predicted")), number(row.get("macs")), number(row.get("parameters"))
    return [Entry(kind, name, accuracy, *counts, key)]


def accuracy_section(run: RunData) -> Safe:
    entries = _entries(run)
    if run.number("accuracy", "test") is None:
        found = "The network is not evaluated" if trained(run) else "No network is trained"
        command = "singlepath evaluate" if trained(run) else "singlepath train"
        return el(
            "p",
            found,
            " yet: there is no accuracy to show. Type ",
            el("code", command),
            " on this run to have one.",
            class_="missing",
        )
    return join(_verdict(run), scatter(entries, run), _numbers(entries, run))


def _verdict(run: RunData) -> Safe:
    """How far the figures carry: against random networks, and what the size of the test set allows to say."""
    found, images = run.number("accuracy", "test"), run.number("data", "test")
    sentences = _against_random(run)
    if found is not None and images:
        known = f"{100 * margin(found, images):.1f} points (95 %)"
        sentences.append(f"With {images:.0f} test images the accuracy itself is known to ±{known}. ")
    recipe, epochs = run.text("accuracy", "recipe"), run.text("accuracy", "epochs")
    sentences.append(f"Recipe {recipe}" + (f", {epochs} epochs." if epochs else ".") if recipe else None)
    return el("p", sentences)


def _against_random(run: RunData) -> list[Any]:
    compared, mean = comparison(run), run.number("accuracy", "random", "mean")
    if compared is None or mean is None:
        return ["Random networks of the same budget were not trained: how much the search was worth is not measured. "]
    count = len(run.rows("accuracy", "random", "networks"))
    words = {"better": "better than", "worse": "worse than", "same": "not different from"}[compared.verdict]
    std = 100 * (run.number("accuracy", "random", "std") or 0.0)
    return [
        "The found network is ",
        el("strong", words),
        f" the {count or ''} random networks of the same budget, trained with the same recipe".replace("  ", " "),
        f" ({compared.why})" if compared.why else "",
        ". They reach ",
        quantity("accuracy.random.mean", mean, percent(mean, 2)),
        f" on average (±{std:.2f} points): relative improvement ",
        quantity("accuracy.relative_improvement", compared.improvement, signed(compared.improvement, decimals=2)),
        ". ",
    ]


def scatter(entries: list[Entry], run: RunData) -> Safe | None:
    """Test accuracy over predicted cost, a shape for each kind of network; None where fewer than two have a cost."""
    placed = [e for e in entries if e.predicted is not None][:NETWORKS]
    if len(placed) < 2:
        return None
    budget = run.number("cost", "budget")
    xs = [e.predicted or 0.0 for e in placed] + ([budget] if budget is not None else [])
    ys = [100 * e.accuracy for e in placed] + [100 * (run.number("accuracy", "random", "mean") or placed[0].accuracy)]
    frame = Frame(
        Axis.of(xs, 50, WIDTH - 12, margin=0.12),
        Axis.of(ys, HEIGHT - 44, 30, margin=0.12),
        f"predicted {run.text('cost', 'kind') or 'cost'}, {run.unit}",
        "test accuracy, %",
    )
    band, mean = _band(run, frame)
    marks = [_mark(e, frame) for e in reversed(placed)]
    names = _names(placed, frame)
    spoken = "Test accuracy beside predicted cost: " + "; ".join(f"{e.name} {percent(e.accuracy)}" for e in placed)
    svg = el(
        "svg",
        band,
        frame.grid(),
        mean,
        _budget(budget, frame),
        names,
        marks,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=spoken[:1500],
        class_="chart wide",
    )
    note = "Each mark is a network trained with the same recipe. Random networks fill the budget as a search does"
    return el(
        "figure", scroll("Accuracy beside cost", svg), _keys(placed, run), caption(f"{note}{_left_out(entries)}.")
    )


def _left_out(entries: list[Entry]) -> str:
    names = [e.name for e in entries if e.predicted is None]
    return f"; without a predicted cost and so only in the table: {', '.join(names[:6])}" if names else ""


def _band(run: RunData, frame: Frame) -> tuple[Safe | None, Safe | None]:
    """One standard deviation around the mean of the random networks, and the mean itself."""
    mean, std = run.number("accuracy", "random", "mean"), run.number("accuracy", "random", "std") or 0.0
    if mean is None:
        return None, None
    top, low = (min(frame.y.start, max(frame.y.end, frame.y(100 * v))) for v in (mean + std, mean - std))
    y, wide = frame.y(100 * mean), frame.x.end - frame.x.start
    return (
        el("rect", x=frame.x.start, y=top, width=wide, height=low - top, class_="shade"),
        el("line", x1=frame.x.start, x2=frame.x.end, y1=y, y2=y, class_="mean"),
    )


def _budget(budget: float | None, frame: Frame) -> list[Safe]:
    if budget is None:
        return []
    x = frame.x(budget)
    return [
        el("line", x1=x, x2=x, y1=frame.y.start, y2=frame.y.end, class_="limit"),
        text(x, 24, "budget", "limit-name", "middle"),
    ]


def _mark(entry: Entry, frame: Frame) -> Safe:
    x, y = frame.x(entry.predicted or 0.0), frame.y(100 * entry.accuracy)
    if entry.kind == "random":
        return el("circle", cx=x, cy=y, r="5", class_="mark random")
    if entry.kind == "found":
        return diamond(x, y)
    return el("path", d=f"M{x:.1f} {y - 6:.1f}l6.5 11h-13z", class_="mark baseline")


def _names(placed: list[Entry], frame: Frame) -> list[Safe]:
    """A name beside every mark that is not a random network, where it covers neither marks nor other names."""
    points = [(frame.x(e.predicted or 0.0), frame.y(100 * e.accuracy)) for e in placed]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in points]
    parts = []
    for entry, (x, y) in zip(placed, points, strict=True):
        if entry.kind == "random":
            continue
        name = entry.name[:28]
        wide = 6.9 * len(name)
        places = [(x + 12, y + 4), (x - 12 - wide, y + 4), (x - wide / 2, y + 22), (x - wide / 2, y - 14)]
        free = [p for p in places if _free((p[0], p[1] - 11, p[0] + wide, p[1] + 3), taken, frame)]
        if free:
            taken.append((free[0][0], free[0][1] - 11, free[0][0] + wide, free[0][1] + 3))
            parts.append(text(*free[0], name, "key strong" if entry.kind == "found" else "key"))
    return parts


def _free(box: tuple[float, float, float, float], taken: list[tuple[float, float, float, float]], frame: Frame) -> bool:
    inside = box[0] >= frame.x.start + 2 and box[2] <= frame.x.end and box[1] >= frame.y.end and box[3] <= frame.y.start
    return inside and not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)


def _keys(entries: list[Entry], run: RunData) -> Safe:
    """What the marks mean, by shape."""
    kinds = {e.kind for e in entries}
    shapes = [
        ("found", "found network", diamond(8, 8)),
        ("random", "random networks of the budget", el("circle", cx="8", cy="8", r="5", class_="mark random")),
        ("baseline", "off-the-shelf networks", el("path", d="M8 2l6.5 11h-13z", class_="mark baseline")),
    ]
    items = keys([(name, shape) for kind, name, shape in shapes if kind in kinds])
    if run.number("accuracy", "random", "mean") is not None:
        items.append(el("li", el("span", class_="swatch band"), "mean of the random networks ± one standard deviation"))
    return el("ul", items, class_="legend")


def _numbers(entries: list[Entry], run: RunData) -> Safe:
    mean, std = run.number("accuracy", "random", "mean"), run.number("accuracy", "random", "std") or 0.0
    shown = entries[:NETWORKS]
    rows = [_cells(e, mean, run.unit) for e in shown]
    if mean is not None:
        middle = ["mean of the random", "–", "–", "–", f"{percent(mean, 2)}\u00a0±\u00a0{100 * std:.2f}", "–"]
        rows.insert(next((i for i, e in enumerate(shown) if e.kind == "baseline"), len(rows)), middle)
    columns = ["Network", f"Predicted, {run.unit}", "MACs", "Parameters", "Test accuracy", "Against the random mean"]
    title = "The same numbers" + (f" (the first {NETWORKS} of {len(entries)})" if len(entries) > NETWORKS else "")
    return scroll("Accuracy and cost of every network", table(title, columns, rows))


def _cells(entry: Entry, mean: float | None, unit: str) -> list[Any]:
    against = "–" if mean is None else signed(100 * (entry.accuracy - mean), "points", 2)
    return [
        el("strong", entry.name) if entry.kind == "found" else entry.name,
        "not known" if entry.predicted is None else plain_cost(entry.predicted, unit),
        "–" if entry.macs is None else amount(entry.macs),
        "–" if entry.parameters is None else amount(entry.parameters),
        quantity(entry.key or "", entry.accuracy, percent(entry.accuracy, 2)),
        against,
    ]


def class_section(run: RunData) -> Safe:
    """Accuracy of every class, the worst first."""
    rows = [(r, a) for r in run.rows("accuracy", "per_class") if (a := number(r.get("accuracy"))) is not None]
    if not rows:
        return el("p", "Accuracy class by class is not measured.", class_="missing")
    rows.sort(key=lambda pair: pair[1])
    head = [_bar_row(row, accuracy) for row, accuracy in rows[:WORST]]
    title = f"The {WORST} worst of {len(rows)} classes" if len(rows) > WORST else "Every class, the worst first"
    return join(table(title, ["Class", "", "Accuracy", "Images"], head, "classes"), _rest(rows[WORST:]))


def _class_name(row: dict[str, Any], length: int) -> Safe:
    name = str(row.get("class", "?"))
    return el("bdi", name if len(name) <= length else name[: length - 1] + "…")


def _bar_row(row: dict[str, Any], accuracy: float) -> list[Any]:
    count = number(row.get("count"))
    bar = el("span", class_="bar", style=f"width:{100 * min(1.0, max(0.0, accuracy)):.1f}%")
    return [_class_name(row, 80), bar, percent(accuracy), "–" if count is None else amount(count)]


def _rest(rows: list[tuple[dict[str, Any], float]]) -> Safe | None:
    """The other classes, folded, without bars; as many as a page of a bounded size can hold."""
    if not rows:
        return None
    cells, used = [], 0
    for row, accuracy in rows:
        count = number(row.get("count"))
        line = Safe(f'<tr><th scope="row">{_class_name(row, 48)}<td>{100 * accuracy:.1f}<td>{count or 0:.0f}')
        used += len(line.encode("utf-8", "replace"))
        if used > CLASS_BYTES:
            break
        cells.append(line)
    head = el("thead", el("tr", [el("th", c, scope="col") for c in ("Class", "Accuracy, %", "Images")]))
    body = el("table", el("caption", "The other classes"), head, el("tbody", cells))
    missing = len(rows) - len(cells)
    more = el("p", f"{missing} more are in result.json.") if missing else None
    return el("details", el("summary", f"The other {len(rows)} classes"), body, more)
