"""Trials on images for `bench`: a search on a supernet, its network trained, its test accuracy read once.

    supernet of a search seed     one for all methods: the default search's training, kept in the run folder
    method                        at most `queries` networks scored on it (held-out cross-entropy)
    the network found             trained by the recipe from another seed, on the training part
    validation, test              its accuracy on the held-out part, and on the test part after all else

`single-path` is the default search's own selection; every other method is a query method. A random network is drawn
from the same space and budget and trained alike; with `--depths` also as what it is at other depths of the space
(`spaces.depth`), whatever that costs. Budgets count MACs or parameters, or take a device's table (`--cost`):
nothing is timed, so a comparison gives the same figures on any machine of one architecture.

How the supernets rank the random networks is another kind of trial (`image_ranking`).

Passes in the ledger: "passes" are images through a network that is trained, "forward" those that only score.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from singlepath import data as data_room
from singlepath.architecture import Architecture
from singlepath.bench.protocol import OURS, RANDOM_NETWORK, Comparison, name_of
from singlepath.bench.records import Cost, Entry, Point, Record, Trial
from singlepath.costs import Budget, CostModel, LatencyTable, count_costs, parse_budget, shipped_tables
from singlepath.costs.budget import resolve
from singlepath.data import BUILTIN, Data
from singlepath.data.splits import generator
from singlepath.devices import device
from singlepath.environment import environment
from singlepath.errors import user_error
from singlepath.pipeline.setup import best_device, keep_memory, return_memory
from singlepath.pipeline.trials import counted
from singlepath.runs import Run, write_atomic
from singlepath.search import METHODS
from singlepath.search.base import Problem
from singlepath.search.budget import networks_of
from singlepath.search.incumbents import Incumbent, incumbents
from singlepath.search.ledger import Lock
from singlepath.search.query_methods import make_method
from singlepath.search.scoring import Scorer
from singlepath.search.selection import select
from singlepath.search.space_pool import SpacePool, query_supernet
from singlepath.spaces import Space, make, parse_id
from singlepath.spaces.depth import at_depth, carried, depth_of
from singlepath.spaces.mobile import DEEPEST
from singlepath.supernet import Supernet
from singlepath.training import Recipe, evaluate, get_recipe, train_network
from singlepath.training.loop import fit

__all__ = [
    "PROTOCOLS", "RUN", "ImageTask", "device_of", "located", "named", "opened", "pool_of", "protocol_of",
    "random_networks", "run_trial", "supernet_of", "task_of",
]  # fmt: skip

RUN = f"{__name__}:run_trial"
PROTOCOLS: dict[str, dict[str, Any]] = {
    "reduced": {"space": "mobile-small(width=0.5)", "limit": 5_000, "search_epochs": 8, "epochs": 10},
    "full": {"space": "mobile-small", "limit": None, "search_epochs": None, "epochs": None},
}
"""What options that are not given are: the space, training images, epochs of the supernet and of a final training."""
SUPERNET = "single-path"  # whose training all methods share
FEW = 8
LEAST_NETWORKS = 2  # random networks of a comparison
SPLIT_SEED = 0  # of the held-out part: a search seed changes the search alone


@dataclass(frozen=True)
class ImageTask:
    """Images, the space and the budget that networks are searched in, and how each is trained."""

    data: Data
    space: Space
    budget: Budget
    recipe: Recipe
    search_epochs: int | None

    def problem(self, seed: int, device: str = "cpu") -> Problem:
        return Problem(self.space, self.data, self.budget, seed, self.search_epochs, device=device)


def named(text: str, folder: str | None) -> bool:
    """Whether a task's text names images: built-in ones, or something in the data folder."""
    name = parse_id(text, "task")[0]
    return name in BUILTIN or (folder is not None and bool(name) and (Path(folder) / name).exists())


def located(cost: str) -> str:
    """A latency table's file by its whole path; what names a count or a shipped table stays as it is."""
    return str(Path(cost).resolve()) if _is_file(cost) else cost


