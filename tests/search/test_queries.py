"""Methods that search by asking, one by one: pools, predictors, rankings, and each algorithm's own rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from singlepath.bench.tables import toy
from singlepath.errors import UserError
from singlepath.search.brpnas import BrpNas
from singlepath.search.evolution import Evolution
from singlepath.search.local import LocalSearch
from singlepath.search.nsga2 import Nsga2, crowding, front, fronts
from singlepath.search.predictors import LENGTH, NOISE, PREDICTORS, Posterior, Prediction, Rows, ensemble
from singlepath.search.queries import Pool, QueryMethod, State, answer, begin, mutants, run_queries
from singlepath.search.random_queries import RandomSearch
from singlepath.search.ranking import labels, log_expected_improvement, ranked, starters
from singlepath.search.weaknas import WeakNas

CODES = np.array(list(itertools.product(range(3), repeat=4)))
SIZES = CODES.sum(1).astype(float)


def pool(same: np.ndarray | None = None) -> Pool:
    return Pool(CODES, [3] * 4, measures={"size": SIZES}, cost="size", same=same)


def bowl(index: int) -> float:
    """One peak, at 2121."""
    return -float(((CODES[index] - [2, 1, 2, 1]) ** 2).sum())


def searched(method: QueryMethod, queries: int, seed: int = 0, value=bowl, over: Pool | None = None) -> State:
    return run_queries(method, over or pool(), value, begin(seed, queries))


def number(*code: int) -> int:
    return int(np.flatnonzero((np.array(code) == CODES).all(1))[0])


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


class Recorder:
    """Proposes the next three candidates, and keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, float]] = []

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


# -- the methods ------------------------------------------------------------------------------------------------------


def test_local_search_climbs_by_neighbours_and_begins_again_on_a_peak() -> None:
    for eager in (False, True):
        state = searched(LocalSearch(eager), 60, seed=2)
        peak = state["asked"].index(number(2, 1, 2, 1))
        climb = CODES[state["asked"][: peak + 1]]
        assert all((np.abs(climb[:i] - climb[i]) > 0).sum(1).min() == 1 for i in range(1, len(climb)))
        ring = pool().neighbours(number(2, 1, 2, 1), np.random.default_rng(0))
        last = max(state["asked"].index(int(i)) for i in ring)
        assert last < 40, "the whole neighbourhood of a peak is asked before another start"
        restart = state["asked"][max(last, peak) + 1]
        assert (CODES[restart] != [2, 1, 2, 1]).sum() > 1


def test_local_search_moves_at_once_where_it_is_eager() -> None:
    """From the corner 0000 of a bowl the first better neighbour is the next centre."""
    state = begin(0, 81) | {"asked": [0], "values": [bowl(0)], "centre": 0}
    eager = run_queries(LocalSearch(True), pool(), bowl, state)["asked"]
    first = next(i for i in eager[1:] if bowl(i) > bowl(0))
    after = eager[eager.index(first) + 1]
    assert (CODES[after] != CODES[first]).sum() == 1


def test_evolution_breeds_from_the_youngest_and_forgets_the_best_of_old() -> None:
    """The first founder is far better than anything else; once it is old its neighbours are asked no more."""
    over = pool()
    star = searched(Evolution(population=6), 1, seed=1, over=over)["asked"][0]

    def value(index: int) -> float:
        return 100.0 if index == star else float(index % 7)

    asked = searched(Evolution(population=6, tournament=6), 40, seed=1, value=value, over=over)["asked"]
    near = set(over.neighbours(star, np.random.default_rng(0)).tolist())
    assert asked[0] == star
    assert asked[6] in near, "a tournament of everyone is won by the best"
    parents = [[j for j in asked[i - 6 : i] if (CODES[asked[i]] != CODES[j]).sum() <= 1] for i in range(6, 40)]
    assert sum(bool(p) for p in parents) > 25, "children are one change from one of the six youngest"
    assert sum(i in near for i in asked[12:]) < len(near)


