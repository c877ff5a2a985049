"""Rankings of random networks on images: which trials there are, and what is made of their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from singlepath.bench.image_ranks import depth_gap, supernet_ranks
from singlepath.bench.protocol import (
    RANDOM_NETWORK,
    SUPERNET_SCORES,
    Comparison,
    contenders_of,
    is_beside,
    ranking_trials,
    trials_of,
)
from singlepath.bench.records import Cost, Entry, Point, Record, Trial, compare
from singlepath.bench.summary import summarise
from singlepath.search.incumbents import Incumbent

PROTOCOL = {"kind": "images", "space": "mobile-small(width=0.5)"}
FIRST = [90.0, 91.0, 92.0, 93.0, 94.0, 95.0, 96.0, 97.0]
SECOND = [91.0, 90.0, 92.0, 93.5, 94.0, 95.5, 97.0, 96.0]


def tau_of(first: Sequence[float], second: Sequence[float]) -> float:
    return float(np.asarray(kendalltau(first, second))[0])


def record(number: int, test: float, depth: int = 1, training: int = 1000, **changed: Any) -> Record:
    """A random network, trained."""
    settings, space = ({} if depth == 1 else {"depth": depth}), changed.pop("space", PROTOCOL["space"])
    given = {
        "method": RANDOM_NETWORK,
        "search_seed": number,
        "training_seed": training,
        "settings": settings,
        **changed,
    }
    trial = Trial("digits", protocol={**PROTOCOL, "space": space}, budget={"queries": 10}, **given)
    ledger = (Entry("search", "queries", 0), Entry("training", "passes", 500))
    name = f"network {number} at {depth}"
    curve = (Point(10, name, test - 1, test),)
    return Record(trial, name, test - 1, test, ledger, curve, {}, None, Cost("macs", "MMACs", 10.0 * depth))


def networks(tests: Sequence[float], depth: int = 1, first: int = 0, **changed: Any) -> list[Record]:
    return [record(first + i, test, depth, **changed) for i, test in enumerate(tests)]


def searches(method: str, tests: Sequence[float]) -> list[Record]:
    return [record(i, test, method=method) for i, test in enumerate(tests)]


# -- the best score so far --------------------------------------------------------------------------------------------


def test_a_methods_curve_is_the_mean_of_its_searches_between_the_lowest_and_the_highest() -> None:
    first = (Incumbent(1, 0.9), Incumbent(4, 0.6), Incumbent(9, 0.5))
    second = (Incumbent(2, 0.7, True), Incumbent(5, 0.8))
    made, asked = searches("random", [92, 95]), (Entry("search", "queries", 9),)
    found = [replace(r, incumbents=best, ledger=asked) for r, best in zip(made, (first, second), strict=True)]
    again = [replace(r, trial=replace(r.trial, training_seed=1001), validation=50.0) for r in found[:1]]
    (row,) = summarise([*found, *again, *networks(FIRST)], {})["tasks"][0]["methods"]
    curve = row["curve"]
    assert curve["queries"] == list(range(2, 10)), "from where every search has a score to where the longest ends"
    assert curve["cross_entropy"] == pytest.approx([0.8, 0.8, 0.65, 0.7, 0.7, 0.7, 0.7, 0.65])
    assert curve["low"] == pytest.approx([0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.5])
    assert curve["high"] == pytest.approx([0.9, 0.9, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8]) and curve["part"] is True
    assert "regret" not in row
    (older,) = summarise([*searches("random", [92, 95]), *networks(FIRST)], {})["tasks"][0]["methods"]
    assert "curve" not in older, "older records know no scores"
    (mixed,) = summarise([found[0], searches("random", [92, 95])[1], *networks(FIRST)], {})["tasks"][0]["methods"]
    assert "curve" not in mixed, "a mean of some of the searches would look like that of all"


# -- depth ------------------------------------------------------------------------------------------------------------


def test_every_depth_has_the_networks_and_training_seeds_of_the_searched_one() -> None:
    given: dict[str, Any] = {"queries": 10, "seeds": 2, "networks": 3, "trainings": 2, "seed": 4}
    plain = trials_of(Comparison(("digits",), contenders_of(["random"]), **given), "digits", PROTOCOL)
    whole = trials_of(Comparison(("digits",), contenders_of(["random"]), depths=(1, 2, 4), **given), "digits", PROTOCOL)
    assert whole[: len(plain)] == plain, "an earlier comparison's trials are its first ones"
    more = whole[len(plain) :]
    own = [(t.search_seed, t.training_seed) for t in plain if t.method == RANDOM_NETWORK]
    for depth in (2, 4):
        assert [(t.search_seed, t.training_seed) for t in more if t.settings == {"depth": depth}] == own
    assert len(more) == 12 and all(map(is_beside, more)) and not any(map(is_beside, plain))
    deep = {**PROTOCOL, "space": "mobile-small(depth=2)"}
    other = trials_of(Comparison(("digits",), contenders_of(["random"]), depths=(2, 4), **given), "digits", deep)
    assert {t.settings.get("depth") for t in other if is_beside(t)} == {4}, "the searched depth is no other one"


def test_networks_are_compared_with_themselves() -> None:
    order = [3, 0, 7, 5, 1, 2, 6, 4]
    gap = depth_gap([*networks(FIRST), *(record(i, SECOND[i], 2) for i in order)])
    assert gap is not None
    (pair,) = gap["pairs"]
    assert (pair["first"], pair["second"], pair["test"]["networks"]) == (1, 2, 8)
    assert pair["test"]["tau"] == pytest.approx(tau_of(FIRST, SECOND)) == pair["validation"]["tau"]
    assert pair["sentence"].startswith("test accuracies at depth 1 and at depth 2 rank 8 networks alike")
    first, second = gap["depths"]
    assert (first["depth"], first["networks"], first["test"]) == (1, 8, np.mean(FIRST))
    assert (second["test"], second["validation"]) == (np.mean(SECOND), np.mean(SECOND) - 1)
    assert second["cost"]["mean"] == 20 and (second["training"], second["passes"]) == (500, 4000)
    assert second["test_interval"][0] < second["test"] < second["test_interval"][1]


def test_trainings_of_one_network_count_once() -> None:
    both = [*networks(FIRST), *networks([t + 2 for t in FIRST], training=1001)]
    gap = depth_gap([*both, *networks(SECOND, 2), *networks(SECOND, 2, training=1001)])
    assert gap is not None and gap["depths"][0]["test"] == np.mean(FIRST) + 1
    assert (
        gap["depths"][1]["networks"] == gap["pairs"][0]["test"]["networks"] == 8 and gap["depths"][1]["passes"] == 8000
    )


def test_only_networks_of_both_depths_are_compared() -> None:
    gap = depth_gap([*networks(FIRST), *networks(SECOND[:4], 2), *networks([50.0], 3, first=20)])
    assert gap is not None and [row["networks"] for row in gap["depths"]] == [8, 4, 1]
    pairs = {(row["first"], row["second"]): row for row in gap["pairs"]}
    assert pairs[1, 2]["test"]["networks"] == 4 and "4 networks are too few" in pairs[1, 2]["sentence"]
    assert pairs[1, 3].keys() == {"first", "second"}
    assert depth_gap(networks(FIRST)) is None and depth_gap([]) is None
    gap = depth_gap([*networks(FIRST), *networks(SECOND[:4], 2)])
    assert gap is not None and [row["networks"] for row in gap["depths"]] == [4, 4]
    assert gap["depths"][0]["test"] == np.mean(FIRST[:4]), "a mean of others is no depth's doing"
    assert gap["depths"][0]["passes"] == 4000, "everything that was spent"
    deep = [*networks(FIRST, space="mobile-small(depth=2)"), *networks(SECOND, 4, space="mobile-small(depth=2)")]
    gap = depth_gap(deep)
    assert gap is not None and [row["depth"] for row in gap["depths"]] == [2, 4]


def test_other_depths_change_nothing_of_the_comparison() -> None:
    plain = [*searches("random", [92.0, 95.0]), *searches("local", [93.0, 96.0]), *networks(FIRST)]
    deep = networks([t - 40 for t in SECOND], 2)
    compare([*plain, *deep])  # recipes agree
    before, after = summarise(plain, {}), summarise([*plain, *deep], {})
    assert after["tests"] == before["tests"]
    (task,), (other,) = before["tasks"], after["tasks"]
    assert task.pop("depth_gap") is None and other.pop("depth_gap")["depths"][1]["test"] == np.mean(SECOND) - 40
    assert str(other) == str(task), "means, RI, verdicts"


# -- the supernet -----------------------------------------------------------------------------------------------------

NOISE = [0.02, -0.3, 0.1, 0.0, -0.2, 0.25, -0.1, 0.3]
SCORES = {i: 3.0 - test / 100 + 0.03 * NOISE[i] for i, test in enumerate(FIRST)}  # nats: the better, the lower


def scored(seed: int, scores: dict[int, float]) -> Record:
    """What the supernet of a search seed makes of random networks."""
    settings = {"first": min(scores), "networks": len(scores)}
    trial = Trial("digits", SUPERNET_SCORES, seed, None, settings, PROTOCOL, {"queries": 10})
    return Record(trial, "best", None, None, (Entry("ranking", "forward", 300),), (), {}, None, scores=scores)


def test_every_search_seed_scores_all_random_networks() -> None:
    compared = Comparison(("digits",), contenders_of(["random"], 0), 10, 3, seed=4, networks=5, trainings=1)
    trials, others = (make(compared, "digits", PROTOCOL) for make in (ranking_trials, trials_of))
    assert [(t.search_seed, t.training_seed, t.settings) for t in trials] == [
        (seed, None, {"first": 4, "networks": 5}) for seed in (4, 5, 6)
    ]
    own = [t.search_seed for t in others if t.method == RANDOM_NETWORK]
    assert all(map(is_beside, trials)) and own == [4, 5, 6, 7, 8]
    assert (trials[0].protocol, trials[0].budget) == (others[0].protocol, others[0].budget)


def test_a_lower_cross_entropy_ranks_higher() -> None:
    found = supernet_ranks(networks(FIRST), [scored(3, SCORES)])
    assert found is not None and found["forward"] == 300
    tau = tau_of([-SCORES[i] for i in range(8)], FIRST)
    assert 0.5 < tau < 1 and found["validation"]["tau"] == found["test"]["tau"] == pytest.approx(tau)
    (seed,) = found["seeds"]
    assert seed["seed"] == 3 and seed["validation"] == found["validation"]
    assert found["sentence"].startswith(
        "the supernet's scores and the trained networks' test accuracies rank 8 networks"
    )
    upside_down = supernet_ranks(networks(FIRST), [scored(3, {i: -score for i, score in SCORES.items()})])
    assert upside_down is not None and upside_down["validation"]["tau"] == pytest.approx(-tau)


def test_validation_and_test_accuracies_are_told_apart() -> None:
    trained = [replace(r, validation=v) for r, v in zip(networks(FIRST), reversed(FIRST), strict=True)]
    found = supernet_ranks(trained, [scored(0, SCORES)])
    assert found is not None and found["validation"]["tau"] < -0.5 and found["test"]["tau"] > 0.5
    assert "networks alike" in found["sentence"], "it is about test accuracy: the scores are of the validation images"


def test_supernets_are_averaged_each_over_the_networks_that_it_scored() -> None:
    other = {i: SCORES[7 - i] for i in range(1, 8)}
    parts = [scored(0, {i: SCORES[i] for i in some}) for some in (range(5), range(3, 8))]  # of two runs
    found = supernet_ranks(networks(FIRST), [scored(2, other), *parts])
    assert found is not None and [row["seed"] for row in found["seeds"]] == [0, 2]
    assert [row["test"]["networks"] for row in found["seeds"]] == [8, 7] and found["test"]["networks"] == 8
    taus = [tau_of([-SCORES[i] for i in range(8)], FIRST), tau_of([-other[i] for i in range(1, 8)], FIRST[1:])]
    assert found["test"]["tau"] == pytest.approx(np.mean(taus)) and found["forward"] == 450
    assert np.isnan(found["test"]["tau_interval"]).all(), "one of them scored 7"
    assert found["sentence"].startswith("some of the scores of 2 supernets are of fewer than 8 networks, too few")


def test_without_both_there_is_nothing_to_compare() -> None:
    assert supernet_ranks(networks(FIRST), []) is None
    assert supernet_ranks([], [scored(0, SCORES)]) is None
    few = supernet_ranks(networks(FIRST[:3]), [scored(0, SCORES)])
    assert few is not None and "3 networks are too few" in few["sentence"]


def test_scores_change_nothing_of_the_comparison() -> None:
    plain = [*searches("random", [92.0, 95.0]), *networks(FIRST)]
    both = [scored(0, SCORES), *plain, *networks(SECOND, 2), scored(1, SCORES)]
    compare(both)
    before, after = summarise(plain, {}), summarise(both, {})
    (task,), (other,) = before["tasks"], after["tasks"]
    assert task.pop("supernet_ranks") is None and len(other.pop("supernet_ranks")["seeds"]) == 2
    assert task.pop("depth_gap") is None and other.pop("depth_gap")["pairs"][0]["test"]["networks"] == 8
    assert str(other) == str(task) and after["tests"] == before["tests"]
