"""Reading networks off a trained supernet for many budgets, as `singlepath front` does, everything kept on disk.

Losses of scored networks are kept for the weights they were measured with, so that an interrupted reading, or one with
another selection, goes on where it was; what a contender pays is counted as if nothing had been kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from macro import BATCH, Protocol, Truth, budget_of, digest, problem_of, searched, trained, weights_digest
from singlepath.architecture import Architecture
from singlepath.data import Data
from singlepath.data.splits import generator
from singlepath.runs import read_json, write_atomic, write_json
from singlepath.search import readout, scoring, selection
from singlepath.search.base import Problem
from singlepath.search.score_model import fitted_near, predicted
from singlepath.search.scoring import HELD_OUT, RECALIBRATION, Scorer, affordable, drawn
from singlepath.search.single_path import candidates_of
from singlepath.supernet import Supernet, recalibrate, together
from singlepath.supernet.paper import PaperSupernet
from singlepath.training.recipe import get_recipe
from singlepath.training.train import image_losses, train_network

__all__ = ["Ours", "Paper", "Reader", "kept", "network_row", "our_rows", "paper_rows", "random_rows",
           "separate_rows"]  # fmt: skip

Row = dict[str, Any]
LAMBDAS = (-6.0, 1.0)  # log10 of the paper mode's coefficient: what bisection starts between
FILLED = 0.9  # bisection ends at a network that fits and uses so much of the budget


@dataclass(frozen=True)
class Ours:
    """How our networks are chosen.

    Attributes:
        candidates: networks that a selection may score for a budget; scores are shared. None: as many as a search does.
        shortlist: so many networks are fine-tuned for `passes` image passes each, from learning rate `lr`.
    """

    select: str = "score"
    candidates: int | None = None
    shortlist: int = 0
    passes: int = 0
    lr: float = 0.01


@dataclass(frozen=True)
class Paper:
    """The paper mode: image passes of one run (0 leaves it out), and at most so many runs a budget."""

    passes: int = 0
    runs: int = 8


def network_row(truth: Truth, architecture: Architecture, budget: float, **more: Any) -> Row:
    """What the table says of a network chosen for a budget; the regret of one above the budget is None."""
    i = truth.index(architecture)
    over = bool(truth.mmacs[i] > budget)
    regret = None if over else truth.best(budget) - float(truth.accuracy[i])
    return {
        "budget": budget, "network": truth.digits(i), "mmacs": float(truth.mmacs[i]), "over": over,
        "accuracy": float(truth.accuracy[i]), "regret": regret, **more,
    }  # fmt: skip


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What the file holds; made and written where there is none."""
    if not path.is_file():
        write_json(path, make())
    return read_json(path)


