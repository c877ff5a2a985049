"""Probes in half precision: computed as the forward pass was, wherever the backward pass runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from singlepath.spaces import make
from singlepath.supernet import Probes, Views, build, frozen_statistics

from .helpers import TEXTS, disturb, images, random_settings


def elsewhere(loss: Tensor) -> None:
    """The backward pass in a thread of its own, where autocast is off: a GPU's backward pass runs in such a one."""
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()


def inside(loss: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss.backward()


@pytest.mark.parametrize("text", [TEXTS[2], TEXTS[5]])
def test_gate_gradients_do_not_depend_on_where_the_backward_pass_runs(text: str) -> None:
    net = build(make(text), 0).train()
    disturb(net)
    x, y = images(net.space, dtype=torch.float32, count=8), torch.arange(8) % net.space.classes
    settings = random_settings(net, 1)

    def gradients(backward: Callable[[Tensor], None], half: bool = True) -> Tensor:
        views, probes = Views(), Probes(dict.fromkeys(range(len(net.gates)), 1.0))
        with frozen_statistics(net):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = F.cross_entropy(net(x, settings, views, probes).float(), y)
            backward(loss)
        assert {value.dtype for _, value in probes.values} == {torch.float32}
        found = net.gate_gradients(settings, views, probes)
        for view in views.taken:
            view.leaf.grad = None
        return found

    outside, exact = gradients(Tensor.backward), gradients(Tensor.backward, half=False)
    assert bool(exact.any())
    assert torch.equal(gradients(elsewhere), outside) and torch.equal(gradients(inside), outside)
    assert torch.equal(gradients(elsewhere, half=False), exact)
    assert float(F.cosine_similarity(outside, exact, 0)) > 0.9
