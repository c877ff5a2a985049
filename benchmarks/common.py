"""What every benchmark shares: options, checks, the table and the last line of JSON.

A benchmark prints a table and, with --json, as its last line ``{"checks": [{"name", "value", "limit", "holds"}],
"holds": ...}``; it exits with 0 only when every check holds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Check", "at_least", "at_most", "commit", "finish", "hardware", "one_thread", "parser", "table"]


@dataclass(frozen=True)
class Check:
    """One promise: the value as measured, never clipped, and its limit."""

    name: str
    value: float
    limit: float
    holds: bool


def at_most(name: str, value: float, limit: float) -> Check:
    """Holds where value <= limit; never for NaN."""
    return Check(name, float(value), limit, bool(value <= limit))


def at_least(name: str, value: float, limit: float) -> Check:
    return Check(name, float(value), limit, bool(value >= limit))


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has: --json, --quick, --seed."""
    first = (description or "").strip().splitlines()[0]
    options = argparse.ArgumentParser(description=first)
    options.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    options.add_argument("--quick", action="store_true", help="a shorter run of the same code, marked as such")
    options.add_argument("--seed", type=int, default=0)
    return options


def one_thread() -> None:
    torch.set_num_threads(1)


def hardware() -> str:
    """The processor's name, the threads in use and torch's version, in one line."""
    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def commit() -> str:
    """The commit of the checkout, with + where files differ from it; empty outside one."""
    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        found = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.strip() + ("+" if changed.strip() else "")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned text, numbers to the right."""
    texts = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *texts]) for i in range(len(head))]
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(head), line(["-" * w for w in widths]), *map(line, texts)])


def finish(args: argparse.Namespace, checks: Sequence[Check], **more: Any) -> int:
    """Print the checks and, with --json, the last line; returns the exit status: 0 where all checks hold, else 1."""
    holds = bool(checks) and all(c.holds for c in checks)
    print(table(["check", "value", "limit", "holds"], [[c.name, c.value, c.limit, c.holds] for c in checks]))
    print(
        f"{'all hold' if holds else 'DOES NOT HOLD'}{' (quick)' if args.quick else ''}; {hardware()}; commit {commit()}"
    )
    if args.json:
        shown = {"checks": [asdict(c) for c in checks], "holds": holds, "quick": args.quick, "seed": args.seed, **more}
        print(json.dumps({**shown, "hardware": hardware(), "commit": commit()}), flush=True)
    return 0 if holds else 1
