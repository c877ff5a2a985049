"""Gates: which decisions a space's layers hold, as one flat vector for the whole supernet.

A searchable layer has up to four chains of gates. Level j of a chain is on iff d_1 ... d_j are on:

    skip       the block against the identity (one level)
    kernel     one level a ring: 3x3 -> 5x5 -> 7x7
    expansion  one level a group of upper channels: e3 -> e6
    se         the squeeze-and-excitation path, then a level a wider bottleneck
    tied       kernel and expansion together (NAS-Bench-Macro)

Indicator of a gate, in fp32:  x = r - t,  r = RMS(group) / RMS(innermost group of the same kernel), detached, 0 where
there is no group to compare (skip, SE on); for a wider SE bottleneck the kernel is SE's expand layer and the group its
columns. t is the trainable threshold, set so that x = 1 at the start; |x| <= 4. Probability of being on: sigmoid(x).
The norms are relative because BN makes the absolute scale of a depthwise kernel meaningless: with the original's
absolute norms sigmoid' is exactly 0 in fp32 for wide layers (arXiv 1904.02877 and its release; see `paper`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from singlepath.spaces import Layer, Option, Space

__all__ = [
    "Gate",
    "Setting",
    "chains",
    "gate_gradients",
    "gates_of",
    "option_probabilities",
    "ratios",
    "sample_settings",
]

LIMIT = 4.0  # |x| is kept below this: sigmoid' stays above 0.017


@dataclass(frozen=True)
class Gate:
    """One gate: the layer's position among the searchable ones, its name, the chain and its level from 1."""

    layer: int
    layer_name: str
    chain: str
    level: int
    label: str

    @property
    def name(self) -> str:
        return f"{self.layer_name}.{self.label}"


@dataclass(frozen=True)
class Setting:
    """The state of one layer in one pass: whether the block runs, and which levels are on (0 = innermost)."""

    on: bool = True
    kernel: int = 0
    expansion: int = 0
    se: int = 0

    @classmethod
    def of(cls, layer: Layer, option: Option, inner: Setting | None = None) -> Setting:
        """The setting that runs exactly `option`; a skipped block is probed at `inner`, the largest by default."""
        if option.is_identity:
            kept = inner or cls.of(layer, layer.largest)
            return cls(False, kept.kernel, kept.expansion, kept.se)
        return cls(
            True,
            layer.kernels.index(option.kernel),
            layer.expansions.index(option.expansion),
            layer.se.index(option.se),
        )

    def option(self, layer: Layer) -> Option:
        if not self.on:
            return Option()
        return Option(layer.kernels[self.kernel], layer.expansions[self.expansion], layer.se[self.se])


def chains(layer: Layer) -> dict[str, list[str]]:
    """The gate chains of a layer: chain -> label of each level."""
    found = {"skip": ["skip"]} if layer.skippable else {}
    kernels = [f"kernel{k}" for k in layer.kernels[1:]]
    if layer.tied:
        found["tied"] = [f"k{k}_e{e:g}" for k, e in zip(layer.kernels[1:], layer.expansions[1:], strict=True)]
    else:
        found["kernel"] = kernels
        found["expansion"] = [f"expansion{e:g}" for e in layer.expansions[1:]]
    found["se"] = [f"se{r:g}" for r in layer.se[1:]]
    return {chain: labels for chain, labels in found.items() if labels}


def gates_of(space: Space) -> list[Gate]:
    """Every gate of a space, in the order of the flat vector."""
    return [
        Gate(i, layer.name, chain, level, label)
        for i, layer in enumerate(space.searchable)
        for chain, labels in chains(layer).items()
        for level, label in enumerate(labels, start=1)
    ]


def level(setting: Setting, chain: str) -> int:
    """How many levels of a chain are on."""
    if chain == "skip":
        return int(setting.on)
    return setting.kernel if chain == "tied" else getattr(setting, chain)


def chain_slices(gates: Sequence[Gate]) -> list[tuple[int, str, slice]]:
    """(layer, chain, positions in the flat vector) of every chain."""
    found: list[tuple[int, str, slice]] = []
    for i, gate in enumerate(gates):
        if gate.level == 1:
            found.append((gate.layer, gate.chain, slice(i, i + 1)))
        else:
            layer, chain, where = found[-1]
            found[-1] = (layer, chain, slice(where.start, i + 1))
    return found


