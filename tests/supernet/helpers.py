"""What the supernet's tests share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from singlepath.spaces import SPACES, Space
from singlepath.supernet import Setting, Supernet, build, sample_settings

TEXTS = (
    "mobile(width=0.25, input_size=32, classes=5)",
    "mobile-small(width=0.5, input_size=16, classes=5)",
    "mobile-small(width=0.5, input_size=16, classes=5, kernels=(3, 5, 7), se=(0, 0.25, 0.5), activation='hard_swish')",
    "mobile-small(width=0.5, input_size=16, classes=5, expansions=(1, 2.5, 4), se=(0.25, 0.5), padding='same')",
    "mobile-small(width=0.5, input_size=17, in_channels=1, se=(0.0, 0.5), skip=False, padding='same')",
    "macro(width=0.25, input_size=16)",
)
TEXTS += tuple(f"{n}(input_size=16, classes=5)" for n in SPACES if not any(t.startswith(f"{n}(") for t in TEXTS))


def disturb(module: nn.Module, seed: int = 0) -> None:
    """BN scales, shifts and statistics, and biases, as after some training."""
    g = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5, generator=g)
            m.bias.data.normal_(0.0, 0.5, generator=g)
            assert m.running_mean is not None and m.running_var is not None
            m.running_mean.normal_(0.0, 0.3, generator=g)
            m.running_var.uniform_(0.5, 2.0, generator=g)
        elif isinstance(m, nn.Conv2d) and m.bias is not None:
            m.bias.data.normal_(0.0, 0.3, generator=g)


def supernet(space: Space, seed: int = 0, dtype: torch.dtype = torch.float64) -> Supernet:
    net = build(space, seed)
    disturb(net, seed)
    return net.to(dtype)


def images(space: Space, seed: int = 0, dtype: torch.dtype = torch.float64, count: int = 6) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, space.in_channels, space.input_size, space.input_size, generator=g, dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def random_settings(net: Supernet, seed: int) -> list[Setting]:
    return sample_settings(net.space, net.gates, [0.5] * len(net.gates), np.random.default_rng(seed))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max() / b.detach().abs().max())
