"""The contract of methods that search by asking: which candidate next, given what the others were worth.

    H_0 = {}
    repeat:  B = propose(pool, H_t);   H_{t+1} = H_t + {(x, f(x)) : x in B}     until as many as the budget were asked
    answer:  argmax of f over what was asked

A `Pool` says what can be known of the candidates for nothing: their codes, encodings, costs, who is next to whom. A
method is a frozen dataclass of its settings with one function, `propose`. The history is a plain dict and the whole
state: every random draw is a function of (seed, method, number asked), so a search goes on from a saved history to the
same bits. The pool of a published table is all of its networks; that of a trained supernet is a sample that grows
(`space_pool`), and its codes must be kept beside the history by whoever wants to go on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from singlepath.data.splits import generator
from singlepath.errors import user_error

__all__ = [
    "Ask", "Pool", "QueryMethod", "State", "answer", "begin", "changed", "mutants", "one_hot", "pairs", "proposal",
    "run_queries",
]  # fmt: skip

State = dict[str, Any]
Ask = Callable[[int], float]
Encoder = Callable[[np.ndarray], np.ndarray]
ATTEMPTS = 8  # codes drawn for a neighbourhood that is too large to list


class Pool:
    """Candidates by number, 0 to N - 1.

    Attributes:
        codes: the option of every decision, [N, decisions], int64; no two rows are equal.
        options: how many options each decision has.
        measures: what is known of a candidate without asking, [N] each by name ("mmacs", "parameters", ...).
        cost: the measure that is the second objective, lower is better; None where there is none.
        encoders: encodings by name: codes [K, decisions] -> [K, d]; "one-hot" and "pairs" are always there, the
            first is what predictors use unless told otherwise.
        same: the number of the network that a candidate is, [N], 0 to M - 1: equal where two codes compute the same
            function.
        distinct: the cheapest candidate of every network, [M].
        scratch: what methods keep between calls to be quick; an answer never depends on it.
    """

    def __init__(
        self,
        codes: np.ndarray,
        options: Sequence[int],
        *,
        measures: Mapping[str, np.ndarray] | None = None,
        cost: str | None = None,
        encoders: Mapping[str, Encoder] | None = None,
        same: np.ndarray | None = None,
        canonical: Encoder | None = None,
        around: Encoder | None = None,
    ) -> None:
        """`canonical` maps any codes [K, decisions] to those of `codes` that mean the same, or to codes not there;
        `around` maps one code [decisions] to those next to it, by default those that differ in one decision."""
        self.codes = np.asarray(codes, np.int64)
        self.options = tuple(int(n) for n in options)
        self.measures = {k: np.asarray(v, np.float64) for k, v in (measures or {}).items()}
        self.cost = cost
        self.encoders: dict[str, Encoder] = dict(encoders or {})
        self.encoders.setdefault("one-hot", lambda c: one_hot(c, self.options))
        self.encoders.setdefault("pairs", lambda c: pairs(c, self.options))
        groups, cheapest = np.arange(len(self.codes)) if same is None else same, np.argsort(self.costs, kind="stable")
        _, self.same = np.unique(groups, return_inverse=True)
        _, first = np.unique(np.asarray(groups)[cheapest], return_index=True)
        self.distinct = cheapest[first]
        self.scratch: dict[Any, Any] = {}
        self._canonical = canonical
        self._around = around or (lambda code: changed(code, self.options))
        self._number = {row.tobytes(): i for i, row in enumerate(self.codes)}
        self._encoded: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.codes)

    def encoding(self, name: str = "") -> np.ndarray:
        """Every candidate's code as float32, [N, d]; kept, and made for new candidates only.

        Raises:
            UserError: the pool has no encoding of that name.
        """
        name = name or next(iter(self.encoders))
        if name not in self.encoders:
            raise user_error(f"encoding {name!r}", f"this pool has {', '.join(self.encoders)}", "name one of these")
        done = self._encoded.get(name)
        if done is None or len(done) < len(self):
            new = self.encoders[name](self.codes[0 if done is None else len(done) :]).astype(np.float32)
            done = self._encoded[name] = new if done is None else np.concatenate([done, new])
        return done

    @property
    def costs(self) -> np.ndarray:
        """The second objective, [N]; all zero where there is none."""
        return self.measures[self.cost] if self.cost else np.zeros(len(self))

    def neighbours(self, index: int, rng: np.random.Generator, distance: int = 1) -> np.ndarray:
        """Numbers of the candidates so many changes away, ascending: all of them for one change, those of a few random
        draws of so many decisions for more."""
        code = self.codes[index]
        changes = self._around(code) if distance == 1 else mutants(code, self.options, distance, rng)
        found = self.find(changes)
        return found[found != index]

    def find(self, codes: np.ndarray) -> np.ndarray:
        """Distinct numbers of those codes [K, decisions] that are candidates, ascending."""
        codes = np.asarray(codes if self._canonical is None else self._canonical(codes), np.int64)
        found = {self._number.get(row.tobytes(), -1) for row in codes} - {-1}
        return np.array(sorted(found), np.int64)

    def draw(self, count: int, rng: np.random.Generator, but: Sequence[int] = ()) -> list[int]:
        """At most `count` distinct candidates, uniform over those not in `but`."""
        free = np.ones(len(self), bool)
        free[list(but)] = False
        where = np.flatnonzero(free)
        return [int(i) for i in rng.choice(where, size=min(count, len(where)), replace=False)]

    def merged(self) -> Pool:
        """The pool with one candidate, the cheapest, for all codes of a function; next to it is what any of them is
        next to. So methods that know nothing of equal codes search what those search that do."""
        names = np.split(np.argsort(self.same, kind="stable"), np.cumsum(np.bincount(self.same))[:-1])

        def canonical(codes: np.ndarray) -> np.ndarray:
            out = np.array(codes if self._canonical is None else self._canonical(codes), np.int64)
            for row in out:
                if (number := self._number.get(row.tobytes())) is not None:
                    row[:] = self.codes[self.distinct[self.same[number]]]
            return out

        def around(code: np.ndarray) -> np.ndarray:
            function = self.same[self._number[np.asarray(code, np.int64).tobytes()]]
            return np.concatenate([self._around(self.codes[i]) for i in names[function]])

        return Pool(
            self.codes[self.distinct], self.options, measures={k: v[self.distinct] for k, v in self.measures.items()},
            cost=self.cost, encoders=self.encoders, canonical=canonical, around=around,
        )  # fmt: skip

    def grow(self, best: Sequence[int], rng: np.random.Generator) -> None:
        """Offer more candidates near the given ones; a table has them all."""


class QueryMethod(Protocol):
    """A frozen dataclass of settings.

    `propose` returns candidates never asked before, at least one while there are any, and may keep plain values of its
    own in the state. What exceeds the budget is cut off.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> Sequence[int]: ...