def option_probabilities(space: Space, gates: Sequence[Gate], probability: Tensor) -> list[Tensor]:
    """Probability of every option of every searchable layer, from the gates' (flat) probabilities; differentiable.

    P(level = j) = p_1 ... p_j (1 - p_{j+1}); chains of a layer are independent; the identity has 1 - p(skip gate).
    """
    levels: dict[tuple[int, str], list[Tensor]] = {}
    one = torch.ones((), dtype=probability.dtype, device=probability.device)
    for layer, chain, where in chain_slices(gates):
        ps, reached, out = probability[where].unbind(), one, []
        for p in ps:
            out.append(reached * (1 - p))
            reached = reached * p
        levels[layer, chain] = [*out, reached]
    result = []
    for i, layer in enumerate(space.searchable):
        values = []
        for option in layer.options:
            value, setting = one, Setting.of(layer, option)
            for chain in chains(layer):
                if chain == "skip" or setting.on:
                    value = value * levels[i, chain][level(setting, chain)]
            values.append(value)
        result.append(torch.stack(values))
    return result


def sample_settings(
    space: Space, gates: Sequence[Gate], probability: Sequence[float], rng: np.random.Generator
) -> list[Setting]:
    """Draw every layer's setting: levels in order, each on with its gate's probability while those before it are."""
    state: list[dict[str, int]] = [{} for _ in space.searchable]
    draws = rng.random(len(gates))
    for layer, chain, where in chain_slices(gates):
        on = [draws[i] < probability[i] for i in range(where.start, where.stop)]
        state[layer][chain] = on.index(False) if False in on else len(on)
    return [setting_of_levels(levels) for levels in state]


def setting_of_levels(levels: dict[str, int]) -> Setting:
    """The setting of chain levels; a layer that is tied has one level for kernel and expansion."""
    kernel = levels.get("tied", levels.get("kernel", 0))
    expansion = levels.get("tied", levels.get("expansion", 0))
    return Setting(bool(levels.get("skip", 1)), kernel, expansion, levels.get("se", 0))


def gate_gradients(gates: Sequence[Gate], settings: Sequence[Setting], effective: np.ndarray) -> np.ndarray:
    """From dL/de of the effective gates (e_j = d_1 ... d_j) to dL/dd, for hard d.

    An on gate j gets the sum over the on levels at or above it, the first off gate its own, gates beyond it nothing.
    """
    gradient = np.zeros_like(effective)
    for layer, chain, where in chain_slices(gates):
        on = level(settings[layer], chain)
        values = effective[where]
        for j in range(len(values)):
            if j < on:
                gradient[where.start + j] = values[j:on].sum()
            elif j == on:
                gradient[where.start + j] = values[j]
    return gradient


def ratios(space: Space, kernels: Sequence[Tensor], se: Sequence[Tensor | None]) -> Tensor:
    """r of every gate: RMS(group) / RMS(innermost group), 0 where there is none to compare (skip, SE on).

    Args:
        kernels: the full depthwise kernel [C, 1, K, K] of every searchable layer.
        se: the full expand weight [C, R, 1, 1] of every searchable layer's squeeze-and-excitation, or None.
    """
    values: list[Tensor] = []
    zero = torch.zeros((), device=kernels[0].device)
    for i, layer in enumerate(space.searchable):
        square = kernels[i].detach().float().square()
        core = crop(square, layer.kernels[0])
        sizes = groups(layer)
        inner = core[: sizes[0]].mean().sqrt()
        for chain, labels in chains(layer).items():
            for j in range(1, len(labels) + 1):
                if chain == "expansion":
                    group = core[sizes[j - 1] : sizes[j]].mean().sqrt() / inner
                elif chain in ("kernel", "tied"):
                    inside = crop(square, layer.kernels[j - 1])
                    outside = crop(square, layer.kernels[j])
                    # the ring's own taps, never total minus core: that difference can fall below zero
                    ring = outside.clone()
                    lo = (layer.kernels[j] - layer.kernels[j - 1]) // 2
                    ring[:, :, lo : lo + layer.kernels[j - 1], lo : lo + layer.kernels[j - 1]] = 0
                    count = outside.numel() - inside.numel()
                    group = (ring.sum() / count).sqrt() / core.mean().sqrt()
                elif chain == "se" and layer.se[j - 1] > 0:
                    weight, widths = se[i], se_groups(layer)
                    assert weight is not None
                    lower, upper = (
                        weight.detach().float()[:, a:b].square().mean().sqrt()
                        for a, b in (
                            (0, widths[0]),
                            (widths[j - 1 - (layer.se[0] == 0)], widths[j - (layer.se[0] == 0)]),
                        )
                    )
                    group = upper / lower
                else:
                    group = zero
                values.append(group)
    return torch.stack(values)


def crop(kernel: Tensor, size: int) -> Tensor:
    """The centre size x size of [..., K, K]."""
    lo = (kernel.shape[-1] - size) // 2
    return kernel[..., lo : lo + size, lo : lo + size]


def groups(layer: Layer) -> list[int]:
    """Middle channels at each expansion, ascending."""
    return [round(layer.in_channels * e) for e in layer.expansions]


def se_groups(layer: Layer) -> list[int]:
    """Bottleneck channels at each non-zero squeeze-and-excitation ratio, ascending."""
    return [max(1, round(layer.in_channels * r)) for r in layer.se if r > 0]
