"""The page of a benchmark: what each method reaches at the same budget, beside random networks, and what differs.

It is made of `bench.json` alone. Any part may be missing; figures are per cent unless they say otherwise.
"""

from __future__ import annotations

import re
from typing import Any

from singlepath.report.bench_cells import (
    Values,
    bounds_of,
    cost_name,
    cost_of,
    figure,
    mean_of,
    part,
    rows_of,
    thousands,
    with_interval,
)  # fmt: skip
from singlepath.report.bench_charts import curves
from singlepath.report.bench_ranks import depth_section, seed_section, supernet_section
from singlepath.report.fields import missing, short
from singlepath.report.markup import Safe, el, join, scroll, table
from singlepath.report.numbers import number, signed
from singlepath.report.page import document

__all__ = ["BENCH", "render_bench"]

BENCH = "bench.json"
FOOTER = (
    "Written by singlepath from the records of the benchmark; the .json file beside this page has all digits, "
    "records.parquet all trials of a run."
)
MOST_TESTS = 400
SAID = 5  # names in a sentence
PASSES = {
    "search_passes": "Image passes of the supernet", "forward": "of scoring, forward only",
    "training": "of the network's training",
}  # fmt: skip


def render_bench(summary: Values) -> str:
    """The page of a benchmark's `bench.json`, as HTML."""
    tasks = rows_of(summary, "tasks")
    heading = "Benchmark: " + (", ".join(short(t.get("task"), 60) for t in tasks[:6]) or "no tasks")
    header = [el("h1", heading), el("p", _asked(summary), class_="asked"), el("p", _answer(summary), class_="answer")]
    sections: list[tuple[str, str, Safe]] = []
    for i, task in enumerate(tasks):
        key = f"tasks.{i}"
        name = short(task.get("task"), 60).replace("/", "/\u200b")  # where a narrow heading may break
        sections.append((f"task-{i + 1}", name, _task(task, key, summary)))
    sections += [
        ("differences", "What differs", _tests(summary)),
        ("spaces", "Spaces and baselines", join(*[_space(t, f"tasks.{i}") for i, t in enumerate(tasks)])),
        ("ledger", "Ledger", join(*[_ledger(t, f"tasks.{i}") for i, t in enumerate(tasks)])),
    ]
    ranks = {
        "ranks": ("Training seeds", seed_section(tasks)),
        "depths": ("Depth gap", depth_section(tasks, _level(summary))),
        "supernets": ("Supernet's ranking", supernet_section(tasks, _level(summary))),
    }
    sections += [(key, name, section) for key, (name, section) in ranks.items() if section is not None]
    sections.append(("again", "Have it again", _again(summary)))
    slim = {**summary, "tasks": [{**t, "methods": [_slim(m) for m in rows_of(t, "methods")]} for t in tasks]}
    return document(heading, header, sections, slim, FOOTER)


def _slim(row: Values) -> dict[str, Any]:
    """A method without its curve, which is drawn."""
    return {key: value for key, value in row.items() if key != "curve"}


# -- the header -------------------------------------------------------------------------------------------------------


def _asked(summary: Values) -> str:
    asked, tasks = part(summary, "asked"), rows_of(summary, "tasks")
    names = [short(m.get("method"), 60) for m in (rows_of(tasks[0], "methods") if tasks else [])]
    said = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    seeds, queries = asked.get("seeds"), asked.get("queries")
    kind = "One setting changed at a time: " if summary.get("ablation") else "Compared: "
    return f"{kind}{said}; {short(seeds)} searches of each on every task, {short(queries)} queries a search."


def _answer(summary: Values) -> str:
    """One sentence a task: the best method, and what is not different from it."""
    return " ".join(_best(task, summary) for task in rows_of(summary, "tasks")[:4]) or "There are no results."


def _best(task: Values, summary: Values) -> str:
    rows = [m for m in rows_of(task, "methods") if number(m.get("test")) is not None]
    if not rows:
        return ""
    first = max(rows, key=lambda m: m["test"])
    name, where = first.get("method"), short(task.get("task"), 60)
    same = [
        other
        for row in rows_of(summary, "tests")
        if row.get("of") == "accuracy" and row.get("task") == task.get("task") and row.get("different") is False
        for pair in [(row.get("first"), row.get("second"))]
        if name in pair
        for other in [pair[0] if pair[1] == name else pair[1]]
    ]
    text = f"On {where} {short(name, 60)} has the highest mean test accuracy, {first['test']:.2f}\u00a0%"
    names = ", ".join(short(s, 60) for s in same[:SAID]) + (f" and {len(same) - SAID} more" if len(same) > SAID else "")
    return f"{text}; not different from it: {names}." if same else f"{text}."