def _is_file(cost: str) -> bool:
    return cost not in COUNTED and cost not in shipped_tables() and Path(cost).is_file()


def _content(cost: str) -> str:
    """What a cost is, wherever its file lies: the digest of a table's content, or a name."""
    if not _is_file(cost):
        return cost
    return f"table {hashlib.sha256(LatencyTable.load(cost).to_json().encode()).hexdigest()[:16]}"


def protocol_of(
    text: str, folder: str | None, options: Mapping[str, Any], compared: Comparison | None = None
) -> dict[str, Any]:
    """What a trial's result depends on beside its method: plain values, from which `opened` makes the task.

    Raises:
        UserError: the images, the space, the budget or an option is not one, or does not allow what is compared.
    """
    own = {key: options[key] for key in PROTOCOLS["full"] if options[key] is not None}
    kind = options["protocol"]
    asked = {
        **PROTOCOLS[kind],
        **own,
        "budget": options["budget"],
        "recipe": options["recipe"],
        "cost": options["cost"],
    }
    made = _made(text, folder or "", **asked)
    if compared is not None:
        _check(made, compared)
    changed = any(PROTOCOLS[kind][key] != value for key, value in own.items())
    return {
        "kind": "images", "name": f"{kind}, changed" if changed else kind, "space": made.space.id,
        "asked": asked | {"cost": _content(asked["cost"])},
        "limit": made.budget.limit, "unit": made.budget.costs.unit, "images": made.data.fingerprint[:16],
        "training_images": len(made.data.train), "held_out_images": len(made.data.val),
        "recipe": asdict(made.recipe), "compute": best_device(),
    }  # fmt: skip


def _check(task: ImageTask, compared: Comparison) -> None:
    """Raises UserError for what a trial would find out only after supernets were trained."""
    random_network(task, compared.seed + compared.networks - 1)
    pool = SpacePool(task.problem(0), FEW, generator(0, "pool"))
    for each in compared.contenders:
        pool.encoding(each.settings.get("encoding", ""))
    if compared.depths:
        check_depths(task.space, compared.depths)


def check_depths(space: Space, depths: Sequence[int]) -> None:
    """Raises UserError for depths that networks of the space cannot be carried over to."""
    own = depth_of(space.id)
    at_depth(space, own)  # refused where spaces of this name have no depth
    if own not in depths or any(depth % own or depth > DEEPEST for depth in depths):
        multiples = {depth for depth in depths if depth % own == 0 and own < depth <= DEEPEST}
        right = sorted({own, *(multiples or ({2 * own} if 2 * own <= DEEPEST else set()))})
        fix = f"type --depths {','.join(map(str, right))}" if len(right) > 1 else "leave --depths out"
        raise user_error(
            f"--depths {','.join(map(str, depths))}",
            f"allowed: the depth that is searched, {own}, and multiples of it up to {DEEPEST}", fix,
        )  # fmt: skip


@cache
def opened(text: str, folder: str, asked: str, content: str = "") -> ImageTask:
    """The task of a text and of a protocol's `asked` as JSON; read once a process, and again where `content`, that of
    the cost's file, is another."""
    keep_memory()
    return _made(text, folder, **json.loads(asked))


def _opened(text: str, folder: str | None, protocol: Mapping[str, Any], cost: str) -> ImageTask:
    """The task of a protocol, whose latency table, if it has one, is the file `cost`.

    Raises:
        UserError: the file holds another table than the one the protocol names.
    """
    content = protocol["asked"]["cost"]
    if _content(cost) != content:
        raise user_error(
            f"{cost} holds another table now, or none", "allowed: the table that the comparison was begun with",
            "put it back, or begin in a new folder",
        )  # fmt: skip
    return opened(text, folder or "", json.dumps({**protocol["asked"], "cost": cost}), content)


def pool_of(text: str, folder: str | None, protocol: Mapping[str, Any], cost: str) -> SpacePool:
    """A few networks of the task's budget."""
    problem = _opened(text, folder, protocol, cost).problem(0)
    return SpacePool(problem, FEW, generator(0, "pool"))


