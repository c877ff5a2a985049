"""The accuracy-cost front of a finished search, and the page that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.pipeline.helpers import printed, run

from singlepath.architecture import Architecture
from singlepath.costs import count_costs
from singlepath.pipeline.outcome import architecture_of
from singlepath.pipeline.searching import QUICK

SPACE = "mobile-small(width=0.5, input_size=16)"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("front") / "run"
    printed(
        "search", "--space", SPACE, "--budget", "0.9MMACs", "--data", "digits", "--limit", 200, "--quick",
        "--out", folder,
    )  # fmt: skip
    return folder


def test_a_front_is_kept_with_random_networks_of_its_budgets_and_drawn(searched: Path) -> None:
    assert 'id="front"' not in Path(printed("report", searched)["report"]).read_text()
    found = printed("front", searched, "--budgets", "60%,90%")
    space, architecture = architecture_of(searched)
    costs = count_costs(space, "macs")
    kept = json.loads((searched / "result.json").read_text())
    assert {name: kept[name] for name in ("front", "front_random", "front_chosen")} == {
        name: found[name] for name in ("front", "front_random", "front_chosen")
    }
    limits = [row["budget"] for row in found["front"]]
    assert limits == pytest.approx([0.6 * costs.largest, 0.9 * costs.largest])
    for row in found["front"]:
        assert row["predicted"] <= row["budget"]
        assert space.string(Architecture(space.id, tuple(row["choices"]))) == row["architecture"]
    drawn = found["front_random"]
    assert len(drawn) == 20 and all(row["held_out_cross_entropy"] > 0 for row in drawn)
    for limit in limits:
        assert sum(0.9 * limit <= row["predicted"] <= limit for row in drawn) == 10
    sample, finalists, chosen = QUICK["candidates"] - 2, 2, 1
    assert found["networks_scored"] <= sample + finalists * len(limits) + len(drawn) + chosen, "one sample for all"
    assert [printed("front", searched, "--budgets", b)["front"][0] for b in ("60%", "90%")] == found["front"]
    printed("front", searched, "--budgets", "60%,90%")
    assert found["front_chosen"]["predicted"] == costs.of(space.indices(architecture))
    page = Path(printed("report", searched)["report"]).read_text()
    assert page.count('class="mark front"') == 3 and page.count('class="mark random"') == 21


def test_a_front_begins_with_what_the_search_scored(searched: Path) -> None:
    """Without the kept scores it finds the same, and scores the sample again."""
    kept = searched / "scores.json"
    known = len(json.loads(kept.read_text()))
    begun = printed("front", searched, "--budgets", "60%,90%")
    aside = kept.rename(searched / "scores-aside.json")
    try:
        anew = printed("front", searched, "--budgets", "60%,90%")
    finally:
        aside.rename(kept)
    assert anew["front"] == begun["front"] and anew["front_random"] == begun["front_random"]
    assert known == QUICK["candidates"] - 2
    assert begun["networks_scored"] < anew["networks_scored"] <= begun["networks_scored"] + known


@pytest.mark.parametrize(
    ("budgets", "says"),
    [("50%,2Mparams", ["MMACs and Mparams", "--budgets 20%"]), (" , ", ["no budget"]), ("5ms", ["no latency table"])],
)
def test_budgets_that_make_no_front(searched: Path, budgets: str, says: list[str]) -> None:
    before = (searched / "result.json").read_bytes()
    code, out, err = run("front", searched, "--budgets", budgets)
    assert code == 2 and out == "" and err.count("\n") == 1 and all(part in err for part in says), err
    assert (searched / "result.json").read_bytes() == before
