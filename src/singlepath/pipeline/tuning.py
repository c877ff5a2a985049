"""`singlepath tune`: the coefficient and settings of a search that ends at the budget, found by short searches.

How they are found is `search.hyper`; what a short search is, `trials`. Several run at once in processes of their own
(``python -P -m singlepath.pipeline.tuner``), which share the run folder's journal and ledger.

With `compare` the direct way gets as many image passes: one search whose multiplier is ascended
(`search.single_path`) and whose network an exact knapsack chooses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from singlepath.architecture import Architecture
from singlepath.costs import Budget
from singlepath.costs.budget import FILL
from singlepath.errors import SinglepathError, UserError, optional, unknown, user_error
from singlepath.pipeline import options as o
from singlepath.pipeline.commands import opened
from singlepath.pipeline.more_trials import make_room, more_trials
from singlepath.pipeline.outcome import read_result, update_result
from singlepath.pipeline.progress import note
from singlepath.pipeline.searching import prepared_in, problem_of, write_found
from singlepath.pipeline.setup import Prepared, set_threads
from singlepath.pipeline.trials import (
    RANGES,
    SHORT,
    Trials,
    alone,
    epochs_within,
    finished,
    scored_passes,
    scorer_of,
    shared_epochs,
)
from singlepath.pipeline.tuning_size import Size, sized
from singlepath.runs import Run, write_atomic
from singlepath.search import Found, Problem
from singlepath.search.hyper import WINDOW, Outcome, Trial, Tuned, Tuning
from singlepath.search.hyper import tune as tune_search
from singlepath.search.ledger import Ledger

__all__ = ["Direct", "direct_search", "trials_in", "tune"]

WORKER = (sys.executable, "-P", "-m", "singlepath.pipeline.tuner")
DIRECT = {"select": "gates"}  # dual ascent, then an exact knapsack over the gates' probabilities


def tune(
    data: o.DataSource = "digits", device: o.DeviceName = "host", budget: o.BudgetText = "60%",
    space: o.SpaceName = "mobile-small", out: o.Out = None, mode: o.TunedMode = "single-path",
    trials: o.TrialNumber = None, workers: o.AtOnce = 1, passes: o.Passes = None, compare: o.Compare = False,
    epochs: o.TrialEpochs = None, batch_size: o.BatchSize = None, limit: o.Limit = None,
    runtime: o.RuntimeName = "onnxruntime", width: o.SpaceWidth = None, input_size: o.SpaceInput = None,
    kernels: o.SpaceKernels = None, expansions: o.SpaceExpansions = None, se: o.SpaceSe = None,
    activation: o.SpaceActivation = None, seed: o.Seed = 0, threads: o.Threads = None, decoders: o.Decoders = 0,
    quick: o.Quick = False, resume: o.Resume = None, allow_changed: o.AllowChanged = False,
) -> dict[str, Any]:  # fmt: skip
    """Find the coefficient whose search ends at the budget, by short searches that are all counted. A tuning that ended
    with fewer than four networks on target goes on with more of them: --resume RUN --trials MORE.

    Example: singlepath tune --data photos --budget 60% --trials 12 --workers 2 --out runs/t
    """
    values = dict(locals())
    if mode not in RANGES:
        raise unknown("mode", mode, RANGES, "--mode")
    optional("optuna", "search")
    with opened(tune, values) as run:
        return tune_in(run, run.options)


def tune_in(run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """Tune inside an open run folder; returns what `tune --json` prints."""
    set_threads(options["threads"])
    more = more_trials(run, options)
    if run.has("summary.json") and not more and not run.moved.keys() - {"trials"}:
        return run.read("summary.json") | {"run": str(run.path)}
    made = prepared_in(run, options)
    if more:
        make_room(run, more)
    trials, tuning = trials_in(run, options, made)
    note(in_words(trials, tuning, options["workers"]))
    trials.warm_up(tuning.ledger)
    found = tune_search(
        trials.search_once, tuning, interrupted=trials.interrupted, workers=options["workers"],
        others=partial(processes, run, options["threads"]),
    )  # fmt: skip
    if len(found.trials) < tuning.trials and any(row["what"] == "repeated" for row in tuning.ledger.rows()):
        note(f"{len(found.trials)} of {tuning.trials} trials; passes that an interruption repeated are charged, too")
    if found.chosen is None:
        raise nothing_below(run, made.budget, tuning, found.trials)
    keep_chosen(run.path, options, made, trials, found)
    parts = tuning_parts(options["mode"], made, tuning, found)
    update_result(run.path, kind="tune", tuning=parts)  # the direct search is long, and may be interrupted
    if options["compare"]:
        parts["direct"] = compared(run, options, made, tuning.ledger.spent, found)
    update_result(run.path, kind="tune", tuning=parts)
    for file in trials.folder.glob("[0-9]*/checkpoints/*.pt"):
        file.unlink()  # the chosen one's weights are the run's now; what all share is kept for more trials
    summary = summarise(run.path, parts)
    run.write("summary.json", summary)
    return summary


# -- before -----------------------------------------------------------------------------------------------------------


def trials_in(run: Run, options: dict[str, Any], made: Prepared) -> tuple[Trials, Tuning]:
    """The trials of an open run folder, and their tuning; their size is kept in it."""
    mode = options["mode"]
    own = {**options, "workers": options["decoders"]}
    problem = problem_of(made.space, made.data, made.budget, own)
    problem = replace(problem, epochs=options["epochs"], settings={**problem.settings, **SHORT[mode]})
    if not run.has("tuning.json"):
        run.write("tuning.json", sized(problem, mode, options["trials"], options["passes"], options["quick"])._asdict())
    size = Size(**run.read("tuning.json"))
    folder = run.path / "trials"
    trials = Trials(replace(problem, epochs=size.epochs), mode, folder, options["threads"], run.allow_changed)
    target = made.budget.target
    return trials, Tuning(folder, RANGES[mode], target, size.trials, size.share, size.total, options["seed"])


def in_words(trials: Trials, tuning: Tuning, workers: int) -> str:
    problem, names = trials.problem, " and ".join(tuning.ranges)
    shared, together = shared_epochs(problem, trials.mode), f"; {workers} at once" if workers > 1 else ""
    return (
        f"tuning {names} to {tuning.target:.4g} {problem.costs.unit}: at most {tuning.trials} searches of "
        f"{problem.epochs} epochs, the first {shared} trained once for all of them; each takes at most "
        f"{tuning.share:,} image passes, the ledger holds {tuning.total:,}{together}"
    )


# -- other processes --------------------------------------------------------------------------------------------------


@contextmanager
def processes(run: Run, threads: int, shares: list[list[int]]) -> Iterator[None]:
    """A worker for each list of interrupted trials; waits for all of them, and none outlives it.

    Raises:
        SinglepathError: one failed; the message is the last line that it wrote, a `UserError` as such.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    running = []
    try:
        for mine in shares:
            job = {"run": str(run.path), "first": mine, "allow_changed": run.allow_changed}
            errors = TemporaryFile("w+")  # noqa: SIM115 - read when the process has ended
            with TemporaryFile("w+") as text:
                text.write(json.dumps(job))
                text.seek(0)
                command = [*WORKER, str(os.getpid())]
                process = subprocess.Popen(
                    command, stdin=text, stdout=subprocess.DEVNULL, stderr=errors, env=environment, text=True
                )
            running.append((process, errors))
        yield
        for process, errors in running:
            if status := process.wait():
                errors.seek(0)
                lines = [line for line in errors.read().split("\n") if line.strip()]
                last = lines[-1] if lines else f"its process ended with status {status}"
                raise (UserError if status == 2 else SinglepathError)(f"a search beside this one: {last}")
    finally:
        for process, _ in running:
            process.kill()  # files are written whole, so nothing is lost but steps
        for process, errors in running:
            process.wait()
            errors.close()