def begin(seed: int, queries: int) -> State:
    """An empty history: candidates `asked` in order, their `values`, `pending` ones that were proposed.

    Raises:
        UserError: a budget below one query.
    """
    if queries < 1:
        raise user_error(f"{queries} queries", "allowed: 1 or more", "type --queries 300")
    return {"seed": int(seed), "queries": int(queries), "asked": [], "values": [], "pending": []}


def run_queries(
    method: QueryMethod, pool: Pool, ask: Ask, state: State, *, until: Callable[[State], bool] = lambda state: False
) -> State:
    """Ask until the budget is used up, the pool is, or `until` says so; the state is changed and returned.

    The state may be saved after any query and continued by another call, to the same answers.

    Raises:
        ValueError: the method proposed something that was asked before, or nothing while there are candidates left; a
            value is not finite.
    """
    while len(state["asked"]) < state["queries"] and not until(state):
        if not state["pending"]:
            state["pending"] = proposal(method, pool, state)
            if not state["pending"]:
                break
        index = state["pending"][0]
        value = float(ask(index))
        if not math.isfinite(value):
            raise ValueError(f"candidate {index} has the value {value}")
        state["pending"] = state["pending"][1:]
        state["asked"].append(index)
        state["values"].append(value)
    return state


def proposal(method: QueryMethod, pool: Pool, state: State) -> list[int]:
    """What the method asks next, as many as the budget has left, checked."""
    rng = generator(state["seed"], type(method).__name__, len(state["asked"]))
    found = [int(i) for i in method.propose(pool, state, rng)]
    if len(set(found)) < len(found) or not set(found).isdisjoint(state["asked"]):
        raise ValueError(f"{method} proposed a candidate twice")
    if not found and len(state["asked"]) < len(pool):
        raise ValueError(f"{method} proposed nothing")
    return found[: state["queries"] - len(state["asked"])]


def answer(state: State) -> int:
    """The candidate of the highest value; of equal ones the first asked."""
    return state["asked"][int(np.argmax(state["values"]))]


def one_hot(codes: np.ndarray, options: Sequence[int]) -> np.ndarray:
    """One indicator an option of every decision, [K, sum of options]."""
    offsets = np.cumsum([0, *options[:-1]])
    out = np.zeros((len(codes), sum(options)), np.float32)
    np.put_along_axis(out, codes + offsets, 1.0, axis=1)
    return out


def pairs(codes: np.ndarray, options: Sequence[int]) -> np.ndarray:
    """One indicator an option of every decision, and one a pair of options of every pair of decisions, [K, d]."""
    couples = list(itertools.combinations(range(len(options)), 2))
    if not couples:
        return one_hot(codes, options)
    joint = np.stack([codes[:, i] * options[j] + codes[:, j] for i, j in couples], axis=1)
    return np.hstack([one_hot(codes, options), one_hot(joint, [options[i] * options[j] for i, j in couples])])


def changed(code: np.ndarray, options: Sequence[int]) -> np.ndarray:
    """Every code that differs from the given one in one decision, [neighbours, decisions]."""
    rows = [(d, o) for d, n in enumerate(options) for o in range(n) if o != code[d]]
    out = np.tile(code, (len(rows), 1))
    out[np.arange(len(rows)), [d for d, _ in rows]] = [o for _, o in rows]
    return out


def mutants(code: np.ndarray, options: Sequence[int], distance: int, rng: np.random.Generator) -> np.ndarray:
    """`ATTEMPTS` random codes that differ from the given one in `distance` decisions (all, where there are fewer)."""
    out = np.tile(code, (ATTEMPTS, 1))
    open_ = [d for d, n in enumerate(options) if n > 1]
    for row in out:
        for d in rng.choice(open_, size=min(distance, len(open_)), replace=False):
            row[d] = (row[d] + rng.integers(1, options[d])) % options[d]
    return out
