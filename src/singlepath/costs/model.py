"""An additive cost: something fixed plus one figure for the chosen option of every searchable layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["CostModel"]


@dataclass(frozen=True)
class CostModel:
    """Cost of every option of a space.

    Attributes:
        kind: "latency", "macs" or "parameters".
        unit: "ms", "MMACs" or "Mparams".
        fixed: cost of all that is not searched, in `unit`.
        layers: cost of each option of each searchable layer, in `unit`.
        error95: relative error that 95 % of whole networks stay under; 0 for counted costs.
    """

    kind: str
    unit: str
    fixed: float
    layers: tuple[tuple[float, ...], ...]
    error95: float = 0.0

    def of(self, indices: Sequence[int]) -> float:
        """Cost of the architecture with these option indices."""
        return self.fixed + sum(costs[i] for costs, i in zip(self.layers, indices, strict=True))

    def expected(self, probabilities: Sequence[Tensor]) -> Tensor:
        """Expected cost under independent option probabilities, one vector a layer; differentiable."""
        pairs = zip(self.layers, probabilities, strict=True)
        parts = [(p * torch.as_tensor(costs, dtype=p.dtype, device=p.device)).sum() for costs, p in pairs]
        return torch.stack(parts).sum() + self.fixed

    @property
    def smallest(self) -> float:
        return self.fixed + sum(min(costs) for costs in self.layers)

    @property
    def largest(self) -> float:
        return self.fixed + sum(max(costs) for costs in self.layers)

    def middle(self) -> float:
        """Cost averaged over all architectures."""
        return self.fixed + sum(float(np.mean(costs)) for costs in self.layers)
