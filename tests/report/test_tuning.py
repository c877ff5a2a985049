"""The page's section on a tuning: trials, coefficient, ledger, the direct way; safe with whatever the file holds."""

from __future__ import annotations

import html
import re
from typing import Any

from tests.report import synthetic

from singlepath.report import RunData, render

EVIL = "</script><img src=x onerror=alert(1)>"


def tuning(count: int = 6, **other: Any) -> dict[str, Any]:
    rows = [
        {
            "number": i, "state": "done", "settings": {"coefficient": 0.01 * 3.0 ** min(i, 9), "gate_lr": 0.1},
            "cost": 90.0 - 4 * i, "gap": (90 - 4 * i) / 80 - 1, "cross_entropy": 1.5 + 0.01 * i,
            "choices": ["k3_e3"], "passes": 1000 + i, "reason": None,
        }
        for i in range(count)
    ]  # fmt: skip
    ledger = [{"what": "shared warm-up", "passes": 5000, "trial": None, "reserved": False}]
    ledger += [{"what": "search", "passes": 1000 + i, "trial": i, "reserved": False} for i in range(count)]
    ledger += [{"what": "repeated", "passes": 77, "trial": 2, "reserved": False}]
    return {
        "mode": "single-path", "coefficient_name": "coefficient", "coefficient": 0.27, "target": 80.0, "unit": "ms",
        "ranges": {"coefficient": {"low": 0.003, "high": 10.0, "log": True}, "gate_lr": {"low": 0.03, "high": 0.2}},
        "window": 0.03, "chosen": 3, "hit": True, "gap": -0.025, "cross_entropy": 1.53, "trials": rows,
        "ledger": {"total": 12000, "spent": 11092, "left": 908, "rows": ledger}, **other,
    }  # fmt: skip


def page(part: Any) -> str:
    return render([RunData("run", synthetic.result() | {"kind": "tune", "tuning": part})])


def section(part: Any) -> str:
    found = re.search(r'<section id="tuning".*?</section>', page(part), re.DOTALL)
    return html.unescape(found[0]).replace("\u00a0", " ") if found else ""


def test_all_figures_are_there() -> None:
    text = section(tuning())
    assert 'value="0.27" data-key="tuning.coefficient">0.27<' in text and "which hits it" in text
    chart = re.findall(r"<svg.*?</svg>", text, re.DOTALL)[0]
    assert chart.count('class="mark front"') == 5 and chart.count('class="mark found"') == 1
    assert "target 80.00 ms" in chart and 'class="limit"' in chart and 'class="shade"' in chart
    labels = [float(t) for t in re.findall(r'class="tick"[^>]*text-anchor="middle"[^>]*>([^<]+)<|$', chart) if t]
    assert labels == sorted(labels) and {0.01, 0.1, 1.0} & set(labels), "the coefficient itself, not its logarithm"
    for row in tuning()["trials"]:
        assert f"{row['cost']:.2f} ms" in text and f"{row['cross_entropy']:.4f}" in text
        assert f"{row['passes']:,}" in text and f"{row['settings']['coefficient']:.4g}" in text
    assert "3 (chosen)" in text and ">11,092<" in text and ">12,000<" in text and ">908<" in text
    assert "Shared warm-up" in text and "Repeated after an interruption" in text and ">77<" in text
    assert "Tuned and direct" not in text
    assert "does not hit it" in section(tuning(hit=False))


def test_the_direct_way_beside_it() -> None:
    same = {"cross_entropy": 0.2345, "verdict": "worse"}
    direct = {"cost": 79.5, "gap": -0.00625, "cross_entropy": 0.1987, "passes": 11900, "tuned_with_same_weights": same}
    text = section(tuning(direct=direct))
    for said in ("79.50 ms", "0.1987", "0.2345", "11,900", "11,092", "beyond two standard errors: worse."):
        assert said in text, said


def test_a_trial_without_a_result_says_why() -> None:
    part = tuning()
    part["trials"][1] |= {"state": "failed", "cost": None, "gap": None, "cross_entropy": None, "reason": "it diverged"}
    text = section(part)
    assert "it diverged" in text and text.count('class="mark front"') == 4 + 1


def test_nothing_tuned_and_broken_values() -> None:
    assert section({}) == "" and section({"trials": []}) == "" and section("x") == ""
    assert section({"trials": [{}]})
    wild = [{"number": EVIL, "settings": {EVIL: EVIL, "coefficient": v}, "cost": c, "reason": EVIL} for v, c in (
        (0, 1.0), (-1, 1.0), (None, 1.0), (1e-320, 1e300), (1e308, 1e-300), ("1", "2"), (1.0, None),
    )]  # fmt: skip
    text = page(tuning(ranges={EVIL: 1}, trials=wild, coefficient_name="coefficient", ledger=EVIL, direct=[EVIL]))
    assert "<img" not in text and len(re.findall("</script>", text)) == 2
    odd = {"tuned_with_same_weights": EVIL, "cost": EVIL}
    assert "<img" not in page(tuning(unit=EVIL, coefficient_name=EVIL, ranges=EVIL, direct=odd))


def test_many_trials_stay_bounded() -> None:
    text = page(tuning(5000))
    assert len(text.encode()) < 300_000 and "the first 60 of 5000" in text
