"""What the random networks of images, all trained alike, say about rankings.

    depth gap      = Kendall's tau of the accuracies of the same networks at two depths
    supernet ranks = mean over search seeds of Kendall's tau of -CE by the supernet and the trained accuracy

"NAS evaluation is frustratingly hard" (arXiv 1912.12522, section 5) measures 0.54 between 8 and 20 cells of 32 networks
of the DARTS space: what ranks networks at the depth it searches at cannot rank them better at the other one. And a
search on a supernet chooses by the supernet's ranking.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from singlepath.bench.agreement import Agreement, agreement, agreement_words
from singlepath.bench.per_search import Figure, accuracies, by_search, cost_of, interval
from singlepath.bench.protocol import SUPERNET_SCORES
from singlepath.bench.records import Record
from singlepath.spaces.depth import depth_of

__all__ = ["depth_gap", "image_ranks", "supernet_ranks"]

FIGURES: dict[str, Figure] = {"test": lambda record: record.test, "validation": lambda record: record.validation}


def image_ranks(networks: Sequence[Record], beside: Sequence[Record]) -> dict[str, Any]:
    """Both, of the random networks of a task and of the trials beside its comparison."""
    scores = [record for record in beside if record.trial.method == SUPERNET_SCORES]
    deeper = [record for record in beside if record.trial.method != SUPERNET_SCORES]
    return {"depth_gap": depth_gap([*networks, *deeper]), "supernet_ranks": supernet_ranks(networks, scores)}


# -- depth ------------------------------------------------------------------------------------------------------------


def depth_gap(networks: Sequence[Record]) -> dict[str, Any] | None:
    """Random networks at several depths, compared pair by pair; None where they have one depth.

    Returns:
        ``depths``: for each, the number, mean accuracies in per cent and mean cost of the networks that all depths have
        (runs judged together may have trained others), and the image passes of a training and of all of them.
        ``pairs``: `Agreement` of test and of validation accuracies of the networks that both depths have, and a
        sentence about the former.
    """
    by_depth: dict[int, list[Record]] = {}
    for record in networks:
        by_depth.setdefault(_depth(record), []).append(record)
    if len(by_depth) < 2:
        return None
    depths = sorted(by_depth)
    shared = set.intersection(*({r.trial.search_seed for r in group} for group in by_depth.values()))
    return {
        "depths": [_at_depth(depth, by_depth[depth], shared) for depth in depths],
        "pairs": [_pair((a, b), (by_depth[a], by_depth[b])) for a, b in combinations(depths, 2)],
    }


def _depth(record: Record) -> int:
    return int(record.trial.settings.get("depth") or depth_of(str(record.trial.protocol.get("space", ""))))


def _at_depth(depth: int, everything: Sequence[Record], shared: Collection[int]) -> dict[str, Any]:
    group = [record for record in everything if record.trial.search_seed in shared] or everything
    tests, spent = accuracies(group), [record.spent("passes", "training") for record in everything]
    return {
        "depth": depth, "networks": len(tests), "test": float(tests.mean()), "test_interval": interval(tests),
        "validation": float(np.mean(list(by_search(group, FIGURES["validation"]).values()))),
        "training": float(np.mean(spent)), "passes": sum(spent), **cost_of(group),
    }  # fmt: skip


def _pair(depths: tuple[int, int], groups: tuple[Sequence[Record], Sequence[Record]]) -> dict[str, Any]:
    found = {name: _matched(*(by_search(group, figure) for group in groups)) for name, figure in FIGURES.items()}
    agreed = {name: agreement(*both) for name, both in found.items() if both[0]}
    first, second = depths
    row = {"first": first, "second": second, **_plain(agreed)}
    if "test" in agreed:
        row["sentence"] = agreement_words(f"test accuracies at depth {first}", f"at depth {second}", agreed["test"])
    return row


def _matched(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """The figures of the networks that both have, in one order."""
    both = [number for number in first if number in second]
    return [first[number] for number in both], [second[number] for number in both]


# -- the supernet -----------------------------------------------------------------------------------------------------


def supernet_ranks(networks: Sequence[Record], scores: Sequence[Record]) -> dict[str, Any] | None:
    """The supernets' scores beside what the random networks are worth when trained; None where nothing was scored.

    Positive where the supernet ranks as training does: a lower cross-entropy with a higher accuracy.

    Returns:
        ``seeds``: for each search seed `Agreement` of its scores with validation and with test accuracies;
        ``validation``, ``test``: the mean over these, each of the networks that its supernet scored; ``forward``:
        passes that scoring them took, a mean too; and a sentence about ``test``, since the supernets' scores are of the
        validation images.
    """
    by_seed: dict[int, dict[int, float]] = {}
    for record in scores:
        by_seed.setdefault(record.trial.search_seed, {}).update(record.scores)
    trained = {name: by_search(networks, figure) for name, figure in FIGURES.items()}
    rows = [{"seed": seed, **_plain(_with_training([by_seed[seed]], trained))} for seed in sorted(by_seed)]
    together = _with_training(list(by_seed.values()), trained) if by_seed else {}
    if "test" not in together:
        return None
    first = "the supernet's scores" if len(rows) == 1 else f"the scores of {len(rows)} supernets"
    spent = sum(record.spent("forward", "ranking") for record in scores)
    sentence = agreement_words(first, "the trained networks' test accuracies", together["test"])
    return {**_plain(together), "forward": spent / len(rows), "seeds": rows, "sentence": sentence}


def _plain(found: Mapping[str, Agreement]) -> dict[str, Any]:
    return {name: each._asdict() for name, each in found.items()}


def _with_training(
    scores: Sequence[Mapping[int, float]], trained: Mapping[str, Mapping[int, float]]
) -> dict[str, Agreement]:  # fmt: skip
    """Agreement of several supernets' rankings with each figure, of the networks that have it and a score."""
    found = {}
    for name, figures in trained.items():
        some = [number for number in figures if any(number in each for each in scores)]
        rankings = [[-each.get(number, math.nan) for number in some] for each in scores]
        if some:
            found[name] = agreement(rankings, [figures[number] for number in some])
    return found
