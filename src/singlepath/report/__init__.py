"""One self-contained HTML page about a run, several side by side, or a benchmark. Reads run folders only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from singlepath.report.bench_page import BENCH, render_bench
from singlepath.report.page import render
from singlepath.report.run_data import RunData, load
from singlepath.runs import read_json

__all__ = ["RunData", "load", "render", "render_bench", "write_report"]


def write_report(run: Path, *others: Path) -> Path:
    """Write ``report.html`` into the run's folder; with `others`, a comparison of all of them.

    The folder of a benchmark gets the benchmark's page.

    The page is complete or not there: it is written to a temporary name, flushed and renamed.

    Raises:
        UserError: a folder does not hold a run.
    """
    if not others and (Path(run) / BENCH).is_file():
        page = render_bench(read_json(Path(run) / BENCH))
    else:
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
