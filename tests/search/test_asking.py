"""Methods that search by asking: what each proposes, on a pool whose best is known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.search.pools import CODES, bowl, number, pool, searched

from singlepath.bench.tables import toy
from singlepath.search import nsga2
from singlepath.search.brpnas import BrpNas
from singlepath.search.evolution import Evolution
from singlepath.search.local import LocalSearch
from singlepath.search.nsga2 import Nsga2, crowding, front, fronts
from singlepath.search.predictors import PREDICTORS
from singlepath.search.queries import Pool, answer, begin, run_queries
from singlepath.search.random_queries import RandomSearch
from singlepath.search.ranking import labels, ranked
from singlepath.search.weaknas import WeakNas


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


def test_nsga2_keeps_a_front_s_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where larger is better no size is dominated: the front is every size, and only crowding keeps it whole."""
    over = toy.pool()

    def kept(seed: int) -> set[float]:
        state = searched(Nsga2(population=20), 300, seed=seed, over=over, value=lambda i: float(over.costs[i]))
        return set(over.costs[state["population"]].tolist())

    sizes = [kept(seed) for seed in range(4)]
    assert all(len(found) >= 15 and max(found) - min(found) >= 14 for found in sizes)
    monkeypatch.setattr(nsga2, "crowding", lambda objectives: np.zeros(len(objectives)))
    assert all(len(kept(seed)) < 13 for seed in range(4)), "and without crowding it is lost"


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


def test_expected_improvement_is_over_the_best_in_the_scale_that_is_given() -> None:
    values = [88.0, 91.0, 92.0, 85.0, 90.5]
    state = begin(0, 60) | {"asked": [0, 40, 77, 13, 60], "values": values}
    given = WeakNas(predictor="gp", sampling="ei", batch=8, scale=(float(np.mean(values)), float(np.std(values))))
    standard = WeakNas(predictor="gp", sampling="ei", batch=8, labels="raw")
    mine, same = (m.propose(pool(), state, np.random.default_rng(0)) for m in (given, standard))
    assert mine == same


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


def test_a_merged_pool_has_one_candidate_a_function_beside_what_any_of_its_codes_is_beside() -> None:
    """Codes of three binary decisions, the last of which means nothing where the first is 0."""
    codes = np.array(list(np.ndindex(2, 2, 2)))
    same = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    whole = Pool(codes, (2, 2, 2), measures={"size": np.array([2.0, 1, 5, 5, 3, 3, 3, 3])}, cost="size", same=same)
    merged, rng = whole.merged(), np.random.default_rng(0)
    assert merged.codes.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]], "the cheapest"
    assert merged.costs.tolist() == [1, 5, 3, 3, 3, 3]
    assert merged.neighbours(0, rng).tolist() == [1, 2, 3], "by either of its codes"
    assert merged.neighbours(5, rng).tolist() == [1, 3, 4]
    assert merged.find(np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1]])).tolist() == [0, 5]
    for method in (LocalSearch(), Evolution(population=3), Nsga2(), WeakNas(first=2)):
        state = run_queries(method, merged, lambda i: float(i), begin(0, 6))
        assert sorted(state["asked"]) == list(range(6))
