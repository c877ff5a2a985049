"""Optimisers that change parts of parameters: one small function each, with explicit state.

A supernet pass uses slices of the weights. What lies outside the executed child must get no update, no momentum and no
decay, so the optimiser works on `View`s: `parameter[index]`, its gradient, and the same index of the state. A plain
network is the case in which every index is the whole parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["OPTIMISERS", "State", "TrainedPart", "WholeParameter", "adam", "rmsprop", "sgd", "whole"]

State = dict[str, Tensor]


class TrainedPart(Protocol):
    """What an optimiser needs of a part of a parameter; `supernet.View` is one."""

    @property
    def name(self) -> str: ...
    @property
    def parameter(self) -> nn.Parameter: ...
    @property
    def index(self) -> tuple[slice, ...] | None: ...
    @property
    def leaf(self) -> Tensor: ...


class WholeParameter:
    """A whole parameter as a trained part."""

    def __init__(self, name: str, parameter: nn.Parameter) -> None:
        self.name, self.parameter, self.index, self.leaf = name, parameter, None, parameter


def whole(module: nn.Module) -> Sequence[TrainedPart]:
    return [WholeParameter(n, p) for n, p in module.named_parameters() if p.requires_grad]


def decays(part: TrainedPart) -> bool:
    """Weight decay acts on convolution and linear weights, not on BN or biases (so does the paper's release on BN)."""
    return part.parameter.dim() > 1


def _lists(parts: Sequence[TrainedPart], state: State, kind: str, start: float) -> list[list[Tensor]]:
    """[values, gradients, state] of the parts that have a gradient, as views of the same shape."""
    values, gradients, kept = [], [], []
    for part in parts:
        if part.leaf.grad is None:
            continue
        key, data = f"{kind}/{part.name}", part.parameter.detach()
        known = state.get(key)
        if known is None:
            known = state[key] = torch.full_like(data, start, memory_format=torch.preserve_format)
        elif known.device != data.device:  # read from a checkpoint
            known = state[key] = known.to(data.device, memory_format=torch.preserve_format)
        values.append(data if part.index is None else data[part.index])
        kept.append(known if part.index is None else known[part.index])
        gradients.append(part.leaf.grad)
    return [values, gradients, kept]


def _decay(parts: Sequence[TrainedPart], values: list[Tensor], gradients: list[Tensor], decay: float) -> None:
    """g += decay * w where decay acts; in the gradients themselves, which nothing reads afterwards."""
    chosen = [i for i, part in enumerate(p for p in parts if p.leaf.grad is not None) if decays(part)]
    if decay and chosen:
        torch._foreach_add_([gradients[i] for i in chosen], [values[i] for i in chosen], alpha=decay)


@torch.no_grad()
def sgd(parts: Sequence[TrainedPart], state: State, lr: float, *, momentum: float = 0.9, decay: float = 0.0) -> None:
    """Nesterov's SGD:  g += decay w;  m = momentum m + g;  w -= lr (g + momentum m)."""
    values, gradients, m = _lists(parts, state, "momentum", 0.0)
    _decay(parts, values, gradients, decay)
    torch._foreach_mul_(m, momentum)
    torch._foreach_add_(m, gradients)
    torch._foreach_add_(values, gradients, alpha=-lr)
    torch._foreach_add_(values, m, alpha=-lr * momentum)


@torch.no_grad()
def rmsprop(
    parts: Sequence[TrainedPart], state: State, lr: float, *, momentum: float = 0.9, decay: float = 0.0,
    rho: float = 0.9, eps: float = 1e-3,
) -> None:  # fmt: skip
    """TensorFlow's RMSProp: epsilon inside the root, mean square starting at 1.

    s = rho s + (1 - rho) g^2;  m = momentum m + lr g / sqrt(s + eps);  w -= m.
    """
    values, gradients, m = _lists(parts, state, "momentum", 0.0)
    squares = _lists(parts, state, "square", 1.0)[2]
    _decay(parts, values, gradients, decay)
    torch._foreach_mul_(squares, rho)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - rho)
    root = torch._foreach_add(squares, eps)
    torch._foreach_sqrt_(root)
    torch._foreach_mul_(m, momentum)
    torch._foreach_addcdiv_(m, gradients, root, value=lr)
    torch._foreach_sub_(values, m)


@torch.no_grad()
def adam(value: Tensor, gradient: Tensor, state: State, lr: float, *, betas: tuple[float, float] = (0.9, 0.99)) -> None:
    """Adam (arXiv 1412.6980) on one tensor, for the gates' thresholds; no decay."""
    state.setdefault("mean", torch.zeros_like(value))
    state.setdefault("square", torch.zeros_like(value))
    state.setdefault("count", torch.zeros((), dtype=torch.int64))
    state["count"] += 1
    n, (b1, b2) = int(state["count"]), betas
    state["mean"].lerp_(gradient, 1 - b1)
    state["square"].lerp_(gradient * gradient, 1 - b2)
    value -= lr * (state["mean"] / (1 - b1**n)) / ((state["square"] / (1 - b2**n)).sqrt() + 1e-8)


OPTIMISERS: dict[str, Callable[..., None]] = {"sgd": sgd, "rmsprop": rmsprop}
