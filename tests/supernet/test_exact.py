"""The supernet is its children: outputs, gate gradients and weight gradients, statistics, extraction."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from singlepath.spaces import make
from singlepath.supernet import Probes, Setting, Supernet, Views, build, frozen_statistics, recalibrate
from singlepath.supernet.gates import chain_slices

from .helpers import TEXTS, images, random_settings, relative, supernet


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_both_engines_are_the_child(text: str, mode: str) -> None:
    space, rng = make(text), np.random.default_rng(1)
    net = supernet(space)
    for seed in range(4):
        architecture = space.sample(rng)
        child = net.extract(architecture).train(mode == "train")
        net.train(mode == "train")
        settings, x = net.settings(architecture), images(space, seed)
        with torch.no_grad(), frozen_statistics(net), frozen_statistics(child):
            expected = child(x)
            assert relative(net(x, settings), expected) <= 1e-12
            assert relative(net.masked(x, net.effective_gates(settings).double()), expected) <= 1e-12


@pytest.mark.parametrize("text", [TEXTS[1], TEXTS[2], TEXTS[5]])
def test_fp32_is_exact_to_1e6(text: str) -> None:
    space, rng = make(text), np.random.default_rng(1)
    net = supernet(space, dtype=torch.float32)
    x = images(space, dtype=torch.float32, count=32)
    for _ in range(4):
        architecture = space.sample(rng)
        for mode in (True, False):
            net.train(mode)
            child, settings = net.extract(architecture), net.settings(architecture)
            with torch.no_grad(), frozen_statistics(net), frozen_statistics(child):
                assert relative(net(x, settings), child(x)) <= 1e-6
                assert relative(net.masked(x, net.effective_gates(settings)), child(x)) <= 1e-6


def sliced_pass(net: Supernet, settings: list[Setting], x: Tensor, chosen: dict[int, float]) -> tuple[Tensor, Views]:
    views, probes = Views(), Probes(chosen)
    labels = torch.arange(len(x)) % net.space.classes
    F.cross_entropy(net(x, settings, views, probes), labels).backward()
    return net.gate_gradients(settings, views, probes), views


def masked_pass(net: Supernet, settings: list[Setting], x: Tensor) -> Tensor:
    d = net.effective_gates(settings).double().requires_grad_()
    e = torch.cat([torch.cumprod(d[where], 0) for _, _, where in chain_slices(net.gates)])
    labels = torch.arange(len(x)) % net.space.classes
    F.cross_entropy(net.masked(x, e), labels).backward()
    assert d.grad is not None
    return d.grad


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", range(3))
def test_sliced_gradients_are_the_masked_ones(text: str, seed: int) -> None:
    net = supernet(make(text), seed).train()
    settings, x = random_settings(net, seed), images(net.space, seed)
    with frozen_statistics(net):
        gates, views = sliced_pass(net, settings, x, dict.fromkeys(range(len(net.gates)), 1.0))
        sliced = weight_gradients(net, views)
        net.zero_grad(set_to_none=True)
        expected = masked_pass(net, settings, x)
    assert float((gates - expected).abs().max()) <= 1e-10 * max(1.0, float(expected.abs().max()))
    for name, parameter in net.named_parameters():
        full = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert float((sliced[name] - full).abs().max()) <= 1e-10 * max(1.0, float(full.abs().max())), name


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[1], TEXTS[5]])
def test_a_half_open_gates_gradient_is_the_masked_one_half_way(text: str) -> None:
    net = supernet(make(text), 0).train()
    x, labels = images(net.space, 0), torch.arange(6) % net.space.classes
    tested = {"kernel": 0, "expansion": 0, "skip": 0, "tied": 0}
    for seed in range(3):
        settings = random_settings(net, seed)
        e = net.effective_gates(settings).double()
        for layer, kind, where in chain_slices(net.gates):
            gate = where.start + int(e[where].sum())
            if kind == "tied" or gate == where.stop or not (settings[layer].on or kind == "skip"):
                continue  # a tied gate's columns would be computed with half a ring
            half = e.index_fill(0, torch.tensor([gate]), 0.5).requires_grad_()
            with frozen_statistics(net):
                views, probes = Views(), Probes({gate: 1.0}, at=0.5)
                loss = F.cross_entropy(net(x, settings, views, probes), labels)
                loss.backward()
                found = net.gate_gradients(settings, views, probes)[gate]
                whole = F.cross_entropy(net.masked(x, half), labels)
                (expected,) = torch.autograd.grad(whole, half)
            net.zero_grad(set_to_none=True)
            assert float(loss.detach()) == pytest.approx(float(whole.detach()), rel=1e-10)
            assert float(found) == pytest.approx(float(expected[gate]), rel=1e-8, abs=1e-10), net.gates[gate].name
            tested[kind] += 1
    assert sum(tested.values()) >= 10 and tested["skip"] > 0


def weight_gradients(net: Supernet, views: Views) -> dict[str, Tensor]:
    """The gradient of every parameter by its full name; zero outside the child."""
    found = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for view in views.taken:
        grad = view.leaf.grad
        assert grad is not None, view.name
        target = found[view.name]
        if view.index is None:
            target += grad
        else:
            target[view.index] += grad
    return found


def test_views_leave_the_parameters_alone() -> None:
    net = supernet(make(TEXTS[1])).train()
    settings = random_settings(net, 0)
    _, views = sliced_pass(net, settings, images(net.space), {})
    whole = {id(v.parameter) for v in views.taken if v.leaf is v.parameter}
    for block in net.super_blocks:
        for parameter in block.parameters():
            assert id(parameter) in whole or parameter.grad is None
    skipped = [i for i, s in enumerate(settings) if not s.on]
    prefixes = [f"layers.{i + 1}." for i in skipped]
    assert skipped
    assert not [v.name for v in views.taken if v.name.startswith(tuple(prefixes))]


@pytest.mark.parametrize("text", [TEXTS[2], TEXTS[5]])
def test_sampled_probes_weighted_by_one_over_p_are_unbiased(text: str) -> None:
    """Every gate is in one of two halves, each drawn with probability 1/2: their mean is the full gradient."""
    net = supernet(make(text)).train()
    settings, x = random_settings(net, 3), images(net.space)
    half = set(np.random.default_rng(0).choice(len(net.gates), len(net.gates) // 2, replace=False).tolist())
    halves = ({g: 2.0 for g in half}, {g: 2.0 for g in range(len(net.gates)) if g not in half})
    with frozen_statistics(net):
        full, _ = sliced_pass(net, settings, x, dict.fromkeys(range(len(net.gates)), 1.0))
        first, second = (sliced_pass(net, settings, x, chosen)[0] for chosen in halves)
    assert torch.allclose((first + second) / 2, full, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(first, full)


def statistics(net: nn.Module) -> list[Tensor]:
    return [b.clone() for name, b in net.named_buffers() if "running" in name or "num_batches" in name]


def test_frozen_statistics_and_probes_leave_running_statistics_alone() -> None:
    net = supernet(make(TEXTS[5])).train()
    before = statistics(net)
    settings, x = random_settings(net, 0), images(net.space)
    with frozen_statistics(net):
        sliced_pass(net, settings, x, dict.fromkeys(range(len(net.gates)), 1.0))
        net.masked(x, net.effective_gates(settings).double())
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(net), strict=True))
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, nn.BatchNorm2d))

    probed, plain = copy.deepcopy(net), copy.deepcopy(net)
    sliced_pass(probed, settings, x, dict.fromkeys(range(len(net.gates)), 1.0))
    sliced_pass(plain, settings, x, {})
    same = zip(statistics(probed), statistics(plain), strict=True)
    assert all(torch.equal(a, b) for a, b in same)  # probes of closed branches leave no trace
    assert not all(torch.equal(a, b) for a, b in zip(before, statistics(plain), strict=True))


def test_extracted_networks_share_no_memory() -> None:
    space = make(TEXTS[2])
    net = supernet(space, dtype=torch.float32)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    child = net.extract(space.largest())
    own = {t.untyped_storage().data_ptr() for t in net.state_dict().values()}
    assert not own & {t.untyped_storage().data_ptr() for t in child.state_dict().values()}
    assert all(p.requires_grad for p in child.parameters())
    with torch.no_grad():
        for p in child.parameters():
            p.fill_(7.0)
        child.train()(images(space, dtype=torch.float32))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_recalibration_is_the_equal_average_over_batches() -> None:
    space = make(TEXTS[1])
    net = supernet(space)
    child = net.extract(space.largest()).eval()
    batches = [images(space, seed, count=8) for seed in range(3)]
    recalibrate(child, batches)
    with torch.no_grad():
        means = torch.stack([child.conv_stem(x).mean((0, 2, 3)) for x in batches]).mean(0)
    assert torch.allclose(child.bn1.running_mean, means, atol=1e-12)  # type: ignore[arg-type]
    assert not child.training
    assert child.bn1.momentum == 0.1
    first = {k: v.clone() for k, v in child.state_dict().items()}
    recalibrate(child, batches)  # from scratch each time: statistics never leak between candidates
    assert all(torch.equal(first[k], v) for k, v in child.state_dict().items())


def test_recalibration_of_the_child_is_that_of_the_supernet() -> None:
    space, rng = make(TEXTS[5]), np.random.default_rng(0)
    net, architecture = supernet(space), space.sample(rng)
    settings, x = net.settings(architecture), images(space)
    child = net.extract(architecture)
    recalibrate(child, [x])
    net.train()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    with torch.no_grad():
        net(x, settings)
        assert relative(net.eval()(x, settings), child.eval()(x)) <= 1e-12


def test_weights_are_a_function_of_the_seed() -> None:
    space = make(TEXTS[1])
    a, b, c = build(space, 3).state_dict(), build(space, 3).state_dict(), build(space, 4).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)
