"""Gates: indicators, probabilities, draws and the map between settings and architectures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from singlepath.costs import count_costs
from singlepath.spaces import make
from singlepath.supernet import build, sample_settings
from singlepath.supernet.gates import LIMIT

from .helpers import TEXTS


@pytest.mark.parametrize("text", TEXTS)
def test_settings_and_architectures_name_one_another(text: str) -> None:
    space = make(text)
    net = build(space, 0)
    for seed in range(10):
        architecture = space.sample(np.random.default_rng(seed))
        assert net.architecture(net.settings(architecture)) == architecture
    on = net.effective_gates(net.settings(space.largest()))
    assert bool((on == 1).all())


@pytest.mark.parametrize("text", TEXTS)
def test_every_indicator_starts_at_one_and_is_alive(text: str) -> None:
    net = build(make(text), 0)
    x = net.indicators()
    assert x.dtype == torch.float32
    assert torch.allclose(x, torch.ones_like(x), atol=1e-5)
    y = torch.sigmoid(x)
    assert float((y * (1 - y)).min()) >= 0.1
    assert float(net.ratios().min()) >= 0.0


def test_indicators_are_alive_at_any_width_and_clipped() -> None:
    for width in (0.25, 1.0, 2.0):
        net = build(make("mobile", width=width, input_size=224), 0)
        grouped = net.ratios()[[g.chain != "skip" for g in net.gates]]
        assert float((grouped - 1).abs().max()) < 0.5  # relative norms: one at initialisation, at any width
        net.thresholds.fill_(-1e9)
        assert float(net.indicators().max()) == LIMIT
        net.thresholds.fill_(1e9)
        assert float(net.indicators().min()) == -LIMIT


def test_ratios_do_not_see_the_kernels_scale() -> None:
    net = build(make(TEXTS[2]), 0)
    before = net.ratios()
    for block in net.super_blocks:
        block.conv_dw.weight.data.mul_(37.0)
    assert torch.allclose(net.ratios(), before, rtol=1e-5)
    net.super_blocks[0].conv_dw.weight.data.mul_(0.0).add_(0.5)
    assert net.ratios()[0] == pytest.approx(1.0)


@pytest.mark.parametrize("text", TEXTS)
def test_option_probabilities_sum_to_one(text: str) -> None:
    net = build(make(text), 0)
    p = torch.rand(len(net.gates), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for layer, options in zip(net.space.searchable, net.option_probabilities(p), strict=True):
        assert len(options) == len(layer.options)
        assert float(options.sum()) == pytest.approx(1.0, abs=1e-12)
        assert float(options.min()) > 0


@pytest.mark.parametrize("text", [TEXTS[1], TEXTS[2], TEXTS[5]])
def test_draws_have_the_option_probabilities(text: str) -> None:
    space = make(text)
    net = build(space, 0)
    p = np.random.default_rng(0).uniform(0.2, 0.9, len(net.gates))
    expected = net.option_probabilities(torch.from_numpy(p))
    rng, draws = np.random.default_rng(1), 3000
    counts = [Counter() for _ in space.searchable]
    for _ in range(draws):
        drawn = sample_settings(space, net.gates, p.tolist(), rng)
        for count, token in zip(counts, net.architecture(drawn).choices, strict=True):
            count[token] += 1
    for layer, count, ps in zip(space.searchable, counts, expected, strict=True):
        for token, q in zip(layer.tokens, ps.tolist(), strict=True):
            assert abs(count[token] / draws - q) < 4.5 * (q * (1 - q) / draws) ** 0.5 + 1e-9, (layer.name, token)


def test_expected_cost_is_differentiable_and_exact_for_hard_gates() -> None:
    space = make(TEXTS[2])
    net, costs = build(space, 0), count_costs(space, "macs")
    architecture = space.sample(np.random.default_rng(0))
    hard = net.effective_gates(net.settings(architecture)).double().requires_grad_()
    value = net.expected_cost(costs, hard)
    assert value.item() == pytest.approx(costs.of(space.indices(architecture)), rel=1e-9)
    value.backward()
    assert hard.grad is not None
    soft = torch.full_like(hard, 0.6).detach().requires_grad_()
    net.expected_cost(costs, soft).backward()
    assert soft.grad is not None
    assert bool((soft.grad > 0).all())  # every gate costs something


def test_gate_names_are_unique_and_say_what_they_switch() -> None:
    net = build(make(TEXTS[2]), 0)
    names = [g.name for g in net.gates]
    assert len(set(names)) == len(names)
    assert {"1.1.skip", "1.1.kernel5", "1.1.kernel7", "1.1.expansion6", "1.1.se0.25", "1.1.se0.5"} <= set(names)
    assert [g.name for g in build(make("macro"), 0).gates][:2] == ["0.0.skip", "0.0.k5_e6"]
