"""Tables of trained networks as search problems: a method may look at the pool, ask values, and nothing else.

A `Task` is a table; a `Trial` is one search on it: `ask` gives a candidate's validation value and charges the budget,
the test value stays away until `finish`, which ends the trial and reads one: that of the network it is told. Test
columns are not even read from the file before.

| task | searched | judged |
|---|---|---|
| `nasbench201/cifar10`, `/cifar100`, `/imagenet16` | validation accuracy, 200 epochs, mean over seeds | test accuracy |
| `nasbench201-distinct/*` | the same, cells that compute the same being one | the same |
| `macro` | accuracy of the first run (on the test images: the table has no others) | mean of the two other runs |
| `nasbench101` | validation accuracy after 108 epochs, mean of three runs | test accuracy, mean |
| `toy`, `flat` | made up (`tables/toy.py`) | the same with noise |

`nasbench201/*` costs: "mmacs", "parameters", or one of HELP's 27 devices in ms; `macro`: "mmacs", "parameters".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from singlepath.bench.tables import nas_bench_macro, nasbench101, nasbench201, toy
from singlepath.errors import SinglepathError, unknown, user_error
from singlepath.search.queries import Pool, QueryMethod, State, answer, begin, run_queries
from singlepath.spaces import make

__all__ = ["TASKS", "BudgetSpent", "Outcome", "Task", "Trial", "load_task", "one_blas_thread", "search_task"]

Load = Callable[[Path, str], "Task"]


class BudgetSpent(SinglepathError):
    """A trial was asked for more than its queries allow, or after it was finished."""


class Outcome(NamedTuple):
    """How a trial ended: the network chosen, its value as searched and as judged, per cent, and the queries spent."""

    network: int
    validation: float
    test: float
    queries: int


@dataclass(frozen=True)
class Task:
    """A table.

    Attributes:
        pool: what may be known for nothing.
        validation: the searched value of every candidate, [N], per cent. For judges; methods ask a `Trial`.
        test: reads the judged values, [N], per cent; for judges, after the search.
        judged: what of the table that is, where a table may have several.
    """

    name: str
    pool: Pool
    validation: np.ndarray = field(repr=False)
    test: Callable[[], np.ndarray] = field(repr=False)
    judged: str = ""

    def trial(self, queries: int, asked: Iterable[int] = ()) -> Trial:
        """A search of at most so many queries, of which `asked` have been spent (a resumed one)."""
        return Trial(self, queries, asked)

    @property
    def best(self) -> int:
        """The candidate of the highest validation value."""
        return int(np.argmax(self.validation))


class Trial:
    """One search on a table: what it may see of values, and what it has spent."""

    def __init__(self, task: Task, queries: int, asked: Iterable[int] = ()) -> None:
        if queries < 1:
            raise user_error(f"{queries} queries", "allowed: 1 or more", "type --queries 300")
        self.task, self.queries = task, queries
        self.asked = dict.fromkeys(int(i) for i in asked)
        self._outcome: Outcome | None = None

    @property
    def left(self) -> int:
        return self.queries - len(self.asked)

    def ask(self, index: int) -> float:
        """The validation value of a candidate, per cent; one that was asked before costs nothing.

        Raises:
            BudgetSpent: no query is left, or the trial is finished.
        """
        if self._outcome is not None:
            raise BudgetSpent(f"the trial on {self.task.name} is finished")
        if index not in self.asked:
            if self.left <= 0:
                raise BudgetSpent(f"all {self.queries} queries on {self.task.name} are spent")
            self.asked[int(index)] = None
        return float(self.task.validation[index])

    def finish(self, index: int) -> Outcome:
        """End the trial with the network chosen, one of those asked, and read its test value.

        Raises:
            ValueError: the network was not asked.
        """
        if index not in self.asked:
            raise ValueError(f"network {index} was not asked")
        if self._outcome is None:
            value = float(self.task.validation[index])
            self._outcome = Outcome(int(index), value, float(self.task.test()[index]), len(self.asked))
        return self._outcome

    @property
    def test(self) -> float:
        """The test value of the network chosen.

        Raises:
            BudgetSpent: the trial is not finished.
        """
        if self._outcome is None:
            raise BudgetSpent(f"the test value on {self.task.name} is read after finish(), not before")
        return self._outcome.test


def search_task(
    method: QueryMethod, task: Task, *, seed: int, queries: int, state: State | None = None
) -> tuple[Outcome, State]:
    """One whole trial: search, take the best validated network, read its test value.

    A `state` goes on from where it was, to what an unbroken trial would have given.
    """
    state = begin(seed, queries) if state is None else state
    trial = task.trial(queries, state["asked"])
    run_queries(method, task.pool, trial.ask, state)
    return trial.finish(answer(state)), state


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """numpy with one thread, where threadpoolctl (it comes with sklearn) is there: more make small products slower."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1):
        yield


def load_task(name: str, data: Path | str, cost: str = "") -> Task:
    """The task of a name, its files read from the folder `data`; `cost` is the second objective, empty: the task's own.

    Raises:
        UserError: an unknown task or cost, missing files.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS, "--task")
    return TASKS[name](Path(data), cost)


def _nasbench201(dataset: str) -> Load:
    def load(data: Path, cost: str) -> Task:
        path, searched = data / nasbench201.FILE, nasbench201.COLUMNS[dataset][0]
        pool, judged = nasbench201.pool(data, cost or "mmacs"), nasbench201.judged_column(path, dataset)
        test = cache(lambda: nasbench201.read_columns(path, [judged])[judged])
        return Task(f"nasbench201/{dataset}", pool, nasbench201.read_columns(path, [searched])[searched], test, judged)

    return load


def _distinct(load: Load) -> Load:
    """The same table with one candidate for all codes of a function."""

    def merged(data: Path, cost: str) -> Task:
        task = load(data, cost)
        kept, name = task.pool.distinct, task.name.replace("/", "-distinct/")
        return Task(name, task.pool.merged(), task.validation[kept], lambda: task.test()[kept], task.judged)

    return merged


def _macro(data: Path, cost: str) -> Task:
    space = make("macro")
    rows = nas_bench_macro.load(data, space)

    @cache
    def test() -> np.ndarray:
        again = nas_bench_macro.load(data, space)
        return np.array([np.mean(row.accuracies[1:]) for row in again.values()])

    validation = np.array([row.accuracies[0] for row in rows.values()])
    return Task("macro", nas_bench_macro.pool(rows, space, cost or "mmacs"), validation, test)


def _nasbench101(data: Path, cost: str) -> Task:
    table = nasbench101.load(data)
    return Task(
        "nasbench101", nasbench101.pool(table, cost or "parameters"), nasbench101.mean_of(table, "validation"),
        cache(lambda: nasbench101.mean_of(nasbench101.load(data), "test")),
    )  # fmt: skip


def _made_up(kind: str) -> Load:
    def load(data: Path, cost: str) -> Task:
        pool = toy.pool()
        return Task(kind, pool, toy.values(pool.codes, kind)[0], lambda: toy.values(pool.codes, kind)[1])

    return load


TASKS: dict[str, Load] = {
    **{f"nasbench201/{dataset}": _nasbench201(dataset) for dataset in nasbench201.COLUMNS},
    **{f"nasbench201-distinct/{dataset}": _distinct(_nasbench201(dataset)) for dataset in nasbench201.COLUMNS},
    "macro": _macro, "nasbench101": _nasbench101, "toy": _made_up("toy"), "flat": _made_up("flat"),
}  # fmt: skip
