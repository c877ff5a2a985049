"""From what a user typed to values: the space, the data, the latency table, the budget."""

from __future__ import annotations

import ctypes
import re
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from singlepath import data as data_room
from singlepath import spaces
from singlepath.costs import Budget, CostModel, LatencyTable, count_costs, parse_budget
from singlepath.costs.budget import Limit, resolve
from singlepath.data import LARGEST, Data
from singlepath.devices import HOST, calibration_networks, device, measure, unmeasurable
from singlepath.devices.host import usable_cores
from singlepath.errors import UserError, user_error
from singlepath.pipeline.progress import note, timing_progress
from singlepath.runs import Run
from singlepath.spaces import Space

__all__ = [
    "Prepared",
    "default_out",
    "load_data",
    "make_space",
    "note_detail",
    "numbers",
    "prepare",
    "seconds",
    "set_threads",
    "table_for",
    "thread_count",
]

COARSE = 1.5  # the images' shorter edge over the input's that is worth a word


def numbers(text: str | None, flag: str) -> tuple[float, ...] | None:
    """ "3,5" -> (3, 5)."""
    if text is None:
        return None
    try:
        values = [float(part) for part in str(text).strip("[]() ").split(",") if part.strip()]
        return tuple(int(v) if v == int(v) else v for v in values)
    except (ValueError, OverflowError):
        raise user_error(f"--{flag} {text!r}", "allowed: numbers apart by commas", f"type --{flag} 3,5") from None


def make_space(
    name: str, *, width: float | None = None, input_size: int | None = None, kernels: str | None = None,
    expansions: str | None = None, se: str | None = None, activation: str | None = None, classes: int | None = None,
    in_channels: int | None = None, padding: str | None = None,
) -> Space:  # fmt: skip
    """The space of a name, with the options that are given."""
    options = {
        "width": width, "input_size": input_size, "kernels": numbers(kernels, "kernels"),
        "expansions": numbers(expansions, "expansions"), "se": numbers(se, "se"), "activation": activation,
        "classes": classes, "in_channels": in_channels, "padding": padding,
    }  # fmt: skip
    return spaces.make(name, **options)


def load_data(source: str, space: Space, *, seed: int, limit: int | None) -> Data:
    """The data at the space's input size and channels."""
    data = data_room.load(source, size=space.input_size, channels=space.in_channels, seed=seed, limit=limit)
    if data.skipped:
        note(f"{len(data.skipped)} images cannot be read and are skipped: {', '.join(data.skipped[:5])}")
    return data


