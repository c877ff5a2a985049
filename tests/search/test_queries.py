"""What methods that search by asking share: pools, predictors, rankings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.search.pools import CODES, SIZES, bowl, number, pool, searched

from singlepath.errors import UserError
from singlepath.search.local import LocalSearch
from singlepath.search.predictors import LENGTH, NOISE, PREDICTORS, Posterior, Prediction, Rows, ensemble
from singlepath.search.queries import Pool, State, answer, begin, mutants
from singlepath.search.ranking import labels, log_expected_improvement, ranked, starters

# -- pools ------------------------------------------------------------------------------------------------------------


def test_neighbours_differ_in_one_decision() -> None:
    found = pool().neighbours(number(0, 1, 2, 0), np.random.default_rng(0))
    assert len(found) == 8
    assert ((CODES[found] != [0, 1, 2, 0]).sum(1) == 1).all()
    far = pool().neighbours(number(0, 1, 2, 0), np.random.default_rng(0), distance=3)
    assert len(far) > 2
    assert ((CODES[far] != [0, 1, 2, 0]).sum(1) == 3).all()


def test_a_pool_with_names_for_the_same_network_knows_neighbours_by_the_one_it_has() -> None:
    """Codes that are permutations of one another are one network, named by the sorted one."""
    there = CODES[(np.diff(CODES, axis=1) >= 0).all(1)]
    sorted_ = Pool(there, [3] * 4, canonical=lambda codes: np.sort(codes, axis=1))
    found = sorted_.neighbours(0, np.random.default_rng(0))
    assert sorted_.codes[found].tolist() == [[0, 0, 0, 1], [0, 0, 0, 2]]
    assert len(sorted_.find(CODES)) == len(there)


def test_a_change_that_changes_nothing_is_no_neighbour() -> None:
    there = CODES[CODES[:, 3] == 0]  # the last decision does not matter

    def canonical(codes: np.ndarray) -> np.ndarray:
        return codes * [1, 1, 1, 0]

    found = Pool(there, [3] * 4, canonical=canonical).neighbours(5, np.random.default_rng(0))
    assert 5 not in found
    assert len(found) == 6


def test_the_cheapest_of_equal_candidates_stands_for_them() -> None:
    same = np.arange(81) // 3
    found = pool(same=same[::-1].copy())
    assert len(found.distinct) == 27
    for network, index in enumerate(found.distinct):
        members = np.flatnonzero(found.same == network)
        assert SIZES[index] == SIZES[members].min()


def test_encodings_have_one_indicator_an_option_and_one_a_pair() -> None:
    one_hot, pairs = pool().encoding("one-hot"), pool().encoding("pairs")
    assert one_hot.shape == (81, 12)
    assert pairs.shape == (81, 12 + 6 * 9)
    assert (one_hot.sum(1) == 4).all()
    assert (pairs.sum(1) == 10).all()
    products = pairs @ pairs.T
    matches = (CODES[:, None] == CODES).sum(2)
    assert np.array_equal(products, matches + matches * (matches - 1) / 2)
    single = Pool(np.arange(3)[:, None], [3])
    assert np.array_equal(single.encoding("pairs"), single.encoding("one-hot")), "one decision has no pair"
    with pytest.raises(UserError, match="one-hot, pairs"):
        pool().encoding("paths")


def test_draws_are_uniform_over_what_is_left() -> None:
    counts = np.zeros(81)
    for seed in range(400):
        drawn = pool().draw(10, np.random.default_rng(seed), but=range(20))
        assert len(set(drawn)) == 10
        counts[drawn] += 1
    assert counts[:20].sum() == 0
    assert np.abs(counts[20:] - 4000 / 61).max() < 4.5 * np.sqrt(4000 / 61)
    assert sorted(pool().draw(100, np.random.default_rng(0), but=[3])) == [i for i in range(81) if i != 3]


def test_mutants_change_as_many_decisions_as_asked() -> None:
    code = np.array([0, 1, 0, 2])
    found = np.concatenate([mutants(code, (3, 2, 1, 4), 2, np.random.default_rng(s)) for s in range(20)])
    assert ((found != code).sum(1) == 2).all()
    assert (found < [3, 2, 1, 4]).all()
    assert (found[:, 2] == 0).all(), "a decision with one option cannot change"
    assert ((mutants(code, (3, 2, 1, 4), 9, np.random.default_rng(0)) != code).sum(1) == 3).all()


@dataclass(frozen=True)
class Recorder:
    """Proposes the next three candidates, and keeps what it was given."""

    calls: list[tuple[int, float]] = field(default_factory=list)

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        self.calls.append((len(state["asked"]), rng.random()))
        return [len(state["asked"]) + i for i in range(3)]


def test_a_proposal_is_asked_whole_before_the_next_and_randomness_follows_seed_and_number_asked() -> None:
    one, again, other = Recorder(), Recorder(), Recorder()
    assert searched(one, 8)["asked"] == list(range(8))
    assert [asked for asked, _ in one.calls] == [0, 3, 6]
    assert len({drawn for _, drawn in one.calls}) == 3
    searched(again, 8)
    searched(other, 8, seed=1)
    assert again.calls == one.calls
    assert not {drawn for _, drawn in other.calls} & {drawn for _, drawn in one.calls}


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        searched(LocalSearch(), 5, value=lambda i: float("nan"))


def test_the_answer_is_the_first_of_the_best() -> None:
    assert answer({"asked": [5, 6, 7, 8], "values": [1.0, 3.0, 3.0, 2.0]}) == 6


# -- predictors and rankings ------------------------------------------------------------------------------------------


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return 0.5 * a @ b.T + 0.5 * np.exp(-squares / (2 * LENGTH**2))


def test_the_posterior_is_that_of_a_gaussian_process_however_it_was_extended() -> None:
    rows = Rows(pool().encoding("one-hot"))
    rng = np.random.default_rng(0)
    asked, y = rng.permutation(81)[:30], rng.normal(size=30)
    k = kernel(rows.x[asked].astype(float), rows.x[asked].astype(float)) + NOISE * np.eye(30)
    across = kernel(rows.x.astype(float), rows.x[asked].astype(float))
    mean = across @ np.linalg.solve(k, y)
    variance = rows.variances - np.einsum("ij,ji->i", across, np.linalg.solve(k, across.T))
    at_once, slowly = Posterior(rows), Posterior(rows)
    at_once.extend(asked.tolist())
    for count in (1, 2, 9, 10, 30):
        slowly.extend(asked[:count].tolist())
    a, b = at_once.predict(y), slowly.predict(y)
    assert a.std is not None and b.std is not None
    assert np.allclose(a.mean, mean, atol=1e-4)
    assert np.allclose(a.std**2, variance, atol=1e-4)
    assert np.array_equal(a.mean, b.mean) and np.array_equal(a.std, b.std), "to the last bit: resuming depends on it"


@pytest.mark.parametrize("name", PREDICTORS)
def test_predictors_order_what_they_have_not_seen(name: str) -> None:
    rows, rng = Rows(pool().encoding("one-hot")), np.random.default_rng(0)
    values = np.array([bowl(i) for i in range(81)])
    asked = rng.permutation(81)[:40]
    y = labels(values[asked].tolist(), "raw")
    members = 3 if name in ("ridge", "tree") else 1
    found = [ensemble(PREDICTORS[name], rows, asked, y, np.random.default_rng(1), members) for _ in range(2)]
    assert np.array_equal(found[0].mean, found[1].mean), "equal seeds, equal predictions"
    unseen = np.setdiff1d(np.arange(81), asked)
    order, truth = np.argsort(np.argsort(found[0].mean[unseen])), np.argsort(np.argsort(values[unseen]))
    assert np.corrcoef(order, truth)[0, 1] > 0.6
    assert (found[0].std is not None) == (name in ("gp", "forest") or members > 1)
    assert found[0].std is None or found[0].std[unseen].min() > 0


def test_encodings_need_no_unit() -> None:
    x, rng = pool().encoding("one-hot"), np.random.default_rng(0)
    y = rng.normal(size=20)
    for name in ("ridge", "gp", "pairwise"):
        means = [PREDICTORS[name](Rows(scale * x + 5), np.arange(20), y, rng).mean for scale in (1, 100)]
        assert np.allclose(*means, atol=1e-3)


def test_labels() -> None:
    values = [3.0, 1.0, 2.0, 100.0]
    assert np.argsort(labels(values, "raw")).tolist() == [1, 2, 0, 3]
    place = -np.log([2, 4, 3, 1])
    assert np.allclose(labels(values, "log-rank"), (place - place.mean()) / place.std())
    assert np.allclose(labels(values, "rank") * np.std([0, 1, 2, 3]), [0.5, -1.5, -0.5, 1.5])
    for kind in ("raw", "rank", "log-rank"):
        assert labels([2.0, 2.0, 2.0], kind).tolist() == [0, 0, 0]
        tied = labels([1.0, 2.0, 2.0, 0.0], kind)
        assert tied[1] == tied[2] > tied[0] > tied[3]
    place = np.array([3, 1.5, 1.5, 4])  # the mean place of equal ones
    assert np.allclose(labels([1.0, 2.0, 2.0, 0.0], "rank"), (place.mean() - place) / place.std())


def test_expected_improvement_is_the_integral() -> None:
    rng = np.random.default_rng(0)
    mean, std = np.array([0.0, 1.0, -2.0]), np.array([1.0, 0.3, 2.0])
    sampled = np.maximum(mean + std * rng.normal(size=(400_000, 3)) - 0.5, 0).mean(0)
    assert np.allclose(np.exp(log_expected_improvement(Prediction(mean, std), 0.5)), sampled, rtol=0.02)
    tail = log_expected_improvement(Prediction(-np.arange(1.0, 60, 0.5), np.ones(118)), 0.0)
    steps = np.diff(tail)
    assert (steps < 0).all() and (np.abs(np.diff(steps)) < 0.4).all(), "no jump where the asymptote takes over"


def test_a_sampled_ranking_holds_what_was_asked_and_the_neighbours_of_the_best() -> None:
    state = begin(0, 81) | {"asked": [0, 40, 77], "values": [1.0, 3.0, 2.0]}
    over = ranked(pool(), state, np.random.default_rng(0), sample=5)
    numbers = over.numbers.tolist()
    assert over.numbers[over.asked].tolist() == state["asked"]
    assert len(numbers) == len(set(numbers)) < 81
    assert set(pool().neighbours(40, np.random.default_rng(0)).tolist()) <= set(numbers)
    assert not over.free[over.asked].any() and over.free.sum() == len(numbers) - 3


def test_a_ranking_gives_the_best_that_were_not_asked() -> None:
    state = begin(0, 81) | {"asked": [80, 79], "values": [1.0, 2.0]}
    over = ranked(pool(), state, np.random.default_rng(0))
    scores = np.arange(81.0)
    assert over.best(scores, 3) == [78, 77, 76]
    assert over.inside(scores, 4) == [78, 77]
    assert over.best(np.zeros(81), 3) == over.numbers[over.free][:3].tolist()
    assert len(over.best(scores, 500)) == 79


def test_starters_are_uniform_over_the_largest() -> None:
    drawn = [i for s in range(200) for i in starters(pool(), 4, 0.2, True, np.random.default_rng(s))]
    largest = np.argsort(-SIZES, kind="stable")[:17]
    assert set(drawn) == set(largest.tolist())
    assert len(set(starters(pool(), 60, 0.2, True, np.random.default_rng(0)))) == 60
    everywhere = [i for s in range(200) for i in starters(pool(), 4, 1.0, True, np.random.default_rng(s))]
    assert len(set(everywhere)) == 81
