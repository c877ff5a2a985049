"""One training in a process of its own: ``python -P -m singlepath.pipeline.worker PARENT``, the job as JSON on its
standard input.

Only `trainings` starts it. It ends with its parent, however that ends, so that no run folder stays locked.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time

from singlepath.errors import SinglepathError, UserError
from singlepath.pipeline.setup import keep_memory
from singlepath.pipeline.trainings import Job, train_one

__all__: list[str] = []

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
WATCH_SECONDS = 0.5


def end_with(parent: int) -> None:
    """Linux kills this process when its parent ends; elsewhere, and for a parent already gone, a thread watches."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends this process
    end_with(int(sys.argv[1]))
    keep_memory()
    try:
        train_one(Job.from_dict(json.load(sys.stdin)), show=False)
    except SinglepathError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
