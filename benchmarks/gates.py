"""Are the gates alive, and do they say what their choices are worth?

Alive: over the decision steps of real searches (digits; 4,000 CIFAR-10 images; `mobile` at width 1, whose layers have
96 to 1152 channels), how often the loss gradient of a gate's indicator, dCE/dx, was exactly zero in fp32 where the gate
was observed (its block ran, and the levels inside it were on). At initialisation, sigmoid'(x) of every gate. The paper
mode's absolute norms on the same spaces stand beside it: how many of its indicators have sigmoid' of exactly 0.

Learning: in which share of the warm-up passes every gate was off, by exact count; a gate of a skipped block counts as
on.

Worth: on the supernet that a search has at the end of its warm-up, for random children and all their off gates, the
gate's gradient dL/dd, read as the search reads it (half open, a few gates at a time), against the true change of
held-out loss, L(gate on) - L(gate off), batch statistics, the same images; Spearman's rank correlation over all pairs,
with its 90 % bootstrap interval over children. The same of the gates that are on, where about 0 is expected:
<w, dL/dw> vanishes where the weights have converged.

Exact: gate and weight gradients of the sliced engine against autograd through the masked one, fp64.

    python benchmarks/gates.py --json
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import Check, at_least, at_most, finish, one_thread, parser, table
from singlepath.costs import Budget, count_costs
from singlepath.data import Batch, Data, evaluation_batches, load
from singlepath.pipeline.setup import keep_memory
from singlepath.search import Problem, single_path
from singlepath.spaces import make
from singlepath.supernet import Probes, Setting, Supernet, Views, build, frozen_statistics, sample_settings
from singlepath.supernet.gates import Gate, chain_slices, level
from singlepath.supernet.paper import build_paper

ZERO, OFF, RANK, SLOPE, EXACT = 0, 0.2, 0.8, 0.1, 1e-10  # limits
DECISIONS = 100
EXACT_SPACES = (
    "mobile(width=0.25, input_size=32, classes=5)",
    "mobile-small(width=0.5, input_size=16, kernels=(3, 5, 7), se=(0, 0.25, 0.5), activation='hard_swish')",
    "mobile-small(width=0.5, input_size=16, expansions=(1, 2.5, 4), se=(0.25, 0.5), padding='same')",
    "macro(width=0.25, input_size=16)",
)
DECLARED = (
    "mobile", "mobile-small", "macro", "mobile(kernels=(3, 5, 7))", "mobile(kernels=(3, 5, 7), se=(0, 0.25, 0.5))",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """One search."""

    name: str
    space: str
    data: str
    size: int
    batch: int
    epochs: int
    decisions: int = DECISIONS
    limit: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    children: int = 0  # for the ranking; 0 leaves it out


READ = {"select": "gates"}  # a search that reads them trains them, in the second half
FULL = (
    Study("digits", "mobile-small", "digits", 32, 64, 36, settings=READ, children=24),
    Study("CIFAR-10, 4,000 images", "mobile-small", "cifar10", 32, 64, 14, limit=4000, settings=READ, children=24),
    Study("C = 96 ... 1152", "mobile", "digits", 96, 8, 12, settings={"warm_up": 0.05, "every": 2}),
)
SMALL = "mobile-small(width=0.25)"
QUICK = (
    Study("digits", SMALL, "digits", 16, 64, 6, 8, 500, {"warm_up": 0.7, "every": 2}, children=6),
    Study("CIFAR-10, 600 images", SMALL, "cifar10", 16, 64, 4, 8, 600, {"warm_up": 0.1, "every": 2}),
    Study("C = 96 ... 1152", "mobile", "digits", 64, 4, 1, 3, 300, {"warm_up": 0.0, "every": 2}),
)


# -- a search, watched ------------------------------------------------------------------------------------------------


class Watch:
    """Counts, for every gate, the decision steps in which it was observed and those with a gradient of exactly 0."""

    def __init__(self, net: Supernet):
        self.steps = 0
        self.observed, self.zero = np.zeros(len(net.gates), int), np.zeros(len(net.gates), int)
        self.smallest = np.inf
        self.original = Supernet.gate_gradients

    def gate_gradients(self, net: Supernet, settings: Sequence[Setting], views: Views, probes: Probes) -> Tensor:
        """In place of `Supernet.gate_gradients`: the same, and counted."""
        quality = self.original(net, settings, views, probes)
        p = torch.sigmoid(net.indicators().cpu())
        gradient = (quality.float() * (p * (1 - p))).numpy()
        seen = observed(net, settings, probes.chosen)
        self.steps += 1
        self.observed += seen
        self.zero += seen & (gradient == 0)
        self.smallest = min(self.smallest, float(np.abs(gradient[seen]).min()))
        return quality


def observed(net: Supernet, settings: Sequence[Setting], probed: Container[int] | None = None) -> np.ndarray:
    """Which gates a pass says something about, [gates] bool: the open ones and the first closed one of every chain.

    With `probed`, of the gates that have to be probed only those: closed ones, and skips and excitations open or not.
    """
    seen = np.zeros(len(net.gates), bool)
    for layer, kind, where in chain_slices(net.gates):
        s, on = settings[layer], level(settings[layer], kind)
        for gate in range(where.start, min(where.stop, where.start + on + 1)):
            asked = kind in ("skip", "se") or gate == where.start + on
            seen[gate] = (kind == "skip" or s.on) and (not asked or probed is None or gate in probed)
    return seen


def batches_of(problem: Problem, state: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
    """The batches of the default search, and whether its warm-up is over."""
    plan = single_path.plan(problem, state)
    state |= {"step": 0, "steps_per_epoch": plan.steps_per_epoch}
    warm_up = single_path.warm_up_steps(problem, single_path.search_recipe(problem), plan.steps_per_epoch)
    for epoch in range(plan.epochs):
        for batch in plan.batches(epoch, 0):
            yield batch, state["step"] >= warm_up


def folder_of(name: str) -> Path | str:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return name if name == "digits" else Path(os.environ.get("SINGLEPATH_DATA", default)) / name


def run(study: Study, seed: int) -> tuple[list[Check], dict[str, Any]]:
    """(checks, figures) of one search."""
    source = folder_of(study.data)
    if isinstance(source, Path) and not source.exists():
        return [], {"study": study.name, "skipped": f"no images at {source}; set SINGLEPATH_DATA"}
    data = load(source, size=study.size, seed=seed, limit=study.limit)
    space = make(study.space, input_size=study.size, classes=len(data.classes))
    costs = count_costs(space, "macs")
    budget = Budget("60%", 0.6 * costs.largest, 0.6 * costs.largest, costs)
    problem = Problem(space, data, budget, seed, study.epochs, study.batch, settings=study.settings)
    found: dict[str, Any] = {"study": study.name, "space": space.id, "images": len(data.train)}
    checks: list[Check] = []
    warm_up: list[np.ndarray] = []
    state = single_path.start(problem)
    net: Supernet = state["model"]
    watch, slope = Watch(net), slopes(net)
    for batch, after in batches_of(problem, state):
        if not after:
            warm_up.append(net.effective_gates(single_path.warm_up_settings(net, seed, state["step"])).numpy() == 0)
        elif study.children and "spearman_off" not in found:
            found |= ranking(net, held_out(data), study.children, seed)
        with mock.patch.object(Supernet, "gate_gradients", lambda *given: watch.gate_gradients(*given)):
            single_path.step(problem, state, batch)
        state["step"] += 1
        if watch.steps >= study.decisions:
            break
    widths = sorted({b.channels[-1] for b in net.super_blocks})
    paper = build_paper(space, seed)
    found |= {
        "gates": len(net.gates), "channels": [widths[0], widths[-1]], "decision_steps": watch.steps,
        "zero_gradients": int(watch.zero.sum()), "least_observed": int(watch.observed.min()),
        "smallest_gradient": watch.smallest, "least_slope": slope, "paper_frozen_gates": paper.frozen_gates(),
    }  # fmt: skip
    checks.append(at_most(f"{study.name}: zero gradients of observed gates", int(watch.zero.sum()), ZERO))
    checks.append(at_least(f"{study.name}: decision steps", watch.steps, study.decisions))
    checks.append(at_least(f"{study.name}: least sigmoid' at the start", slope, SLOPE))
    if len(warm_up) >= 100:  # enough whole rounds of the options
        share = np.sum(warm_up, axis=0) / len(warm_up)
        found |= {"warm_up_steps": len(warm_up), "least_off": float(share.min())}
        checks.append(at_least(f"{study.name}: least share of warm-up passes off", share.min(), OFF))
    if study.children:
        checks.append(at_least(f"{study.name}: Spearman, off gates", found["spearman_off"], RANK))
    return checks, found


def slopes(net: Supernet) -> float:
    """The least sigmoid'(x) over all gates."""
    p = torch.sigmoid(net.indicators())
    return float((p * (1 - p)).min())


