"""What follows from the raw results of "NAS evaluation is frustratingly hard", study by study.

Each study gives figures: a value computed here, the reference to compare it with (`published.SOURCES` says whose; None
where there is none), and how far both may be apart, half a unit of the last digit that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singlepath.bench import stats
from singlepath.bench.paper import published
from singlepath.bench.paper.published import DATA, METHODS
from singlepath.bench.paper.released import Performance, Release

__all__ = [
    "ROUNDING", "Cell", "Disagreement", "Figure", "accuracies", "cells", "cells_study", "depth", "disagreements",
    "epochs", "narrow", "relative_improvements", "remarks", "seeds", "tricks",
]  # fmt: skip

Array = NDArray[np.float64]
ROUNDING = 0.00501  # of figures with two decimals; the last digit is for sums in floating point
WINDOW = 20  # epochs of the moving average


class Figure(NamedTuple):
    name: str
    value: float
    reference: float | None = None
    within: float = ROUNDING


class Cell(NamedTuple):
    """A method on a data set.

    Attributes:
        judged: beside its random networks, Holm's correction over all cells with runs; None without raw runs.
        by_position: RI where the file is read by position instead of by header, per cent; None without raw runs.
        printed: RI in the paper's table, per cent.
    """

    data: str
    method: str
    judged: stats.Judged | None
    by_position: float | None
    printed: float

    @property
    def name(self) -> str:
        return f"{self.method}/{DATA[self.data]}"


class Disagreement(NamedTuple):
    place: str
    kind: str  # "printed", "order" or "no raw runs"
    sentence: str


# -- table 1 ----------------------------------------------------------------------------------------------------------


def cells(release: Release) -> list[Cell]:
    """The 40 cells of table 1, by data set and method."""
    keys = [(data, method) for data in DATA for method in METHODS]
    pairs = {k: release.performance[k[0]].by_header[k[1]] for k in keys}
    known = {f"{m}/{DATA[d]}": (p.method, p.random) for (d, m), p in pairs.items() if len(p.method)}
    judged = stats.judge(known)
    found = []
    for data, method in keys:
        placed, printed = release.performance[data].by_position[method], published.PRINTED_RI[data]
        by_position = stats.relative_improvement(placed.method, placed.random).value if len(placed.method) else None
        name = f"{method}/{DATA[data]}"
        found.append(Cell(data, method, judged.get(name), by_position, printed[METHODS.index(method)]))
    return found


def relative_improvements(found: Iterable[Cell]) -> list[Figure]:
    return [Figure(c.name, c.judged.improvement.value, c.printed) for c in found if c.judged]


def accuracies(found: Iterable[Cell]) -> list[Figure]:
    figures = []
    for cell in found:
        noted = published.ACCURACIES[cell.data][METHODS.index(cell.method)]
        if cell.judged and noted:
            random, method = cell.judged.random, cell.judged.method
            values = (random.mean, random.population_sd, method.mean, method.population_sd)
            words = ("random mean", "random sd", "mean", "sd")
            named = zip(words, values, noted, strict=True)
            figures += [Figure(f"{cell.name} {word}", value, other) for word, value, other in named]
    return figures


def disagreements(release: Release, found: Iterable[Cell]) -> list[Disagreement]:
    """Where the paper's table and the released runs say different things, as the data show it."""
    found = list(found)
    named = []
    for cell in (c for c in found if not c.judged):
        random = release.performance[cell.data].by_header[cell.method].random.mean()
        typed = published.MISSING_RUNS.get((cell.data, cell.method))
        said = f"the printed {cell.printed:.2f} has nothing to be recomputed from"
        if typed:
            said = (
                f"the printed {cell.printed:.2f} rests on a mean of {typed[0]:.2f} that is typed into the release's "
                f"notebook (with the released random runs: {100 * (typed[0] - random) / random:.2f})"
            )
        named.append(Disagreement(cell.name, "no raw runs", f"{cell.name}: no raw runs; {said}"))
    for data in DATA:
        off = [c for c in found if c.data == data and c.judged and abs(_value(c) - c.printed) > ROUNDING]
        swapped = [c for c in off if c.by_position is not None and abs(c.by_position - c.printed) <= ROUNDING]
        if swapped:
            shown = ", ".join(f"{c.method} {c.printed:.2f} printed, {_value(c):.2f} by header" for c in swapped)
            first = " before ".join(release.performance[data].order[:2])
            sentence = f"{DATA[data]}: {data}.csv lists {first} and was read by position: {shown}"
            named.append(Disagreement(DATA[data], "order", sentence))
        named += [
            Disagreement(c.name, "printed", f"{c.name}: {c.printed:.2f} printed, {_value(c):.2f} from its raw runs")
            for c in off if c not in swapped
        ]  # fmt: skip
    return named


def _value(cell: Cell) -> float:
    return cell.judged.improvement.value if cell.judged else float("nan")


def remarks(release: Release) -> list[str]:
    """What the files show beside that and a reader of the figures should know."""
    said = []
    for data, performance in release.performance.items():
        said += [f"{data}.csv calls {name.partition('-')[0]} {name}" for name in performance.columns if "-" in name]
        said += [
            f"{DATA[data]}: {a} and {b} share the same random runs, so their rows are not independent"
            for a, b in _same_random(performance)
        ]
    filed, all_pairs = len(release.seeds), published.SEEDS.networks
    return [
        *said,
        f"the file of two seeds holds {filed} of the paper's {all_pairs} networks; the others' second seed is known "
        "from figures typed into the release's notebook only",
        "the paper's ranges of random networks are those of the best test epoch, which nobody could choose without "
        "looking at the test set; after the last epoch they are lower",
        "significance is our addition: Welch's tests of all cells with runs, corrected together by Holm's procedure",
    ]


