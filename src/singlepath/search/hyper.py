r"""The search's own hyper-parameters: the coefficient and settings whose search ends at a target cost.

Single-Path NAS (arXiv 1904.02877) weighs cost by a coefficient lambda that is tuned by hand for every target.
Single-Path Mobile AutoML (arXiv 1907.00959) asks whether the values that yield a desired trade-off can be found
automatically, and finds them; what it optimises, and how, is not published. This is ours.

A trial is one short search with fixed settings h (lambda among them). Its network, the most probable option of every
layer and no knapsack, costs C(h) and has the held-out cross-entropy L(h). With T the target and w = -ln(1 - 0.03):

    minimise L(h)   subject to   g(h) <= 0   and   -g(h) - w <= 0,    g(h) = ln(C(h) / T)

A Gaussian process models L, and others the *signed* g, over the settings on their own scales (ln lambda): g falls
smoothly with ln lambda, and its sign says which way to go. |C / T - 1| has a kink exactly where the answer is, and a
square is flat there: on synthetic curves with noise, 12 trials met the window in 21 of 24 cases with the signed
constraints and in 6 of 16 with the absolute value (`benchmarks/hyper_curves.py`). The next settings maximise
(Gardner et al. 2014)

    ln EI(h | least L that is allowed)  +  2 ln P(g <= 0)  +  2 ln P(-g - w <= 0)

the last two alone while nothing is allowed. This is the constrained acquisition of Optuna's GPSampler, with every
constraint entered twice: it takes the two as independent, so that a corner of which nothing is known looks as if a
quarter of it were allowed; a sixteenth is nearer (24 cases: 1.9 trials in the window instead of 1.5). The first trials
stand on a Halton sequence.

The answer is a network at or below the target, never above it: of those within 3 % of it, the one of the lowest L;
where there is none, the nearest. Near the target a short search's network scatters by about a tenth of its cost,
whatever its settings; its trial is therefore read at several of its last steps (`pipeline.trials`). A tuning ends with
the fourth network that hits, and its trials and its ledger are what it may take at most.

What it costs counts (arXiv 1912.12522, practice 6): every trial is charged to a `Ledger` of image passes, set aside
before it begins, so that trials at the same time do not exceed it together. Settings, results and the ledger are in
files that processes share; a process killed at any moment loses nothing but steps. A trial is proposed from the
finished ones and a seed that is a function of its number, and its settings are written in one piece with it: one
process makes the same trials whether it is interrupted or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from singlepath.errors import SinglepathError, UserError, optional
from singlepath.search.ledger import Ledger, Lock
from singlepath.search.proposals import Range, proposal, settings_in

__all__ = ["Outcome", "Range", "Trial", "Tuned", "Tuning", "choose", "hits", "results", "tune", "work"]

WINDOW = 0.03  # a network hits the target that costs at most so much less of it
ENOUGH = 4  # networks that hit the target
WEIGHT = 2  # times a constraint is entered
JOURNAL, LEDGER, TURN = "tuning.journal", "ledger.json", ".turn"
STUDY = "tuning"


class Outcome(NamedTuple):
    """What one search came to.

    Attributes:
        cost: of its network, in the target's unit.
        cross_entropy: of it on the held-out images, nats.
        passes: image passes that were computed, once each; those repeated after an interruption are charged apart.
        choices: the network, option names by layer.
    """

    cost: float
    cross_entropy: float
    passes: int
    choices: tuple[str, ...]


class Trial(NamedTuple):
    """One trial: `state` is "done", "failed" (`reason` says why) or "running"."""

    number: int
    settings: dict[str, float]
    state: str
    outcome: Outcome | None = None
    reason: str | None = None


class Tuned(NamedTuple):
    """What a tuning came to.

    Attributes:
        chosen: the trial whose network is the answer; None where every network is above the target.
        hit: whether it costs at most 3 % less than the target.
    """

    trials: list[Trial]
    chosen: Trial | None
    hit: bool


# -- tuning -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuning:
    """What is tuned.

    Attributes:
        folder: where the journal and the ledger are kept; one tuning has it for itself.
        ranges: the settings, by name.
        target: what the network may cost, any unit.
        trials: at most so many.
        enough: no new trial is begun once so many networks hit the target.
        share: image passes that one of them takes at most.
        total: image passes of the ledger.
    """

    folder: Path
    ranges: Mapping[str, Range]
    target: float
    trials: int
    share: int
    total: int
    seed: int = 0
    enough: int = ENOUGH

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / LEDGER, self.total)


Search = Callable[[int, Mapping[str, float]], Outcome]  # (trial, settings) -> what it came to; it may go on by itself
Interrupted = Callable[[int], tuple[int, int]]  # trial -> image passes that are kept, and those that were computed
Others = Callable[[list[list[int]]], AbstractContextManager[Any]]


def nothing_kept(trial: int) -> tuple[int, int]:
    """An interrupted search of which nothing is kept, and of which nothing is known."""
    return 0, 0


def nobody(shares: list[list[int]]) -> AbstractContextManager[Any]:
    return nullcontext()


def tune(
    search_once: Search, tuning: Tuning, *, interrupted: Interrupted = nothing_kept, workers: int = 1,
    others: Others = nobody,
) -> Tuned:  # fmt: skip
    """Find the settings whose search ends at the target, or go on with a tuning that was interrupted.

    Args:
        search_once: runs one search. It is called again with the number and the settings of an interrupted one.
        interrupted: what an interrupted search had computed, and how much of it is kept: the difference is computed
            again and charged to the ledger.
        workers: processes that search at once, this one among them.
        others: starts the other workers and waits for them; each calls `work` with one of the lists it is given.

    Raises:
        UserError: optuna is not installed.
    """
    tuning.folder.mkdir(parents=True, exist_ok=True)
    mend(tuning.folder / JOURNAL)
    with quiet():
        waiting = taken_up(tuning, interrupted)
    with others([waiting[i::workers] for i in range(1, workers)]):
        work(search_once, tuning, waiting[::workers])
    return choose(results(tuning), tuning.target)


def work(search_once: Search, tuning: Tuning, first: Sequence[int] = ()) -> None:
    """Search until enough networks hit the target, or trials or ledger are used up: the interrupted trials `first`,
    then new ones.

    Several processes may do so on the same folder.
    """
    with quiet():
        study = opened(tuning)
        for number in first:
            finish(search_once, tuning, study, number)
        while (number := begun(tuning, study)) is not None:
            finish(search_once, tuning, study, number)


def results(tuning: Tuning) -> list[Trial]:
    """All trials that were begun, by number."""
    with quiet():
        known = opened(tuning).get_trials(deepcopy=False)
    names = {"COMPLETE": "done", "FAIL": "failed"}
    found = []
    for t in known:
        state = names.get(t.state.name, "running")
        found.append(Trial(t.number, settings_in(t), state, outcome_of(t), t.user_attrs.get("reason")))
    return found


def outcome_of(trial: Any) -> Outcome | None:
    """What a trial came to; None where it has not ended, or without a result."""
    kept = trial.user_attrs.get("outcome")
    return Outcome(**{**kept, "choices": tuple(kept["choices"])}) if kept else None


def hits(cost: float, target: float) -> bool:
    """Whether a cost is the target's: not above it, and at most 3 % below."""
    return (1 - WINDOW) * target <= cost <= target


