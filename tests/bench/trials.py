"""Trials for engines to run: they are imported by name where a worker runs, so they live in a module of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from singlepath.bench import tabular
from singlepath.bench.records import Record, Trial
from singlepath.errors import user_error

SECONDS = 60  # a trial that waits to be killed gives up then


def killed_once(setting: Mapping[str, Any], trial: Trial) -> Record:
    """As on a table, but seed 1 says which process runs it and waits, the first time."""
    mark = Path(setting["marks"]) / f"{trial.method}-{trial.search_seed}"
    if mark.name == "random-1" and not mark.exists():
        mark.with_suffix(".writing").write_text(str(os.getpid()))
        mark.with_suffix(".writing").rename(mark)
        time.sleep(SECONDS)
    return tabular.run_trial(setting, trial)


def killed_always(setting: Mapping[str, Any], trial: Trial) -> Record:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def failing(setting: Mapping[str, Any], trial: Trial) -> Record:
    print("a word on standard output is no answer")
    if trial.search_seed == 2:
        raise ZeroDivisionError("by zero")
    return tabular.run_trial(setting, trial)


def refused(setting: Mapping[str, Any], trial: Trial) -> Record:
    raise user_error("no", "allowed: yes", "type yes")
