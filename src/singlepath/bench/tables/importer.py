"""An importer of a published table as a program: one line and status 2 for what it cannot read or write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from singlepath.errors import UserError, user_error

__all__ = ["main"]


def main(importer: Callable[[Path, Path], Path], about: str, arguments: Sequence[str] | None = None) -> int:
    """Run ``importer(source, out)`` with paths from the command line; the exit status."""
    options = argparse.ArgumentParser(description=about)
    options.add_argument("source", type=Path)
    options.add_argument("out", type=Path)
    given = options.parse_args(arguments)
    try:
        print(importer(given.source, given.out))
    except OSError as error:
        text = f"{given.source} to {given.out}: {error}"
        wrong = user_error(text, "needed: a file to read, a place to write", "correct the paths")
    except UserError as error:
        wrong = error
    else:
        return 0
    print(f"singlepath: {wrong}", file=sys.stderr)
    return 2