# -- one task ---------------------------------------------------------------------------------------------------------


def _task(task: Values, key: str, summary: Values) -> Safe:
    rows = rows_of(task, "methods")
    if not rows:
        return missing("No trial of this task has ended.")
    sentence = part(task, "table", "optimum").get("sentence")
    protocol = part(summary, "protocols", str(task.get("task")))
    of = "the network that a search found, trained" if protocol.get("asked") else "the best validated network"
    intro = el(
        "p",
        f"Test accuracy of {of}, mean over searches, {_level(summary)} interval. ",
        f"In this table {short(sentence)}. " if sentence else None,
        "RI is the relative improvement over the random networks.",
    )
    return join(intro, _recipe(protocol), _table(rows, key, task), curves(rows, _level(summary)))


def _recipe(protocol: Values) -> Safe | None:
    """The protocol of images, by its name and in numbers."""
    if not protocol.get("asked"):
        return None
    recipe, asked = part(protocol, "recipe"), part(protocol, "asked")
    budget, unit = number(protocol.get("limit")) or 0.0, short(protocol.get("unit"), 20)
    return el(
        "p", "Protocol ", el("strong", short(protocol.get("name"), 60)), ", the same for every method: ",
        f"{short(protocol.get('space'), 120)}, at most {budget:.4g} {unit} ({short(asked.get('budget'), 40)}), ",
        f"{short(protocol.get('training_images'))} training images, {short(protocol.get('held_out_images'))} held out, "
        f"{short(recipe.get('epochs'))} epochs of the recipe {short(recipe.get('name'), 40)} for a found network.",
    )  # fmt: skip


def _level(summary: Values) -> str:
    level = number(summary.get("level"))
    return f"{100 * (0.95 if level is None else level):g}\u00a0%"


def _table(rows: list[dict[str, Any]], key: str, task: Values) -> Safe:
    table_columns = any(number(row.get("regret")) is not None for row in rows)
    last = ["Mean regret of validation, points", "Queries to the optimum"] if table_columns else ["Validation, %"]
    networks = part(task, "random_networks")
    if costs := [cost for row in [*rows, networks] if (cost := part(row, "cost"))]:
        last.append(cost_name(costs[0]))
    if fronts := any(part(row, "hypervolume") for row in rows):
        last.append("Hypervolume of cost and validation, % of the table's")
    columns = ["Method", "Searches", "Test accuracy, %", "RI, %", "Against random networks", *last]
    small = min((sd for row in rows if (sd := number(row.get("test_sd")))), default=1.0) < 0.2
    cells = [_cells(row, f"{key}.methods.{i}", 3 if small else 2, table_columns) for i, row in enumerate(rows)]
    for i, row in enumerate(rows):
        cells[i] += [cost_of(row, f"{key}.methods.{i}")] * bool(costs)
        cells[i] += [mean_of(row, "hypervolume", f"{key}.methods.{i}", 1)] * fronts
    if networks:
        figures = networks.get("mean"), *bounds_of(networks, "interval")
        mean = with_interval(*figures, f"{key}.random_networks.mean", 3 if small else 2)
        cells.append(
            ["random networks", figure(networks, "runs", f"{key}.random_networks.runs", 0), mean]
            + ["–"] * (len(columns) - 3)
        )
        if costs:
            cells[-1][-1 - fronts] = cost_of(networks, f"{key}.random_networks")
    return scroll("Every method", table("Every method at the same budget", columns, cells, "bench"))


def _cells(row: Values, key: str, decimals: int, of_table: bool) -> list[Any]:
    ri, found = part(row, "ri"), part(row, "to_optimum")
    of_tables = [figure(row, "regret", f"{key}.regret", 3), _optimum(found, f"{key}.to_optimum.mean")]
    return [
        short(row.get("method"), 80),
        figure(row, "runs", f"{key}.runs", 0),
        with_interval(row.get("test"), *bounds_of(row, "test_interval"), f"{key}.test", decimals),
        with_interval(ri.get("value"), ri.get("low"), ri.get("high"), f"{key}.ri.value"),
        _word(ri, str(row.get("verdict", ""))),
        *(of_tables if of_table else [figure(row, "validation", f"{key}.validation", decimals)]),
    ]