def _made(
    text: str, folder: str, *, space: str, limit: int | None, search_epochs: int | None, epochs: int | None,
    budget: str, recipe: str, cost: str,
) -> ImageTask:  # fmt: skip
    name, own = parse_id(text, "task")
    first = make(space, **own)
    wanted = parse_budget(budget)
    if wanted.kind == "latency" and cost in COUNTED:
        raise user_error(
            f"--budget {budget} without a latency table", "allowed here: 60%, 20MMACs, 1Mparams, or a table",
            "type --cost TABLE.json, or --budget 60%",
        )  # fmt: skip
    source = name if name in BUILTIN else str(Path(folder) / name)
    data = data_room.load(source, size=first.input_size, channels=first.in_channels, seed=SPLIT_SEED, limit=limit)
    chosen = make(space, **own, classes=len(data.classes))
    resolved = resolve(wanted, lambda kind: costs_of(chosen, kind, cost), share_of=COUNTED.get(cost, "latency"))
    fitted = get_recipe(recipe).fitted(len(data.train), epochs, None)
    return ImageTask(data, chosen, resolved, fitted, search_epochs)


COUNTED = {"": "macs", "mmacs": "macs", "parameters": "parameters"}


def costs_of(space: Space, kind: str, cost: str) -> CostModel:
    """MACs or parameters, counted; or the latency of a device's table.

    Raises:
        UserError: the device has no table, or it is of another space.
    """
    if kind != "latency":
        return count_costs(space, kind)
    table = device(cost).table
    if table is None:
        raise user_error(f"--cost {cost}", "allowed: mmacs, parameters, or a latency table", "type --cost TABLE.json")
    table.check(space)
    return table.costs(space)


# -- one trial --------------------------------------------------------------------------------------------------------


def run_trial(setting: Mapping[str, Any], trial: Trial) -> Record:
    """A search or a random network, trained and tested; `setting` has the folders of the data and of the supernets, and
    the cost as it was typed."""
    torch.set_num_threads(1)  # sums depend on their number
    where, task = device_of(trial), task_of(setting, trial)
    space = task.space
    if trial.method == RANDOM_NETWORK:
        found, ledger, best = random_network(task, trial.search_seed), [Entry("search", "queries", 0)], ()
        if depth := trial.settings.get("depth"):
            space = at_depth(task.space, depth)
            found = carried(found, task.space, space)
    else:
        found, ledger, best = searched(task, trial, Path(setting["supernets"]))
    if tuning := dict(trial.protocol.get("tuning", {})).get(name_of(trial), 0):
        ledger.append(Entry("tuning", "queries", tuning))
    assert trial.training_seed is not None
    data, images = task.data, task.data.train
    network = train_network(
        space.network(found), data, task.recipe, seed=trial.training_seed, images=images, device=where
    )
    ledger.append(Entry("training", "passes", task.recipe.epochs * len(images)))
    validation, test = (
        100 * evaluate(network, part, data.preprocess, classes=len(data.classes), device=where)["accuracy"]
        for part in (data.val, data.open_test())
    )
    name, here = space.string(found), environment()
    curve = (Point(trial.budget["queries"], name, validation, test),)
    cost = network_cost(task, space, found)
    return Record(
        trial, name, validation, test, tuple(ledger), curve, here["versions"], here["commit"], cost, incumbents=best
    )


def task_of(setting: Mapping[str, Any], trial: Trial) -> ImageTask:
    """The task of a trial, opened where it runs."""
    return_memory()  # of the trial before
    cost = setting.get("cost", trial.protocol["asked"]["cost"])
    return _opened(trial.task, setting["data"], trial.protocol, cost)


def network_cost(task: ImageTask, space: Space, network: Architecture) -> Cost | None:
    """What a network of the task's space, or of a deeper one, costs; None where a table knows nothing of its depth."""
    costs = task.budget.costs
    if space != task.space:
        if costs.kind == "latency":
            return None
        costs = count_costs(space, costs.kind)
    return Cost(costs.kind, costs.unit, float(costs.of(space.indices(network))))