def test_evolution_takes_a_third_of_few_queries_for_founders() -> None:
    method = Evolution(population=24)
    assert len(method.propose(pool(), begin(0, 30), np.random.default_rng(0))) == 10
    assert len(method.propose(pool(), begin(0, 300), np.random.default_rng(0))) == 24
    assert len(method.propose(pool(), begin(0, 1), np.random.default_rng(0))) == 1


def test_fronts_and_crowding() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 8, size=(60, 2)).astype(float)
    found = fronts(points)
    assert sorted(i for members in found for i in members) == list(range(60))

    def dominated(i: int, by: list[int]) -> bool:
        return any((points[j] <= points[i]).all() and (points[j] < points[i]).any() for j in by)

    for place, members in enumerate(found):
        rest = [j for later in found[place:] for j in later]
        assert not any(dominated(i, rest) for i in members)
        assert place == 0 or all(dominated(i, found[place - 1]) for i in members)
    line = np.array([[0.0, 4.0], [4.0, 0.0], [1.0, 3.0], [3.0, 1.0]])
    assert crowding(line).tolist() == [np.inf, np.inf, 1.5, 1.5]
    assert crowding(line[:1]).tolist() == [np.inf]


def test_nsga2_keeps_a_population_from_the_cheapest_to_the_best() -> None:
    over = toy.pool()
    values = toy.values(over.codes, "toy")[0]
    state = searched(Nsga2(population=20), 300, over=over, value=lambda i: float(values[i]))
    found = front(over, state)
    assert over.costs[found].tolist() == sorted(over.costs[found])
    assert values[found].tolist() == sorted(values[found])
    costs = over.costs[state["population"]]
    assert costs.min() <= 3 and len(set(costs.tolist())) > 8
    random = searched(RandomSearch(), 300, over=over, value=lambda i: float(values[i]))["asked"]
    limits, asked = (6, 9, 12, 15), (state["asked"], random)
    best = np.array([[max(values[i] for i in who if over.costs[i] <= limit) for limit in limits] for who in asked])
    assert (best[0] >= best[1]).all() and (best[0] > best[1]).sum() > 2


def test_weaknas_asks_the_predicted_best_or_uniformly_inside_the_top() -> None:
    start = begin(0, 60) | {"asked": [0, 40, 77, 13], "values": [bowl(i) for i in (0, 40, 77, 13)]}
    over = pool()
    greedy = WeakNas(batch=3, patience=0)
    rank = greedy.ranked(over, start, np.random.default_rng(0))
    mean = greedy.predict(rank, start, np.random.default_rng(0)).mean
    order = [int(i) for i in np.argsort(-np.round(mean.astype(float), 6), kind="stable")]
    fresh = [i for i in order if i not in start["asked"]]
    assert greedy.propose(over, start, np.random.default_rng(5)) == fresh[:3]
    inside = {i for i in order[:12] if i not in start["asked"]}
    drawn = [set(WeakNas(batch=3, top=12).propose(over, start, np.random.default_rng(s))) for s in range(60)]
    assert set().union(*drawn) == inside
    everywhere = [WeakNas(batch=3, explore=1.0).propose(over, start, np.random.default_rng(s)) for s in range(60)]
    assert len({i for batch in everywhere for i in batch}) > 60


