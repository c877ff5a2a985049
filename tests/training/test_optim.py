"""Optimisers against references, and on slices: what a child does not use stays as it is, to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from singlepath.architecture import Architecture
from singlepath.spaces import make
from singlepath.supernet import Supernet, Views, build
from singlepath.training.optim import OPTIMISERS, adam, rmsprop, sgd, whole


def module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5)).double()


def gradients(net: nn.Module, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=g, dtype=p.dtype)


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.0), (0.9, 0.05), (0.5, 0.01)])
def test_sgd_is_torchs_nesterov_with_decay_on_matrices_only(momentum: float, decay: float) -> None:
    ours, theirs = module(), module()
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in theirs.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=True)
    state: dict[str, Tensor] = {}
    for step in range(6):
        gradients(ours, step)
        gradients(theirs, step)
        sgd(whole(ours), state, 0.1, momentum=momentum, decay=decay)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_rmsprop_is_tensorflows_number_by_number() -> None:
    """s starts at 1 and epsilon is inside the root: torch's RMSProp has neither, so the reference is written out."""
    net = module()
    lr, momentum, decay, rho, eps = 0.02, 0.9, 0.03, 0.9, 1e-3
    reference = [(p, [(float(w), 1.0, 0.0) for w in p.detach().flatten()], p.dim() > 1) for p in net.parameters()]
    state: dict[str, Tensor] = {}
    for step in range(4):
        gradients(net, step)
        for p, values, decays in reference:
            assert p.grad is not None
            for i, g in enumerate(p.grad.flatten().tolist()):
                w, s, m = values[i]
                g += decay * w if decays else 0.0
                s = rho * s + (1 - rho) * g * g
                m = momentum * m + lr * g / math.sqrt(s + eps)
                values[i] = (w - m, s, m)
        rmsprop(whole(net), state, lr, momentum=momentum, decay=decay)
    for p, values, _ in reference:
        expected = torch.tensor([w for w, _, _ in values], dtype=p.dtype).view_as(p)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-12)


def test_adam_is_torchs() -> None:
    ours = torch.linspace(-1, 1, 7, dtype=torch.float64)
    theirs = nn.Parameter(ours.clone())
    reference = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    state: dict[str, Tensor] = {}
    for step in range(10):
        gradient = torch.sin(torch.arange(7, dtype=torch.float64) + step)
        theirs.grad = gradient.clone()
        reference.step()
        adam(ours, gradient, state, 0.1)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)


def test_what_has_no_gradient_is_left_alone() -> None:
    net = module()
    gradients(net, 0)
    first = next(net.parameters())
    first.grad, before, state = None, first.detach().clone(), {}
    sgd(whole(net), state, 0.1, momentum=0.9, decay=0.1)
    assert torch.equal(first, before)
    assert set(state) == {f"momentum/{n}" for n, p in net.named_parameters() if p is not first}


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_a_state_read_from_a_checkpoint_moves_to_the_parameters_device_once(name: str) -> None:
    """`Run.load` reads to the CPU; the device without memory stands for a GPU."""
    state: dict[str, Tensor] = {}
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    gradients(net, 0)
    OPTIMISERS[name](whole(net), state, 0.1)
    net = net.to("meta")
    net.weight.grad, net.bias.grad = torch.empty_like(net.weight), torch.empty_like(net.bias)  # type: ignore[union-attr]
    OPTIMISERS[name](whole(net), state, 0.1)
    assert {t.device.type for t in state.values()} == {"meta"}
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in state.values() if t.dim() == 4)
    moved = dict(state)
    OPTIMISERS[name](whole(net), state, 0.1)
    assert all(state[k] is moved[k] for k in moved)


# -- slices of a supernet ---------------------------------------------------------------------------------------------

SPACE = make("mobile-small(width=0.5, input_size=16)")


def trained(net: Supernet, tokens: Architecture, state: dict[str, Tensor], update: Callable[..., None]) -> None:
    views = Views()
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    net(x.contiguous(memory_format=torch.channels_last), net.settings(tokens), views).square().mean().backward()
    update(views.taken, state, 0.05, momentum=0.9, decay=0.01)
    for view in views.taken:
        view.leaf.grad = None


def inside(name: str, tensor: Tensor, mid: int) -> Tensor:
    """True where a k3 e3 block of `mid` channels has its weights, by the nesting of the superkernel's definition."""
    mask = torch.zeros_like(tensor, dtype=torch.bool)
    if name == "conv_dw.weight":
        mask[:mid, :, 1:4, 1:4] = True
    elif name == "conv_pwl.weight":
        mask[:, :mid] = True
    elif name.startswith(("conv_pw.", "bn1.", "bn2.")):
        mask[:mid] = True
    else:
        mask[:] = True
    return mask


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_outside_the_executed_child_nothing_moves(name: str) -> None:
    """No update, no momentum, no decay: after a pass of the largest child filled the state, a small child's pass."""
    net, state, update = build(SPACE, 0), {}, OPTIMISERS[name]
    trained(net, SPACE.largest(), state, update)
    choices = ["skip" if layer.skippable else "k3_e3" for layer in SPACE.searchable]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kept = {k: v.clone() for k, v in state.items()}
    trained(net, Architecture(SPACE.id, tuple(choices)), state, update)
    after, checked = net.state_dict(), 0
    position = {layer.name: i for i, layer in enumerate(SPACE.layers)}
    for layer in SPACE.searchable:
        prefix = f"layers.{position[layer.name]}."
        mid = round(3 * layer.in_channels)
        for key in [k for k, _ in net.named_parameters() if k.startswith(prefix)]:
            mask = inside(key.removeprefix(prefix), before[key], mid)
            if layer.skippable:
                mask = torch.zeros_like(mask)
            pairs = [(before[key], after[key])] + [(kept[k], state[k]) for k in state if k.endswith(f"/{key}")]
            for old, new in pairs:
                assert torch.equal(old[~mask], new[~mask]), key
                assert not mask.any() or (old[mask] != new[mask]).float().mean() > 0.5, key
            checked += int((~mask).sum())
    assert checked > 10_000
    assert torch.equal(before["thresholds"], after["thresholds"])
    stats = [k for k in after if "running" in k]
    unused = [f"layers.{position[layer.name]}." for layer in SPACE.searchable if layer.skippable]
    assert all(torch.equal(before[k], after[k]) for k in stats if k.startswith(tuple(unused)))
    assert not any(torch.equal(before[k], after[k]) for k in ("bn1.running_mean", "bn2.running_mean"))


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_a_slice_is_updated_as_a_parameter_of_its_own_would_be(name: str) -> None:
    weight = nn.Parameter(torch.linspace(-1, 1, 24, dtype=torch.float64).view(4, 6))
    index = (slice(0, 3), slice(2, 5))
    own = nn.Parameter(weight.detach()[index].clone())

    class Part:
        def __init__(self, parameter: nn.Parameter, where: tuple[slice, ...] | None) -> None:
            self.name, self.parameter, self.index, self.leaf = "w", parameter, where, Tensor()

    sliced, alone = Part(weight, index), Part(own, None)
    states: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for step in range(5):
        gradient = torch.cos(torch.arange(9, dtype=torch.float64) + step).view(3, 3)
        for part, state in zip((sliced, alone), states, strict=True):
            part.leaf = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
            part.leaf.grad = gradient.clone()
            OPTIMISERS[name]([part], state, 0.1, momentum=0.9, decay=0.1)
    torch.testing.assert_close(weight.detach()[index], own.detach(), rtol=0, atol=0)
