"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan, IEEE TEVC 2002) for two objectives: value, and cost.

    R_t = P_t + Q_t;   fronts F_1, F_2, ... of R_t by non-domination
    P_{t+1} = the first |P| of R_t by (front, crowding distance falling)
    Q_{t+1} = children of P_{t+1}: binary tournaments by the same order, crossover, mutation

a dominates b where it is no worse in both and better in one. A candidate's crowding distance is the sum over the
objectives of the gap between its two neighbours within its front, as a share of the front's range; the ends have
infinity. So the answer is a whole front; `queries.answer` is its most valuable end.

Where we differ: crossover is uniform (decisions are categories); a child that was asked before is drawn again and,
after `ATTEMPTS`, replaced by a neighbour of its parent or by a random candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from singlepath.search.queries import Pool, State

__all__ = ["Nsga2", "crowding", "front", "fronts"]

ATTEMPTS = 8


@dataclass(frozen=True)
class Nsga2:
    """population: |P|; crossover: probability that a child has two parents. Each decision of a child is drawn again
    with probability 1 / decisions, its old option being one of those drawn."""

    population: int = 20
    crossover: float = 0.9

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        if not state["asked"]:
            return pool.draw(min(self.population, max(1, state["queries"] // 3)), rng)
        value = dict(zip(state["asked"], state["values"], strict=True))
        merged = [*state.get("population", ()), *state["asked"][state.get("counted", 0) :]]
        objectives = np.stack([[-value[i] for i in merged], pool.costs[merged]], axis=1)
        parents = [merged[i] for i in survivors(objectives)[: self.population]]
        state["population"], state["counted"] = parents, len(state["asked"])
        asked, children = set(state["asked"]), list[int]()
        while len(children) < self.population and len(asked) + len(children) < len(pool):
            children += self.child(pool, parents, asked | set(children), rng)
        return children

    def child(self, pool: Pool, parents: list[int], taken: set[int], rng: np.random.Generator) -> list[int]:
        """A candidate not taken; parents are best first, so the lower place wins a tournament."""
        first = 0
        for _ in range(ATTEMPTS):
            first, second = (int(rng.integers(len(parents), size=2).min()) for _ in range(2))
            code = pool.codes[parents[first]].copy()
            if rng.random() < self.crossover:
                code = np.where(rng.random(len(code)) < 0.5, code, pool.codes[parents[second]])
            for d in np.flatnonzero(rng.random(len(code)) < 1 / len(code)):
                code[d] = rng.integers(pool.options[d])
            found = [int(i) for i in pool.find(code[None]) if int(i) not in taken]
            if found:
                return found
        near = [int(i) for i in pool.neighbours(parents[first], rng) if int(i) not in taken]
        return [int(rng.choice(near))] if near else pool.draw(1, rng, list(taken))


def front(pool: Pool, state: State) -> list[int]:
    """What was asked and is dominated by nothing asked, cheapest first."""
    objectives = np.stack([-np.asarray(state["values"]), pool.costs[state["asked"]]], axis=1)
    best = [state["asked"][i] for i in fronts(objectives)[0]]
    return sorted(best, key=lambda i: (pool.costs[i], i))


def survivors(objectives: np.ndarray) -> list[int]:
    """Rows [K, 2], both to be small, best first: by front, within it by crowding distance falling."""
    order: list[int] = []
    for members in fronts(objectives):
        far = crowding(objectives[members])
        order += [members[i] for i in np.argsort(-far, kind="stable")]
    return order


def fronts(objectives: np.ndarray) -> list[list[int]]:
    """Non-dominated rows of [K, objectives], then those dominated by these alone, and so on; lower is better."""
    no_worse = (objectives[:, None] <= objectives).all(2)
    dominates = no_worse & (objectives[:, None] < objectives).any(2)
    left, found = np.ones(len(objectives), bool), []
    while left.any():
        members = np.flatnonzero(left & ~(dominates & left[:, None]).any(0))
        found.append([int(i) for i in members])
        left[members] = False
    return found


def crowding(objectives: np.ndarray) -> np.ndarray:
    """Crowding distance of every row of a front, [K]."""
    total = np.zeros(len(objectives))
    for column in objectives.T:
        order = np.argsort(column, kind="stable")
        ranked = column[order]
        total[order[[0, -1]]] = np.inf
        if len(column) > 2 and ranked[-1] > ranked[0]:
            total[order[1:-1]] += (ranked[2:] - ranked[:-2]) / (ranked[-1] - ranked[0])
    return total
