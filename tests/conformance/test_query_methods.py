"""Every method that searches by asking, on every table: what registering one promises."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from singlepath.bench.stats import expected_best_without_replacement
from singlepath.bench.tables import toy
from singlepath.bench.tasks import TASKS, BudgetSpent, Task, load_task, search_task
from singlepath.errors import UserError
from singlepath.search.predictors import Prediction
from singlepath.search.queries import Pool, QueryMethod, State, answer, begin, run_queries
from singlepath.search.query_methods import QUERY_METHODS, make_method
from singlepath.search.ranking import Ranked
from singlepath.search.weaknas import WeakNas

VARIANTS = (
    "weaknas(predictor='ridge', top=20, batch=5, explore=0.3)", "weaknas(sampling='ei', labels='raw')",
    "weaknas(sample=200, distinct=False, labels='rank')", "weaknas(predictor='ridge', members=3, sampling='ei')",
    "local(eager=False)", "brp-nas(sample=200)",
)  # fmt: skip
# greatest regret after 160 queries on the toy table, as a share of random search's; the others reach 0, or 0.05
LIMITS = {
    "evolution": 0.35, "nsga2": 0.75, "weaknas(predictor='ridge', members=3, sampling='ei')": 0.35,
}  # fmt: skip
NAMES = (*QUERY_METHODS, *VARIANTS)
MADE_UP = ("toy", "flat")
PUBLISHED = ("nasbench201/cifar10", "macro")
NOWHERE = Path("no data needed")


def history(name: str, task: Task, seed: int = 0, queries: int = 60) -> State:
    return search_task(make_method(name), task, seed=seed, queries=queries)[1]


def no_test() -> np.ndarray:
    raise AssertionError("test values were read before the end")


LOADED: dict[str, Task] = {}
PAIRS = [*((t, n) for t in MADE_UP for n in NAMES), *((t, n) for t in PUBLISHED for n in QUERY_METHODS)]


def table(name: str, request: pytest.FixtureRequest) -> Task:
    """A table as it is after loading: with nothing that methods keep."""
    if name not in LOADED:
        LOADED[name] = load_task(name, NOWHERE if name in MADE_UP else request.getfixturevalue("shared_data"))
    pool = copy.copy(LOADED[name].pool)
    pool.scratch = {}
    return replace(LOADED[name], pool=pool)


def test_every_task_is_covered() -> None:
    elsewhere = {"nasbench101", "nasbench201/cifar100", "nasbench201/imagenet16"}  # tests/bench
    merged = {f"nasbench201-distinct/{name.split('/')[1]}" for name in TASKS if name.startswith("nasbench201/")}
    assert set(TASKS) == {*MADE_UP, *PUBLISHED, *elsewhere, *merged}


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_same_seed_same_history_and_resume_equals_unbroken(
    task: str, name: str, request: pytest.FixtureRequest
) -> None:  # fmt: skip
    loaded = table(task, request)
    whole = history(name, loaded, seed=3)
    assert history(name, loaded, seed=3) == whole
    assert history(name, loaded, seed=4)["asked"] != whole["asked"]
    for stop in (1, 17, 44):
        again, state = table(task, request), begin(3, 60)
        trial = again.trial(60)
        run_queries(make_method(name), again.pool, trial.ask, state, until=lambda s, n=stop: len(s["asked"]) >= n)
        assert len(state["asked"]) == stop
        kept = json.loads(json.dumps(state))
        outcome, resumed = search_task(make_method(name), table(task, request), seed=3, queries=60, state=kept)
        assert resumed == whole
        assert outcome.queries == 60


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_the_budget_is_spent_exactly_and_test_values_stay_away(
    task: str, name: str, request: pytest.FixtureRequest
) -> None:  # fmt: skip
    loaded = table(task, request)
    closed = replace(loaded, test=no_test)
    for queries in (1, 2, 37):
        trial, state = closed.trial(queries), begin(5, queries)
        run_queries(make_method(name), closed.pool, trial.ask, state)
        assert len(set(state["asked"])) == len(trial.asked) == queries
        assert trial.left == 0
        assert state["values"] == [float(loaded.validation[i]) for i in state["asked"]]
        with pytest.raises(BudgetSpent):
            _ = trial.test
        unasked = next(i for i in range(len(loaded.pool)) if i not in trial.asked)
        with pytest.raises(BudgetSpent):
            trial.ask(unasked)
        with pytest.raises(AssertionError, match="before the end"):
            trial.finish(answer(state))
    trial = loaded.trial(2)
    trial.ask(0)
    outcome = trial.finish(0)
    assert (outcome.test, outcome.queries, trial.test) == (loaded.test()[0], 1, outcome.test)
    with pytest.raises(BudgetSpent):
        trial.ask(1)


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_that_is_used_up_ends_the_search(name: str) -> None:
    codes = toy.pool().codes[::97]
    small = Pool(codes, [4] * 6, measures={"size": codes.sum(1)}, cost="size", same=np.arange(len(codes)) // 2)
    values = toy.values(codes, "toy")[0]
    state = run_queries(make_method(name), small, lambda i: float(values[i]), begin(0, 1000))
    assert sorted(state["asked"]) == list(range(len(codes)))
    assert answer(state) == int(np.argmax(values))


@pytest.mark.parametrize("name", NAMES)
def test_regret_falls_on_the_toy_table(name: str) -> None:
    task = load_task("toy", NOWHERE)
    best = task.validation.max()
    values = np.array([history(name, task, seed, 160)["values"] for seed in range(8)])
    regret = best - np.maximum.accumulate(values, axis=1).mean(0)
    assert regret[159] < 0.6 * regret[19]
    if name != "random":
        assert regret[159] < LIMITS.get(name, 0.2) * (best - expected_best_without_replacement(task.validation, 160))


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_the_limit_of_weaknas_is_out_of_reach_of_a_predictor_that_knows_nothing(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(_: WeakNas, over: Ranked, state: State, rng: np.random.Generator) -> Prediction:
        return Prediction(rng.normal(size=len(over.numbers)), None)

    monkeypatch.setattr(WeakNas, "predict", noise)
    with pytest.raises(AssertionError):
        test_regret_falls_on_the_toy_table(f"weaknas(largest={share})")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_beats_random_search_on_a_flat_table(name: str) -> None:
    """Where values have nothing to do with networks, every search without repetition finds as much on average."""
    flat, count, queries = load_task("flat", NOWHERE), 60, 40
    tables = [np.random.default_rng(seed).permutation(flat.validation) for seed in range(count)]
    found = [max(history(name, replace(flat, validation=t), seed, queries)["values"]) for seed, t in enumerate(tables)]
    exact = expected_best_without_replacement(flat.validation, queries)
    assert abs(np.mean(found) - exact) < 3.5 * np.std(found, ddof=1) / np.sqrt(count)


def test_random_search_has_its_exact_expectation() -> None:
    task = load_task("toy", NOWHERE)
    tests = [search_task(make_method("random"), task, seed=seed, queries=25)[0].test for seed in range(400)]
    exact = expected_best_without_replacement(task.validation, 25, task.test())
    assert abs(np.mean(tests) - exact) < 3 * np.std(tests, ddof=1) / 20


def test_searches_that_take_turns_on_one_pool_do_not_disturb_each_other() -> None:
    task = load_task("toy", NOWHERE)
    alone = [history("weaknas", task, seed, 40) for seed in (0, 1)]
    states = [begin(seed, 40) for seed in (0, 1)]
    for count in range(1, 41):
        for state in states:
            run_queries(
                make_method("weaknas"), task.pool, lambda i: float(task.validation[i]), state,
                until=lambda s, n=count: len(s["asked"]) >= n,
            )  # fmt: skip
    assert states == alone


@dataclass(frozen=True)
class Stuck:
    proposals: list[list[int]]

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        return self.proposals.pop(0)


@pytest.mark.parametrize("proposals", [[[1, 1]], [[1], [1]], [[]]])
def test_a_method_that_repeats_itself_or_gives_up_is_refused(proposals: list[list[int]]) -> None:
    task = load_task("toy", NOWHERE)
    method: QueryMethod = Stuck(copy.deepcopy(proposals))
    with pytest.raises(ValueError, match="proposed"):
        run_queries(method, task.pool, lambda i: 0.0, begin(0, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("weaknass", "did you mean 'weaknas'|type --methods weaknas"), ("weaknas(predictor='gpp')", "gp"),
        ("weaknas(btach=3)", "batch"), ("weaknas(batch='3')", "batch of weaknas"), ("random(n=3)", "no settings"),
        ("weaknas(batch=0)", "1 or more"), ("weaknas(predictor='ridge', sampling='ei')", "members"),
        ("weaknas(encoding='paths')", "one-hot"), ("weaknas(batch=", "--methods"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        history(text, load_task("toy", NOWHERE))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="--queries"):
        history("random", load_task("toy", NOWHERE), queries=0)
    with pytest.raises(UserError, match="nasbench201/cifar10"):
        load_task("nasbench201/cifar11", NOWHERE)
