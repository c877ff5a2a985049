"""Trials of a tuning in a process of its own: ``python -P -m singlepath.pipeline.tuner PARENT``, the run folder as JSON
on its standard input.

Only `tuning` starts it, inside a run folder that its parent holds. It ends with its parent, however that ends.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from singlepath.errors import SinglepathError, UserError
from singlepath.pipeline.searching import prepared_in
from singlepath.pipeline.setup import keep_memory, set_threads
from singlepath.pipeline.tuning import trials_in
from singlepath.pipeline.worker import end_with
from singlepath.runs import Run
from singlepath.search.hyper import work

__all__: list[str] = []


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends this process
    end_with(int(sys.argv[1]))
    keep_memory()
    job = json.load(sys.stdin)
    run = Run(Path(job["run"]), None, lambda text: None)  # not locked: the parent holds the lock
    run.allow_changed = job["allow_changed"]
    try:
        options = run.config["options"]
        set_threads(options["threads"])
        trials, tuning = trials_in(run, options, prepared_in(run, options))
        work(trials.search_once, tuning, job["first"])
    except SinglepathError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