# -- after ------------------------------------------------------------------------------------------------------------


def keep_chosen(run: Path, options: dict[str, Any], made: Prepared, trials: Trials, found: Tuned) -> None:
    """Make the chosen trial's network the run's: architecture, weights, metrics, and the search's part of the result.

    The weights of a trial that was chosen before others were added are the run's already.
    """
    trial = found.chosen
    assert trial and trial.outcome
    folder = trials.path(trial.number)
    if (weights := folder / "checkpoints" / "supernet-000000000.pt").is_file():
        write_atomic(run / "checkpoints" / weights.name, weights.read_bytes())
    parts = [part / "metrics.jsonl" for part in (trials.shared, folder)]
    write_atomic(run / "metrics.jsonl", b"".join(part.read_bytes() for part in parts if part.is_file()))
    selection = {
        "method": "tuned coefficient", "trial": trial.number, **trial.settings, "score": trial.outcome.cross_entropy,
    }  # fmt: skip
    architecture = Architecture(made.space.id, trial.outcome.choices)
    own = {**options, "workers": options["decoders"]}  # what the steps that come after mean by it
    write_found(run, own, made, Found(architecture, selection, why_underfilled(made.budget, trial.outcome, found)))


def nothing_below(run: Run, budget: Budget, tuning: Tuning, trials: Sequence[Trial]) -> UserError:
    costs = [t.outcome.cost for t in trials if t.outcome]
    failed = [t.reason for t in trials if t.state == "failed"]
    unit = budget.costs.unit
    given = f"none of {len(trials)} trials ended with a network of {budget.target:.4g} {unit} or less"
    nothing = f"they failed ({failed[-1]})" if failed else "an interruption took the passes of the first"
    known = f"they cost {min(costs):.4g} to {max(costs):.4g} {unit}" if costs else nothing
    more = f"type: singlepath tune --resume {run.path} --trials {2 * tuning.trials}, or "
    other = "begin another with a larger --budget or more --epochs"
    return user_error(given, known, other if run.options["passes"] else more + other)