def note_detail(data: Data, space: Space, device_name: str) -> None:
    """Say where images have more detail than the network will see, and what to type for more."""
    side = min(LARGEST, (data.side or 0) // 16 * 16)
    ways = larger_inputs(space, side) if side >= COARSE * space.input_size else []
    if ways:
        table = "" if device_name == HOST else " with a latency table of its own"
        note(
            f"the images have about {data.side} px (shorter edge) and the network sees {space.input_size}: "
            f"{', or '.join(ways)} shows it more{table}, for more time here and on the device "
            "(singlepath check says how much)"
        )


def larger_inputs(space: Space, side: int) -> list[str]:
    """What to type so that more is seen of images whose shorter edge is `side` px: at most twice the input, where the
    space takes it, and `mobile` with the same options for all of it."""
    name, options = spaces.parse_id(space.id)
    twice, ways = min(side, 2 * space.input_size), list[str]()
    with suppress(UserError):
        spaces.make(space.id, input_size=twice)
        ways.append(f"--input-size {twice}")
    if name != "mobile" and side > twice:
        given = {key: value for key, value in options.items() if key not in ("input_size", "classes", "padding")}
        try:
            whole = spaces.make("mobile", **given).id
        except UserError:  # an option of that space alone
            whole = "mobile"
        ways.append(f"--space {shlex.quote(whole)} --input-size {side}")
    return ways


@dataclass(frozen=True)
class Prepared:
    """Everything a search stands on."""

    data: Data
    space: Space
    table: LatencyTable | None
    budget: Budget


def prepare(
    run: Run | None, *, data: str, space: str, device_name: str, budget: str, runtime: str, seed: int, limit: int |
    None, quick: bool, **space_options: Any,
) -> Prepared:  # fmt: skip
    """Check what is cheap to check first, then load the data, measure where the budget needs it, and resolve the
    budget."""
    wanted = parse_budget(budget)
    first = make_space(space, **space_options)
    if device_name != HOST and not counted(wanted) and not (run and run.has("table.json")):
        _ = device(device_name).table
    loaded = load_data(data, first, seed=seed, limit=limit)
    if not (run and run.has("data.json")):  # else it has begun
        note_detail(loaded, first, device_name)
    chosen = make_space(space, classes=len(loaded.classes), **space_options)
    table = (
        None if counted(wanted) else table_for(chosen, device_name, runtime=runtime, seed=seed, quick=quick, run=run)
    )
    return Prepared(loaded, chosen, table, resolve(wanted, cost_models(chosen, table)))


def counted(limit: Limit) -> bool:
    return limit.kind in ("macs", "parameters")


def cost_models(space: Space, table: LatencyTable | None) -> Callable[[str], CostModel]:
    def of(kind: str) -> CostModel:
        if kind == "latency":
            assert table is not None
            return table.costs(space)
        return count_costs(space, kind)

    return of


def table_for(
    space: Space, device_name: str, *, runtime: str, seed: int, quick: bool, run: Run | None = None
) -> LatencyTable:
    """The device's table for a space; the host is measured, once a run."""
    if run and run.has("table.json"):
        return LatencyTable.load(run.path / "table.json")
    chosen = device(device_name)
    if chosen.table is not None:
        table = chosen.table
        table.check(space)
        if not unmeasurable(table):
            calibration_networks(table)  # what is found is timed among them at the end
    else:
        started = time.monotonic()
        with timing_progress("measure") as report:
            table = measure(space, runtime=runtime, seed=seed, quick=quick, progress=report)
        if run:
            run.time({"phase": "measure", "seconds": time.monotonic() - started})
    if run:
        run.write("table.json", table.model_dump())
    return table


def seconds(text: str) -> float:
    """ "90s", "30m", "2h" -> seconds."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*(s|m|min|h)\s*", str(text))
    try:
        value = float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]] if match else 0.0
    except ValueError:
        value = 0.0
    if value <= 0:
        raise user_error(f"time limit {text!r}", "allowed: a number with s, m or h", "type --time-limit 30m")
    return value


def default_out(command: str) -> Path:
    return Path("runs") / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"


def thread_count(threads: int | None) -> int:
    """The CPU threads asked for; by default those of OMP_NUM_THREADS or torch."""
    if threads is not None and threads < 1:
        raise user_error(f"--threads {threads}", "allowed: 1 or more", f"type --threads {usable_cores()}")
    return torch.get_num_threads() if threads is None else threads


def set_threads(threads: int | None) -> int:
    """Use so many CPU threads from now on; returns the number."""
    if (count := thread_count(threads)) != torch.get_num_threads():
        torch.set_num_threads(count)
    return count


def keep_memory() -> None:
    """Let glibc keep freed memory instead of giving it back to the system.

    Activations are larger than its mmap threshold, so every tensor would be mapped, faulted in and unmapped again: a
    forward pass of `mobile-small` at 32 px ran 1.8 times faster with this, forward and backward 1.2 times. It is for a
    whole process, so it is called where one begins: by the command line and by the processes that train.
    """
    with suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def return_memory() -> None:
    """Give the system what `keep_memory` kept, between two jobs of one process: what lies unused between allocations
    grows with every job (to 3 GB in a comparison on digits and CIFAR-10; a training there needs 0.9 and leaves 0.5)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
