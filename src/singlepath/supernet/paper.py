"""The original's masked supernet, as released: the thing that the default supernet is compared with.

Source: Single-Path NAS (arXiv 1904.02877) and its authors' release (github.com/dstamoulis/single-path-nas @21c1f3e), W
the 5x5 depthwise kernel of a layer with C channels, Wc its centre 3x3 taps, Ws the others:

    I(x) = 1[x >= 0], with the gradient of sigmoid(x)
    d5   = drop(I(||Ws||_2 - t5x5))            Wk = Wc + d5 Ws
    d100 = drop(I(||Wk[C/2:]||_2 - t100c))     (after the kernel's gate)
    d50  = drop(I(||Wk[:C/2]||_2 - t50c))      1 where the layer cannot be skipped
    Weff = d50 (Wk[:C/2] + d100 Wk[C/2:])
    R    = d50 (R_5x5,e3 + d100 (R_5x5,e6 - R_5x5,e3));  R = R rho + R (1 - rho) d5;  rho = R_3x3,e6 / R_5x5,e6
    loss = CE + l2 sum ||v||^2 / 2 + lambda 1e3 ln(R_total)

What is kept on purpose: norms are not squared and not divided by their size, thresholds start at 0, weights and
thresholds share one optimiser, and only the depthwise kernel is masked. So a removed channel still sends relu(beta)
through the projection and a skipped block still adds a constant: in eval mode this supernet is not its children, and
for wide layers sigmoid' is exactly 0. What is corrected: the release's decoder swaps 3x3-e6 with 5x5-e3;
`PaperSupernet.decode` does not.

Beyond the original: tied choices (one indicator, that of the ring, drives kernel and channels) and reduction identities
(out = d50 block + (1 - d50) identity; the kernel is not multiplied by d50 there) follow the default supernet's
definitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from singlepath.architecture import Architecture
from singlepath.blocks import Network, activate, channels_last, initialise, to_channels_last
from singlepath.costs.model import CostModel
from singlepath.errors import user_error
from singlepath.spaces import Layer, Option, Space
from singlepath.supernet.network import Supernet, batch_norms
from singlepath.supernet.superkernel import SuperBlock

__all__ = ["PaperSchedule", "PaperSupernet", "build_paper", "drop", "indicator", "layer_runtime", "set_gates"]

NAMES = {"kernel": "t5x5", "tied": "t5x5", "expansion": "t100c", "skip": "t50c"}  # chain -> the release's threshold


@dataclass(frozen=True)
class PaperSchedule:
    """The release's constants, and its schedules over `steps` steps instead of 10,008 (by fraction of the whole).

    Attributes:
        batch: images a step; the learning rate follows it.
        steps: steps of the whole search, 8 epochs of ImageNet at batch 1024 in the release.
        warm_up_epochs: of `epochs`: lambda is 0 and indicators are dropped; afterwards lambda is on and nothing is
        dropped.
        keep_after: TF1's dropout computes x / keep * floor(keep + u), the identity at keep = 100.
        l2: on every variable but BN's, thresholds included, of sum v^2 / 2.
        epsilon: inside the root of RMSProp, whose mean square starts at 1.
        runtime_weight: the README's lambda; the loss multiplies it by `runtime_factor`.
        bn_momentum: torch's sense, 1 - 0.99.
    """

    batch: int = 1024
    steps: int = 10_008
    steps_per_epoch: int = 1251
    epochs: int = 8
    warm_up_epochs: int = 5
    base_lr: float = 0.016
    base_batch: int = 256
    lr_decay: float = 0.97
    decay_epochs: float = 2.4
    rmsprop_decay: float = 0.9
    momentum: float = 0.9
    epsilon: float = 1e-3
    l2: float = 1e-5
    label_smoothing: float = 0.1
    dropout: float = 0.2
    ema: float = 0.9999
    bn_momentum: float = 0.01
    keep_warm_up: float = 0.6
    keep_after: float = 100.0
    runtime_weight: float = 0.020
    runtime_factor: float = 1e3

    def epoch(self, step: int) -> float:
        """Where `step` stands among the release's epochs, from 0 to 8."""
        return step * self.epochs / self.steps

    def warming_up(self, step: int) -> bool:
        return self.epoch(step) < self.warm_up_epochs

    def lr(self, step: int) -> float:
        """0.016 batch / 256, times 0.97 every 2.4 epochs in steps; no warm-up."""
        return (
            self.base_lr
            * self.batch
            / self.base_batch
            * self.lr_decay ** math.floor(self.epoch(step) / self.decay_epochs)
        )

    def keep_prob(self, step: int) -> float:
        """What indicators are kept with."""
        return self.keep_warm_up if self.warming_up(step) else self.keep_after

    def runtime_lambda(self, step: int) -> float:
        """lambda of lambda * 1e3 * ln(R)."""
        return 0.0 if self.warming_up(step) else self.runtime_weight


