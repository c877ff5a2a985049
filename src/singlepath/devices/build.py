"""Building a latency table of a space on this host, and finding out how far it can be trusted.

Blocks (`pieces`) and whole networks are timed in one interleaved schedule. The blocks' times add up to a first figure
for each network; slope and intercept are fitted on some networks, the error is stated on others the fit has not seen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from singlepath.architecture import Architecture
from singlepath.blocks import build
from singlepath.costs import LatencyTable, count_costs
from singlepath.costs.table import BlockTiming, Correction, Validation
from singlepath.devices.host import hardware, version
from singlepath.devices.pieces import CHAIN, Piece, block_ms, pieces, signature
from singlepath.devices.timing import BURST_MS, Progress, Timing, open_session, time_interleaved
from singlepath.errors import user_error
from singlepath.runtimes import Runtime, get
from singlepath.spaces import Layer, Space

__all__ = ["CALIBRATION", "correct", "draw_networks", "measure", "validate"]

CALIBRATION = 7  # networks a table keeps, to find a common drift later
ATTEMPTS = 200  # draws for each network wanted, before a small space counts as exhausted
BUILDING = 0.4  # share of the progress bar


class Plan(NamedTuple):
    """How long to measure: rounds of the schedule, networks for the correction, networks for the validation."""

    rounds: int
    fit: int
    validate: int


FULL, QUICK = Plan(100, 24, 30), Plan(30, 12, 15)


def measure(
    space: Space, *, runtime: str = "onnxruntime", threads: int = 1, batch: int = 1, seed: int = 0, quick: bool = False,
    rounds: int | None = None, networks_fit: int | None = None, networks_validate: int | None = None,
    progress: Progress | None = None,
) -> LatencyTable:  # fmt: skip
    """Time a space on this host: a table in ms of one batch, corrected and validated on whole networks.

    Args:
        threads: of the runtime; on a busy machine more than 1 times the neighbours.
        quick: fewer rounds and networks, for a first look; explicit counts win.
        rounds: how often everything is timed.
        networks_fit, networks_validate: whole networks for slope and intercept (the smallest and the largest among
            them), and others for the error.
        progress: called with a text and the share that is done, 0 to 1.

    Raises:
        UserError: an unknown runtime, one whose package is missing, or a count that is too small.
    """
    usual = QUICK if quick else FULL
    plan = Plan(*(u if g is None else g for u, g in zip(usual, (rounds, networks_fit, networks_validate), strict=True)))
    for flag, value, least in (
        ("threads", threads, 1), ("batch", batch, 1), ("rounds", plan.rounds, 1),
        ("networks-fit", plan.fit, 2), ("networks-validate", plan.validate, 0),
    ):  # fmt: skip
        if value < least:
            raise user_error(f"{flag} {value}", f"allowed: {least} or more", f"type --{flag} {least}")
    chosen = get(runtime)
    networks = draw_networks(space, plan.fit + plan.validate, seed)
    timings = time_all(space, networks, chosen, plan.rounds, threads, batch, seed, progress)
    layers, rest = layer_timings(space, timings)
    whole = [timings[network_key(i)].ms for i in range(len(networks))]
    sums = [
        rest + sum(layers[n.name][c].ms for n, c in zip(space.searchable, a.choices, strict=True)) for a in networks
    ]
    correction = correct(sums[: plan.fit], whole[: plan.fit])
    predicted = [correction.intercept + correction.slope * s for s in sums[plan.fit :]]
    protocol = {
        "kind": "measured", "statistic": "p10 over rounds of the median of a burst", "rounds": plan.rounds,
        "burst_ms": BURST_MS, "blocks": f"chain of {CHAIN} less one where the shape allows, else alone less overhead",
        "schedule": "blocks and whole networks, one shuffled interleaved schedule", "sessions": len(timings),
        "seed": seed, "runtime_version": version(runtime),
    }  # fmt: skip
    return LatencyTable(
        space=space.id, device="host", runtime=runtime, threads=threads, batch=batch, input_size=space.input_size,
        source="timed on this host", hardware=hardware(), protocol=protocol, rest_ms=rest, layers=layers,
        correction=correction, validation=validate(predicted, whole[plan.fit :]),
        calibration=spread(space, networks, whole),
    )  # fmt: skip


def network_key(number: int) -> str:
    return f"network {number}"


def draw_networks(space: Space, count: int, seed: int) -> list[Architecture]:
    """Distinct networks from small to large: the smallest and the largest by MACs, then random ones.

    Each random one has a leaning of its own, between "mostly the smallest options" and "mostly the largest", so that
    the whole range of latencies is covered; uniform draws would all lie near the middle. A small space may give fewer.
    """
    costs = count_costs(space, "macs").layers
    small, large = [int(np.argmin(c)) for c in costs], [int(np.argmax(c)) for c in costs]
    found = {space.network(a): a for a in (space.architecture(small), space.architecture(large))}
    rng = np.random.default_rng(seed)
    for _ in range(ATTEMPTS * count):
        if len(found) >= count:
            break
        leaning = float(rng.uniform(-1, 1))
        extreme = large if leaning > 0 else small
        fixed = rng.random(len(costs)) < abs(leaning)
        drawn = space.architecture(
            [e if f else int(rng.integers(len(c))) for e, f, c in zip(extreme, fixed, costs, strict=True)]
        )
        found.setdefault(space.network(drawn), drawn)
    return list(found.values())


def time_all(
    space: Space, networks: Sequence[Architecture], runtime: Runtime, rounds: int, threads: int, batch: int, seed: int,
    progress: Progress | None,
) -> dict[str, Timing]:  # fmt: skip
    """Every piece of a space and every given network, timed in one schedule."""
    shape = (space.in_channels, space.input_size, space.input_size)
    found = pieces(space)
    for i, architecture in enumerate(networks):
        spec = space.network(architecture)
        found[network_key(i)] = Piece(lambda spec=spec: build(spec, 0), shape)
    sessions: dict[str, tuple[Any, np.ndarray]] = {}
    with nullcontext() if runtime.in_memory else tempfile.TemporaryDirectory(prefix="singlepath-") as folder:
        for number, (name, piece) in enumerate(found.items(), start=1):
            sessions[name] = open_session(runtime, piece.build(), piece.shape, Path(folder or "."), threads, batch)
            if progress:
                progress(f"building, {number} of {len(found)}", BUILDING * number / len(found))
        later = (lambda text, share: progress(text, BUILDING + (1 - BUILDING) * share)) if progress else None
        return time_interleaved(sessions, runtime, rounds, seed, later)


def layer_timings(space: Space, timings: Mapping[str, Timing]) -> tuple[dict[str, dict[str, BlockTiming]], float]:
    """The table's layers, and the ms of everything that is not searched."""
    kinds = ("min", "p10", "median")
    statistics = {kind: block_ms(space, {k: getattr(t, kind) for k, t in timings.items()}) for kind in kinds}
    blocks, ends = block_ms(space, {k: t.ms for k, t in timings.items()})
    rounds = min(t.rounds for t in timings.values())

    def timing(layer: Layer, number: int) -> BlockTiming:
        block = layer.block(layer.options[number])
        if block is None:
            return BlockTiming(ms=0.0)
        found = {name: values[signature(block)] for name, (values, _) in statistics.items()}
        return BlockTiming(ms=blocks[signature(block)], statistics=found | {"rounds": rounds})

    layers = {
        layer.name: {token: timing(layer, i) for i, token in enumerate(layer.tokens)} for layer in space.searchable
    }
    fixed = [layer.block(layer.options[0]) for layer in space.layers if not layer.searchable]
    return layers, ends + sum(blocks[signature(b)] for b in fixed if b is not None)


