"""How a recomputation reports: a table, one check a promise, and the last line of JSON.

The shape is the one every benchmark of the project prints: ``{"checks": [{"name", "value", "limit", "holds"}],
"holds": ...}``, exit status 0 only where all checks hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from singlepath.environment import environment

__all__ = ["Check", "at_most", "equal", "finish", "table"]


@dataclass(frozen=True)
class Check:
    """One promise: the value as computed, never clipped, and its limit."""

    name: str
    value: float
    limit: float
    holds: bool


def at_most(name: str, value: float, limit: float) -> Check:
    """Holds where value <= limit; never for NaN."""
    return Check(name, float(value), limit, bool(value <= limit))


def equal(name: str, value: float, limit: float) -> Check:
    """Holds where a count is exactly the one that is named."""
    return Check(name, float(value), limit, bool(value == limit))


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts as aligned columns under a title, the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))

    return "\n".join([title, line(head), line(["-" * w for w in widths]), *map(line, rows)]) + "\n"


def finish(checks: Sequence[Check], as_json: bool, **more: Any) -> int:
    """Print the checks and, where asked, the last line; returns the exit status."""
    holds, made = bool(checks) and all(c.holds for c in checks), environment()
    rows = [[c.name, f"{c.value:.4g}", f"{c.limit:.4g}", "holds" if c.holds else "DOES NOT HOLD"] for c in checks]
    print(table("Checks", ["check", "value", "limit", ""], rows))
    print(f"{'all hold' if holds else 'DOES NOT HOLD'}; commit {made['commit'] or 'unknown'}")
    if as_json:
        shown = {"checks": [asdict(c) for c in checks], "holds": holds, **more}
        shown |= {"versions": made["versions"], "commit": made["commit"]}
        print(json.dumps(_finite(shown), allow_nan=False))
    return 0 if holds else 1


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
