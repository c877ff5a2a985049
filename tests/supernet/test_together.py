"""Many children at once: the numbers of each alone, the supernet untouched, shared work done once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from singlepath.architecture import Architecture
from singlepath.spaces import Space, make
from singlepath.supernet import Supernet, children_features, recalibrate

from .helpers import TEXTS, images, supernet


def some(space: Space, count: int = 7) -> list[Architecture]:
    rng = np.random.default_rng(1)
    return [space.largest(), *(space.sample(rng) for _ in range(count - 1))]


def together(net: Supernet, networks: list[Architecture]) -> dict[tuple[int, Architecture], torch.Tensor]:
    calibration, inputs = ([images(net.space, s) for s in seeds] for seeds in ((1, 2), (3, 4)))
    return {(n, a): y for n, a, y in children_features(net, networks, calibration, inputs)}


@pytest.mark.parametrize("text", TEXTS)
def test_every_child_has_the_features_it_has_alone(text: str) -> None:
    net = supernet(make(text)).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    networks = some(net.space)
    found = together(net, [*networks, networks[0]])
    assert len(found) == 2 * len(set(networks))
    for a in networks:
        alone = net.extract(a)
        recalibrate(alone, [images(net.space, 1), images(net.space, 2)])
        for n in (0, 1):
            with torch.no_grad():
                expected = alone.eval()(images(net.space, 3 + n))
                said = net.classifier(found[n, a])
            assert torch.allclose(said, expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_what_children_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every distinct beginning of a network costs one block a batch, whatever the order the networks come in."""
    net = supernet(make(TEXTS[-1])).eval()
    networks = list(net.space.enumerate())[::90]
    runs: Counter[type] = Counter()
    call = torch.nn.Module.__call__

    def counted(self: torch.nn.Module, *args: torch.Tensor) -> torch.Tensor:
        runs[type(self)] += 1
        return call(self, *args)

    monkeypatch.setattr(torch.nn.Module, "__call__", counted)
    shuffled = [networks[i] for i in np.random.default_rng(0).permutation(len(networks))]
    list(children_features(net, shuffled, [images(net.space, 1)], [images(net.space, 2)]))
    beginnings = {a.choices[: i + 1] for a in networks for i in range(len(a.choices))}
    built = sum(1 for b in beginnings if b[-1] != "skip")
    blocks = sum(n for kind, n in runs.items() if kind.__name__ in ("InvertedResidual", "ReductionIdentity"))
    reductions = sum(1 for b in beginnings if b[-1] == "skip" and len(b) in (1, 3, 6))
    assert blocks == 2 * (built + reductions)
    heads = sum(n for kind, n in runs.items() if kind is torch.nn.Linear)
    assert heads == 0, "what is read, not what is said"
