"""Exactness: under hard gates the supernet is the extracted child network.

For random architectures of three spaces, BN scales and shifts away from 1 and 0: the greatest |logit of the gated
supernet - logit of the extracted child| over the greatest |logit|, in train and eval mode, fresh, after BN
recalibration and after sampled training steps, for the sliced and the masked engine, in fp32 (the promise) and fp64.
The paper mode's figures stand beside them.

    python benchmarks/exactness.py --json
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import at_most, finish, one_thread, parser, table
from singlepath.architecture import Architecture
from singlepath.spaces import Space, make
from singlepath.supernet import Setting, Supernet, build, frozen_statistics, recalibrate
from singlepath.supernet.paper import PaperSupernet, build_paper, set_gates

SPACES = (
    "mobile(width=0.25, input_size=64)",
    "mobile-small(kernels=(3, 5, 7), se=(0.0, 0.25, 0.5))",
    "mobile-small(kernels=(3, 5, 7), se=(0.0, 0.25, 0.5), activation='hard_swish')",
    "macro",
)
PAPER_SPACES = ("mobile(width=0.25, input_size=64)", "mobile-small", "macro")
STATES = ("fresh", "recalibrated", "trained")
ENGINES = ("sliced", "masked")
MODES = ("train", "eval")
LIMIT, LIMIT64 = 1e-6, 1e-12
BATCH, BATCH64, STEPS = 32, 8, 100

Worst = dict[tuple[str, ...], float]


def relative(a: Tensor, b: Tensor) -> float:
    """max |a - b| / max |b|."""
    return float((a - b).abs().max() / b.abs().max())


def disturb(module: nn.Module, generator: torch.Generator) -> None:
    """BN scales, shifts and statistics as after some training."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5, generator=generator)
            m.bias.data.normal_(0.0, 0.5, generator=generator)
            assert m.running_mean is not None and m.running_var is not None
            m.running_mean.normal_(0.0, 0.3, generator=generator)
            m.running_var.uniform_(0.5, 2.0, generator=generator)


def images(space: Space, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Noise; fewer in fp64, where convolutions are slow and rounding is not the question."""
    batch = BATCH64 if dtype == torch.float64 else BATCH
    shape = (batch, space.in_channels, space.input_size, space.input_size)
    return torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)


def compare(
    net: Supernet, architecture: Architecture, x: Tensor, child: nn.Module, key: Sequence[str], worst: Worst
) -> None:
    """Update the worst differences between the gated supernet and a child, both engines, train and eval."""
    settings = net.settings(architecture)
    for mode in MODES:
        child.train(mode == "train")
        net.train(mode == "train")
        with torch.no_grad(), frozen_statistics(net), frozen_statistics(child):
            expected = child(x)
            found = {"sliced": net(x, settings), "masked": net.masked(x, net.effective_gates(settings).to(x.dtype))}
        for engine, logits in found.items():
            name = (*key, engine, mode)
            worst[name] = max(worst.get(name, 0.0), relative(logits, expected))


def recalibrated(net: Supernet, settings: Sequence[Setting], batches: Sequence[Tensor]) -> None:
    """The supernet's own statistics for one child: the equal average over the batches, by the sliced engine."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.reset_running_stats()
    net.train()
    with torch.no_grad():
        for count, x in enumerate(batches, start=1):
            for m in norms:
                m.momentum = 1.0 / count
            net(x, settings)
    for m in norms:
        m.momentum = 0.1


def train(net: Supernet, generator: torch.Generator, rng: np.random.Generator, steps: int) -> None:
    """Steps of SGD on random labels, each on a uniformly sampled child."""
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02)
    for _ in range(steps):
        x = images(net.space, generator, torch.float32)
        labels = torch.randint(net.space.classes, (len(x),), generator=generator)
        optimiser.zero_grad(set_to_none=True)  # what the child does not use keeps no gradient and stays as it is
        F.cross_entropy(net(x, net.settings(net.space.sample(rng))), labels).backward()
        optimiser.step()


def study(text: str, count: int, steps: int, seed: int, dtype: torch.dtype, worst: Worst) -> None:
    """All states of one space."""
    space = make(text, classes=10)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    net = build(space, seed)
    disturb(net, generator)
    chosen = [space.sample(rng) for _ in range(count)]
    kind = "fp64" if dtype == torch.float64 else "fp32"

    def run(state: str) -> None:
        subject = net.to(dtype)
        statistics = {k: v.clone() for k, v in subject.state_dict().items() if "running_" in k}
        for architecture in chosen:
            x = images(space, generator, dtype)
            child = subject.extract(architecture)
            if state == "recalibrated":
                batches = [images(space, generator, dtype) for _ in range(2)]
                recalibrate(child, batches)
                recalibrated(subject, subject.settings(architecture), batches)
            compare(subject, architecture, x, child, (kind, space.id, state), worst)
            subject.load_state_dict({**subject.state_dict(), **statistics})

    run("fresh")
    run("recalibrated")
    train(net.float(), generator, rng, steps)
    run("trained")


def study_paper(text: str, count: int, seed: int, worst: Worst) -> None:
    """The paper mode against its children: hard gates, BN statistics as inherited."""
    space = make(text, classes=10)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    net: PaperSupernet = build_paper(space, seed)
    disturb(net, generator)
    for _ in range(count):
        architecture, x = space.sample(rng), images(space, generator, torch.float32)
        set_gates(net, architecture)
        child = net.extract(architecture)
        for mode in MODES:
            child.train(mode == "train")
            net.train(mode == "train")
            with torch.no_grad(), frozen_statistics(net), frozen_statistics(child):
                key = ("paper", space.id, "fresh", "masked", mode)
                worst[key] = max(worst.get(key, 0.0), relative(net(x), child(x)))


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--architectures", type=int, help="random architectures of each space (default 16, quick 2)")
    args = options.parse_args()
    one_thread()
    started, count, steps = time.perf_counter(), args.architectures or (2 if args.quick else 16), STEPS
    worst: Worst = {}
    for text in SPACES:
        study(text, count, 5 if args.quick else steps, args.seed, torch.float32, worst)
        study(text, 1 if args.quick else 4, 3, args.seed + 1, torch.float64, worst)
    for text in PAPER_SPACES:
        study_paper(text, count, args.seed, worst)
    columns = [f"{state} {mode}" for state, mode in product(STATES, MODES)]
    rows = {k[:2] + k[3:4]: {} for k in worst}
    for (kind, space, state, engine, mode), value in worst.items():
        rows[kind, space, engine][f"{state} {mode}"] = value
    lines = [[*key, *(row.get(c, "-") for c in columns)] for key, row in rows.items()]
    print(table(["precision", "space", "engine", *columns], lines))
    checks = []
    for state, engine, mode in product(STATES, ENGINES, MODES):
        value = max(v for k, v in worst.items() if k[0] == "fp32" and k[2:] == (state, engine, mode))
        checks.append(at_most(f"{engine} {mode} {state}", value, LIMIT))
    checks.append(at_most("fp64, all of these", max(v for k, v in worst.items() if k[0] == "fp64"), LIMIT64))
    details = [{"precision": k[0], "space": k[1], "engine": k[2], **row} for k, row in rows.items()]
    paper = {mode: max(v for k, v in worst.items() if k[0] == "paper" and k[4] == mode) for mode in MODES}
    seconds = time.perf_counter() - started
    return finish(
        args,
        checks,
        architectures=count * len(SPACES),
        batch=BATCH,
        paper=paper,
        details=details,
        seconds=round(seconds, 1),
    )


if __name__ == "__main__":
    sys.exit(main())