def device_of(trial: Trial) -> str:
    """The device that the trial's record names: figures of another one are another comparison's.

    Raises:
        UserError: this process has no such device.
    """
    wanted, here = trial.protocol["compute"], best_device()
    if wanted not in ("cpu", here):
        raise user_error(
            f"a trial on {wanted} where there is only {here}", "needed: the device the comparison was begun on",
            "type --gpus 1 with --engine ray, or begin a new one with CUDA_VISIBLE_DEVICES= in front",
        )  # fmt: skip
    return str(wanted)


def random_network(task: ImageTask, number: int) -> Architecture:
    """The number-th of `random_networks`."""
    return random_networks(task, number + 1)[number]


def random_networks(task: ImageTask, count: int) -> list[Architecture]:
    """The first ones of one random order of the budget's networks: distinct, and the same ones however many.

    Raises:
        UserError: the budget has fewer.
    """
    found, _ = networks_of(task.space, task.budget, count, generator(SPLIT_SEED, "random networks"))
    if len(found) < count:
        fewer = f"--seed 0 --networks {len(found)}" if len(found) >= LEAST_NETWORKS else "a larger --budget"
        raise user_error(f"{count} random networks", f"this budget has {len(found)}", f"type {fewer}")
    return found


def searched(
    task: ImageTask, trial: Trial, folder: Path
) -> tuple[Architecture, list[Entry], tuple[Incumbent, ...]]:  # fmt: skip
    """(what a method finds on the supernet of the trial's search seed, what it cost, the best scores on the way)."""
    problem, queries = task.problem(trial.search_seed, device_of(trial)), int(trial.budget["queries"])
    supernet, passes = supernet_of(problem, trial, folder)
    scorer = Scorer.of(problem, supernet)
    if trial.method == OURS:
        found = select(problem, supernet, trial.settings["select"], queries, scorer)
        spent = found.selection["candidates"]
    else:
        method = make_method(trial.method, **trial.settings)
        found, _ = query_supernet(problem, supernet, trial.method, method, queries, scorer)
        spent = found.selection["evaluations"]
    tuned = found.selection.get("fine_tuning_passes", 0)
    return found.architecture, [
        Entry("search", "queries", spent), Entry("search", "passes", passes + tuned),
        Entry("search", "forward", scorer.passes),
    ], tuple(incumbents(problem, scorer))  # fmt: skip


def supernet_of(problem: Problem, trial: Trial, folder: Path) -> tuple[Supernet, int]:
    """(the supernet of a search seed in eval mode, the image passes it took): trained once, by whoever comes first.

    Others wait for it. A training that was stopped goes on.
    """
    name = Trial(trial.task, SUPERNET, problem.seed, None, {}, {**trial.protocol, "tuning": {}}, {}).digest
    path = folder / f"{name}.pt"
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / f"{name}.lock"):
        if not path.is_file():
            weights, passes = trained(problem, folder / name)
            buffer = io.BytesIO()
            torch.save({"weights": weights, "passes": passes}, buffer)
            write_atomic(path, buffer.getvalue())
        kept = torch.load(path, weights_only=True)
    supernet = Supernet(problem.space)
    supernet.load_state_dict(kept["weights"])
    return supernet.to(problem.device).eval(), kept["passes"]


def trained(problem: Problem, folder: Path) -> tuple[dict[str, Any], int]:
    """(weights, image passes) of the default search's training, without its selection."""
    method = counted(METHODS[SUPERNET], SUPERNET)
    with Run.open(folder, {"seed": problem.seed}, resume=(folder / "config.yaml").is_file()) as run:
        state = method.start(problem)
        plan = method.plan(problem, state)
        state["steps_per_epoch"] = plan.steps_per_epoch
        fit(
            state, lambda s, batch: method.step(problem, s, batch), plan.batches, epochs=plan.epochs,
            steps_per_epoch=plan.steps_per_epoch, tag="search", run=run, log=plan.log, log_steps=plan.log_steps,
        )  # fmt: skip
    return {k: v.cpu() for k, v in method.weights(state).items()}, int(state["passes"])
