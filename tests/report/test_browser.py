"""The page in headless Chromium: quiet, complete, as wide as the screen, printable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report import synthetic

from singlepath.report import write_report

pytestmark = pytest.mark.browser
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    evil = ["</script><img src=x onerror=alert(1)>", *(f"class-{'long' * 20}-{i}" for i in range(40))]
    made = {
        "small": synthetic.complete(root / "small"),
        "mobile": synthetic.mobile(root / "mobile"),
        "evil": synthetic.complete(root / "evil", classes=evil),
        "front": synthetic.fronted(root / "front"),
        "compared": synthetic.complete(root / "compared", seed=4),
    }
    for name in ("small", "mobile", "evil", "front"):
        write_report(made[name])
    write_report(made["compared"], made["small"], made["mobile"])
    return made


def page_of(folder: Path) -> Path:
    """The comparison in a folder, or its run's page."""
    compared = folder / "report-compared.html"
    return compared if compared.is_file() else folder / "report.html"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails its test on any message of the console, any dialog and any request beyond the file."""
    context = browser.new_context(viewport={"width": 1240, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url))
    yield page
    assert not said
    context.close()


@pytest.mark.parametrize(("name", "count"), [("small", 10), ("mobile", 22)])
def test_the_network_is_drawn(page: Any, folders: dict[str, Path], name: str, count: int) -> None:
    blocks = json.loads((folders[name] / "result.json").read_text("utf-8"))["blocks"]
    page.goto(page_of(folders[name]).as_uri())
    groups = page.locator("svg.network g.block")
    assert groups.count() == count == len(blocks)
    for i, block in enumerate(blocks):
        group = groups.nth(i)
        box = group.locator("rect.skipped" if block["token"] == "skip" else "rect.shape").bounding_box()
        assert box["width"] > 2 and box["height"] > 5
        texts = group.locator("text").all_text_contents()
        assert ("skip" if block["token"] == "skip" else f"{block['kernel']}×{block['kernel']}") in texts
        assert block["name"] in texts and str(block["out_channels"]) in texts
        assert group.locator("title").text_content().startswith(f"Block {block['name']}: ")
        if block["token"] != "skip":
            assert f"{block['cost']:.3f}" in texts or f"{block['cost']:.2f}" in texts
    dashed = page.locator("rect.skipped").first
    assert dashed.is_visible() and dashed.evaluate("e => getComputedStyle(e).strokeDasharray") != "none"


def test_widths_are_channels_and_heights_expansions(page: Any, folders: dict[str, Path]) -> None:
    blocks = json.loads((folders["small"] / "result.json").read_text("utf-8"))["blocks"]
    page.goto((folders["small"] / "report.html").as_uri())
    kept = [b for b in blocks if b["token"] != "skip"]
    boxes = [box.bounding_box() for box in page.locator("rect.shape").all()]
    for block, box in zip(kept, boxes, strict=True):
        assert box["width"] / boxes[0]["width"] == pytest.approx(
            block["out_channels"] / kept[0]["out_channels"], rel=0.02
        )
        assert box["height"] / boxes[0]["height"] == pytest.approx(block["expansion"] / kept[0]["expansion"], rel=0.02)


def test_values_are_those_of_the_result(page: Any, folders: dict[str, Path]) -> None:
    result = json.loads((folders["small"] / "result.json").read_text("utf-8"))
    page.goto((folders["small"] / "report.html").as_uri())
    assert json.loads(page.locator("#result").text_content()) == result
    shown = page.eval_on_selector_all("data", "all => all.map(d => [d.dataset.key, d.value, d.textContent])")
    seen = set()
    for key, value, text in shown:
        expected: Any = result
        for part in key.split("."):
            expected = expected[int(part)] if isinstance(expected, list) else expected[part]
        assert float(value) == pytest.approx(expected), key
        seen.add(key)
        if text.endswith("%") and key != "accuracy.relative_improvement":
            expected *= 100
        number = text.split("\u00a0")[0]
        if not text.endswith(("k", "M", "kB")) and "±" not in text:
            digits = len(number.partition(".")[2])
            assert float(number.replace("\u2212", "-")) == pytest.approx(round(expected, digits)), key
    assert {
        "cost.budget",
        "cost.predicted",
        "cost.measured",
        "cost.macs",
        "accuracy.test",
        "accuracy.random.mean",
    } <= seen
    assert {
        "accuracy.random.networks.2.accuracy",
        "accuracy.baselines.1.accuracy",
        "accuracy.relative_improvement",
    } <= seen
    assert page.locator(".mark.found").count() == 2 and page.locator("svg.chart .mark.random").count() == 3


@pytest.mark.parametrize("name", ["small", "mobile", "evil", "front", "compared"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_do_not_scroll_sideways(page: Any, folders: dict[str, Path], name: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto(page_of(folders[name]).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => (d.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert page.locator("svg.network").first.bounding_box()["width"] > 380
    assert page.locator("img").count() == 0


def test_text_has_contrast(page: Any, folders: dict[str, Path]) -> None:
    script = """() => {
      const number = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
      const light = c => { const [r, g, b] = number(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const paper = e => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor;
        if (!c.endsWith(', 0)')) return c;
      } return 'rgb(255, 255, 255)'; };
      const all = [...document.querySelectorAll(
        'p,th,td,dt,dd span,dd data,caption,figcaption,a,h1,h2,li,code,summary,svg text,small span')];
      return Math.min(...all.filter(e => e.textContent.trim() && e.getClientRects().length).map(e => {
        const style = getComputedStyle(e), b = light(paper(e));
        const a = light(e.tagName === 'text' ? style.fill : style.color);
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      }));
    }"""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto((folders["front"] / "report.html").as_uri())
        assert page.evaluate(script) >= 4.5, scheme


def test_the_front_is_drawn_where_its_figures_are(page: Any, folders: dict[str, Path]) -> None:
    result = json.loads((folders["front"] / "result.json").read_text("utf-8"))
    page.goto((folders["front"] / "report.html").as_uri())
    chart = page.locator("#front svg.chart")
    points = [box.bounding_box() for box in chart.locator(".mark.front").all()]
    frame = chart.bounding_box()
    assert len(points) == len(result["front"]) == page.locator("#front tbody tr").count()
    assert all(frame["x"] < p["x"] and p["x"] + p["width"] < frame["x"] + frame["width"] for p in points)
    costs, entropies = zip(*((r["predicted"], r["held_out_cross_entropy"]) for r in result["front"]), strict=True)
    across, down = [p["x"] for p in points], [p["y"] for p in points]
    for values, places in ((costs, across), (entropies, down)):
        scale = (places[-1] - places[0]) / (values[-1] - values[0])
        assert places == pytest.approx([places[0] + scale * (v - values[0]) for v in values], abs=0.6)
    assert across == sorted(across) and down == sorted(down), "a lower cross-entropy is further down"
    colours = {chart.locator(f".mark.{kind}").first.evaluate("e => getComputedStyle(e).fill") for kind in
               ("front", "random", "found")}  # fmt: skip
    assert len(colours) == 3
    assert chart.locator(".mark.random").count() == len(result["front_random"])


def test_it_prints_with_every_fold_open(page: Any, folders: dict[str, Path]) -> None:
    for name in ("small", "mobile", "front", "compared"):
        page.goto(page_of(folders[name]).as_uri())
        pdf = page.pdf(format="A4")
        assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    page.goto((folders["small"] / "report.html").as_uri())
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_a_comparison_draws_every_network(page: Any, folders: dict[str, Path]) -> None:
    page.goto(page_of(folders["compared"]).as_uri())
    assert page.locator("svg.network").count() == 3
    assert page.locator("table.compare thead th").all_text_contents() == ["compared", "small", "mobile"]
    assert "not trained yet" in page.locator("table.compare").text_content()


def test_a_block_is_read_out_under_the_pointer(page: Any, folders: dict[str, Path]) -> None:
    page.goto((folders["small"] / "report.html").as_uri())
    page.locator("g.block").nth(1).hover()
    assert page.locator(".hint").text_content().startswith("Block 1.0: inverted residual")
