"""What a comparison is: methods x tasks x search seeds at one budget, with random search and random networks beside it.

- Random search is always among the methods, and k random networks of the same space and task stand beside them.
- Every method has the same budget; queries that its settings were chosen with are in its ledger.
- Search seeds and training seeds are separate, and a trial has both in its name.
- A trial is one record with its whole configuration, named before it runs: a stopped comparison goes on.
- Recipes that differ are not compared (`records.compare`).
- An ablation changes one setting at a time (`ablation`).

These are the recommendations of "NAS evaluation is frustratingly hard" (arXiv 1912.12522, section 6; seeds: 5.3).

A trial of any kind is a function ``(setting, trial) -> Record`` that can be imported by its name where it runs:
searches on tables are `tabular.run_trial`. An engine (`engines`) runs them, in processes here or on many machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from singlepath.bench import records
from singlepath.bench.engines import Chunk, Done, Engine
from singlepath.bench.records import Record, Trial, plain
from singlepath.errors import user_error
from singlepath.search.query_methods import QUERY_METHODS, make_method
from singlepath.spaces import parse_id
from singlepath.spaces.depth import depth_of

__all__ = [
    "OURS", "RANDOM", "RANDOM_NETWORK", "SUPERNET_SCORES", "Comparison", "Contender", "Job", "contender",
    "contenders_of", "fill", "is_beside", "name_of", "ranking_trials", "trials_of",
]  # fmt: skip

RANDOM = "random"  # random search, the baseline of searches
RANDOM_NETWORK = "random-network"  # one network drawn uniformly, searched by nothing: the baseline of spaces
OURS = "single-path"  # the default search's own selection; it needs a supernet, so it is for images only
SUPERNET_SCORES = "supernet-scores"  # of the random networks, by the supernet of a search seed
OWN_SETTINGS = {"select": "score"}
SELECTS = ("score", "perturbation")  # that need no trained gates
TRAINING_SEEDS = 1_000  # the first training seed: apart from all search seeds that people type
APART = 1_000_000  # the seeds of a search's further trainings
CHUNKS = 4  # of every task and method, for each worker: short enough that no worker is left alone at the end


@dataclass(frozen=True)
class Contender:
    """A method with its settings.

    Attributes:
        name: the method with those settings that are not its defaults: what a reader calls it.
        settings: all of them, so that a changed default is another trial.
        tuning: queries that the settings were chosen with; they are charged to every one of its trials.
    """

    name: str
    method: str
    settings: Mapping[str, Any]
    tuning: float = 0


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        contenders: random search is one of them.
        queries: budget of every search.
        seeds, seed: how many search seeds, and the first.
        networks: k, the random networks beside the methods.
        trainings: how often what a search found is trained, from other seeds; 0 where nothing is trained.
        depths: of the space; the random networks are trained at all of them, beside the one that is searched.
    """

    tasks: tuple[str, ...]
    contenders: tuple[Contender, ...]
    queries: int
    seeds: int
    seed: int = 0
    networks: int = 8
    trainings: int = 0
    depths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Job:
    """Trials of one task and what runs them.

    Attributes:
        run: "module:function", called as function(setting, trial), gives the trial's `Record`.
        setting: plain values for it on which no result depends, such as where the data lie.
    """

    run: str
    setting: Mapping[str, Any]
    trials: tuple[Trial, ...]


def contender(text: str, tuning: float = 0) -> Contender:
    """A method's text, ``weaknas(batch=10)``, as a contender.

    Raises:
        UserError: an unknown method or setting.
    """
    name, given = parse_id(text, "methods")
    if name == OURS:
        settings = OWN_SETTINGS | given
        if settings.keys() != OWN_SETTINGS.keys() or settings["select"] not in SELECTS:
            raise user_error(text, f"{OURS} has select={' or '.join(SELECTS)}", f"type --methods {OURS}")
    else:
        settings = plain(asdict(make_method(text)))
    return Contender(_named(name, settings), name, settings, tuning)


def name_of(trial: Trial) -> str:
    """What the contender of a trial is called."""
    return _named(trial.method, trial.settings)


def _named(method: str, settings: Mapping[str, Any]) -> str:
    """The method with those settings that are not its defaults."""
    defaults = OWN_SETTINGS if method == OURS else {}
    if method in QUERY_METHODS:
        defaults = asdict(QUERY_METHODS[method]())
    own = {key: value for key, value in settings.items() if key not in defaults or value != defaults[key]}
    inner = ", ".join(f"{key}={_shown(value)}" for key, value in sorted(own.items()))
    return f"{method}({inner})" if inner else method