def code_digest() -> str:
    """Changes when the code that chooses does."""
    files = [*sorted(Path(selection.__file__).parent.glob("*.py")), *sorted(Path(__file__).parent.glob("macro*.py"))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


@dataclass
class KeptScorer(Scorer):
    """A scorer that looks losses up before it measures them, for the supernet they were measured with."""

    losses_of: dict[str, Tensor] = field(default_factory=dict)
    origin: Supernet | None = None

    def children_losses(
        self, architectures: Sequence[Architecture], part: slice = slice(None)
    ) -> dict[Architecture, Tensor]:
        if self.supernet is not self.origin:  # a selection's own copy, fine-tuned
            return super().children_losses(architectures, part)
        where = "" if part == slice(None) else f"-{part.start}-{part.step}"
        name = {a: "".join(map(str, self.supernet.space.indices(a))) + where for a in architectures}
        new = super().children_losses([a for a in architectures if name[a] not in self.losses_of], part)
        self.losses_of |= {name[a]: v for a, v in new.items()}
        return {a: self.losses_of[name[a]] for a in architectures}


class Reader:
    """The supernet of one seed, with every loss that was measured on it."""

    def __init__(self, protocol: Protocol, seed: int, data: Data, out: Path) -> None:
        self.protocol, self.seed, self.data = protocol, seed, data
        self.supernet, self.passes = trained(protocol, seed, data)
        read = tuple(Path(str(m.__file__)).read_bytes() for m in (readout, scoring, together))
        self.weights = digest((weights_digest(self.supernet), data.fingerprint, HELD_OUT, RECALIBRATION, *read))
        self.stem = f"{seed}-{protocol.label}-{self.weights}"
        self.path, self.tuned_path = out / f"losses-{self.stem}.pt", out / f"tuned-{self.stem}.json"
        known = torch.load(self.path, weights_only=True) if self.path.is_file() else {}
        self.tuned: dict[str, float] = read_json(self.tuned_path) if self.tuned_path.is_file() else {}
        plain = Scorer.of(problem_of(protocol, seed, data), self.supernet)
        self.base = KeptScorer(self.supernet, plain.held_out, plain.calibration, losses_of=known, origin=self.supernet)
        self.networks = sorted({self.base.name(a) for a in self.supernet.space.enumerate()}, key=lambda a: a.choices)

    def scorer(self) -> KeptScorer:
        """A scorer that knows no network yet."""
        return replace(self.base, known={}, losses={}, sampled={}, passes=0)

    def problem(self, budget: float) -> Problem:
        return problem_of(self.protocol, self.seed, self.data, budget_of(budget))

    def save(self) -> None:
        buffer = io.BytesIO()
        torch.save(self.base.losses_of, buffer)
        write_atomic(self.path, buffer.getvalue())

    def cost(self, scorer: Scorer, tuned: int = 0, training: int = 0) -> dict[str, int]:
        """Image passes: of training, and of scoring networks (`tuned` more), forward only, recalibration included."""
        return {"training": self.passes + training, "scoring": scorer.passes + tuned * scorer.images()}

    def tuned_score(self, architecture: Architecture, ours: Ours) -> float:
        """Held-out cross-entropy after fine-tuning, nats; a network is tuned once."""
        name = digest((architecture.choices, ours.passes, ours.lr))
        if name not in self.tuned:
            self.tuned[name] = self._tune(architecture, ours)
            write_json(self.tuned_path, self.tuned)
        return self.tuned[name]

    def _tune(self, architecture: Architecture, ours: Ours) -> float:
        images = self.data.train
        if ours.passes < len(images):
            images = images.subset(generator(self.seed, "shortlist").permutation(len(images))[: ours.passes])
        epochs = max(1, round(ours.passes / len(images)))
        recipe = replace(get_recipe("base").fitted(len(images), epochs, BATCH), lr=ours.lr, warm_up=0.0)
        network = train_network(
            self.supernet.space.network(architecture), self.data, recipe, seed=self.seed, images=images,
            network=self.supernet.extract(architecture), device=self.protocol.device,
        )  # fmt: skip
        recalibrate(network, self.base.calibration)
        return float(image_losses(network, self.base.held_out).double().mean())


# -- the contenders that read a supernet ------------------------------------------------------------------------------


def our_rows(reader: Reader, truth: Truth, budgets: Sequence[float], ours: Ours) -> dict[str, Any]:
    """Ours for every budget, largest first, scores shared: {"rows", "cost"}."""
    scorer, rows, tuned = reader.scorer(), list[Row](), set[Architecture]()
    extra = 0  # image passes that a selection itself trained for
    for budget in sorted(budgets, reverse=True):
        problem = reader.problem(budget)
        count = ours.candidates or candidates_of(problem)
        found = selection.select(problem, reader.supernet, ours.select, count, scorer)
        scored = found.selection["candidates"]
        chosen, few = found.architecture, list[Architecture]()
        if ours.shortlist:
            few = shortlist(reader, problem, scorer, chosen, ours.shortlist)
            chosen = min(few, key=lambda a: (reader.tuned_score(a, ours), a.choices))
        tuned.update(few)
        extra += found.selection.get("fine_tuning_passes", 0)
        rows.append(network_row(truth, chosen, budget, scored=scored, shortlisted=len(few)))
        reader.save()
    cost = reader.cost(scorer, len(tuned), extra + len(tuned) * ours.passes)
    return {"rows": rows[::-1], "cost": cost}


def separate_rows(reader: Reader, truth: Truth, budgets: Sequence[float], ours: Ours) -> dict[str, Any]:
    """A search for each budget: a selection that knows nothing of the other budgets."""
    found = [our_rows(reader, truth, [b], ours) for b in sorted(budgets)]
    return {"rows": [r for f in found for r in f["rows"]],
            "cost": {k: sum(f["cost"][k] for f in found) for k in found[0]["cost"]}}  # fmt: skip


def shortlist(
    reader: Reader, problem: Problem, scorer: Scorer, chosen: Architecture, count: int
) -> list[Architecture]:  # fmt: skip
    """The choice, then the affordable networks that the model of the scores puts first."""
    fits = [a for a in reader.networks if problem.cost(a) <= problem.budget.target]  # by choices, and so are equals
    space = scorer.supernet.space
    model = fitted_near(space, problem.costs, scorer.sampled, problem.budget.target)  # the one that chose
    value = predicted(space, model, fits)
    order = [fits[i] for i in np.argsort(-value, kind="stable")]
    return list(dict.fromkeys([scorer.name(chosen), *order]))[:count]


def random_rows(reader: Reader, truth: Truth, counts: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """Random search on the same supernet: so many random networks of each budget, scored whole and shared."""
    scorer, rows = reader.scorer(), list[Row]()
    for budget, count in sorted(counts, reverse=True):
        problem = reader.problem(budget)
        found, _ = drawn(problem, max(1, count), generator(reader.seed, "random search", round(1000 * budget)))
        scorer.score(found)
        chosen = min(affordable(problem, scorer), key=lambda a: (scorer.known[a], a.choices))
        rows.append(network_row(truth, chosen, budget, scored=len(found)))
        reader.save()
    return {"rows": rows[::-1], "cost": reader.cost(scorer)}


def paper_rows(
    protocol: Protocol, seed: int, data: Data, truth: Truth, budgets: Sequence[float], paper: Paper, out: Path
) -> dict[str, Any]:
    """The paper mode: for every budget, bisection over lambda for the largest network found that fits.

    Budgets share the runs of equal lambda; a row counts all runs that its own bisection asked for.
    """
    made: dict[float, Row] = {}
    own = replace(protocol, passes=paper.passes)
    rows = []
    for budget in sorted(budgets):
        low, high = LAMBDAS
        asked: list[Row] = []
        while len(asked) < paper.runs:
            middle = (low + high) / 2
            if middle not in made:
                made[middle] = paper_run(own, seed, data, truth, middle, out)
            asked.append(made[middle])
            if FILLED * budget <= made[middle]["mmacs"] <= budget:
                break
            low, high = (low, middle) if made[middle]["mmacs"] <= budget else (middle, high)
        fits = [r for r in asked if r["mmacs"] <= budget]
        best = max(fits, key=lambda r: r["mmacs"]) if fits else min(asked, key=lambda r: r["mmacs"])
        found = truth.space.parse(best["network"])
        passes = sum(r["passes"] for r in asked)
        rows.append(network_row(truth, found, budget, runs=len(asked), passes=passes, log10_lambda=best["lambda"]))
    training = sum(r["passes"] for r in made.values())
    cost = {"training": training, "scoring": 0}
    return {"rows": rows, "cost": cost, "runs": len(made)}


def paper_run(protocol: Protocol, seed: int, data: Data, truth: Truth, exponent: float, out: Path) -> Row:
    """One search of the paper mode with lambda = 10^exponent, kept on disk."""
    name = f"paper-{seed}-{protocol.label}-{exponent:g}"

    def make() -> Row:
        settings = {"lambda": 10.0**exponent}
        problem = problem_of(protocol, seed, data, budget_of(float(truth.mmacs.max())), settings)
        config = {"passes": protocol.passes, "seed": seed, "width": protocol.width, "lambda": 10.0**exponent}
        found = searched("paper", problem, out / name, config)
        net: PaperSupernet = found.state["model"]
        i = truth.index(net.decode())
        return {
            "lambda": exponent, "network": truth.digits(i), "mmacs": float(truth.mmacs[i]), "passes": found.passes,
            "frozen_gates": net.frozen_gates(),
        }  # fmt: skip

    return kept(out / f"{name}.json", make)
