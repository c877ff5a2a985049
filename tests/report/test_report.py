"""The page: complete, safe, bounded, and honest in its sentences."""

from __future__ import annotations

import html
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report import synthetic

from singlepath.errors import UserError
from singlepath.report import RunData, load, render, write_report
from singlepath.report.words import comparison

EVIL = "</script><img src=x onerror=alert(1)>"
LIMIT = 300_000


def embedded(page: str) -> Any:
    """The result inside the page."""
    found = re.search(r'<script type="application/json" id="result">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def words(page: str) -> str:
    """The page's text."""
    body = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).replace("\u00a0", " ").split())


def answer(**options: Any) -> str:
    page = render([RunData("run", synthetic.result(**options))])
    found = re.search(r'<p class="answer">(.*?)</p>', page)
    assert found
    return html.unescape(found[1]).replace("\u00a0", " ")


def test_report_is_written_and_small(tmp_path: Path) -> None:
    for run in (synthetic.complete(tmp_path / "small"), synthetic.mobile(tmp_path / "mobile")):
        before = sorted(p.name for p in run.iterdir())
        path = write_report(run)
        assert path == run / "report.html"
        assert path.stat().st_size < LIMIT / 2
        assert sorted(p.name for p in run.iterdir()) == sorted([*before, "report.html"])
        page = path.read_text("utf-8")
        assert not re.search(r"https?://", page.replace("http://www.w3.org/", ""))
        assert "@import" not in page and "url(" not in page


def test_embedded_result_is_the_file(tmp_path: Path) -> None:
    run = synthetic.complete(tmp_path / "run")
    page = write_report(run).read_text("utf-8")
    assert embedded(page) == json.loads((run / "result.json").read_text("utf-8"))