def _shown(value: Any) -> str:
    """A value as it is typed; a number and what JSON keeps of it look the same."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def contenders_of(texts: Sequence[str], tuning: Mapping[str, float] | float = 0) -> tuple[Contender, ...]:
    """Methods in the order given, random search first where it is not among them.

    `tuning` is a number of queries for every method that has settings, or a number by method.

    Raises:
        UserError: an unknown method or setting, a method given twice, tuning of a method that is not compared.
    """
    by_name = {c.name: c for c in map(contender, texts)}
    if len(by_name) < len(texts):
        raise user_error(f"methods {', '.join(texts)}", "allowed: every method once", "leave one out")
    if RANDOM not in by_name:
        by_name = {RANDOM: contender(RANDOM)} | by_name
    if not isinstance(tuning, Mapping):
        tuning = {name: tuning for name, c in by_name.items() if c.settings}
    for name in tuning:
        if name not in by_name and name not in {c.method for c in by_name.values()}:
            raise user_error(f"tuning queries of {name!r}", f"compared are {', '.join(by_name)}", "name one of these")
    return tuple(
        Contender(c.name, c.method, c.settings, tuning.get(c.name, tuning.get(c.method, 0))) for c in by_name.values()
    )


def trials_of(comparison: Comparison, task: str, protocol: Mapping[str, Any]) -> tuple[Trial, ...]:
    """All trials on one task: the contenders' searches, seed by seed, and the random networks, depth by depth.

    `protocol` is what results of the task depend on beside the method; the queries spent on tuning join it.
    """
    whole, budget = _recipe(comparison, protocol)
    count = comparison.trainings

    def trainings(seed: int) -> list[int | None]:
        """Training seeds of the search of a seed, whatever else is compared: a row can be made alone."""
        return [TRAINING_SEEDS + seed + APART * j for j in range(count)] if count else [None]

    searches = [
        Trial(task, c.method, comparison.seed + i, seed, c.settings, whole, budget)
        for c in comparison.contenders
        for i in range(comparison.seeds)
        for seed in trainings(comparison.seed + i)
    ]
    own = depth_of(protocol["space"]) if comparison.depths else None
    deeper = [{"depth": depth} for depth in comparison.depths if depth != own]
    networks = [  # all from the same training seeds, so that these can be told apart
        Trial(task, RANDOM_NETWORK, comparison.seed + i, seed, settings, whole, budget)
        for settings in ({}, *deeper)
        for i in range(comparison.networks)
        for seed in trainings(0)
    ]
    return (*searches, *networks)


def ranking_trials(comparison: Comparison, task: str, protocol: Mapping[str, Any]) -> tuple[Trial, ...]:
    """The random networks scored by the supernet of every search seed: a trial each."""
    whole, budget = _recipe(comparison, protocol)
    settings = {"first": comparison.seed, "networks": comparison.networks}
    seeds = range(comparison.seed, comparison.seed + comparison.seeds)
    return tuple(Trial(task, SUPERNET_SCORES, seed, None, settings, whole, budget) for seed in seeds)


def _recipe(comparison: Comparison, protocol: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Protocol and budget of all trials on a task."""
    tuning = {c.name: c.tuning for c in comparison.contenders if c.tuning}
    return {**protocol, "tuning": tuning}, {"queries": comparison.queries}


def is_beside(trial: Trial) -> bool:
    """Whether a trial stands beside the comparison: scores of random networks, or one at a depth that is not the
    searched one."""
    return trial.method == SUPERNET_SCORES or (trial.method == RANDOM_NETWORK and bool(trial.settings))


def fill(
    folder: Path, jobs: Sequence[Job], engine: Engine, *, workers: int = 1,
    told: Callable[[Done | None, int, int], None] = lambda done, count, total: None,
) -> list[Record]:  # fmt: skip
    """Run every trial that has no record in the folder yet; returns the records of all, in the jobs' order.

    Every record is on the disk before the next is awaited. `told` hears of each trial that ended, of how many of how
    many; first of those that had ended before, with None.

    Raises:
        SinglepathError: a trial failed, or its worker was lost more often than it is tried again.
        UserError: a record of the folder is broken, or what a trial was refused with.
    """
    wanted = {trial.digest: trial for job in jobs for trial in job.trials}
    found = {digest: record for digest, trial in wanted.items() if (record := records.find(folder, trial))}
    told(None, len(found), len(wanted))
    open_ = [chunk for job in jobs for chunk in _chunks(job, found, workers)]
    for done in engine(open_) if open_ else ():
        digest = done.record.trial.digest
        if digest not in wanted:
            raise ValueError(f"a trial {digest} came back that was not asked for")
        records.write(folder, done.record)
        found[digest] = done.record
        told(done, len(found), len(wanted))
    return [found[digest] for digest in wanted]


def _chunks(job: Job, found: Iterable[str], workers: int) -> list[Chunk]:
    """A job's open trials, in groups of one method that a worker runs one after the other."""
    ended, by_method = set(found), dict[str, list[Trial]]()
    for trial in job.trials:
        if trial.digest not in ended:
            by_method.setdefault(trial.contender, []).append(trial)
    chunks = []
    for trials in by_method.values():
        size = -(-len(trials) // (CHUNKS * max(1, workers)))
        chunks += [Chunk(job.run, dict(job.setting), tuple(trials[i : i + size])) for i in range(0, len(trials), size)]
    return chunks
