"""The supernet: one network that holds every architecture of a space in nested weights.

`Supernet.forward` runs one child (sliced), `masked` runs everything under a gate vector (the oracle), `extract` gives
the plain network with the inherited weights, `recalibrate` sets a network's BN statistics from data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from singlepath.architecture import Architecture
from singlepath.blocks import Conv2d, Network, activate, build_block, initialise, to_channels_last
from singlepath.costs.model import CostModel
from singlepath.spaces import Option, Space
from singlepath.supernet.flat import FlatGates
from singlepath.supernet.gates import LIMIT, Setting, chain_slices, crop, gate_gradients, gates_of, level
from singlepath.supernet.masked import masked_block
from singlepath.supernet.superkernel import Probes, SuperBlock, Views

__all__ = ["Supernet", "build", "frozen_statistics", "recalibrate"]


class Supernet(nn.Module):
    """All architectures of `space` in one set of weights, and the thresholds of its gates.

    Attributes:
        gates: what each position of the flat gate vector stands for.
        thresholds: t of every gate, [gates] fp32; not a parameter, so that no weight optimiser moves it.
    """

    thresholds: Tensor

    def __init__(self, space: Space):
        super().__init__()
        self.space, self.gates = space, gates_of(space)
        self.flat = FlatGates(space, self.gates)
        self.conv_stem = Conv2d(space.in_channels, space.stem_channels, 3, space.stem_stride, padding=space.padding)
        self.bn1 = nn.BatchNorm2d(space.stem_channels, space.bn_eps)
        self.layers = nn.ModuleList(self._layers())
        self.conv_head = Conv2d(space.layers[-1].out_channels, space.head_channels, 1)
        self.bn2 = nn.BatchNorm2d(space.head_channels, space.bn_eps)
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(space.head_channels, space.classes)
        self.register_buffer("thresholds", torch.zeros(len(self.gates)))

    def _layers(self) -> Iterator[nn.Module]:
        first = 0
        for layer in self.space.layers:
            if layer.searchable:
                block = SuperBlock(layer, first, self.space.bn_eps, self.space.padding)
                first += sum(1 for g in self.gates if g.layer_name == layer.name)
                yield block
            else:
                spec = layer.block(layer.options[0])
                assert spec is not None
                yield build_block(spec, self.space.bn_eps, self.space.padding)

    @property
    def super_blocks(self) -> list[SuperBlock]:
        return [b for b in self.layers if isinstance(b, SuperBlock)]

    # -- running ------------------------------------------------------------------------------------------------------

    def forward(
        self, x: Tensor, settings: Sequence[Setting], views: Views | None = None, probes: Probes | None = None
    ) -> Tensor:
        """Logits [N, classes] of the child that `settings` (one a searchable layer) describe."""
        if views is not None:
            for name in ("conv_stem", "bn1", "conv_head", "bn2", "classifier"):
                views.whole(name, getattr(self, name))
        act, state = self.space.activation, iter(settings)
        x = activate(self.bn1(self.conv_stem(x)), act)
        for i, block in enumerate(self.layers):
            if isinstance(block, SuperBlock):
                x = block(x, next(state), views, probes, f"layers.{i}")
            else:
                if views is not None:
                    views.whole(f"layers.{i}", block)
                x = block(x)
        x = activate(self.bn2(self.conv_head(x)), act)
        return self.classifier(self.dropout(x.mean((2, 3))))

    def masked(self, x: Tensor, effective: Tensor) -> Tensor:
        """Logits with everything computed and multiplied by the effective gates, [gates]."""
        act = self.space.activation
        x = activate(self.bn1(self.conv_stem(x)), act)
        for block in self.layers:
            x = masked_block(block, x, effective) if isinstance(block, SuperBlock) else block(x)
        x = activate(self.bn2(self.conv_head(x)), act)
        return self.classifier(self.dropout(x.mean((2, 3))))

    def gate_gradients(self, settings: Sequence[Setting], views: Views, probes: Probes) -> Tensor:
        """dL/dd of every gate after a backward pass with `views` and `probes`, [gates] float64 on the CPU."""
        leaves = {v.name: v.leaf for v in views.taken}
        state = iter(settings)
        for i, block in enumerate(self.layers):
            if isinstance(block, SuperBlock):
                block.collect(next(state), leaves, probes, f"layers.{i}")
        effective = probes.effective(len(self.gates)).double().cpu().numpy()
        return torch.from_numpy(gate_gradients(self.gates, settings, effective))

    # -- gates --------------------------------------------------------------------------------------------------------

    def settings(self, architecture: Architecture) -> list[Setting]:
        """The setting of every searchable layer that runs exactly this architecture."""
        pairs = zip(self.space.searchable, self.space.indices(architecture), strict=True)
        return [Setting.of(layer, layer.options[i]) for layer, i in pairs]

    def architecture(self, settings: Sequence[Setting]) -> Architecture:
        pairs = zip(self.space.searchable, settings, strict=True)
        return self.space.architecture([layer.options.index(s.option(layer)) for layer, s in pairs])

    def effective_gates(self, settings: Sequence[Setting]) -> Tensor:
        """The 0/1 vector e of hard settings, [gates]; chains of a skipped block keep their inner levels."""
        e = torch.zeros(len(self.gates))
        for layer, chain, where in chain_slices(self.gates):
            e[where.start : where.start + level(settings[layer], chain)] = 1.0
        return e

    @torch.no_grad()
    def ratios(self) -> Tensor:
        """r of every gate, fp32 [gates]; see `gates`."""
        blocks = self.super_blocks
        se = [b.se.conv_expand.weight if b.se is not None else None for b in blocks]
        return self.flat.ratios([b.conv_dw.weight for b in blocks], se)

    def indicators(self) -> Tensor:
        """x = clip(r - t, -4, 4) of every gate, fp32."""
        return (self.ratios() - self.thresholds).clamp(-LIMIT, LIMIT)

    def reset_gates(self, x: float = 1.0) -> None:
        """Set the thresholds so that every indicator is x."""
        self.thresholds.copy_(self.ratios() - x)

    def option_probabilities(self, probability: Tensor) -> list[Tensor]:
        """Of every option of every searchable layer, from the gates' probabilities; differentiable."""
        return list(self.flat.probabilities(probability).split(self.flat.sections))

    def expected_cost(self, costs: CostModel, probability: Tensor) -> Tensor:
        """Expected cost under the gates' probabilities, in costs.unit; differentiable."""
        p = self.flat.probabilities(probability)
        each = torch.tensor([c for layer in costs.layers for c in layer], dtype=p.dtype, device=p.device)
        return torch.dot(p, each) + costs.fixed

    # -- children -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> Network:
        """The plain network of an architecture with copies of the inherited weights and BN statistics."""
        with torch.device("meta"):
            network = Network(self.space.network(architecture))
        state: dict[str, Tensor] = {}
        for name in ("conv_stem", "bn1", "conv_head", "bn2", "classifier"):
            state |= {f"{name}.{k}": v.clone() for k, v in getattr(self, name).state_dict().items()}
        counters: dict[int, int] = {}
        stages = sorted({layer.stage for layer in self.space.layers})
        for layer, block, option in zip(
            self.space.layers, self.layers, self.space.options(architecture), strict=True
        ):  # fmt: skip
            if layer.block(option) is None:
                continue
            stage = stages.index(layer.stage)
            prefix = f"blocks.{stage}.{counters.get(stage, 0)}"
            counters[stage] = counters.get(stage, 0) + 1
            state |= {f"{prefix}.{k}": v.clone() for k, v in child_state(block, option).items()}
        network.load_state_dict(state, assign=True)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        for norm in batch_norms(network):
            norm.momentum = self.bn1.momentum
        return to_channels_last(network).train(self.training)


