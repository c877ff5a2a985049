"""What a network costs by counting: MACs, parameters, activation memory.

MACs are half of `torch.utils.flop_counter`'s figure on the meta device: convolutions and linear layers, no BN,
activation or pooling (spnasnet_100 at 224 px: 333.5 M). Nothing is computed and no memory is taken.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from singlepath.architecture import BlockSpec, NetworkSpec
from singlepath.blocks import Network, build_block
from singlepath.costs.model import CostModel
from singlepath.spaces import Space

__all__ = ["activation_bytes", "count_costs", "macs", "parameters"]


def _macs(module: nn.Module, channels: int, side: int) -> int:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.forward = nn.Identity().forward  # costs no MACs, and most of the time of a pass on the meta device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.empty(1, channels, side, side, device="meta"))
    return counter.get_total_flops() // 2


@lru_cache(maxsize=4096)
def network_counts(spec: NetworkSpec) -> tuple[int, int]:
    """(MACs of one image, parameters) of a whole network."""
    with torch.device("meta"):
        network = Network(spec)
    return _macs(network, spec.in_channels, spec.input_size), sum(p.numel() for p in network.parameters())


@lru_cache(maxsize=65536)
def block_counts(spec: BlockSpec | None) -> tuple[int, int]:
    """(MACs of one image, parameters) of one block; zero where the layer is skipped."""
    if spec is None:
        return 0, 0
    with torch.device("meta"):
        block = build_block(spec)
    return _macs(block, spec.in_channels, spec.side), sum(p.numel() for p in block.parameters())


def macs(spec: NetworkSpec) -> int:
    """Multiply-accumulates of one image."""
    return network_counts(spec)[0]


def parameters(spec: NetworkSpec) -> int:
    return network_counts(spec)[1]


def activation_bytes(spec: NetworkSpec, bytes_each: int = 4) -> int:
    """Peak activation memory of one image at inference, bytes: the largest sum of tensors alive at once.

    Inside an inverted residual the input (when it is added back), the expanded tensor and the depthwise output are
    alive.
    """
    side = -(-spec.input_size // spec.stem_stride)
    peak = spec.in_channels * spec.input_size**2 + spec.stem_channels * side**2
    for b in spec.blocks:
        given, mid = b.in_channels * b.side**2, b.mid_channels * b.side**2
        wide, out = b.mid_channels * b.out_side**2, b.out_channels * b.out_side**2
        kept = given if b.residual else 0
        peak = max(peak, given + mid if b.kind == "ir" else 0, kept + mid + wide, kept + wide + out)
    return int(peak * bytes_each)


def count_costs(space: Space, kind: str) -> CostModel:
    """The exact additive cost of every option of a space, by counting; `kind` is "macs" (MMACs) or "parameters" (M)."""
    which = {"macs": 0, "parameters": 1}[kind]
    layers = [[block_counts(layer.block(o))[which] / 1e6 for o in layer.options] for layer in space.searchable]
    smallest = space.architecture([0] * len(space.searchable))
    fixed = network_counts(space.network(smallest))[which] / 1e6 - sum(costs[0] for costs in layers)
    unit = "MMACs" if kind == "macs" else "Mparams"
    return CostModel(kind, unit, fixed, tuple(tuple(costs) for costs in layers))
