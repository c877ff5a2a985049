"""One self-contained HTML page about a run, several side by side, or a benchmark. Reads run folders only."""

from __future__ import annotations

from pathlib import Path

from singlepath.report.bench_page import BENCH, render_bench
from singlepath.report.page import render
from singlepath.report.run_data import RunData, load
from singlepath.runs import read_json, write_atomic

__all__ = ["RunData", "load", "render", "render_bench", "write_report"]

PAGE, COMPARED = "report.html", "report-compared.html"


def write_report(run: Path, *others: Path) -> Path:
    """Write ``report.html`` into the run's folder; with `others` ``report-compared.html``, which compares all.

    The folder of a benchmark gets the benchmark's page.

    Raises:
        UserError: a folder does not hold a run.
    """
    if not others and (Path(run) / BENCH).is_file():
        page = render_bench(read_json(Path(run) / BENCH))
    else:
        page = render([load(Path(folder)) for folder in (run, *others)])
    return write_atomic(Path(run) / (COMPARED if others else PAGE), page)