def declared_shares(seed: int) -> dict[str, float]:
    """The least share of warm-up passes in which a gate is off, over whole rounds of every layer's options."""
    found = {}
    for text in DECLARED:
        net = Supernet(make(text))
        lengths = {len(single_path._deck(layer, 0, seed, 0)) for layer in net.space.searchable}
        steps = int(np.lcm.reduce(list(lengths)))
        off = [net.effective_gates(single_path.warm_up_settings(net, seed, s)).numpy() == 0 for s in range(steps)]
        found[text] = float((np.sum(off, axis=0) / steps).min())
    return found


# -- what a gate's gradient is worth ----------------------------------------------------------------------------------


def held_out(data: Data, most: int = 512) -> Batch:
    """Held-out images as one batch."""
    images = data.val.subset(range(min(most, len(data.val))))
    return next(iter(evaluation_batches(images, data.preprocess, batch_size=len(images))))


def switched(s: Setting, gate: Gate, on: bool) -> Setting:
    """The setting with a gate's level on, or off."""
    j = gate.level if on else gate.level - 1
    if gate.chain == "skip":
        return replace(s, on=on)
    if gate.chain == "tied":
        return replace(s, kernel=j, expansion=j)
    return replace(s, **{gate.chain: j})


Pair = tuple[str, float, float]  # chain, dL/dd, L(on) - L(off)


