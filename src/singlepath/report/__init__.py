"""One self-contained HTML page about a run, or about several side by side. Reads run folders only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from singlepath.report.page import render
from singlepath.report.run_data import RunData, load

__all__ = ["RunData", "load", "render", "write_report"]


def write_report(run: Path, *others: Path) -> Path:
    """Write ``report.html`` into the run's folder; with `others`, a comparison of all of them.

    The page is complete or not there: it is written to a temporary name, flushed and renamed.

    Raises:
        UserError: a folder does not hold a run.
    """
    page = render([load(Path(folder)) for folder in (run, *others)])
    target = Path(run) / "report.html"
    handle, temporary = tempfile.mkstemp(dir=run, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(page.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target
