"""What a network costs: counted (MACs, parameters, activation memory) or looked up in a latency table; and budgets."""

from singlepath.costs.budget import Budget, parse_budget
from singlepath.costs.counts import activation_bytes, count_costs, macs, parameters
from singlepath.costs.model import CostModel
from singlepath.costs.table import LatencyTable, shipped_tables

__all__ = [
    "Budget", "CostModel", "LatencyTable", "activation_bytes", "count_costs", "macs", "parameters", "parse_budget",
    "shipped_tables",
]  # fmt: skip