def choose(trials: Sequence[Trial], target: float) -> Tuned:
    """Of the networks at or below the target: within 3 % the least cross-entropy, else the nearest."""
    below = [(t, t.outcome) for t in trials if t.state == "done" and t.outcome and t.outcome.cost <= target]
    near = [(t, o) for t, o in below if hits(o.cost, target)]
    if near:
        return Tuned(list(trials), min(near, key=lambda pair: pair[1].cross_entropy)[0], True)
    nearest = max(below, key=lambda pair: (pair[1].cost, -pair[1].cross_entropy), default=(None, None))[0]
    return Tuned(list(trials), nearest, False)


# -- trials -----------------------------------------------------------------------------------------------------------


def begun(tuning: Tuning, study: Any) -> int | None:
    """The number of a new trial, its settings written and its share set aside; None where no more is to be made.

    One process does so at a time, so that a proposal knows of the trials that run.
    """
    with Lock(tuning.folder / TURN):
        known = study.get_trials(deepcopy=False)
        proposed = [t for t in known if t.state.name == "WAITING"]  # by a process that was killed right then
        met = sum(hits(outcome.cost, tuning.target) for t in known if (outcome := outcome_of(t)))
        full = len(known) - len(proposed) >= tuning.trials or tuning.ledger.left < tuning.share
        if full or met >= tuning.enough:
            return None
        if not proposed:
            study.enqueue_trial(proposal(tuning.ranges, known, tuning.seed))
        trial = study.ask()
        suggested(trial, tuning.ranges)
        tuning.ledger.reserve(trial.number, tuning.share)
        return trial.number


