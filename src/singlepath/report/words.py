"""The sentences of the page: what was asked, what was found, and whether the search was worth it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from singlepath.report.numbers import NBSP, cost, number, percent, signed
from singlepath.report.run_data import RunData

__all__ = ["Comparison", "above_budget", "answer", "asked", "commands", "comparison", "margin", "title"]

FLAGS = (
    "data",
    "space",
    "method",
    "mode",
    "device",
    "runtime",
    "threads",
    "precision",
    "budget",
    "epochs",
    "recipe",
    "seed",
)
FEWEST = 3  # random networks that a verdict is given on
STUDENT = {  # 97.5 % quantiles by degrees of freedom; a page needs no extra, so no scipy
    2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
}  # fmt: skip
KINDS = {"design": "Design", "search": "Search", "train": "Training"}


@dataclass(frozen=True)
class Comparison:
    """The found network against random networks of the same budget.

    Attributes:
        improvement: relative improvement, per cent.
        verdict: ``same`` where the random networks are too few, where the found accuracy lies among theirs or within
            what another of them would keep to in 95 of 100 cases (`reach`), or where the test images are too few to
            tell it from that mean (95 %); otherwise ``better`` or ``worse``.
        why: of the verdict ``same``, in words.
    """

    improvement: float
    verdict: Literal["better", "same", "worse"]
    why: str = ""


def comparison(run: RunData) -> Comparison | None:
    """None where one of both sides is missing."""
    found, mean = run.number("accuracy", "test"), run.number("accuracy", "random", "mean")
    if found is None or not mean:
        return None
    given = run.number("accuracy", "relative_improvement")
    improvement = 100 * (found - mean) / mean if given is None else given
    spread = run.number("accuracy", "random", "std") or 0.0
    each = [a for r in run.rows("accuracy", "random", "networks") if (a := number(r.get("accuracy"))) is not None]
    images = run.number("data", "test")
    if 0 < len(each) < FEWEST:
        return Comparison(improvement, "same", "too few of them to tell")
    if (each and min(each) <= found <= max(each)) or abs(found - mean) <= reach(len(each)) * spread:
        return Comparison(improvement, "same", "within their spread")
    if images and abs(found - mean) <= margin(found, images):
        return Comparison(improvement, "same", f"{images:.0f} test images are too few to tell")
    return Comparison(improvement, "better" if found > mean else "worse")


def reach(count: int) -> float:
    """Standard deviations from the mean of so many networks within which another of them lies in 95 of 100 cases:
    Student's quantile times sqrt(1 + 1 / count)."""
    if count < 2:
        return 1.0
    quantile = STUDENT.get(count - 1, 1.96 + 2.8 / (count - 1))  # from 11 degrees of freedom on within 0.02
    return quantile * (1 + 1 / count) ** 0.5


def title(run: RunData) -> str:
    kind = KINDS.get(run.text("kind") or "", "Run")
    data = run.text("data", "name") or run.text("asked", "data")
    return f"{kind}: {data}" if data else f"{kind}: {run.name}"


def asked(run: RunData) -> str:
    """One sentence: what was asked."""
    space, data, device = (run.text("asked", key) for key in ("space", "data", "device"))
    parts = ["Asked for: a network" + (f" of the space {space}" if space else "")]
    parts += [f"for the images of {data}"] if data else []
    parts += [f"on the device {device}"] if device else []
    parts += [f"within a budget of {text}"] if (text := _budget(run)) else []
    parts += [f"with seed {seed}"] if (seed := run.text("asked", "seed")) else []
    return " ".join(parts) + "." if len(parts) > 1 or space else "What was asked is not recorded."


def _budget(run: RunData) -> str | None:
    said, value = run.text("asked", "budget"), run.number("cost", "budget")
    if said is None:
        return None if value is None else cost(value, run.unit)
    written = f"{said[:-1].strip()}{NBSP}% of the largest network" if said.endswith("%") else said
    return written if value is None else f"{written} ({cost(value, run.unit)})"


def answer(run: RunData) -> str:
    """One sentence: what came out."""
    accuracy = run.number("accuracy", "test")
    head = _network(run)
    if accuracy is None:
        state = "trained and not evaluated" if trained(run) else "not trained yet"
        return f"{head}. It is {state}, so its accuracy is not known." if run.result else "No result yet."
    return f"{head} with {percent(accuracy)} test accuracy{_worth(run)}."


def trained(run: RunData) -> bool:
    return bool(run.part("training"))


def _network(run: RunData) -> str:
    predicted, measured, budget = (run.number("cost", key) for key in ("predicted", "measured", "budget"))
    if predicted is None and measured is None:
        return "A network of unknown cost"
    text = f"A network of {cost(predicted if predicted is not None else measured, run.unit)}"
    notes = [] if budget is None else [f"budget {cost(budget, run.unit)}"]
    if measured is not None and predicted is not None:
        above = above_budget(run)
        notes.append(f"measured {cost(measured, run.unit)}" + (f", {above}" if above else ""))
    over = predicted is not None and budget is not None and predicted > budget
    return text + (f" ({', '.join(notes)})" if notes else "") + (", which is over the budget," if over else "")


def above_budget(run: RunData) -> str | None:
    """How far the measured figure is above the budget, None where it holds or one of both is missing."""
    measured, budget = run.number("cost", "measured"), run.number("cost", "budget")
    if measured is None or not budget or measured <= budget:
        return None
    share = 100 * (measured / budget - 1)
    return f"{f'{share:.1f}' if share >= 0.05 else 'less than 0.1'}{NBSP}% above the budget"


def _worth(run: RunData) -> str:
    found = comparison(run)
    if found is None:
        return "; it was not compared with random networks of the same budget"
    by = signed(found.improvement)
    if found.verdict == "same":
        return f": not different from random networks of the same budget ({by}, {found.why})"
    if found.verdict == "worse":
        return f": worse than random networks of the same budget ({by})"
    return f": {by} over random networks of the same budget"


def margin(accuracy: float, images: float) -> float:
    """Half the width of the 95 % Wilson interval of an accuracy measured on so many images."""
    z = 1.96
    spread = (accuracy * (1 - accuracy) / images + z * z / (4 * images * images)) ** 0.5
    return z * spread / (1 + z * z / images)


def commands(run: RunData) -> list[str]:
    """Command lines that repeat the run, from its configuration or written out; or that goes on with one that has not
    ended."""
    kind = run.text("kind")
    if run.command and kind != run.command:  # a search's result is there while a design goes on
        return [f"singlepath {run.command} --resume {shlex.quote(run.name)}"]
    kind = kind or "design"
    table = run.text("asked", "device") == "host" and run.part("table")  # timed anew it would be another budget
    device = f" --device {shlex.quote(run.name + '/table.json')}" if table else ""
    config = shlex.quote(run.name + "/config.yaml")
    lines = [f"singlepath {kind} --config {config}{device} --out AGAIN"] if run.config else []
    given = {key: value for key in FLAGS if (value := run.text("asked", key)) is not None}
    if given and not lines:  # some of the options only
        flags = " ".join(f"--{key} {shlex.quote(value)}" for key, value in given.items())
        lines.append(f"singlepath {kind} {flags} --out AGAIN")
    return lines