def correct(sums: Sequence[float], whole: Sequence[float]) -> Correction:
    """Slope and intercept (ms) from the sums of blocks to whole networks, least squares of the relative error.

    Where the networks do not tell a slope (all of one size, or falling), the ratio alone.
    """
    x, y = np.asarray(sums), np.asarray(whole)
    if np.ptp(x) > 1e-9 * x.max():
        slope, intercept = np.polyfit(x, y, 1, w=1 / y)
        if slope > 0:
            return Correction(slope=float(slope), intercept=float(intercept), networks=len(x))
    return Correction(slope=float(np.median(y / x)), networks=len(x))


def validate(predicted: Sequence[float], whole: Sequence[float]) -> Validation | None:
    """The error on networks that the correction has not seen; None for fewer than three."""
    if len(whole) < 3:
        return None
    p, y = np.asarray(predicted), np.asarray(whole)
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (p, y)])
    return Validation(
        rmse_ms=float(np.sqrt(np.mean((p - y) ** 2))),
        mean_ms=float(y.mean()),
        error95=float(np.quantile(np.abs(p - y) / y, 0.95)),
        spearman=float(np.asarray(np.corrcoef(ranks))[0, 1]),
        networks=len(y),
    )


def spread(space: Space, networks: Sequence[Architecture], whole: Sequence[float]) -> list[dict[str, Any]]:
    """The calibration networks: evenly from the fastest to the slowest."""
    order = np.argsort(whole)
    picked = dict.fromkeys(int(order[round(i)]) for i in np.linspace(0, len(order) - 1, CALIBRATION))
    return [{"string": space.string(networks[i]), "choices": list(networks[i].choices), "ms": whole[i]} for i in picked]
