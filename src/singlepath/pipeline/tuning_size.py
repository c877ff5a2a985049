"""How much a tuning computes: the length of its short searches, their number, and the image passes of its ledger."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from singlepath.errors import user_error
from singlepath.pipeline.trials import all_passes, epochs_within, share_of
from singlepath.search import Problem

__all__ = ["Size", "sized"]

TRIALS, EPOCHS, IMAGES = 40, 8, 9_000  # by default: most trials, epochs of each at least, images they go over at least
QUICK_TRIALS = 4


class Size(NamedTuple):
    """How much is computed: epochs of a short search, how many of them, image passes of each and of all."""

    epochs: int
    trials: int
    share: int
    total: int


def sized(problem: Problem, mode: str, trials: int | None, passes: int | None, quick: bool = False) -> Size:
    """How long the short searches are, and what the ledger holds.

    Without `passes` it holds what the trials take; with them, the trials are as long as fits, or, where the problem
    says how many epochs each has, as many.

    Raises:
        UserError: not one trial fits, or not one epoch of each.
    """
    count = trials or (QUICK_TRIALS if quick else TRIALS)
    epochs = problem.epochs or (EPOCHS if quick else max(EPOCHS, math.ceil(IMAGES / len(problem.data.train))))

    def taken(epochs: int, trials: int = count) -> int:
        return all_passes(replace(problem, epochs=epochs), mode, trials)

    if passes is not None:
        fixed = problem.epochs is not None
        epochs = epochs if fixed else epochs_within(passes, taken)
        count = epochs_within(passes, lambda n: taken(epochs, n)) if fixed else count
        if not epochs or not count:
            least = taken(epochs, 1) if fixed else taken(1)
            what = f"one trial of {epochs} epochs takes" if fixed else f"{trials or count} trials of one epoch take"
            raise user_error(f"--passes {passes}", f"{what} {least}", f"type --passes {least} or fewer --trials")
        count = min(count, trials or count)
    share = share_of(replace(problem, epochs=epochs), mode)
    return Size(epochs, count, share, passes or taken(epochs, count))