def why_underfilled(budget: Budget, outcome: Outcome, found: Tuned) -> str | None:
    """Why less than 90 % of the budget is used."""
    if budget.filled(outcome.cost):
        return None
    unit = budget.costs.unit
    used = f"{outcome.cost:.4g} {unit} of {budget.limit:.4g} {unit}"
    if budget.target < FILL * budget.limit and found.hit:
        return f"{used}: the latency table's 95 % error ({budget.costs.error95:.1%}) is kept free"
    return f"{used}: of {len(found.trials)} trials this network is the nearest that does not cost more"


def tuning_parts(mode: str, made: Prepared, tuning: Tuning, found: Tuned) -> dict[str, Any]:
    """The tuning's part of result.json."""
    chosen, ledger = found.chosen, tuning.ledger
    assert chosen and chosen.outcome
    coefficient = next(iter(tuning.ranges))
    return {
        "mode": mode, "coefficient_name": coefficient, "coefficient": chosen.settings[coefficient],
        "ranges": {name: r._asdict() for name, r in tuning.ranges.items()}, "target": tuning.target,
        "unit": made.budget.costs.unit, "window": WINDOW, "chosen": chosen.number, "hit": found.hit,
        "gap": chosen.outcome.cost / tuning.target - 1, "cross_entropy": chosen.outcome.cross_entropy,
        "trials": [trial_row(t, tuning) for t in found.trials],
        "ledger": {"total": ledger.total, "spent": ledger.spent, "left": ledger.left, "rows": ledger.rows()},
    }  # fmt: skip


def trial_row(trial: Trial, tuning: Tuning) -> dict[str, Any]:
    made = trial.outcome
    return {
        "number": trial.number, "state": trial.state, "settings": trial.settings,
        "cost": made.cost if made else None, "gap": made.cost / tuning.target - 1 if made else None,
        "cross_entropy": made.cross_entropy if made else None, "choices": list(made.choices) if made else None,
        "passes": tuning.ledger.of(trial.number), "reason": trial.reason,
    }  # fmt: skip


