"""The page of a benchmark: every figure on it is the file's, names cannot break it, parts may be missing."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.report.test_browser import browser, page

from singlepath.report import render_bench, write_report
from singlepath.report.bench_charts import LogAxis

__all__ = ["browser", "page"]  # fixtures

EVIL = "weaknas(label='</script><img src=x onerror=alert(1)>')"


def method(name: str, test: float, curve: list[float], said: str, holm: float) -> dict[str, Any]:
    grid = [1.0, 10.0, 100.0]
    return {
        "method": name, "runs": 12, "test": test, "test_interval": [test - 0.25, test + 0.25], "test_sd": 0.5,
        "regret": curve[-1], "ledger": {"search": 100.0, "tuning": 40.0, "total": 140.0},
        "settings": {"batch": 2, "predictor": "gp"},
        "curve": {
            "queries": grid, "regret": curve, "low": [v * 0.5 for v in curve], "high": [v * 2 for v in curve],
        },
        "ri": {"value": 100 * (test / 80 - 1), "low": 1.0, "high": 9.0, "holm": holm}, "verdict": said,
        "cost": {"of": "raspi4", "unit": "ms", "mean": 12.5, "interval": [11.0, 14.0]},
        "hypervolume": {"mean": 91.25, "interval": [90.5, 92.0]},
        "random_at_equal_cost": {"queries": 140, "mean": 83.25, "sd": 1.0},
        "to_optimum": {"mean": 77.5, "interval": [70.0, 85.0], "median": 80.0, "reached": 9, "at_cap": 3, "cap": 100},
    }  # fmt: skip


def agreed(tau: float, low: float, high: float) -> dict[str, Any]:
    return {"networks": 8, "tau": tau, "tau_interval": [low, high], "rho": tau + 0.1, "rho_interval": [low, high]}


def depth_gap() -> dict[str, Any]:
    cost = {"cost": {"of": "macs", "unit": "MMACs", "mean": 12.25, "interval": [12.0, 12.5]}}
    row = {"networks": 8, "validation": 79.25, "training": 2500.0, "passes": 20000, **cost}
    sentence = "8 networks do not show whether it holds: the interval includes 0"
    return {
        "depths": [{"depth": d, "test": 80.0 + d, "test_interval": [80.5, 82.5], **row} for d in (1, 2)],
        "pairs": [{
            "first": 1, "second": 2, "test": agreed(0.33, -0.21, 0.77), "validation": agreed(0.41, 0.05, 0.66),
            "sentence": sentence,
        }],
    }  # fmt: skip


def supernet_ranks() -> dict[str, Any]:
    seeds = [{"seed": s, "validation": agreed(0.25 + s, -0.75, 0.5), "test": agreed(0.5, 0.2, 0.8)} for s in (0, 1)]
    both = {"validation": agreed(0.75, -0.1, 0.9), "test": agreed(0.5, 0.3, 0.7)}
    return {**both, "seeds": seeds, "forward": 3872.0, "sentence": "8 networks do not show it"}


def summary(name: str = EVIL) -> dict[str, Any]:
    tests = [
        ("accuracy", "random", "random networks", 3.0, 0.3, "random is not different from random networks (+3.00)"),
        ("accuracy", name, "random networks", 6.0, 0.001, f"{name} is better than random networks (+6.00)"),
        ("accuracy", name, "random", 3.0, 0.02, f"{name} is better than random (+3.00)"),
        ("queries", name, "random", -20.0, 0.4, f"{name} is not different from random (-20.00)"),
    ]
    keys = ("of", "first", "second", "difference", "holm", "sentence")
    rows: list[dict[str, Any]] = [dict(zip(keys, test, strict=True)) for test in tests]
    return {
        "kind": "bench", "alpha": 0.05, "level": 0.95, "ablation": None,
        "asked": {"seeds": 12, "queries": 100, "command": "singlepath bench --task toy --out AGAIN"},
        "versions": {"python": "3.12", "torch": "2.13.0"}, "commit": "0123abcd", "hardware": {"cores": 2},
        "tests": [{**row, "task": "toy/one", "different": row["holm"] <= 0.05, "p": row["holm"] / 2} for row in rows],
        "tasks": [{
            "task": "toy/one", "queries": 100,
            "table": {
                "networks": 4096, "space": {"mean": 80.5, "population_sd": 2.0, "low": 70.0, "high": 95.0},
                "optimum": {
                    "validation": 94.6, "test": 94.37, "random_queries": 2048.5,
                    "sentence": "the optimum by validation has test accuracy 94.37",
                },
                "validation_tau": {"all": 0.9, "top": 0.5, "share": 0.1},
            },
            "random_networks": {"runs": 8, "mean": 80.0, "sample_sd": 2.5, "interval": [78.0, 82.0]},
            "random_search": {
                "mean": 83.1, "expected": 83.2, "standard_error": 0.2, "standard_errors": -0.5, "holds": True,
            },
            "seed_ranks": {
                "networks": 4096, "seeds": 3, "tau": 0.88, "tau_top": 0.4, "best_place": 12.5, "difference": 0.2,
                "most": 1.1,
            },
            "depth_gap": depth_gap(), "supernet_ranks": supernet_ranks(),
            "methods": [
                method("random", 83.0, [10.0, 5.0, 2.0], tests[0][5], 0.3),
                method(name, 86.0, [10.0, 1.0, 0.1], tests[1][5], 0.001),
            ],
        }],
    }  # fmt: skip


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main>")[2].partition("<script")[0]).split())


def test_the_table_has_intervals_and_says_what_is_not_different() -> None:
    words = text_of(render_bench(summary("weaknas")))
    assert "86.00 [85.75, 86.25]" in words and "7.50 [1.00, 9.00]" in words
    assert "better p = 0.001" in words and "not different p = 0.3" in words
    assert "77.5 [70.0, 85.0] 3 not within 100" in words
    assert "the optimum by validation has test accuracy 94.37" in words
    assert "weaknas is not different from random" in words and "−20.0 queries 0.4" in words
    assert "100 40 140 83.250" in words, "the ledger, and random search with as many queries"
    assert "83.100 , exactly expected 83.200 ± 0.200: −0.5 standard errors, within 3" in words
    assert "Cost, raspi4, ms" in words and "12.50 [11.00, 14.00] 91.2 [90.5, 92.0]" in words
    assert "commit 0123abcd" in words and "singlepath bench --task toy --out AGAIN" in words and "torch 2.13.0" in words
    assert "4,096 3 0.880 0.400 12.5 0.20 1.10" in words
    head = " ".join(re.sub(r"<[^>]+>", " ", render_bench(summary("weaknas")).partition("<main>")[0]).split())
    assert "On toy/one weaknas has the highest mean test accuracy, 86.00 %." in head
    flat = summary("weaknas")
    flat["tests"][2]["different"] = False
    assert "86.00\u00a0%; not different from it: random." in render_bench(flat)


def test_the_depth_gap_has_its_intervals_and_says_what_they_include() -> None:
    words = text_of(render_bench(summary("weaknas")))
    assert "1 8 81.00 [80.50, 82.50] 79.25 12.25 [12.00, 12.50] 20 000" in words
    assert "1 and 2, test accuracy 8 0.33 [-0.21, 0.77] 0.43 [-0.21, 0.77]" in words
    assert "1 and 2, validation accuracy 8 0.41 [0.05, 0.66] 0.51 [0.05, 0.66]" in words
    assert "8 networks do not show whether it holds: the interval includes 0." in words
    made = summary("weaknas")
    for row in made["tasks"][0]["methods"]:
        row["ledger"] |= {"search_passes": 700.0, "forward": 300.0, "training": 2500.0}
    words = text_of(render_bench(made))
    assert "weaknas 100 40 140 700 300 2 500 86.000" in words
    assert "random networks at depth 2 – – – – – 2 500 82.000" in words, "the ledger has their trainings"
    made["tasks"][0]["depth_gap"] = None
    assert "Depth" not in text_of(render_bench(made)) and "at depth" not in text_of(render_bench(made))


def test_the_supernets_ranking_has_a_row_a_seed_and_their_mean() -> None:
    made = summary("weaknas")
    for row in made["tasks"][0]["methods"]:
        row["ledger"] |= {"search_passes": 700.0, "forward": 300.0, "training": 2500.0}
    words = text_of(render_bench(made))
    assert "search seed 0 8 0.25 [-0.75, 0.50] 0.50 [0.20, 0.80]" in words
    assert "search seed 1 8 1.25 [-0.75, 0.50] 0.50 [0.20, 0.80]" in words
    assert "mean of 2 8 0.75 [-0.10, 0.90] 0.50 [0.30, 0.70]" in words and "8 networks do not show it." in words
    assert "random networks, scored by a supernet – – – – 3 872 – –" in words, "its passes are stated apart"
    del made["tasks"][0]["supernet_ranks"]["seeds"][1]
    assert "mean of" not in text_of(render_bench(made)), "one seed is no mean"
    made["tasks"][0]["supernet_ranks"] = None
    assert "scored by" not in text_of(render_bench(made)) and "Supernet's ranking" not in render_bench(made)


def test_the_best_scores_so_far_are_drawn_where_their_figures_are() -> None:
    made = summary("weaknas")
    for row, scores in zip(made["tasks"][0]["methods"], ([1.5, 1.0, 0.5], [1.25, 0.75, None]), strict=True):
        low = [None if s is None else s - 0.25 for s in scores]
        row["curve"] = {"queries": [1, 10, 100], "cross_entropy": scores, "low": low, "high": scores, "part": False}
    html = render_bench(made)
    paths = re.findall(r'<path d="M([\d.]+) ([\d.]+)l([\d.]+)[ ]?([-\d.]+)[^"]*" class="curve (s\d)"', html)
    assert [class_ for *_, class_ in paths] == ["s1", "s2"]
    (x, y, across, down, _), (x_2, y_2, across_2, down_2, _) = [(*map(float, p[:4]), p[4]) for p in paths]
    assert x == x_2 and across == across_2 and down == down_2 > 0, "half a nat is as long anywhere: the axis is linear"
    assert y_2 - y == pytest.approx(down / 2, abs=0.1), "a quarter of a nat less is half as far down"
    words = text_of(html)
    assert "held-out cross-entropy, nats" in words and "networks scored" in words and "minus the best" not in words
    assert "mean over searches, and from the lowest to the highest" in words and "parts of the held-out" not in words
    made["tasks"][0]["methods"][1]["curve"] |= {"queries": [100], "cross_entropy": [0.75], "part": True}
    html = render_bench(made)
    assert "scored on parts of the held-out images" in text_of(html) and re.search(
        r'd="M[\d. ]+l[^"]+" class="curve s2"', html
    )


def test_what_neither_reached_has_no_difference() -> None:
    made = summary("weaknas")
    made["tests"][3] |= {"holm": 1.0, "sentence": "weaknas and random cannot be compared: neither reached it"}
    words = text_of(render_bench(made))
    assert "weaknas against random toy/one – – weaknas and random cannot be compared: neither reached it" in words
    made["tasks"][0]["random_search"]["holds"] = False
    assert "−0.5 standard errors, not within 3" in text_of(render_bench(made))


def test_costs_stand_where_they_are_known() -> None:
    made = summary("weaknas")
    del made["tasks"][0]["depth_gap"]
    for row in made["tasks"][0]["methods"]:
        del row["cost"], row["hypervolume"]
    assert "Cost" not in text_of(render_bench(made)) and "Hypervolume" not in text_of(render_bench(made))
    made["tasks"][0]["random_networks"]["cost"] = {"of": "mmacs", "unit": "MMACs", "mean": 0.5, "interval": None}
    words = text_of(render_bench(made))
    assert "Cost, MMACs" in words and "0.5000" in words


def test_names_are_text_on_the_page() -> None:
    made = render_bench(summary())
    assert "<img" not in made and made.count("<script") == 2 and made.count("</script>") == 2
    assert "weaknas(label=&#x27;&lt;/script&gt;" in made


@pytest.mark.parametrize("path", [
    ["tasks"], ["tests"], ["asked"], ["versions"], ["commit"], ["alpha"], ["level"], ["tasks", 0, "table"],
    ["tasks", 0, "methods"], ["tasks", 0, "random_networks"], ["tasks", 0, "random_search"],
    ["tasks", 0, "methods", 1, "curve"], ["tasks", 0, "methods", 1, "ri"], ["tasks", 0, "methods", 1, "test"],
    ["tasks", 0, "methods", 1, "test_interval"], ["tasks", 0, "methods", 1, "to_optimum"],
    ["tasks", 0, "methods", 1, "ledger"], ["tasks", 0, "table", "space", "low"], ["tests", 0, "holm"],
    ["tasks", 0, "methods", 0, "curve", "low"],
    ["tasks", 0, "methods", 0, "cost"], ["tasks", 0, "methods", 0, "cost", "unit"],
    ["tasks", 0, "depth_gap", "depths"], ["tasks", 0, "depth_gap", "depths", 0, "cost"],
    ["tasks", 0, "depth_gap", "depths", 1, "test_interval"], ["tasks", 0, "depth_gap", "pairs"],
    ["tasks", 0, "depth_gap", "pairs", 0, "test"], ["tasks", 0, "depth_gap", "pairs", 0, "test", "tau_interval"],
    ["tasks", 0, "depth_gap", "pairs", 0, "sentence"], ["tasks", 0, "random_search", "holds"],
    ["tasks", 0, "methods", 1, "hypervolume", "mean"], ["tasks", 0, "supernet_ranks"],
    ["tasks", 0, "supernet_ranks", "seeds"], ["tasks", 0, "supernet_ranks", "seeds", 0, "test"],
    ["tasks", 0, "supernet_ranks", "validation"], ["tasks", 0, "supernet_ranks", "sentence"],
    ["tasks", 0, "supernet_ranks", "forward"],
])  # fmt: skip
@pytest.mark.parametrize("absent", [True, False])
def test_a_part_may_be_missing(path: list[Any], absent: bool) -> None:
    made = copy.deepcopy(summary())
    holder: Any = made
    for key in path[:-1]:
        holder = holder[key]
    if absent:
        del holder[path[-1]]
    else:
        holder[path[-1]] = None  # what a NaN becomes
    assert render_bench(made).startswith("<!doctype html>")
    assert render_bench({}).startswith("<!doctype html>")


def test_every_figure_is_the_files_own(tmp_path: Path) -> None:
    made = summary()
    (tmp_path / "bench.json").write_text(json.dumps(made))
    written = write_report(tmp_path)
    assert written == tmp_path / "report.html"
    html = written.read_text("utf-8")
    shown = re.findall(r'<data value="([^"]+)" data-key="([^"]+)">([^<]+)</data>', html)
    assert len(shown) > 20
    for value, key, text in shown:
        found: Any = made
        for part in key.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        assert float(value) == found and float(re.sub("[,\u202f]", "", text)) == pytest.approx(found, rel=0.01), key


def test_a_logarithmic_axis() -> None:
    axis = LogAxis.over(1, 100, 0, 200)
    assert [axis(v) for v in (1, 10, 100)] == pytest.approx([0, 100, 200])
    assert axis(0) == 0 and axis(1e9) == 200, "what is outside stands at the edge"
    assert {1, 10, 100} <= set(axis.ticks) and all(1 <= t <= 100 for t in axis.ticks)


@pytest.mark.browser
def test_the_page_opens_quietly_and_fits_a_narrow_screen(page: Any, tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(summary()))
    page.goto(write_report(tmp_path).as_uri())
    rows = page.locator("#task-1 table.bench tbody tr")
    assert rows.count() == 3 and rows.nth(1).locator("th").text_content() == EVIL[:80]
    assert page.locator("#differences tbody tr").count() == 4 and page.locator("img").count() == 0
    chart = page.locator("#task-1 svg.bench")
    assert chart.locator("path.curve").count() == chart.locator("path.band").count() == 2
    strokes = chart.locator("path.curve").evaluate_all("all => all.map(e => getComputedStyle(e).stroke)")
    assert len(set(strokes)) == 2 and "none" not in strokes
    ends = [chart.locator("path.curve").nth(i).bounding_box() for i in range(2)]
    assert ends[1]["height"] > 1.5 * ends[0]["height"], "less regret ends further down"
    band = chart.locator("path.band").first.bounding_box()
    curve = chart.locator("path.curve").first.bounding_box()
    assert band["height"] > curve["height"], "the interval lies around the curve"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 380, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