class _Indicator(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(torch.sigmoid(x))
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return grad * (y * (1 - y))


def indicator(x: Tensor) -> Tensor:
    """I(x): 1 where x >= 0 and 0 elsewhere; its gradient is sigmoid'(x) = y (1 - y), 0 in fp32 above x = 16.6."""
    return _Indicator.apply(x)


def drop(d: Tensor, keep_prob: float, u: Tensor) -> Tensor:
    """TF1's dropout: d / keep * floor(keep + u), u uniform on [0, 1): 0 or 1 / 0.6 at keep 0.6, the identity at 100."""
    return d / keep_prob * torch.floor(keep_prob + u)


@dataclass
class Gated:
    """One layer in one pass: x and d by threshold name, and the masked depthwise kernel."""

    x: dict[str, Tensor]
    d: dict[str, Tensor]
    kernel: Tensor

    def value(self, name: str) -> Tensor | float:
        """d by threshold name; 1 where the layer has no such gate."""
        return self.d.get(name, 1.0)


def _gated(block: SuperBlock, thresholds: Tensor, keep_prob: float, draws: Tensor | None) -> Gated:
    """The indicators of one layer in the release's order: kernel first, then the channels of the gated kernel."""
    w, layer = block.conv_dw.weight, block.layer
    x: dict[str, Tensor] = {}
    d: dict[str, Tensor] = {}

    def gate(chain: str, group: Tensor) -> Tensor:
        where, name = block.gate[chain], NAMES[chain]
        x[name] = torch.linalg.vector_norm(group) - thresholds[where].to(group.dtype)
        d[name] = indicator(x[name])
        if draws is not None:
            d[name] = drop(d[name], keep_prob, draws[where].to(d[name]))
        return d[name]

    if len(layer.kernels) > 1:
        centre = torch.zeros_like(w)
        centre[..., 1:-1, 1:-1] = 1
        ring = w * (1 - centre)
        w = w * centre + gate("tied" if layer.tied else "kernel", ring) * ring
    lower, upper = w[: block.channels[0]], w[block.channels[0] :]
    d100 = d["t5x5"] if layer.tied else gate("expansion", upper)
    kernel = torch.cat([lower, d100 * upper])
    if layer.skippable:
        d50 = gate("skip", lower)
        kernel = kernel if layer.reduces else d50 * kernel
    return Gated(x, d, kernel)


def _run(block: SuperBlock, x: Tensor, gated: Gated) -> Tensor:
    """The block at full width with the masked kernel. [N, in, S, S] -> [N, out, S', S']."""
    act, layer = block.layer.activation, block.layer
    h = activate(block.bn1(block.conv_pw(x)), act)
    h = activate(block.bn2(block.depthwise(h, channels_last(gated.kernel), layer.kernels[-1])), act)
    out = block.bn3(block.conv_pwl(h))
    if block.identity is not None:
        d50 = gated.d["t50c"]
        return d50 * out + (1 - d50) * block.identity(x)
    return x + out if layer.same_shape and layer.residual else out


def layer_runtime(layer: Layer, costs: tuple[float, ...], d: dict[str, Tensor]) -> Tensor | float:
    """R of one layer, as coded in the release; `costs` in the order of `layer.options`, `d` by threshold name.

    A layer whose only kernel is 3x3 has rho = 1; a reduction identity adds (1 - d50) times its own cost.
    """
    by = {(o.kernel, o.expansion): cost for o, cost in zip(layer.options, costs, strict=True)}
    d5, d100, d50 = (d.get(name, 1.0) for name in ("t5x5", "t100c", "t50c"))
    (e3, e6), k3, k5 = layer.expansions, layer.kernels[0], layer.kernels[-1]
    if layer.tied:
        runtime = d50 * (by[k3, e3] + d5 * (by[k5, e6] - by[k3, e3]))
    else:
        rho = by[k3, e6] / by[k5, e6]
        runtime = d50 * (by[k5, e3] + d100 * (by[k5, e6] - by[k5, e3]))
        runtime = runtime * rho + runtime * (1 - rho) * d5
    identity = by[0, 0.0] if layer.skippable else 0.0
    return runtime + (1 - d50) * identity if identity else runtime


class PaperSupernet(nn.Module):
    """The release's supernet for a space whose searchable layers have kernels {3, 5} and two expansions.

    Attributes:
        net: the weights, as `Supernet` holds them.
        thresholds: t of every gate of `net.gates` (skip: t50c, kernel or tied: t5x5, expansion: t100c), [gates], zeros,
            trained with the weights.

    Raises:
        UserError: a layer has other choices.
    """

    def __init__(self, space: Space, schedule: PaperSchedule | None = None):
        super().__init__()
        for layer in space.searchable:
            if layer.kernels not in ((3,), (3, 5)) or len(layer.expansions) != 2 or layer.se != (0.0,):
                given = f"kernels {layer.kernels}, expansions {layer.expansions}, se {layer.se}"
                raise user_error(
                    f"layer {layer.name} of space {space.id} has {given}",
                    "the paper's supernet allows kernels 3 and 5, two expansions, no squeeze-and-excitation",
                    "leave --mode paper out",
                )
        self.space = space
        self.net = Supernet(space)
        del self.net.thresholds
        self.thresholds = nn.Parameter(torch.zeros(len(self.net.gates)))
        momentum = (schedule or PaperSchedule()).bn_momentum
        for norm in batch_norms(self.net):
            norm.momentum = momentum
        self._kept: list[Gated] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": []}  # tensors of a graph cannot be copied

    # -- running ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor,
        keep_prob: float | None = None,
        generator: torch.Generator | None = None,
        draws: Tensor | None = None,
    ) -> Tensor:
        """Logits [N, classes]; the indicators of the pass are kept for `runtime`.

        Args:
            keep_prob: indicators are dropped with it where given; needs `draws` or `generator`.
            draws: uniform on [0, 1), one a gate, [gates]; drawn from `generator` where absent.
        """
        if keep_prob is not None and draws is None:
            if generator is None:
                raise ValueError("keep_prob needs draws or a generator")
            draws = torch.rand(len(self.net.gates), generator=generator, device=generator.device)
        self._kept = self._gates(keep_prob or 1.0, draws if keep_prob is not None else None)
        net, act, gated = self.net, self.space.activation, iter(self._kept)
        x = activate(net.bn1(net.conv_stem(x)), act)
        for block in net.layers:
            x = _run(block, x, next(gated)) if isinstance(block, SuperBlock) else block(x)
        x = activate(net.bn2(net.conv_head(x)), act)
        return net.classifier(net.dropout(x.mean((2, 3))))

    def _gates(self, keep_prob: float = 1.0, draws: Tensor | None = None) -> list[Gated]:
        with torch.autocast(self.thresholds.device.type, enabled=False):
            return [_gated(b, self.thresholds, keep_prob, draws) for b in self.net.super_blocks]

    def runtime(self, costs: CostModel) -> Tensor:
        """R_total of the last pass in costs.unit (ms), with its dropped indicators; of the raw ones before any pass."""
        layers = zip(self.space.searchable, costs.layers, self._kept or self._gates(), strict=True)
        total = self.thresholds.new_zeros(()) + costs.fixed
        for layer, row, gated in layers:
            total = total + layer_runtime(layer, row, gated.d)
        return total

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Every parameter but BN's, thresholds included: what `PaperSchedule.l2` acts on."""
        norms = {id(p) for m in batch_norms(self) for p in m.parameters()}
        return [p for p in self.parameters() if id(p) not in norms]

    # -- reading ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def indicators(self) -> list[dict[str, float]]:
        """Every layer's raw d5, d100, d50, 0 or 1; 1 where the layer has no such gate."""
        names = {"d5": "t5x5", "d100": "t100c", "d50": "t50c"}
        found = []
        for layer, gated in zip(self.space.searchable, self._gates(), strict=True):
            values = {short: float(gated.value(name)) for short, name in names.items()}
            found.append(values | {"d100": values["d5"]} if layer.tied else values)
        return found

    def decode(self) -> Architecture:
        """The architecture of the raw indicators: d50 = 0 is skip, else kernel from d5 and expansion from d100."""
        pairs = zip(self.space.searchable, self.indicators(), strict=True)
        return self.space.architecture([layer.options.index(decoded(layer, d)) for layer, d in pairs])

    @torch.no_grad()
    def frozen_gates(self) -> int:
        """How many indicators have a gradient of exactly 0: sigmoid'(x) underflows in fp32."""
        x = torch.stack([v for gated in self._gates() for v in gated.x.values()]).float()
        y = torch.sigmoid(x)
        return int((y * (1 - y) == 0).sum())

    def extract(self, architecture: Architecture) -> Network:
        """The plain network with copies of the inherited weights, to be evaluated like any child."""
        return self.net.extract(architecture).train(self.training)


def decoded(layer: Layer, d: dict[str, float]) -> Option:
    """The option of hard d5, d100, d50. The release's decoder swaps 3x3-e6 with 5x5-e3; this is the right way round."""
    if d["d50"] == 0:
        return Option()
    return Option(layer.kernels[-1 if d["d5"] else 0], layer.expansions[-1 if d["d100"] else 0])


def build_paper(space: Space, seed: int | None = None, schedule: PaperSchedule | None = None) -> PaperSupernet:
    """The paper's supernet with the release's initialisation (a function of `seed`), thresholds 0, channels_last."""
    supernet = PaperSupernet(space, schedule)
    initialise(supernet, torch.Generator().manual_seed(seed) if seed is not None else None)
    return to_channels_last(supernet)


@torch.no_grad()
def set_gates(supernet: PaperSupernet, architecture: Architecture) -> None:
    """Move the thresholds so that the indicators are exactly those of an architecture."""
    net = supernet.net
    on = net.effective_gates(net.settings(architecture)) > 0
    supernet.thresholds.copy_(torch.where(on.to(supernet.thresholds.device), -1e4, 1e4))
