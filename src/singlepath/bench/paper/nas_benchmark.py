"""The figures of "NAS evaluation is frustratingly hard" (arXiv 1912.12522), computed again from its raw results.

    python -m singlepath.bench.paper.nas_benchmark --data ../shared/data/nas_benchmark [--json]

Every figure stands beside the published one, or beside what was noted of the release before this recomputation: each
table says which. Where the paper and its data disagree, the place is named. Exit status 0 where all checks hold, 1
where one does not, 2 for a folder that cannot be used. Tests and intervals are ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.bench.paper import published, released, studies
from singlepath.bench.paper.checks import Check, at_most, equal, finish, table
from singlepath.bench.paper.published import DATA, METHODS
from singlepath.bench.paper.studies import Cell, Disagreement, Figure
from singlepath.errors import UserError

__all__ = ["main"]

# The three places that are known, by what the data show there, and the cells of table 1 that they concern.
KNOWN = {
    ("PDARTS/CIFAR-100", "printed"): {"PDARTS/CIFAR-100"},
    ("FLOWERS102", "order"): {"DARTS/FLOWERS102", "PDARTS/FLOWERS102"},
    ("StacNAS/CIFAR-100", "no raw runs"): {"StacNAS/CIFAR-100"},
}
TITLES = {
    "tricks": "Training protocols, 8 random networks of the DARTS space, CIFAR-10",
    "narrow range": "Narrow range, CIFAR-10, 600 epochs",
    "seeds": "Two training seeds",
    "depth": "8 cells and 20 cells",
    "epochs": "Ranking after an epoch, and after epoch 600, by Kendall's tau; 214 networks",
    "cells": "Number of cells",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, the disagreements and the checks; returns the exit status."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(os.environ.get("SINGLEPATH_DATA", "../shared/data")) / "nas_benchmark"
    options.add_argument("--data", type=Path, default=default, help="the folder of raw results")
    options.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    chosen = options.parse_args(arguments)
    try:
        release = released.load(chosen.data)
        found = studies.cells(release)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    figures = {
        "tricks": studies.tricks(release), "narrow range": studies.narrow(release), "seeds": studies.seeds(release),
        "depth": studies.depth(release), "epochs": studies.epochs(release), "cells": studies.cells_study(release),
    }  # fmt: skip
    named, remarks = studies.disagreements(release, found), studies.remarks(release)
    print(_table_1(found))
    print(_accuracies(found))
    for study, rows in figures.items():
        shown = [[f.name, f"{f.value:.2f}", "" if f.reference is None else f"{f.reference:.2f}"] for f in rows]
        print(table(f"{TITLES[study]} (reference: {published.SOURCES[study]})", ["", "computed", "reference"], shown))
    print("Where the paper and its data disagree", *(f"- {d.sentence}" for d in named), "", sep="\n")
    print("Remarks", *(f"- {r}" for r in remarks), "", sep="\n")
    return finish(
        _checks(found, named, figures), chosen.json, cells=[_row(c) for c in found],
        figures={study: [_figure(f) for f in rows] for study, rows in figures.items()}, sources=published.SOURCES,
        disagreements=[d._asdict() for d in named], remarks=remarks,
    )  # fmt: skip


# -- tables -----------------------------------------------------------------------------------------------------------


def _table_1(found: Iterable[Cell]) -> str:
    cells = {(c.data, c.method): c for c in found}

    def text(cell: Cell) -> str:
        if cell.judged is None:
            return f"no raw runs ({cell.printed:.2f})"
        mark = "*" if cell.judged.different else ""
        return f"{cell.judged.improvement.value:.2f}{mark} ({cell.printed:.2f})"

    rows = [[m, *(text(cells[data, m]) for data in DATA)] for m in METHODS]
    title = (
        "Relative improvement over random networks, per cent (printed in the paper's table 1); * different from them"
    )
    return table(title, ["", *DATA.values()], rows)


def _accuracies(found: Iterable[Cell]) -> str:
    def sample(spread: Any) -> str:
        return f"{spread.mean:.2f} ± {spread.population_sd:.2f} [{spread.low:.2f}, {spread.high:.2f}]"

    def word(cell: Cell) -> str:
        if cell.judged is None or not cell.judged.different:
            return "not different" if cell.judged else "no raw runs"
        return "better" if cell.judged.test.difference > 0 else "worse"

    rows = []
    for cell in found:
        if cell.judged is None:
            mean, sd = published.MISSING_RUNS.get((cell.data, cell.method), (float("nan"),) * 2)
            rows.append([cell.name, "", f"typed: {mean:.2f} ± {sd:.2f}", "", "", "", "", word(cell)])
            continue
        judged, ri = cell.judged, cell.judged.improvement
        rows.append([
            cell.name, sample(judged.random), sample(judged.method), f"{ri.value:+.2f}",
            f"[{ri.low:+.2f}, {ri.high:+.2f}]", f"{judged.test.p:.2g}", f"{judged.holm:.2g}", word(cell),
        ])  # fmt: skip
    head = ["", "random", "method", "RI, %", "95 %", "p (Welch)", "p (Holm)", "method is"]
    title = "Test accuracy, mean ± population sd [min, max] over the runs; RI with its interval by the delta method"
    return table(title, head, rows)


# -- checks and JSON --------------------------------------------------------------------------------------------------


def _checks(found: Sequence[Cell], named: Sequence[Disagreement], figures: dict[str, list[Figure]]) -> list[Check]:
    recomputed, improvements = [c for c in found if c.judged], studies.relative_improvements(found)
    places, known_cells = {(d.place, d.kind) for d in named}, set[str]().union(*KNOWN.values())
    survivors = {(c.data, c.method) for c in recomputed if c.judged and c.judged.different}
    return [
        equal("cells of table 1 recomputed", len(recomputed), 39),
        equal("cells without raw runs", len(found) - len(recomputed), 1),
        equal("places where the paper and its data disagree", len(named), len(KNOWN)),
        equal("places that are not the known three, or missing", len(places ^ set(KNOWN)), 0),
        _within("relative improvement, the other cells", [f for f in improvements if f.name not in known_cells]),
        _within("accuracies, mean and sd", studies.accuracies(found)),
        *(_within(study, rows) for study, rows in figures.items()),
        equal("cells that survive Holm's correction", len(survivors), len(published.SIGNIFICANT)),
        equal("survivors that are not the noted three, or missing", len(survivors ^ set(published.SIGNIFICANT)), 0),
    ]


def _within(study: str, figures: Iterable[Figure]) -> Check:
    """One check a study: the greatest difference to the reference, in units of what rounding allows."""
    apart = [abs(f.value - f.reference) / f.within for f in figures if f.reference is not None]
    worst = float(np.max(apart)) if apart else float("nan")  # NaN where nothing could be compared: does not hold
    return at_most(f"{study}: greatest difference over rounding, {len(apart)} figures", worst, 1.0)


def _figure(figure: Figure) -> dict[str, Any]:
    return {"name": figure.name, "value": figure.value, "reference": figure.reference}


def _row(cell: Cell) -> dict[str, Any]:
    row: dict[str, Any] = {"data": DATA[cell.data], "method": cell.method, "printed": cell.printed}
    if cell.judged is None:
        return row | {"ri": None, "note": "no raw runs"}
    judged = cell.judged
    return row | {
        "ri": judged.improvement.value, "ri_low": judged.improvement.low, "ri_high": judged.improvement.high,
        "random": judged.random._asdict(), "found": judged.method._asdict(), "p": judged.test.p, "p_holm": judged.holm,
        "different": judged.different, "sentence": judged.sentence,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
