"""A process that runs chunks of trials: ``python -P -m singlepath.bench.worker PARENT``, a chunk a line on its standard
input as JSON, a trial's end a line on its standard output.

Only `engines` starts it. It ends with its input, and with its parent, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

from singlepath.bench.engines import CHUNK, DONE, run_chunk
from singlepath.errors import SinglepathError, UserError

__all__: list[str] = []

WATCH_SECONDS = 0.5


def end_with(parent: int) -> None:
    """End when the parent has ended, though a trial is running."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends this process
    end_with(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a trial prints is no answer

    def say(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value).encode() + b"\n")
        answers.flush()

    for line in sys.stdin.buffer:
        try:
            for done in run_chunk(CHUNK.validate_json(line)):
                say({"done": DONE.dump_python(done, mode="json")})
            say({"end": True})
        except SinglepathError as error:
            if error.__cause__:
                traceback.print_exc()
            say({"error": str(error), "user": isinstance(error, UserError)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
