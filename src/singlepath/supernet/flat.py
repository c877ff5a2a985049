"""The gates of all layers in a few operations: ratios, option probabilities and expected cost of one flat gate vector.

Gating costs by the number of operations, not by their arithmetic, so nothing here is done layer by layer. The
definitions, one gate at a time, are `gates.ratios` and `gates.option_probabilities`; the tests hold both to the same
values.

Ratios: squares of all depthwise kernels with the same choices stand in one matrix [channels, taps]; a product with 0/1
matrices on both sides sums them over (channel group, ring), each sum over its own taps. With s these sums (those of
squeeze-and-excitation after them, then a 1),  r = sqrt(A s) / sqrt(B s),  where the rows of A and B take the means.

Option probabilities: every option is a product of p and 1 - p of some gates, written as positions in [p, 1 - p, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from singlepath.spaces import Layer, Space
from singlepath.supernet.gates import Gate, Setting, chain_slices, chains, groups, level, se_groups

__all__ = ["FlatGates"]


@dataclass
class _Kernels:
    """Layers with the same kernels: their positions, [groups, channels] and [taps, rings] membership, 0/1."""

    layers: list[int]
    groups: Tensor
    rings: Tensor


class FlatGates:
    """Index tables of a space's gates; built once, moved to a device when first used there."""

    def __init__(self, space: Space, gates: Sequence[Gate]):
        self.space, self.count = space, len(gates)
        self.sections = [len(layer.options) for layer in space.searchable]
        self._options = _option_table(space, gates)
        self._kernels, self._excitations, self._means = _ratio_tables(space, gates)

    def ratios(self, kernels: Sequence[Tensor], excitations: Sequence[Tensor | None]) -> Tensor:
        """As `gates.ratios`, fp32 [gates]."""
        device, sums = kernels[0].device, []
        self._to(device)
        for k in self._kernels:
            flat = torch.cat([kernels[i].detach().permute(0, 2, 3, 1).flatten(1) for i in k.layers])
            sums.append((k.groups @ flat.float().square() @ k.rings).flatten())
        if self._excitations:
            parts = [_columns(excitations[i], a, b) for i, a, b in self._excitations]
            sums.append(torch.stack(torch._foreach_norm(parts)).square())
        sums.append(torch.ones(1, device=device))
        above, below = (self._means @ torch.cat(sums)).sqrt().view(2, -1)
        return above / below

    def probabilities(self, probability: Tensor) -> Tensor:
        """The probability of every option of every layer, one after the other, [options]; differentiable."""
        self._to(probability.device)
        one = torch.ones(1, dtype=probability.dtype, device=probability.device)
        first, *others = torch.cat([probability, 1 - probability, one])[self._options].unbind()
        for factor in others:
            first = first * factor
        return first

    def _to(self, device: torch.device) -> None:
        if self._options.device != device:
            self._options, self._means = self._options.to(device), self._means.to(device)
            for k in self._kernels:
                k.groups, k.rings = k.groups.to(device), k.rings.to(device)


def _columns(weight: Tensor | None, first: int, last: int) -> Tensor:
    assert weight is not None
    return weight.detach()[:, first:last].float()


def _option_table(space: Space, gates: Sequence[Gate]) -> Tensor:
    """[factors, options]: positions in [p, 1 - p, 1] whose product is the option's probability."""
    first = {(layer, chain): where for layer, chain, where in chain_slices(gates)}
    rows: list[list[int]] = []
    for i, layer in enumerate(space.searchable):
        for option in layer.options:
            setting, row = Setting.of(layer, option), []
            for chain in chains(layer):
                if chain == "skip" or setting.on:
                    where, on = first[i, chain], level(setting, chain)
                    row += range(where.start, where.start + on)
                    row += [len(gates) + where.start + on] if where.start + on < where.stop else []
            rows.append(row)
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [2 * len(gates)] * (longest - len(row)) for row in rows]).T.contiguous()


def _ratio_tables(space: Space, gates: Sequence[Gate]) -> tuple[list[_Kernels], list[tuple[int, int, int]], Tensor]:
    """The kernels by their choices, (layer, first, last column) of excitation groups, and [A; B] of the means."""
    choices = sorted({layer.kernels for layer in space.searchable})
    found, position, count = [], {}, 0  # position: (layer, chain, group, ring) -> index in s
    for kernels in choices:
        layers = [i for i, layer in enumerate(space.searchable) if layer.kernels == kernels]
        table, width = _Kernels(layers, *_membership([space.searchable[i] for i in layers], kernels)), 0
        rings = table.rings.shape[1]
        for i in layers:
            for group in range(len(groups(space.searchable[i]))):
                for ring in range(rings):
                    position[i, "dw", group, ring] = count + width * rings + ring
                width += 1
        count += width * rings
        found.append(table)
    excitations = []
    for i, layer in enumerate(space.searchable):
        widths = se_groups(layer)
        for group, (a, b) in enumerate(zip([0, *widths], widths, strict=False)):
            position[i, "se", group, 0] = count
            excitations.append((i, a, b))
            count += 1
    means = torch.zeros(2, len(gates), count + 1)
    for g, gate in enumerate(gates):
        layer = space.searchable[gate.layer]
        for row, parts in zip(means, _compared(layer, gate), strict=True):
            total = sum(_size(layer, *part) for part in parts)
            for part in parts:
                row[g, position[(gate.layer, *part)]] = 1.0 / total
        if not means[:, g].any():
            means[1, g, count] = 1.0  # nothing to compare: 0 / 1
    return found, excitations, means.view(2 * len(gates), count + 1)


Part = tuple[str, int, int]


def _compared(layer: Layer, gate: Gate) -> tuple[list[Part], list[Part]]:
    """The parts whose mean squares are divided: (group's, innermost's); empty where there is no group to compare."""
    every, optional = range(len(groups(layer))), int(layer.se[0] == 0)
    if gate.chain == "expansion":
        return [("dw", gate.level, 0)], [("dw", 0, 0)]
    if gate.chain in ("kernel", "tied"):
        return [("dw", c, gate.level) for c in every], [("dw", c, 0) for c in every]
    if gate.chain == "se" and gate.level > optional:
        return [("se", gate.level - optional, 0)], [("se", 0, 0)]
    return [], []


def _size(layer: Layer, kind: str, group: int, ring: int) -> int:
    """Elements of a part."""
    channels = [0, *groups(layer)]
    if kind == "dw":
        taps = layer.kernels[ring] ** 2 - (layer.kernels[ring - 1] ** 2 if ring else 0)
        return (channels[group + 1] - channels[group]) * taps
    widths = [0, *se_groups(layer)]
    return (widths[group + 1] - widths[group]) * channels[-1]


def _membership(layers: Sequence[Layer], kernels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """[groups, channels] of layers one after the other, and [taps, rings] of their common kernels."""
    lengths = [b - a for layer in layers for a, b in zip([0, *groups(layer)], groups(layer), strict=False)]
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    distance = (torch.arange(kernels[-1]) - kernels[-1] // 2).abs()
    reach = torch.maximum(distance[:, None], distance[None, :]).flatten()
    ring = torch.bucketize(reach, torch.tensor([k // 2 for k in kernels]))
    return torch.eye(len(lengths))[:, owner].contiguous(), torch.eye(len(kernels))[ring].contiguous()
