"""The paper mode: the release's equations, constants and runtime formula, decoded the right way round."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch

from singlepath.costs import CostModel, LatencyTable, count_costs
from singlepath.errors import UserError
from singlepath.spaces import make
from singlepath.spaces.named import resolve
from singlepath.supernet import frozen_statistics
from singlepath.supernet.paper import (
    PaperSchedule,
    PaperSupernet,
    build_paper,
    decoded,
    drop,
    indicator,
    layer_runtime,
    set_gates,
)

from .helpers import disturb, images, relative

MOBILE = make("mobile")
TEXTS = (
    "mobile(width=0.25, input_size=64, classes=5)", "mobile-small(width=0.5, classes=5)", "macro(width=0.25)",
    "mobile-small(width=0.5, classes=5, padding='same')",
)  # fmt: skip


@pytest.fixture(scope="module")
def mobile() -> PaperSupernet:
    return build_paper(MOBILE, 0)


@pytest.fixture(scope="module")
def pixel1() -> CostModel:
    return LatencyTable.load("pixel1").costs(MOBILE)


def test_runtime_is_the_published_tables(mobile: PaperSupernet, pixel1: CostModel) -> None:
    assert set(mobile.decode().choices) == {"k5_e6"}  # at the start every norm is above its threshold of 0
    assert float(mobile.runtime(pixel1).detach()) == pytest.approx(131.46, abs=0.005)
    subject = copy.deepcopy(mobile)
    set_gates(subject, resolve("spnasnet_100", MOBILE))
    assert subject.decode() == resolve("spnasnet_100", MOBILE)
    assert float(subject.runtime(pixel1).detach()) == pytest.approx(80.59, abs=0.005)
    set_gates(subject, MOBILE.architecture([0 if not layer.skippable else 4 for layer in MOBILE.searchable]))
    assert float(subject.runtime(pixel1).detach()) == pytest.approx(30.63, abs=0.2)  # 3x3-e3 comes from the ratio


@pytest.mark.parametrize("d", list(itertools.product([0.0, 1.0, 1 / 0.6], repeat=3)))
def test_runtime_formula_of_one_layer(d: tuple[float, ...]) -> None:
    """R_total's terms, written out once more from the release's equations."""
    r33, r36, r53, r56 = 3.4111, 6.4022, 4.8853, 9.1518
    d5, d100, d50 = d
    rho = r36 / r56
    r = d50 * (r53 + d100 * (r56 - r53))
    expected = r * rho + r * (1 - rho) * d5
    given: dict[str, torch.Tensor] = {}
    for name, value in zip(("t5x5", "t100c", "t50c"), d, strict=True):
        given[name] = torch.tensor(value, dtype=torch.float64)
    layer = MOBILE.searchable[1]
    assert float(layer_runtime(layer, (r33, r36, r53, r56, 0.0), given)) == pytest.approx(expected, rel=1e-12)


def test_indicators_step_hard_and_learn_by_sigmoid() -> None:
    x = torch.tensor([-2.0, -1e-6, 0.0, 1e-6, 3.0, 20.0], requires_grad=True)
    d = indicator(x)
    assert d.tolist() == [0, 0, 1, 1, 1, 1]
    (grad,) = torch.autograd.grad(d.sum(), x)
    y = torch.sigmoid(x.detach())
    assert torch.allclose(grad, y * (1 - y))
    assert grad[-1] == 0.0  # y is exactly 1 in fp32


def test_indicator_dropout_is_tensorflows() -> None:
    u = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    one = torch.ones(())
    kept = drop(one, 0.6, u)
    assert sorted(set(kept.tolist())) == pytest.approx([0.0, 1 / 0.6])
    assert float((kept > 0).float().mean()) == pytest.approx(0.6, abs=0.02)
    assert torch.equal(drop(one, 100.0, u), torch.ones_like(u))  # the identity, not a factor of 0.01
    assert not drop(torch.zeros(()), 0.6, u).any()


def test_dropped_indicators_are_a_function_of_the_draws() -> None:
    net = build_paper(make(TEXTS[0]), 0)
    x = images(net.space, dtype=torch.float32)
    draws = torch.rand(len(net.thresholds), generator=torch.Generator().manual_seed(7))
    costs = count_costs(net.space, "macs")
    with torch.no_grad(), frozen_statistics(net):
        by_draws = net(x, 0.6, draws=draws)
        runtime = net.runtime(costs)
        values = {round(float(v), 6) for gated in net._kept for v in gated.d.values()}
        by_generator = net(x, 0.6, generator=torch.Generator().manual_seed(7))
        assert values == {0.0, round(1 / 0.6, 6)}
        assert torch.equal(by_draws, by_generator)
        assert torch.equal(net(x, 100.0, draws=draws), net(x))
        assert not torch.equal(by_draws, net(x))
        assert float(net.runtime(costs)) != pytest.approx(float(runtime))  # of the last pass
    assert net.decode() == net.space.largest()  # decoding reads the raw indicators
    with pytest.raises(ValueError, match="generator"):
        net(x, 0.6)


def test_decode_truth_table() -> None:
    layer = MOBILE.searchable[1]
    names = ("d5", "d100", "d50")
    table = itertools.product((0, 1), repeat=3)
    tokens = {d: decoded(layer, dict(zip(names, d, strict=True))).token for d in table}
    assert tokens == {
        (0, 0, 0): "skip", (0, 0, 1): "k3_e3", (0, 1, 0): "skip", (0, 1, 1): "k3_e6",
        (1, 0, 0): "skip", (1, 0, 1): "k5_e3", (1, 1, 0): "skip", (1, 1, 1): "k5_e6",
    }  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_set_gates_is_decoded_back(text: str) -> None:
    net, rng = build_paper(make(text), 0), np.random.default_rng(0)
    for _ in range(20):
        architecture = net.space.sample(rng)
        set_gates(net, architecture)
        assert net.decode() == architecture


def test_norms_are_those_of_the_release() -> None:
    """Un-squared L2 norms of the ring, then of the halves of the gated kernel, in this order."""
    net = build_paper(make(TEXTS[1]), 0)
    block, layer = net.net.super_blocks[1], net.space.searchable[1]
    w = block.conv_dw.weight.detach().double()
    c50 = round(w.shape[0] / 2)
    ring = w.clone()
    ring[..., 1:4, 1:4] = 0
    core = w - ring
    where = block.gate["kernel"], block.gate["expansion"], block.gate["skip"]
    for d5 in (1, 0):
        with torch.no_grad():
            net.thresholds.zero_()
            net.thresholds[where[0]] = 0.0 if d5 else 1e4
        gated = core + d5 * ring
        expected = (ring.norm(), gated[c50:].norm(), gated[:c50].norm())
        x = net._gates()[1].x
        found = [float(x[k].detach()) for k in ("t5x5", "t100c", "t50c")]
        assert found[1:] == pytest.approx([float(e) for e in expected[1:]], rel=1e-5)
        assert found[0] == pytest.approx(float(expected[0]) - (0.0 if d5 else 1e4), rel=1e-5)
    assert layer.skippable
    assert block.channels[0] == c50


def test_masked_kernel_is_the_equation() -> None:
    net = build_paper(make(TEXTS[1]), 0)
    block = net.net.super_blocks[1]
    draws = torch.zeros(len(net.thresholds))
    w = block.conv_dw.weight.detach()
    ring = w.clone()
    ring[..., 1:4, 1:4] = 0
    half = block.channels[0]
    for keep in itertools.product((0.0, 0.999), repeat=3):
        for where, u in zip((block.gate[c] for c in ("kernel", "expansion", "skip")), keep, strict=True):
            draws[where] = u
        d5, d100, d50 = (math.floor(0.6 + u) / 0.6 for u in keep)
        wk = w - ring + d5 * ring
        expected = d50 * torch.cat([wk[:half], d100 * wk[half:]])
        assert torch.allclose(net._gates(0.6, draws)[1].kernel.detach(), expected, atol=1e-6)


def test_weights_and_thresholds_learn_together() -> None:
    net = build_paper(make(TEXTS[1]), 0)
    costs = count_costs(net.space, "macs")
    with torch.no_grad():
        for gated, block in zip(net._gates(), net.net.super_blocks, strict=True):
            for chain, name in (("kernel", "t5x5"), ("expansion", "t100c"), ("skip", "t50c")):
                if chain in block.gate:
                    net.thresholds[block.gate[chain]] = gated.x[name] - 1.0  # x = 1: alive
    logits = net(images(net.space, dtype=torch.float32))
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(6) % 5) + 0.02 * 1e3 * net.runtime(costs).log()
    loss.backward()
    assert net.thresholds.grad is not None
    assert bool((net.thresholds.grad != 0).all())
    assert any(p is net.thresholds for p in net.parameters())
    decayed = {id(p) for p in net.decayed_parameters()}
    assert id(net.thresholds) in decayed
    assert id(net.net.bn1.weight) not in decayed
    assert id(net.net.classifier.bias) in decayed
    copy.deepcopy(net)  # also after a pass, as averaging weights needs


def test_frozen_gates_by_width() -> None:
    """With the release's initialisation sigmoid' is 0 in fp32 for rings of C >= 240 and halves of C >= 480."""
    net = build_paper(MOBILE, 0)
    kernel = {}
    for block, gated in zip(net.net.super_blocks, net._gates(), strict=True):
        y = torch.sigmoid(gated.x["t5x5"].detach())
        kernel[block.channels[-1]] = bool(y * (1 - y) == 0)
    assert kernel == {96: False, 144: False, 240: True, 480: True, 576: True, 1152: True}
    assert 26 <= net.frozen_gates() < len(net.thresholds)
    half = build_paper(make("mobile", width=0.25, input_size=224), 0)
    assert half.frozen_gates() < net.frozen_gates()


@pytest.mark.parametrize("text", TEXTS)
def test_in_train_mode_it_is_its_children_in_eval_mode_it_is_not(text: str) -> None:
    net, rng = build_paper(make(text), 0).double(), np.random.default_rng(0)
    disturb(net)
    differences = []
    for seed in range(3):
        architecture = net.space.sample(rng)
        set_gates(net, architecture)
        x = images(net.space, seed, count=16)
        for mode in (True, False):
            net.train(mode)
            child = net.extract(architecture)
            with torch.no_grad(), frozen_statistics(net), frozen_statistics(child):
                difference = relative(net(x), child(x))
            if mode:
                assert difference <= 1e-9
            else:
                differences.append(difference)
    assert min(differences) > 0.05


def test_tied_choices_and_reduction_identities() -> None:
    macro = make("macro")
    net = build_paper(macro, 0)
    costs = count_costs(macro, "macs")
    for digits in ("22222222", "11111111", "00000000", "02102100", "10210021"):
        architecture = macro.parse(digits)
        set_gates(net, architecture)
        assert net.decode() == architecture
        assert float(net.runtime(costs).detach()) == pytest.approx(costs.of(macro.indices(architecture)), rel=1e-5)
        assert all(d["d5"] == d["d100"] for d in net.indicators())


def test_schedule_has_the_releases_constants() -> None:
    s = PaperSchedule()
    assert (s.batch, s.steps, s.steps_per_epoch, s.epochs) == (1024, 10_008, 1251, 8)
    assert (s.rmsprop_decay, s.momentum, s.epsilon, s.l2) == (0.9, 0.9, 1e-3, 1e-5)
    assert (s.label_smoothing, s.dropout, s.ema, s.bn_momentum) == (0.1, 0.2, 0.9999, 0.01)
    assert s.lr(0) == pytest.approx(0.064)
    assert s.lr(3002) == s.lr(0)
    assert s.lr(3003) == pytest.approx(0.064 * 0.97)
    assert s.lr(10_007) == pytest.approx(0.064 * 0.97**3)
    assert (s.keep_prob(6254), s.keep_prob(6255)) == (0.6, 100.0)
    assert (s.runtime_lambda(6254), s.runtime_lambda(6255)) == (0.0, 0.020)
    assert s.runtime_factor == 1e3


def test_schedule_scales_to_other_lengths() -> None:
    full, short = PaperSchedule(), PaperSchedule(batch=64, steps=800)
    assert short.lr(0) == pytest.approx(0.004)
    for step in range(800):
        there = math.ceil(step * 10_008 / 800)
        if math.isclose(short.epoch(step), full.epoch(there), abs_tol=1e-9):
            assert short.lr(step) * 16 == pytest.approx(full.lr(there))
    assert (short.keep_prob(499), short.keep_prob(500)) == (0.6, 100.0)
    assert (short.runtime_lambda(499), short.runtime_lambda(500)) == (0.0, 0.020)


def test_batch_norm_has_the_releases_momentum(mobile: PaperSupernet) -> None:
    norms = [m for m in mobile.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {m.momentum for m in norms} == {0.01}
    assert {m.eps for m in norms} == {1e-3}
    assert not bool(mobile.thresholds.detach().any())
    assert mobile.net.super_blocks[4].conv_dw.weight.std().item() == pytest.approx(math.sqrt(2 / 25), rel=0.03)


@pytest.mark.parametrize(
    "space",
    ["mobile(kernels=(3, 5, 7))", "mobile(se=(0, 0.25))", "mobile(expansions=(1, 3, 6))", "mobile(expansions=(6,))"],
)
def test_other_spaces_are_refused(space: str) -> None:
    with pytest.raises(UserError, match=r"layer 1\.0"):
        PaperSupernet(make(space))
