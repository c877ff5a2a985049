"""Random search: candidates uniformly at random without replacement, the best of them (arXiv 1912.12522, section 2).

    H = n draws from the pool without replacement;   answer = argmax_{x in H} f(x)

Whatever a method finds is to be compared with this; its expectation is exact (`bench.stats`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from singlepath.search.queries import Pool, State

__all__ = ["RandomSearch"]


@dataclass(frozen=True)
class RandomSearch:
    """Has no settings."""

    def propose(self, pool: Pool, state: State, rng: np.random.Generator) -> list[int]:
        return pool.draw(state["queries"] - len(state["asked"]), rng, state["asked"])
