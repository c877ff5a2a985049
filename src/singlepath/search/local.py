"""Local search (White, Nolen, Savani, UAI 2021, arXiv 2005.02960, algorithm 1).

    x = a random candidate
    repeat:  ask every neighbour of x;   x = the best of them if it is better than x, else a new random candidate

Neighbours differ in one decision. What was asked before is known and costs nothing.

`eager` moves as soon as one neighbour is better, without asking the others (the paper's "query until lower"): the
default, for it needs fewer queries wherever neighbourhoods are large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from singlepath.search.queries import Pool, State

__all__ = ["LocalSearch"]


@dataclass(frozen=True)
class LocalSearch:
    """eager: whether the first better neighbour is taken instead of the best."""

    eager: bool = True

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        known = dict(zip(state["asked"], state["values"], strict=True))
        while state.get("centre") in known:
            centre = state["centre"]
            ring = [int(i) for i in pool.neighbours(centre, rng)]
            open_ = [i for i in ring if i not in known]
            best = max((i for i in ring if i in known), key=lambda i: known[i], default=centre)
            if known[best] > known[centre] and (self.eager or not open_):
                state["centre"] = best
            elif open_:
                return [int(i) for i in rng.permutation(open_)][: 1 if self.eager else None]
            else:
                break
        start = pool.draw(1, rng, state["asked"])
        state["centre"] = start[0] if start else None
        return start