def gradients(net: Supernet, batch: Batch, settings: list[Setting], probed: Sequence[int], at: float) -> Tensor:
    """dL/dd of every gate, the probed ones standing at `at` where they are closed."""
    views, probes = Views(), Probes(dict.fromkeys(probed, 1.0), at=at)
    F.cross_entropy(net(batch.x, settings, views, probes), batch.y).backward()
    found = net.gate_gradients(settings, views, probes)
    for view in views.taken:
        view.leaf.grad = None
    return found


def compared(
    net: Supernet, batch: Batch, settings: list[Setting], on_too: bool, rng: np.random.Generator
) -> dict[bool, list[Pair]]:
    """Gradient and true change of a child's off gates (and of its on gates), by whether the gate is on.

    Off gates are read as the search reads them: half open, one part of all gates at a time. On gates are read off the
    child itself.
    """
    with torch.no_grad():
        loss = F.cross_entropy(net(batch.x, settings), batch.y)
    seen, gradient = observed(net, settings), gradients(net, batch, settings, range(len(net.gates)), 0.0)
    for part in np.array_split(rng.permutation(len(net.gates)), round(1 / single_path.DEFAULTS["probe"])):
        gradient[part] = torch.where(
            net.effective_gates(settings)[part] > 0,
            gradient[part],
            gradients(net, batch, settings, part.tolist(), single_path.DEFAULTS["probe_at"])[part],
        )
    pairs: dict[bool, list[Pair]] = {True: [], False: []}
    for i, gate in enumerate(net.gates):
        s = settings[gate.layer]
        on = level(s, gate.chain)
        is_on = gate.level <= on
        if seen[i] and gate.level in (on, on + 1) and (on_too or not is_on):  # the last open, the first closed level
            other = list(settings)
            other[gate.layer] = switched(s, gate, not is_on)
            with torch.no_grad():
                changed = float(F.cross_entropy(net(batch.x, other), batch.y)) - float(loss.detach())
            pairs[is_on].append((gate.chain, float(gradient[i]), -changed if is_on else changed))
    return pairs


