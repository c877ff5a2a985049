"""A machine whose every cost is known: it runs nothing and advances a clock of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from singlepath.architecture import BlockSpec
from singlepath.blocks import DepthwiseSeparable, InvertedResidual, Network, ReductionIdentity
from singlepath.devices.pieces import Head, Stem
from singlepath.runtimes import Runtime

STEM, HEAD = 0.7, 0.9  # ms
CALL, TRANSFER = 0.05, 2e-5  # ms a session; ms a number brought in or out


def block_cost(b: BlockSpec) -> float:
    """ms of a block: its arithmetic, its memory, something for being there at all."""
    macs = b.mid_channels * (b.kernel**2 * b.out_side**2 + b.out_channels * b.out_side**2)
    if b.kind == "ir":
        macs += b.in_channels * b.mid_channels * b.side**2
    return 0.05 + macs * 1e-6 + b.mid_channels * b.side**2 * 2e-6


def transfer(channels: int, side: int) -> float:
    return CALL / 2 + TRANSFER * channels * side**2


def spec_of(block: nn.Module, example: Tensor) -> BlockSpec:
    if isinstance(block, ReductionIdentity):
        conv = block.conv
        return BlockSpec("id", 0, conv.in_channels, conv.out_channels, 1, conv.stride[0], example.shape[2])
    assert isinstance(block, InvertedResidual | DepthwiseSeparable)
    return block.spec


@dataclass
class Machine:
    """Times networks at ``slope * (the true costs) + intercept``, blocks at their costs and the price of a call.

    Attributes:
        drift: everything takes this many times as long.
        noise: neighbours: some runs take up to this share longer, and the machine's speed swings by a tenth of it.
        crooked: share by which networks depart from the sum of their blocks, at random.
    """

    slope: float = 1.0
    intercept: float = 0.0
    drift: float = 1.0
    noise: float = 0.0
    crooked: float = 0.0
    clock: float = 0.0
    runs: list[str] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def convert(self, module: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
        if isinstance(module, Network):
            specs = list(module.spec.blocks)
        else:
            specs = [spec_of(m, example) for m in module.children()] if isinstance(module, nn.Sequential) else []
        path.write_text(json.dumps({"ms": self.cost(module, specs), "name": f"{type(module).__name__} {specs}"}))

    def cost(self, module: nn.Module, specs: list[BlockSpec]) -> float:
        inner = sum(block_cost(s) for s in specs)
        if isinstance(module, Network):
            crooked = 1 + self.crooked * np.random.default_rng(round(inner * 1e9)).standard_normal()
            return self.intercept + self.slope * (STEM + inner + HEAD) * crooked
        if isinstance(module, Stem):
            return STEM + transfer(module.bn1.num_features, 32)
        if isinstance(module, Head):
            return HEAD + transfer(module.conv_head.in_channels, 4)
        ends = transfer(specs[0].in_channels, specs[0].side), transfer(specs[-1].out_channels, specs[-1].out_side)
        return inner + sum(ends) / 2

    def load(self, source: Path | nn.Module, threads: int = 1) -> dict:
        assert isinstance(source, Path)
        return json.loads(source.read_text())

    def run(self, session: dict, x: np.ndarray) -> np.ndarray:
        return x

    def time_once(self, session: dict, x: np.ndarray) -> float:
        self.runs.append(session["name"])
        swing = 1 + 0.1 * self.noise * (1 + np.sin(self.clock / 50))
        disturbed = 1 + self.noise * self.rng.random() * (self.rng.random() < 0.3)
        ms = session["ms"] * self.drift * swing * disturbed
        self.clock += ms
        return ms

    def runtime(self) -> Runtime:
        return Runtime(self.convert, self.load, self.run, self.time_once, ".json")