@torch.no_grad()
def plain_block(supernet: Supernet, layer: int, option: Option) -> nn.Module | None:
    """The plain block of one layer's option with copies of the inherited weights; None for an identity of equal
    shape."""
    space, block = supernet.space, supernet.layers[layer]
    spec = space.layers[layer].block(option)
    if spec is None:
        return None
    with torch.device("meta"):
        plain = build_block(spec, space.bn_eps, space.padding)
    state = {k: v.clone() for k, v in child_state(block, option).items()}
    plain.load_state_dict(state, assign=True)
    return to_channels_last(plain)


def child_state(block: nn.Module, option: Option) -> Mapping[str, Tensor]:
    """The slices of a layer's superkernel that are the block of `option`, by the plain block's names."""
    if not isinstance(block, SuperBlock):
        return block.state_dict()
    layer = block.layer
    if option.is_identity:
        assert block.identity is not None
        return block.identity.state_dict()
    setting, full = Setting.of(layer, option), block.state_dict()
    c = block.channels[setting.expansion]
    state: dict[str, Tensor] = {}
    for name, tensor in full.items():
        if name.startswith("identity.") or (name.startswith("se.") and not option.se):
            continue
        if name == "conv_dw.weight":
            tensor = crop(tensor[:c], option.kernel)
        elif name == "conv_pwl.weight":
            tensor = tensor[:, :c]
        elif name.startswith("se."):
            r = block.reduced[setting.se - int(layer.se[0] == 0)]
            inner, outer = (r, c) if "conv_reduce" in name else (c, r)
            tensor = tensor[:inner, :outer] if tensor.dim() == 4 else tensor[:inner]
        elif not name.startswith("bn3.") and tensor.dim():
            tensor = tensor[:c]
        state[name] = tensor
    return state


def build(space: Space, seed: int | None = None) -> Supernet:
    """A supernet with fresh weights (a function of `seed`), channels_last, every indicator at 1."""
    supernet = Supernet(space)
    initialise(supernet, torch.Generator().manual_seed(seed) if seed is not None else None)
    to_channels_last(supernet)
    supernet.reset_gates()
    return supernet


def batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Within it, training-mode passes use batch statistics and leave the running ones as they are."""
    norms = batch_norms(module)
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum, m.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for m, (momentum, count) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, count


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set a plain network's BN statistics to the equal average over `batches` (inputs [N, C, S, S])."""
    norms, training = batch_norms(network), network.training
    before = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    dropouts = [m for m in network.modules() if isinstance(m, nn.Dropout)]
    network.train()
    for d in dropouts:
        d.eval()
    for x in batches:
        network(x)
    for m, momentum in zip(norms, before, strict=True):
        m.momentum = momentum
    network.train(training)