def ranking(net: Supernet, batch: Batch, children: int, seed: int) -> dict[str, Any]:
    """Spearman's rank correlation of gate gradients with true changes of loss, over the gates of random children.

    Children have every gate off with probability 1/2. Beside it, half as many of those that the search draws (each
    gate off with its own probability) and of those that the warm-up draws (uniform over the options).
    """
    rng, training = np.random.default_rng(seed), net.training
    half, own = [0.5] * len(net.gates), torch.sigmoid(net.indicators()).tolist()
    net.train()
    with frozen_statistics(net):
        drawn = [sample_settings(net.space, net.gates, half, rng) for _ in range(children)]
        pairs = [compared(net, batch, s, i < children // 3, rng) for i, s in enumerate(drawn)]
        beside = {
            "search_draws": [sample_settings(net.space, net.gates, own, rng) for _ in range(children // 2)],
            "uniform": [net.settings(net.space.sample(rng)) for _ in range(children // 2)],
        }
        others = {name: [compared(net, batch, s, False, rng)[False] for s in some] for name, some in beside.items()}
    net.train(training)
    off, on = [p[False] for p in pairs], [row for p in pairs for row in p[True]]
    rows = list(chain.from_iterable(off))
    picks = rng.integers(children, size=(500, children))
    spread = np.nanquantile([spearman([r for i in pick for r in off[i]]) for pick in picks], [0.05, 0.95])
    return {
        "children": children, "held_out_images": len(batch.y), "pairs_off": len(rows), "pairs_on": len(on),
        "spearman_off": spearman(rows), "spearman_off_90": spread.tolist(), "spearman_on": spearman(on),
        "by_chain": {c: spearman([r for r in rows if r[0] == c]) for c in sorted({r[0] for r in rows})},
        "beside": {name: spearman(list(chain.from_iterable(some))) for name, some in others.items()},
        "predicted_over_true": float(np.abs([r[1] for r in rows]).mean() / np.abs([r[2] for r in rows]).mean()),
    }  # fmt: skip


def spearman(rows: Sequence[Pair]) -> float:
    """Rank correlation of the second and third entries; NaN for fewer than three rows."""
    if len(rows) < 3:
        return float("nan")
    ranks = [np.argsort(np.argsort([r[k] for r in rows])) for k in (1, 2)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


# -- exactness --------------------------------------------------------------------------------------------------------


def exactness(text: str, seed: int) -> tuple[float, float]:
    """Greatest |sliced - masked| over the greatest |masked|, fp64: (gates, the worst parameter)."""
    space = make(text)
    net, g = build(space, seed).double().train(), torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5, generator=g)
            m.bias.data.normal_(0.0, 0.5, generator=g)
    shape = (6, space.in_channels, space.input_size, space.input_size)
    x = torch.randn(shape, generator=g, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    y = torch.randint(space.classes, (6,), generator=g)
    settings = sample_settings(space, net.gates, [0.5] * len(net.gates), np.random.default_rng(seed))
    views, probes = Views(), Probes(dict.fromkeys(range(len(net.gates)), 1.0))
    with frozen_statistics(net):
        F.cross_entropy(net(x, settings, views, probes), y).backward()
        gates = net.gate_gradients(settings, views, probes)
        sliced = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
        for view in views.taken:
            assert view.leaf.grad is not None
            sliced[view.name][view.index or ()] += view.leaf.grad
        net.zero_grad(set_to_none=True)
        d = net.effective_gates(settings).double().requires_grad_()
        effective = torch.cat([torch.cumprod(d[where], 0) for _, _, where in chain_slices(net.gates)])
        F.cross_entropy(net.masked(x, effective), y).backward()
    assert d.grad is not None
    worst = 0.0
    greatest = max(float(p.grad.abs().max()) for p in net.parameters() if p.grad is not None)
    for name, p in net.named_parameters():
        full = torch.zeros_like(p) if p.grad is None else p.grad
        worst = max(worst, float((sliced[name] - full).abs().max()) / greatest)
    return float((gates - d.grad).abs().max() / d.grad.abs().max()), worst


def shown(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> int:
    args = parser(__doc__).parse_args()
    one_thread()
    keep_memory()
    started, checks, studies = time.perf_counter(), [], []
    for study in QUICK if args.quick else FULL:
        some, found = run(study, args.seed)
        checks, studies = checks + some, [*studies, found]
        print(f"{study.name}: {found.get('skipped', f'{time.perf_counter() - started:.0f} s')}", file=sys.stderr)
    shares = declared_shares(args.seed)
    checks.append(at_least("least share of warm-up passes off, any space", min(shares.values()), OFF))
    exact = {t: [exactness(t, args.seed + i) for i in range(1 if args.quick else 4)] for t in EXACT_SPACES}
    for k, name in enumerate(("gates", "weights")):
        worst = max(v[k] for values in exact.values() for v in values)
        checks.append(at_most(f"sliced against masked, fp64: {name}", worst, EXACT))
    columns = (
        "study", "gates", "channels", "decision_steps", "least_observed", "zero_gradients", "smallest_gradient",
        "least_off", "spearman_off", "spearman_off_90", "spearman_on", "paper_frozen_gates",
    )  # fmt: skip
    print(table(columns, [[shown(s.get(c, "-")) for c in columns] for s in studies]) + "\n")
    print(table(["space", "least share off"], [[k, v] for k, v in shares.items()]) + "\n")
    wide = build_paper(make("mobile"), args.seed)
    paper = {"space": "mobile", "frozen": wide.frozen_gates(), "gates": len(wide.net.gates)}
    seconds = round(time.perf_counter() - started, 1)
    return finish(args, checks, studies=studies, least_off=shares, paper=paper, exact=exact, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
