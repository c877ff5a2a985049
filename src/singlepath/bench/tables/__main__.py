"""Importing a published table: `python -m singlepath.bench.tables nasbench101 SOURCE OUT`, once.

One line and exit status 2 for what cannot be read or written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from singlepath.bench.tables import nasbench101, nasbench201
from singlepath.errors import UserError, user_error

__all__ = ["main"]

IMPORTERS: dict[str, Callable[[Path, Path], Path]] = {
    "nasbench101": nasbench101.import_published,  # a TFRecord file to nasbench101.npz
    "nasbench201": nasbench201.import_published,  # a .pth file to nasbench201.parquet
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the importer that the command line names; the exit status."""
    options = argparse.ArgumentParser(prog="python -m singlepath.bench.tables", description=__doc__)
    options.add_argument("table", choices=IMPORTERS)
    options.add_argument("source", type=Path, help="the published file")
    options.add_argument("out", type=Path, help="the small file to write")
    given = options.parse_args(arguments)
    try:
        print(IMPORTERS[given.table](given.source, given.out))
    except OSError as error:
        text = f"{given.source} to {given.out}: {error}"
        wrong = user_error(text, "needed: a file to read, a place to write", "correct the paths")
    except UserError as error:
        wrong = error
    else:
        return 0
    print(f"singlepath: {wrong}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