def summarise(run: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """What `tune --json` prints."""
    result = read_result(run)
    cost, chosen = result["cost"], parts["trials"][parts["chosen"]]
    return {
        "run": str(run), "architecture": result["architecture"]["string"], "choices": chosen["choices"],
        "predicted": cost["predicted"], "unit": cost["unit"], "budget": cost["budget"], "target": parts["target"],
        "hit": parts["hit"], "gap": parts["gap"], "coefficient": parts["coefficient"], "settings": chosen["settings"],
        "cross_entropy": parts["cross_entropy"], "macs": cost["macs"], "parameters": cost["parameters"],
        "underfilled_reason": cost["underfilled_reason"],
        "ledger": {k: parts["ledger"][k] for k in ("total", "spent", "left")}, "trials": parts["trials"],
        "direct": parts.get("direct"),
    }  # fmt: skip


# -- the direct way ---------------------------------------------------------------------------------------------------


class Direct(NamedTuple):
    """One search that keeps the budget by itself.

    Attributes:
        passes: image passes it was charged with.
        beside: held-out cross-entropy of other networks with its supernet's weights, which all here share.
        different: for each of them, "better" or "worse" than its own network beyond two standard errors, or "same".
    """

    choices: tuple[str, ...]
    cost: float
    cross_entropy: float
    epochs: int
    passes: int
    beside: list[float]
    different: list[str]


def direct_search(problem: Problem, total: int, folder: Path, threads: int, beside: Sequence[Architecture] = (),
    allow_changed: bool = False,
) -> Direct:  # fmt: skip
    """One search with at most `total` image passes, its multiplier ascended and its network chosen by a knapsack.

    Raises:
        UserError: not one epoch fits.
    """
    ledger, mode = Ledger(folder / "ledger.json", total), "single-path"
    epochs = epochs_within(total, lambda e: alone(replace(problem, epochs=e), mode))
    if not epochs:
        raise user_error(f"{total} image passes", "one epoch of a direct search takes more", "leave --compare out")
    problem = replace(problem, epochs=epochs)
    options = {"seed": problem.seed, "epochs": epochs, "threads": threads, "compute": problem.device}
    known = (folder / "config.yaml").is_file()
    with Run.open(folder, options, resume=known, allow_changed=allow_changed, note=note) as run:
        if not run.has("direct.json"):
            found, state = finished(problem, mode, run, "direct search")
            scorer = scorer_of(problem, mode, state)
            own = problem.space.canonical(found.architecture)
            entropy, others = scorer(own), [scorer(a) for a in beside]
            passes = state["passes"] + scored_passes(scorer)
            if not ledger.rows():
                ledger.charge("search", passes)
            told = ["better" if scorer.better(a, own) else "worse" if scorer.better(own, a) else "same" for a in beside]
            made = Direct(own.choices, problem.cost(own), entropy, epochs, passes, others, told)
            run.write("direct.json", made._asdict())
        saved = run.read("direct.json")
    for file in (folder / "checkpoints").glob("search-*.pt"):
        file.unlink()
    return Direct(**{**saved, "choices": tuple(saved["choices"])})


def compared(run: Run, options: dict[str, Any], made: Prepared, total: int, found: Tuned) -> dict[str, Any]:
    """The direct way's network with as many image passes, and the tuned one with the same weights."""
    assert found.chosen and found.chosen.outcome
    own = {**options, "workers": options["decoders"], "epochs": None}
    problem = problem_of(made.space, made.data, made.budget, own)
    problem = replace(problem, settings={**problem.settings, **DIRECT})
    tuned = Architecture(made.space.id, found.chosen.outcome.choices)
    direct = direct_search(
        problem, total, run.path / "direct", options["threads"], [tuned], allow_changed=run.allow_changed
    )
    network = Architecture(made.space.id, direct.choices)
    note(
        f"the direct search: {direct.cost:.4g} {made.budget.costs.unit}, cross-entropy {direct.cross_entropy:.4f}; "
        f"the tuned network with the same weights {direct.beside[0]:.4f} ({direct.different[0]})"
    )
    return {
        "architecture": made.space.string(network), "choices": list(direct.choices), "cost": direct.cost,
        "gap": direct.cost / made.budget.target - 1, "cross_entropy": direct.cross_entropy, "epochs": direct.epochs,
        "passes": direct.passes, "total": total,
        "tuned_with_same_weights": {"cross_entropy": direct.beside[0], "verdict": direct.different[0]},
    }  # fmt: skip