def test_weaknas_asks_one_of_equal_networks() -> None:
    over = pool(same=np.arange(81) // 3)
    state = searched(WeakNas(), 27, over=over, value=lambda i: bowl(int(over.distinct[over.same[i]])))
    assert len({int(over.same[i]) for i in state["asked"]}) == 27
    both = searched(WeakNas(distinct=False), 27, over=over, value=lambda i: bowl(int(over.distinct[over.same[i]])))
    assert len({int(over.same[i]) for i in both["asked"]}) < 27


def test_weaknas_looks_elsewhere_only_where_it_is_stuck() -> None:
    """After `patience` queries without a better network half of a batch has the greatest mean + beta std."""
    over, count, rng = pool(), 30, np.random.default_rng
    method, off, differ = WeakNas(batch=4, patience=7), WeakNas(batch=4, patience=0), 0
    for seed in range(10):
        asked = rng(seed).permutation(81)[:count].tolist()
        values = np.sort(rng(seed + 100).normal(size=count)).tolist()
        fresh = begin(0, 81) | {"asked": asked, "values": values}  # the last is the best
        stuck = begin(0, 81) | {"asked": asked, "values": values[::-1]}  # 29 queries without a better one
        assert method.propose(over, fresh, rng(0)) == off.propose(over, fresh, rng(0))
        bold, firm = method.propose(over, stuck, rng(0)), off.propose(over, stuck, rng(0))
        rank = off.ranked(over, stuck, rng(0))
        found = off.predict(rank, stuck, rng(0))
        assert found.std is not None
        bound = [i for i in rank.best(found.mean + (29 / 7 - 1) * found.std, 81) if i not in firm[:2]]
        assert bold == firm[:2] + bound[:2]
        differ += bold != firm
    assert differ > 4


def test_weaknas_looks_elsewhere_every_second_round_where_a_round_is_one_query() -> None:
    over, rng = pool(), np.random.default_rng
    method, off, differ = WeakNas(batch=1, patience=3), WeakNas(batch=1, patience=0), {30: 0, 31: 0}
    for seed in range(10):
        for count in differ:
            values = np.sort(rng(seed + 100).normal(size=count)).tolist()[::-1]
            stuck = begin(0, 81) | {"asked": rng(seed).permutation(81)[:count].tolist(), "values": values}
            differ[count] += method.propose(over, stuck, rng(0)) != off.propose(over, stuck, rng(0))
    assert differ[30] > 4 and differ[31] == 0


def test_a_scale_that_is_given_is_used() -> None:
    state = begin(0, 60) | {"asked": [0, 40, 77, 13], "values": [1.0, 2.0, 3.0, 4.0]}
    method = WeakNas(predictor="ridge", labels="raw", scale=(2.5, 0.01))
    over = method.ranked(pool(), state, np.random.default_rng(0))
    scaled = method.predict(over, state, np.random.default_rng(0)).mean
    plain = WeakNas(predictor="ridge", labels="raw").predict(over, state, np.random.default_rng(0)).mean
    assert np.allclose(scaled, plain * np.std([1, 2, 3, 4]) / 0.01, rtol=1e-3)


def test_brp_nas_takes_half_of_a_round_from_the_top_and_ends_with_the_ranking() -> None:
    method, over = BrpNas(rounds=4, training=0.5), pool()
    state = searched(method, 40, seed=1)
    assert answer(state) == number(2, 1, 2, 1)
    for asked, rest in ((5, 81 // 2), (10, 81 // 4), (15, 81 // 8)):
        early = state | {"asked": state["asked"][:asked], "values": state["values"][:asked]}
        rank = ranked(over, early, np.random.default_rng(0))
        scores = PREDICTORS["pairwise"](rank.rows, rank.asked, labels(early["values"], "raw"), np.random.default_rng(0))
        best = rank.best(scores.mean, rest)
        drawn = [method.propose(over, early, np.random.default_rng(seed)) for seed in range(30)]
        assert all(batch[:2] == best[:2] and len(batch) == 5 for batch in drawn)
        others = {i for batch in drawn for i in batch[2:]}
        assert others <= set(best[2:]) and len(others) > len(best) / 2
    trained = state | {"asked": state["asked"][:20], "values": state["values"][:20]}
    rank = ranked(over, trained, np.random.default_rng(0))
    scores = PREDICTORS["pairwise"](rank.rows, rank.asked, labels(trained["values"], "raw"), np.random.default_rng(0))
    assert state["asked"][20:] == rank.best(scores.mean, 20)
