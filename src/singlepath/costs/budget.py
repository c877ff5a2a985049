"""Budgets as people write them: ``80ms``, ``300MMACs``, ``4Mparams``, ``60%`` of the largest network's cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from singlepath.costs.model import CostModel
from singlepath.errors import UserError, user_error

__all__ = ["FILL", "Budget", "Limit", "parse_budget"]

FILL = 0.9  # a network of a budget costs between this share of it and all of it
UNITS = {
    "ms": ("latency", 1.0), "s": ("latency", 1e3), "us": ("latency", 1e-3),
    "macs": ("macs", 1e-6), "kmacs": ("macs", 1e-3), "mmacs": ("macs", 1.0), "gmacs": ("macs", 1e3),
    "params": ("parameters", 1e-6), "kparams": ("parameters", 1e-3), "mparams": ("parameters", 1.0),
    "%": ("", 0.01),
}  # fmt: skip
EXAMPLES = "80ms, 300MMACs, 4Mparams or 60%"


@dataclass(frozen=True)
class Limit:
    """A budget as written; `kind` is "latency", "macs", "parameters", or "" for a share of the largest latency."""

    text: str
    kind: str
    value: float


@dataclass(frozen=True)
class Budget:
    """An upper limit on predicted cost, resolved against a cost model.

    Attributes:
        limit: the limit, in `costs.unit`.
        target: what the search aims at, limit / (1 + the table's 95 % error), so that the measured figure stays under
            it too; not below the smallest network.
    """

    text: str
    limit: float
    target: float
    costs: CostModel

    def holds(self, cost: float) -> bool:
        return cost <= self.limit * (1 + 1e-12)

    @property
    def least(self) -> float:
        """What candidates cost at least: 90 % of the limit, or of the target where that is below it."""
        return FILL * (self.limit if FILL * self.limit < self.target else self.target)

    def filled(self, cost: float) -> bool:
        return self.holds(cost) and cost >= FILL * self.limit


def parse_budget(text: str) -> Limit:
    """Read a budget.

    Raises:
        UserError: not a number with a unit we know; FLOPs are refused, naming MMACs.
    """
    match = re.fullmatch(r"\s*((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-zµ%]+)\s*", str(text).lower())
    unit = match[2].replace("µ", "u") if match else ""
    if "flop" in unit:
        raise user_error(
            f"budget {text!r}",
            "papers count FLOPs in two ways, so only multiply-accumulates are taken",
            "type 300MMACs",
        )
    if not match or unit not in UNITS:
        raise user_error(
            f"budget {text!r}", "allowed: a number with ms, MMACs, Mparams or %", f"type for example {EXAMPLES}"
        )
    kind, factor = UNITS[unit]
    value = float(match[1]) * factor
    if not 0 < value < math.inf or (unit == "%" and value > 1):
        raise user_error(f"budget {text!r}", "allowed: above 0, and at most 100%", f"type for example {EXAMPLES}")
    return Limit(str(text), kind, value)


def resolve(
    limit: Limit, costs_of: Callable[[str], CostModel], share_of: str = "latency", flag: str = "--budget"
) -> Budget:
    """A budget against the cost model of its kind; one in % is a share of the largest network's cost of `share_of`.

    Raises:
        UserError: no network of the space is that small; names the smallest.
    """
    costs = costs_of(limit.kind or share_of)
    value = limit.value if limit.kind else limit.value * costs.largest
    if value < costs.smallest:
        raise below_smallest(limit.text, costs, flag)
    target = max(value / (1 + costs.error95), min(costs.smallest, value))
    return Budget(limit.text, value, target, costs)


def below_smallest(text: str, costs: CostModel, flag: str) -> UserError:
    least, most = costs.smallest, costs.largest
    decimals = max(2, 3 - math.floor(math.log10(least)))
    step = 10.0**-decimals
    return user_error(
        f"budget {text} is below the smallest network of this space, {least:.{decimals}f} {costs.unit}",
        f"allowed: {least:.{decimals}f} to {most:.{decimals}f} {costs.unit}",
        f"type {flag} {math.ceil(least / step) * step:.{decimals}f}{costs.unit} or more "
        f"({math.ceil(100 * least / most)}% of the largest)",
    )