def finish(search_once: Search, tuning: Tuning, study: Any, number: int) -> None:
    """Run a trial that was begun and write down what it came to; what is written already stays."""
    trial = running(study, number)
    settings = suggested(trial, tuning.ranges)
    try:
        tuning.ledger.reserve(number, tuning.share)
        outcome = search_once(number, settings)
        if not math.isfinite(outcome.cross_entropy):
            raise SinglepathError("the network's held-out cross-entropy is not a finite number")
    except UserError:
        raise
    except SinglepathError as error:  # settings under which a search diverges: a trial lost, not the tuning
        fail(tuning, study, trial, str(error))
        return
    trial.set_user_attr("outcome", outcome._asdict())
    gap, window = math.log(outcome.cost / tuning.target), -math.log(1 - WINDOW)
    for name, value in (("above", gap), ("below", -gap - window)):
        for i in range(WEIGHT):
            if f"{name} {i}" not in trial.constraints:
                trial.set_constraint(f"{name} {i}", value)
    tuning.ledger.settle(number, outcome.passes)
    study.tell(trial, outcome.cross_entropy)


def fail(tuning: Tuning, study: Any, trial: Any, reason: str, passes: int | None = None) -> None:
    """End a trial without a result; it is charged with `passes`, or with its whole share where they are not known."""
    from optuna.trial import TrialState

    trial.set_user_attr("reason", reason)
    if (held := tuning.ledger.held(trial.number)) is not None:
        tuning.ledger.settle(trial.number, held if passes is None else min(passes, held))
    study.tell(trial, state=TrialState.FAIL)


def taken_up(tuning: Tuning, interrupted: Interrupted) -> list[int]:
    """The trials that an interruption left unfinished, to be gone on with.

    What has to be computed again is charged. Where the ledger has no room for it the trial is given up, charged with
    what it had computed.
    """
    study, waiting = opened(tuning), []
    for found in study.get_trials(deepcopy=False):
        if found.state.name != "RUNNING":
            continue
        kept, computed = interrupted(found.number)
        try:
            if computed > kept:
                tuning.ledger.charge("repeated", computed - kept, found.number)
            waiting.append(found.number)
        except SinglepathError as error:
            fail(tuning, study, running(study, found.number), f"interrupted; {error}", computed)
    return waiting


# -- the journal ------------------------------------------------------------------------------------------------------


def opened(tuning: Tuning) -> Any:
    """The study in the folder's journal; made where there is none."""
    optuna = optional("optuna", "search")
    journal = optional("optuna.storages.journal", "search")
    path = tuning.folder / JOURNAL
    backend = journal.JournalFileBackend(str(path), lock_obj=Lock(path.with_name(f".{path.name}.lock")))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(study_name=STUDY, storage=storage, load_if_exists=True)


def running(study: Any, number: int) -> Any:
    """The handle of a trial that was begun, in this process or before it."""
    from optuna.trial import Trial as Handle

    return Handle(study, study.get_trials(deepcopy=False)[number]._trial_id)


def suggested(trial: Any, ranges: Mapping[str, Range]) -> dict[str, float]:
    """A trial's settings, which its proposal fixed."""
    return {name: trial.suggest_float(name, r.low, r.high, log=r.log) for name, r in ranges.items()}


def mend(path: Path) -> None:
    """Drop a last line that was not written to its end; nobody else may be writing."""
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, optuna says nothing below a warning."""
    optuna = optional("optuna", "search")
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