def _word(ri: Values, sentence: str) -> Any:
    """Better, worse, or the words "not different", with the corrected p-value."""
    p, said = number(ri.get("holm")), re.search(r" is (better|worse|not different) ", sentence)
    if not said:
        return "–"
    return join(el("strong", said[1]), el("small", f" p = {p:.2g}", class_="interval") if p is not None else None)


def _optimum(found: Values, key: str) -> Any:
    """Mean queries, and how many searches ended before."""
    mean, at_cap, cap = (number(found.get(name)) for name in ("mean", "at_cap", "cap"))
    if mean is None:
        return "–"
    cells = [with_interval(mean, *bounds_of(found, "interval"), key, 1)]
    if at_cap:
        cells.append(el("small", f" {at_cap:.0f} not within {cap or 0:g}", class_="interval"))
    return join(*cells)


# -- tests, spaces, ledger, seeds -------------------------------------------------------------------------------------


def _tests(summary: Values) -> Safe:
    rows = rows_of(summary, "tests")
    if not rows:
        return missing("Nothing was tested: a test needs two methods with two searches each.")
    alpha = number(summary.get("alpha")) or 0.05
    intro = "Welch's test, two-sided, with Holm's correction over all tests of one kind in this benchmark; "
    intro += f"different means p ≤ {alpha:g}."
    parts: list[Any] = [el("p", intro)]
    for of, name, unit in (("accuracy", "Test accuracy", "points"), ("queries", "Queries to the optimum", "queries")):
        cells = [_verdict(row, unit) for row in rows[:MOST_TESTS] if row.get("of") == of]
        if cells:
            columns = ["", "Task", f"Difference, {unit}", "p, corrected", "What may be said"]
            parts.append(scroll(name, table(name, columns, cells, "verdicts")))
    if len(rows) > MOST_TESTS:
        parts.append(el("p", f"{len(rows) - MOST_TESTS} more are in {BENCH}."))
    return join(*parts)


def _verdict(row: Values, unit: str) -> list[Any]:
    difference, p = number(row.get("difference")), number(row.get("holm"))
    sentence = str(row.get("sentence", "")).partition(" (")[0] if p is not None else short(row.get("sentence"))
    if " cannot be compared: " in sentence:
        difference = p = None
    return [
        f"{short(row.get('first'), 60)} against {short(row.get('second'), 60)}",
        short(row.get("task"), 60),
        "–" if difference is None else signed(difference, unit, 3 if unit == "points" else 1),
        "–" if p is None else f"{p:.2g}",
        el("strong", sentence) if row.get("different") else sentence,
    ]


def _space(task: Values, key: str) -> Safe | None:
    """What the space gives without a search: all its networks, a random one, the best of a few."""
    facts, networks, near = (part(task, name) for name in ("table", "random_networks", "random_search"))
    space, optimum, tau = (part(facts, name) for name in ("space", "optimum", "validation_tau"))
    rows: list[list[Any]] = []
    if space:
        sd, low, high = (number(space.get(name)) or 0.0 for name in ("population_sd", "low", "high"))
        spread, draws = f" (sd {sd:.2f}, {low:.2f} to {high:.2f})", f"{key}.table.optimum.random_queries"
        rows += [
            ["Networks", f"{number(facts.get('networks')) or 0:,.0f}"],
            ["Test accuracy of all", join(figure(space, "mean", f"{key}.table.space.mean"), spread)],
            ["Optimum by validation", _optimum_words(optimum, key)],
            ["Queries to it by random search, exact", figure(optimum, "random_queries", draws, 0)],
            ["Kendall's tau of validation and test", _tau(tau, key)],
        ]  # fmt: skip
    if networks:
        sd = number(networks.get("sample_sd"))
        mean = figure(networks, "mean", f"{key}.random_networks.mean")
        rows.append([f"{networks.get('runs')} random networks", join(mean, "" if sd is None else f" (sd {sd:.2f})")])
    if near:
        away, error = number(near.get("standard_errors")) or 0.0, number(near.get("standard_error")) or 0.0
        expected = number(near.get("expected")) or 0.0
        said = f", exactly expected {expected:.3f} ± {error:.3f}: {signed(away, 'standard errors')}"
        said += f", {'' if near['holds'] else 'not '}within 3" if isinstance(near.get("holds"), bool) else ""
        rows.append(["Random search", join(figure(near, "mean", f"{key}.random_search.mean", 3), said)])
    return scroll("Space", table(short(task.get("task"), 60), [], rows, "words")) if rows else None