def test_the_largest_run_stays_under_the_limit(tmp_path: Path) -> None:
    classes = [f"class {i} " + "ð•<&\"'" * 12 for i in range(1000)]
    value = synthetic.result(synthetic.MOBILE, side=112, classes=classes)
    value["options"] = {f"option_{i}": "x" * 40 for i in range(200)}
    value["data"]["skipped"] = [f"folder/image {i}.jpg" for i in range(5000)]
    rows = synthetic.metrics(value["blocks"], value["cost"]["budget"], steps=2000)
    run = synthetic.write(tmp_path / "run", value, [], synthetic.training(2000))
    with (run / "metrics.jsonl").open("w") as file:
        for i in range(100_000):
            gates = rows[i // 50] if i % 50 == 0 else {k: v for k, v in rows[i // 50].items() if k != "gates"}
            file.write(json.dumps({**gates, "step": i, "epoch": i // 1000}) + "\n")
    page = write_report(run).read_text("utf-8")
    assert len(page.encode()) < LIMIT
    assert "accuracy.per_class" in embedded(page)["omitted"]
    assert embedded(page)["cost"] == value["cost"]
    for path in re.findall(r' d="([^"]+)"', page):
        assert len(re.findall("[Ml]", path)) <= 301


def test_a_comparison_of_many_stays_under_the_limit(tmp_path: Path) -> None:
    runs = [synthetic.mobile(tmp_path / f"run-{i}") for i in range(12)]
    page = write_report(*runs)
    assert page == runs[0] / "report-compared.html" and not (runs[0] / "report.html").exists(), "its own page stays"
    assert page.stat().st_size < LIMIT
    assert len(embedded(page.read_text("utf-8"))) == 12


def test_user_strings_are_escaped(tmp_path: Path) -> None:
    value = synthetic.result(classes=[EVIL, 'a "quoted" & <b>', "käse\u2028\ud800\x00", "猫"])
    value["data"]["name"] = value["asked"]["data"] = value["cost"]["underfilled_reason"] = EVIL
    value["blocks"][3]["name"] = value["blocks"][3]["stage"] = value["blocks"][3]["kind"] = EVIL
    value["options"] = {EVIL: EVIL}
    value["versions"] = {EVIL: EVIL}
    value["table"]["correction"] = {EVIL: EVIL}
    value["export"] = {EVIL: {"file": EVIL}}
    value["architecture"]["string"] = EVIL
    value["accuracy"]["baselines"][0]["name"] = EVIL
    value["cost"]["unit"] = EVIL
    rows = synthetic.metrics(synthetic.blocks(synthetic.SMALL, 32, 1), 1.0, 60)
    for row in rows:
        row["gates"] = {f"{EVIL}.{EVIL}": 0.5}
    run = synthetic.write(tmp_path / 'a "<b>', value, rows)
    page = write_report(run).read_text("utf-8")
    assert "<img" not in page and 'a "<b>' not in page
    assert len(re.findall("</script>", page)) == 2
    assert embedded(page)["accuracy"]["per_class"][0]["class"] == EVIL
    comparison = write_report(run, run).read_text("utf-8")
    assert "<img" not in comparison and len(re.findall("</script>", comparison)) == 2


def test_the_front_has_a_point_and_a_row_for_every_budget(tmp_path: Path) -> None:
    run = synthetic.fronted(tmp_path / "run")
    value = json.loads((run / "result.json").read_text("utf-8"))
    page = write_report(run).read_text("utf-8")
    found = re.search(r'<section id="front".*?</section>', page, re.DOTALL)
    assert found and 'href="#front"' in page
    chart, table = re.findall(r"<svg(?![^>]*aria-hidden).*?</svg>|<table.*?</table>", found[0], re.DOTALL)
    assert chart.count('class="mark front"') == 7 and chart.count('class="mark random"') == 56
    assert chart.count('class="mark found"') == 1 and chart.count('class="curve') == 1
    assert re.findall(r">(\d+%)</text>", chart) == [row["text"] for row in value["front"][:6]], "one name too near"
    assert table.count("<tr>") == 8
    for i, row in enumerate(value["front"]):
        assert f'value="{row["predicted"]!r}" data-key="front.{i}.predicted"' in table
        assert f"{row['held_out_cross_entropy']:.4f}" in table and row["text"] in table
    assert table.count(html.escape(value["architecture"]["string"])) == 7
    assert table.count("the smaller network was better on held-out data") == 1


def test_a_front_of_one_budget_and_of_none(tmp_path: Path) -> None:
    value = synthetic.result()
    assert 'id="front"' not in render([RunData("run", value)])
    assert 'id="front"' not in render([RunData("run", value | {"front": []})])
    made = synthetic.front(value)
    page = render([RunData("run", value | {"front": made["front"][:1]})])
    assert page.count('class="mark front"') == 2, "the point and its key"
    assert "Where less than 90" not in page and "random networks of the budgets" not in page
    made["front"][2]["predicted"] = None
    assert render([RunData("run", value | made)]).count('class="mark front"') == 7


def test_a_front_of_another_cost_has_its_own_unit() -> None:
    value = synthetic.result()
    made = synthetic.front(value)
    for row in made["front"]:
        row["unit"] = "MMACs"
    page = render([RunData("run", value | made)])
    assert "predicted cost, MMACs" in page and "MMACs" in words(page).split("Cross-entropy")[1]


def test_the_front_is_escaped_and_bounded() -> None:
    value = synthetic.result()
    made = synthetic.front(value)
    for row in made["front"]:
        row |= {"text": EVIL, "unit": EVIL, "architecture": EVIL, "underfilled_reason": EVIL}
    page = render([RunData("run", value | made)])
    assert "<img" not in page and len(re.findall("</script>", page)) == 2 and page.count("onerror=alert") >= 7
    for row in made["front"]:
        row |= {"architecture": "ð<" * 1000, "underfilled_reason": "ð<" * 1000}
    many = {"front": made["front"] * 10, "front_random": made["front_random"] * 50}
    assert len(render([RunData("run", value | many)]).encode()) < LIMIT


def test_a_measured_figure_above_the_budget_is_said(tmp_path: Path) -> None:
    value = synthetic.result()
    assert "above the budget" not in words(render([RunData("run", value)]))
    budget = value["cost"]["budget"]
    for factor, said in ((1.018, "1.8 % above the budget"), (1.0002, "less than 0.1 % above the budget")):
        value["cost"]["measured"] = budget * factor
        text = words(render([RunData("run", value)]))
        assert text.count(said) == 3, "the answer, the readout and the table of costs"
    run = synthetic.fronted(tmp_path / "run")
    text = words(write_report(run, synthetic.complete(tmp_path / "other")).read_text("utf-8"))
    assert "Measured, within the budget no: 1.8 % above the budget yes" in text


@pytest.mark.parametrize(
    "part",
    [
        "front",
        "front_random",
        "front_chosen",
        "asked",
        "data",
        "space",
        "architecture",
        "blocks",
        "cost",
        "accuracy",
        "export",
        "selection",
        "table",
        "options",
        "versions",
        "seconds",
    ],
)
@pytest.mark.parametrize("instead", [None, {}, [], "odd", 3])
def test_any_part_may_be_missing_or_odd(part: str, instead: Any) -> None:
    value = synthetic.result()
    value |= synthetic.front(value)
    value[part] = instead
    assert "</html>" in render([RunData("run", value)])
    del value[part]
    page = render([RunData("run", value)])
    assert "</html>" in page and ">None<" not in page and "nan" not in words(page).split()


def test_every_single_field_may_be_missing() -> None:
    def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
        return [place for key, below in items for place in [(*at, key), *places(below, (*at, key))]]

    def whole() -> dict[str, Any]:
        value = synthetic.result()
        return value | synthetic.front(value)

    for place in places(whole()):
        value = whole()
        holder: Any = value
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = None
        assert "</html>" in render([RunData("run", value)]), place


def test_a_search_says_what_is_not_there(tmp_path: Path) -> None:
    text = words(write_report(synthetic.mobile(tmp_path / "run")).read_text("utf-8"))
    assert "It is not trained yet, so its accuracy is not known." in text
    assert "not measured: pixel1 is a table, not a device at hand" in text
    assert "Nothing is exported yet." in text
    assert "3.125e+13" in text


def test_torn_and_empty_folders(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", None, [])
    (run / "metrics.jsonl").write_bytes(b'{"phase": "warm-up", "step": 0, "loss": 2.3}\n{"phase": "warm-up", "st')
    assert "the run has not ended" in words(write_report(run).read_text("utf-8"))
    (run / "result.json").write_text('{"kind": "des')
    assert "result.json cannot be read" in words(write_report(run).read_text("utf-8"))
    (run / "result.json").write_text(
        json.dumps({"cost": {"predicted": float("nan")}, "accuracy": {"test": float("inf")}})
    )
    assert embedded(write_report(run).read_text("utf-8"))["cost"]["predicted"] is None
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match="is not a run folder"):
            write_report(folder)


def test_a_failed_page_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = synthetic.complete(tmp_path / "run")
    old = write_report(run).read_text("utf-8")

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_report(run)
    assert (run / "report.html").read_text("utf-8") == old
    assert not list(run.glob(".report-*"))


def test_the_answer_is_plain() -> None:
    assert answer(test=3600) == (
        "A network of 0.696 ms (budget 0.720 ms, measured 0.708 ms) with 98.0 % test accuracy: "
        "+1.2 % over random networks of the same budget."
    )
    assert "not different from random networks of the same budget (+0.2 %, within their spread)" in answer(gain=0.002)
    assert "not different from random networks of the same budget (−0.3 %, within their spread)" in answer(gain=-0.003)
    far = answer(gain=0.008, test=10**6)  # beyond all three, at 4.4 of their standard deviations: one in 20 is
    assert "not different from random networks of the same budget (+0.8 %, within their spread)" in far
    assert "worse than random networks of the same budget (−2.1 %)" in answer(gain=-0.02, test=3600)
    few = "not different from random networks of the same budget (+1.2 %, 360 test images are too few to tell)"
    assert few in answer(test=360)  # four images
    value = synthetic.result()
    value["accuracy"]["random"]["networks"] = value["accuracy"]["random"]["networks"][:2]
    page = words(render([RunData("run", value)]))
    assert "(+1.2 %, too few of them to tell)" in page and "not different from the 2 random networks" in page
    del value["accuracy"]
    assert "It is not trained yet" in words(render([RunData("run", value)]))
    assert "It is trained and not evaluated" in words(render([RunData("run", value | {"training": {"epochs": 1}})]))
    value = synthetic.result()
    value["cost"]["predicted"] = value["cost"]["budget"] * 1.1
    assert "which is over the budget" in words(render([RunData("run", value)]))


@pytest.mark.parametrize("count", [3, 8, 30])
def test_a_network_like_the_random_ones_is_seldom_called_different(count: int) -> None:
    rng, different = np.random.default_rng(count), 0
    for _ in range(400):
        found, *others = (0.9 + 0.01 * rng.normal(size=count + 1)).tolist()
        random = {"mean": np.mean(others), "std": np.std(others, ddof=1), "networks": [{"accuracy": a} for a in others]}
        told = comparison(RunData("run", {"accuracy": {"test": found, "random": random}, "data": {"test": 10**9}}))
        different += told is not None and told.verdict != "same"
    assert different / 400 < 0.05 + 0.03


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({"random": 3}, "design"),
        ({"mode": "paper"}, "search"),
        ({"trials": 4}, "tune"),
        ({"methods": "random"}, "bench"),
    ],
)
def test_a_run_that_has_not_ended_is_gone_on_with(tmp_path: Path, options: dict[str, Any], command: str) -> None:
    run = synthetic.write(tmp_path / "run", None, [])
    (run / "config.yaml").write_text(json.dumps({"options": {"data": "photos", **options}}))
    assert f"singlepath {command} --resume run" in words(write_report(run).read_text("utf-8"))
    if command == "design":
        (run / "result.json").write_text(json.dumps(synthetic.result() | {"kind": "search"}))  # now it trains
        assert "singlepath design --resume run" in words(write_report(run).read_text("utf-8"))
    training, trial = "{options: {network: ds_r1, data: x}}", "{options: {mode: paper, lambda: 1}}"
    for spoilt in (training, trial, "{options: {data: x}", "when: 2001-99-99", "[" * 5000, "options: 3", ""):
        (run / "config.yaml").write_text(spoilt)
        (run / "result.json").write_text(json.dumps({"kind": "search", "training": "x"}))
        assert "--resume" not in words(write_report(run).read_text("utf-8"))


def test_the_run_again_is_with_what_was_timed(tmp_path: Path) -> None:
    """Timed anew, a share of the latency would be another budget; any other device is in the configuration."""
    value = synthetic.result()
    again = "singlepath design --config run/config.yaml"
    for device, table, expected in (
        ("host", value["table"], f"{again} --device run/table.json --out AGAIN"),
        ("host", None, f"{again} --out AGAIN"),  # a budget in MACs
        ("pixel1", value["table"], f"{again} --out AGAIN"),
    ):
        value["asked"]["device"], value["table"] = device, table
        run = synthetic.write(tmp_path / "run", value, [])
        assert expected in words(write_report(run).read_text("utf-8"))


def test_other_costs_have_their_units() -> None:
    value = synthetic.result()
    value["cost"] |= {
        "kind": "macs",
        "unit": "MACs",
        "budget": 4e7,
        "predicted": 38_912_000,
        "measured": None,
        "rest": 2e6,
    }
    for block in value["blocks"]:
        block["cost"] = None if block["token"] == "skip" else 3e6
    text = words(render([RunData("run", value)]))
    assert "A network of 38.91 M MACs (budget 40.00 M MACs)" in text


def test_train_metrics_come_from_either_place(tmp_path: Path) -> None:
    own = load(synthetic.write(tmp_path / "own", synthetic.result(), synthetic.training()))
    apart = load(synthetic.write(tmp_path / "apart", synthetic.result(), [], synthetic.training()))
    assert own.train.series["loss"] == apart.train.series["loss"] and len(own.train.series["loss"].x) == 300
    assert not own.search.series


def test_a_training_of_one_epoch_has_a_curve_that_is_seen(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", synthetic.result(), synthetic.training()[:1])
    curves = re.findall(r'<path d="M[0-9. ]+([^"]*)" class="curve s1"', write_report(run).read_text("utf-8"))
    assert all(curves) and "l12 0" in curves, "a dash, not a point without size"


def test_steps_that_start_again_become_rows(tmp_path: Path) -> None:
    rows = [{"phase": "search", "epoch": e, "step": s, "loss": 1.0} for e in range(3) for s in range(4)]
    assert load(synthetic.write(tmp_path / "run", None, rows)).search.series["loss"].x == [float(i) for i in range(12)]


def test_headings_tables_and_figures_are_named(tmp_path: Path) -> None:
    page = write_report(synthetic.complete(tmp_path / "run")).read_text("utf-8")
    assert '<html lang="en">' in page
    levels = [int(n) for n in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert page.count("<table") == page.count("<caption>")
    assert not re.findall(r"<th(?![^>]*scope=)[ >]", page)
    for svg in re.findall(r"<svg[^>]*>", page):
        assert 'aria-hidden="true"' in svg or ("role=" in svg and "aria-label=" in svg), svg
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
