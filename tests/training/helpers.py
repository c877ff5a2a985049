"""What the training tests share: small data, and a run folder that only remembers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from singlepath.architecture import NetworkSpec
from singlepath.data import Data, load
from singlepath.spaces import make

SPACE = make("mobile-small(width=0.5, input_size=16)")


@lru_cache(maxsize=2)
def digits(limit: int | None = 200) -> Data:
    return load("digits", size=16, channels=3, seed=0, limit=limit)


def spec() -> NetworkSpec:
    return SPACE.network(SPACE.architecture([0] * len(SPACE.searchable)))


class Memory:
    """Stands where a run stands: keeps every checkpoint and row, begins from nothing."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def load(self, tag: str) -> None:
        return None

    def save(self, state: dict[str, Any], step: int, tag: str) -> None:
        copied = {k: {n: t.clone() for n, t in v.items()} if k in ("model", "average") else v for k, v in state.items()}
        self.saved.append(copied)

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def time(self, row: dict[str, Any]) -> None:
        pass
