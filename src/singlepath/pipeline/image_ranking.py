"""The random networks of a comparison on images, scored by the supernet of a search seed as its methods score theirs.

How far the supernet ranks networks as training does is what a search on it can know (`bench.image_ranks`). Nothing is
trained, no test image is read, and no method's queries pay for it: its passes are in the ledger as "ranking".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from singlepath.bench.records import Entry, Record, Trial
from singlepath.environment import environment
from singlepath.pipeline.image_trials import device_of, random_networks, supernet_of, task_of
from singlepath.search.scoring import Scorer

__all__ = ["RUN", "run_trial"]

RUN = f"{__name__}:run_trial"


def run_trial(setting: Mapping[str, Any], trial: Trial) -> Record:
    """The scores of the random networks numbered `first` to `first + networks - 1`; the record names the best one."""
    torch.set_num_threads(1)  # sums depend on their number
    task = task_of(setting, trial)
    problem = task.problem(trial.search_seed, device_of(trial))
    supernet, _ = supernet_of(problem, trial, Path(setting["supernets"]))
    first, end = trial.settings["first"], trial.settings["first"] + trial.settings["networks"]
    networks = random_networks(task, end)[first:]
    scorer = Scorer.of(problem, supernet)
    scorer.score(networks)
    scores = {number: scorer(network) for number, network in enumerate(networks, start=first)}
    best, here = networks[min(scores, key=lambda number: scores[number]) - first], environment()
    return Record(
        trial, task.space.string(best), None, None, (Entry("ranking", "forward", scorer.passes),), (),
        here["versions"], here["commit"], scores=scores,
    )  # fmt: skip