def _same_random(performance: Performance) -> list[tuple[str, str]]:
    pairs = [(a, b) for i, a in enumerate(METHODS) for b in METHODS[i + 1 :]]
    runs = {m: performance.by_header[m].random for m in METHODS}
    return [(a, b) for a, b in pairs if np.array_equal(runs[a], runs[b])]


# -- the other studies ------------------------------------------------------------------------------------------------


def tricks(release: Release) -> list[Figure]:
    """Eight random networks under each training protocol; standard deviations divide by n - 1 here."""
    figures = []
    for name, noted in published.TRICKS.items():
        seen = stats.spread(release.tricks[name])
        words = zip(("mean", "sd (n - 1)", "max"), (seen.mean, seen.sample_sd, seen.high), noted, strict=True)
        figures += [Figure(f"{name} {word}", value, other) for word, value, other in words]
    means = [float(np.mean(v)) for v in release.tricks.values()]
    return [*figures, Figure("spread of the means", max(means) - min(means))]


def narrow(release: Release) -> list[Figure]:
    """Random networks of the DARTS space and of a deliberately bad one, at the best test epoch and after the last."""
    figures, best = [], {}
    for name, noted in published.NARROW.items():
        curves = release.networks[name]
        best[name] = curves.max(axis=1)
        for when, values, figure in (("best", best[name], noted.best), ("last", curves[:, -1], noted.last)):
            seen = stats.spread(values)
            row = (seen.mean, seen.population_sd, seen.low, seen.high)
            for word, value, other in zip(("mean", "sd", "min", "max"), row, figure or (None,) * 4, strict=True):
                figures.append(Figure(f"{len(curves)} networks, {when} epoch: {word}", value, other))
        for n in (n for n in (5, 10, 20, 50) if n <= len(curves)):
            without = stats.expected_best_without_replacement(best[name], n)
            drawn = f"{len(curves)} networks: expected best of {n}"
            figures.append(Figure(f"{drawn}, without replacement", without, noted.best_of.get(n)))
            figures.append(Figure(f"{drawn}, with", stats.expected_best_with_replacement(best[name], n)))
    (first, second), both = published.NARROW, release.networks
    figures.append(Figure("shift to the bad space, best epoch", float(best[first].mean() - best[second].mean())))
    lasts = [float(both[name][:, -1].mean()) for name in (first, second)]
    return [*figures, Figure("shift to the bad space, last epoch", lasts[0] - lasts[1])]


def seeds(release: Release) -> list[Figure]:
    """Two trainings of the same networks with different seeds: those of the file, and all that the paper used."""
    noted, filed = published.SEEDS, release.seeds
    figures = [Figure(f"tau, the {len(filed)} networks of the file", stats.kendall_tau(filed[:, 0], filed[:, 1]))]
    first = release.tricks["CDA"]
    if len(first) != len(published.SECOND_SEED):
        return figures
    pairs = np.vstack([filed, np.stack([first, np.array(published.SECOND_SEED)], axis=1)])
    apart = np.abs(pairs[:, 0] - pairs[:, 1])
    what = f"{len(pairs)} networks"
    return [
        *figures,
        Figure(f"tau, {what}", stats.kendall_tau(pairs[:, 0], pairs[:, 1]), noted.tau),
        Figure(f"mean |difference|, {what}", float(apart.mean()), noted.difference),
        Figure(f"sd of |difference|, {what}", float(apart.std())),
        Figure(f"largest |difference|, {what}", float(apart.max()), noted.largest),
    ]


def depth(release: Release) -> list[Figure]:
    """The same networks with 8 and with 20 cells."""
    small, large, noted = release.depth[:, 0], release.depth[:, 1], published.DEPTH
    moved = float(np.abs(_ranks(small) - _ranks(large)).max())
    return [
        Figure(f"tau, {len(small)} networks", stats.kendall_tau(small, large), noted.tau),
        Figure("mean |difference|", float(np.abs(small - large).mean())),
        Figure("greatest shift in ranks (ties share theirs)", moved, noted.ranks, within=0.5),
    ]


def _ranks(values: Array) -> Array:
    """Ranks from 1; equals share the mean of theirs."""
    below, equal = (np.sum(c, axis=1) for c in (values[:, None] > values, values[:, None] == values))
    return below + (equal + 1) / 2


def epochs(release: Release) -> list[Figure]:
    """How well the test accuracy after an epoch ranks the networks as the last epoch does.

    Raw, and averaged over the 20 epochs that end there.
    """
    curves, figures = release.networks["214_random_architectures"], []
    last = curves[:, -1]
    for epoch, (raw, smooth) in published.EPOCH_TAUS.items():
        if epoch < curves.shape[1]:
            mean = curves[:, max(0, epoch - WINDOW) : epoch].mean(axis=1)
            figures.append(Figure(f"tau of epoch {epoch}", stats.kendall_tau(curves[:, epoch - 1], last), raw))
            figures.append(Figure(f"tau of {WINDOW} epochs up to {epoch}", stats.kendall_tau(mean, last), smooth))
    return figures


def cells_study(release: Release) -> list[Figure]:
    """Random networks with different numbers of cells."""
    figures = []
    for count, curves in release.cells.items():
        best, last = stats.spread(curves.max(axis=1)), stats.spread(curves[:, -1])
        mean, sd = published.CELLS[count]
        what = f"{count} cells, {len(curves)} networks"
        figures += [
            Figure(f"{what}, best epoch: mean", best.mean, mean),
            Figure(f"{what}, best epoch: sd", best.population_sd, sd),
            Figure(f"{what}, last epoch: mean", last.mean),
        ]
    return figures
