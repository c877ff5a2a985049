"""The flat gates are the definitions of `gates`, one gate at a time."""

from __future__ import annotations

import pytest
import torch

from singlepath.costs import count_costs
from singlepath.spaces import make
from singlepath.supernet.gates import option_probabilities, ratios

from .helpers import TEXTS, supernet


@pytest.mark.parametrize("text", [*TEXTS, "mobile(width=0.25, input_size=64, kernels=(3, 5, 7), se=(0.0, 0.25))"])
def test_flat_gates_are_their_definitions(text: str) -> None:
    space = make(text)
    net = supernet(space, dtype=torch.float32)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(torch.rand(p.shape, generator=g) + 0.5)
    excitations = [b.se.conv_expand.weight if b.se is not None else None for b in net.super_blocks]
    expected = ratios(space, [b.conv_dw.weight for b in net.super_blocks], excitations)
    assert torch.allclose(net.ratios(), expected, rtol=2e-6, atol=0)
    assert not torch.allclose(expected, torch.ones(()), rtol=1e-2)

    p = torch.rand(len(net.gates), generator=g, dtype=torch.float64)
    p[::5], p[1::5] = 0.0, 1.0
    wanted = option_probabilities(space, net.gates, p)
    for a, b in zip(net.option_probabilities(p), wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=0)
    costs = count_costs(space, "macs")
    assert net.expected_cost(costs, p).item() == pytest.approx(costs.expected(wanted).item(), rel=1e-12)