def _optimum_words(optimum: Values, key: str) -> Any:
    validation = figure(optimum, "validation", f"{key}.table.optimum.validation")
    return join(validation, ", its test accuracy ", figure(optimum, "test", f"{key}.table.optimum.test"))


def _tau(tau: Values, key: str) -> Any:
    share = number(tau.get("share")) or 0.0
    top = figure(tau, "top", f"{key}.table.validation_tau.top")
    return join(figure(tau, "all", f"{key}.table.validation_tau.all"), f"; in the top {100 * share:g}\u00a0% ", top)


def _ledger(task: Values, key: str) -> Safe | None:
    """What a search cost, tuning included, and what random search gives for as many queries, or its image passes."""
    rows, columns = [], list[str]()
    for i, row in enumerate(rows_of(task, "methods")):
        spent, equal = part(row, "ledger"), part(row, "random_at_equal_cost")
        place = f"{key}.methods.{i}"
        figures = [figure(spent, name, f"{place}.ledger.{name}", 0) for name in ("search", "tuning", "total")]
        if passes := number(spent.get("search_passes")) is not None:
            more = [figure(spent, name, f"{place}.ledger.{name}", 0, thousands) for name in PASSES]
        else:
            more = [figure(equal, "mean", f"{place}.random_at_equal_cost.mean", 3)]
        rows.append([short(row.get("method"), 80), *figures, *more, figure(row, "test", f"{place}.test", 3)])
        asked = [*PASSES.values()] if passes else ["Random search with as many, %"]
        columns = ["Method", "Search", "Tuning", "Queries in all", *asked, "The method, %"]
    if PASSES["training"] in columns:
        rows += _beside(task, key)
    return scroll("Ledger", table(short(task.get("task"), 60), columns, rows)) if rows else None


def _beside(task: Values, key: str) -> list[list[Any]]:
    """What random networks took beside the comparison: trainings at several depths, scores by a supernet."""
    rows = []
    for i, row in enumerate(rows_of(part(task, "depth_gap"), "depths")):
        place, name = f"{key}.depth_gap.depths.{i}", f"random networks at depth {short(row.get('depth'), 9)}"
        spent = figure(row, "training", f"{place}.training", 0, thousands)
        rows.append([name, *["–"] * 5, spent, figure(row, "test", f"{place}.test", 3)])
    if ranks := part(task, "supernet_ranks"):
        spent = figure(ranks, "forward", f"{key}.supernet_ranks.forward", 0, thousands)
        rows.append(["random networks, scored by a supernet", *["–"] * 4, spent, "–", "–"])
    return rows


def _again(summary: Values) -> Safe:
    asked, versions, hardware = (part(summary, key) for key in ("asked", "versions", "hardware"))
    parts: list[Any] = []
    if command := asked.get("command"):
        button = el("button", "Copy", type="button", class_="copy", hidden=True)
        parts.append(el("div", el("pre", el("code", short(command, 6000))), button, class_="command"))
    parts.append(el("p", "Code: commit ", el("code", short(summary.get("commit") or "not known", 80)), "."))
    for values, name in ((_without(asked, "command"), "Configuration"), (versions, "Versions"), (hardware, "Hardware")):
        rows = [[short(key, 60), short(value)] for key, value in values.items()]
        if rows:
            parts.append(el("details", el("summary", f"{name} ({len(rows)})"), table(name, [], rows, "words")))
    first = (rows_of(summary, "tasks") or [{}])[0]
    settings = [[short(row.get("method"), 80), _settings(part(row, "settings"))] for row in rows_of(first, "methods")]
    if settings:
        parts.append(el("details", el("summary", "Settings of every method"), table("Settings", [], settings, "words")))
    return join(*parts)


def _settings(values: Values) -> str:
    return ", ".join(f"{short(key, 40)}={short(value, 40)}" for key, value in values.items()) or "none"


def _without(values: Values, key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}
