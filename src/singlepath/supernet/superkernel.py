"""The superkernel: one inverted residual that holds every choice of a layer in nested weights.

Two engines over the same weights:

*sliced* (`SuperBlock.forward`): runs the chosen child only. Closed work is not computed; the gradient of a closed gate
is the inner product of the gradient that arrives where its branch would be added with that branch, computed without a
graph (a probe). The gradient of an open gate is <w, dL/dw> over the weights it switches.

*masked* (`masked.masked_block`): runs everything and multiplies by the gates, by plain autograd. It is the oracle that
the sliced engine is tested against.

Where gates act (so that a hard gate gives exactly the child, in train and in eval mode): kernel - the ring's taps;
expansion - the columns of the projection and of SE's reduce layer; skip - the last BN's scale and shift; SE ratio -
the columns of SE's expand layer; SE itself - scale = 1 + d (sigmoid(.) - 1). A reduction identity: out = d block + (1
- d) identity. Gating earlier, as the original does, lets removed channels send relu(beta) through the projection.

The squeeze-and-excitation path is ours (arXiv 1907.00959 left its encoding unpublished). Its bottleneck has r times
the block's input channels; with G_k the channels that the k-th ratio adds to those before it,
z <- z (1 + d_1 (sigmoid(b + q_1 + d_2 q_2 + ...) - 1)),  q_k = W[:, G_k] relu(V[G_k] mean(z) + c[G_k]).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from singlepath.blocks import Conv2d, ReductionIdentity, SqueezeExcite, activate, channels_last, same_padding
from singlepath.spaces import Layer, Option
from singlepath.supernet.gates import Setting, chains, crop, groups, se_groups

__all__ = ["Probes", "SuperBlock", "View", "Views"]

Index = tuple[slice, ...]


@dataclass
class View:
    """A part of a parameter that one pass uses: `leaf` collects its gradient, optimisers change `parameter[index]`."""

    name: str
    parameter: nn.Parameter
    index: Index | None
    leaf: Tensor


class Views:
    """The parts of the weights one training pass uses, each a leaf of the graph; nothing else is touched."""

    def __init__(self) -> None:
        self.taken: list[View] = []

    def take(self, name: str, parameter: nn.Parameter, index: Index | None = None) -> Tensor:
        leaf = parameter.detach()
        if index is not None and leaf[index].shape != leaf.shape:
            leaf = _compact(leaf[index])
        else:
            index = None
        leaf = leaf.requires_grad_()
        self.taken.append(View(name, parameter, index, leaf))
        return leaf

    def whole(self, prefix: str, module: nn.Module) -> None:
        """Every parameter of a fixed module, used as it is."""
        for name, parameter in module.named_parameters():
            self.taken.append(View(f"{prefix}.{name}", parameter, None, parameter))


def _compact(weight: Tensor) -> Tensor:
    return channels_last(weight) if weight.dim() == 4 else weight.contiguous()


@dataclass
class Probes:
    """Collects dL/de of the effective gates during one pass.

    Attributes:
        chosen: flat gate position -> 1 / probability of being probed; closed gates that are absent are not computed.
        at: where the closed gates among them stand. At 0 the pass is the child's own and dL/de is exact. At 1/2 they
            are half open, and dL/de is the midpoint rule for the change that opening makes; what it leaves out is how
            a half-open branch itself depends on gates before it, and on its own squeeze-and-excitation.
        values: (flat gate position, value) pairs, filled by the backward pass and by `SuperBlock.collect`.
    """

    chosen: dict[int, float]
    values: list[tuple[int, Tensor]] = field(default_factory=list)
    at: float = 0.0

    def attach(self, y: Tensor, gate: int, branch: Callable[[], Tensor], at: float = 0.0) -> Tensor:
        """y + at * branch(); in the backward pass records <dL/d of that, branch()>, weighted as `chosen` says."""
        return _Attach.apply(y, self, gate, branch, at)

    def effective(self, count: int) -> Tensor:
        """dL/de of all gates, [count]."""
        if not self.values:
            return torch.zeros(count)
        stacked = torch.stack([v for _, v in self.values])
        where = torch.tensor([i for i, _ in self.values], device=stacked.device)
        return torch.zeros(count, dtype=stacked.dtype, device=stacked.device).index_add_(0, where, stacked)


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, probes, gate, branch, at):  # type: ignore[override]
        ctx.probes, ctx.gate, ctx.branch = probes, gate, branch
        kind = y.device.type
        ctx.precision = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        if not at:  # the branch is not needed before the backward pass, nor kept until then
            return y.view_as(y)
        kept = branch()
        ctx.branch = lambda: kept
        return torch.add(y, kept.to(y.dtype), alpha=at)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        # The branch runs in the forward pass' precision: autocast is a state of the thread, and on a GPU this is
        # another thread than the forward pass'.
        with torch.no_grad(), torch.autocast(*ctx.precision):
            branch, half = ctx.branch(), grad.dtype.itemsize < 4
            value = ((grad.float() * branch.float()) if half else grad * branch).sum()
            weight = ctx.probes.chosen[ctx.gate]
            ctx.probes.values.append((ctx.gate, value * weight if weight != 1.0 else value))
        return grad, None, None, None, None


class SuperBlock(nn.Module):
    """One searchable layer with nested weights. Module names follow `blocks.InvertedResidual`."""

    def __init__(self, layer: Layer, first_gate: int, bn_eps: float, padding: str):
        super().__init__()
        self.layer, self.padding = layer, padding
        mid, self.channels, self.reduced = groups(layer)[-1], groups(layer), se_groups(layer)
        self.conv_pw = Conv2d(layer.in_channels, mid, 1)
        self.bn1 = nn.BatchNorm2d(mid, bn_eps)
        self.conv_dw = Conv2d(mid, mid, layer.kernels[-1], layer.stride, mid, padding)
        self.bn2 = nn.BatchNorm2d(mid, bn_eps)
        self.se = SqueezeExcite(mid, self.reduced[-1]) if self.reduced else None
        self.conv_pwl = Conv2d(mid, layer.out_channels, 1)
        self.bn3 = nn.BatchNorm2d(layer.out_channels, bn_eps)
        spec = layer.block(Option()) if layer.reduces else None
        self.identity = ReductionIdentity(spec, bn_eps) if spec else None
        self.gate: dict[str, int] = {}  # chain -> flat position of its first level
        for chain, labels in chains(layer).items():
            self.gate[chain] = first_gate
            first_gate += len(labels)

    # -- sliced engine ------------------------------------------------------------------------------------------------

    def forward(
        self, x: Tensor, setting: Setting, views: Views | None = None, probes: Probes | None = None, name: str = ""
    ) -> Tensor:
        """The child's output. [N, in, S, S] -> [N, out, S', S'].

        Args:
            views: records the leaves of a training pass; None uses the parameters directly.
            probes: records gate gradients; a closed gate is probed where `probes.chosen` names it.
        """
        if not setting.on:
            return self._skipped(x, setting, views, probes, name)
        out = self._block(x, setting, views, probes, name)
        if self.layer.same_shape and self.layer.residual:
            return x + out
        if self.identity and probes and (gate := self.gate["skip"]) in probes.chosen:
            source = x.detach()
            out = probes.attach(out, gate, lambda: -self._identity_statistics_free(source))
        return out

    def _skipped(self, x: Tensor, setting: Setting, views: Views | None, probes: Probes | None, name: str) -> Tensor:
        out = self._identity(x, views, name)
        gate = self.gate["skip"]
        if not probes or gate not in probes.chosen:
            return out
        source, kept = x.detach(), out.detach()

        def branch() -> Tensor:
            block = self._block(source, setting, None, None, name, running=False)
            return block - kept if self.identity else block

        return probes.attach(out, gate, branch, probes.at)

    def _identity(self, x: Tensor, views: Views | None, name: str) -> Tensor:
        if self.identity is None:
            return x
        if views is not None:
            views.whole(f"{name}.identity", self.identity)
        return self.identity(x)

    def _identity_statistics_free(self, x: Tensor) -> Tensor:
        assert self.identity is not None
        bn = self.identity.bn
        return F.batch_norm(self.identity.conv(x), None, None, bn.weight, bn.bias, True, 0.0, bn.eps)

    def _block(
        self, x: Tensor, s: Setting, views: Views | None, probes: Probes | None, name: str, running: bool = True
    ) -> Tensor:
        c, k, act = self.channels[s.expansion], self.layer.kernels[s.kernel], self.layer.activation
        part = slice(0, c)
        take = _taker(self, views, name)
        h = F.conv2d(x, take("conv_pw.weight", part))
        h = activate(_norm(h, self.bn1, part, take, "bn1", running), act)
        y = self.depthwise(h, take("conv_dw.weight", part, slice(None), *self._window(k)), k)
        closed = self._closed(s, probes)
        for chain in ("kernel", "tied"):
            if chain in closed and s.kernel + 1 < len(self.layer.kernels):
                kept = h.detach()
                y = closed[chain](y, lambda kept=kept: self._ring(kept, c, s.kernel))
        z = activate(_norm(y, self.bn2, part, take, "bn2", running), act)
        upper = self._upper(x.detach(), s) if probes else None
        z, gate_scale = self._squeeze(z, s, take, closed, upper, probes)
        p = F.conv2d(z, take("conv_pwl.weight", slice(None), part))
        for chain in ("expansion", "tied"):
            if chain in closed and s.expansion + 1 < len(self.channels) and upper:
                columns = self.conv_pwl.weight.detach()[:, c : self.channels[s.expansion + 1]]
                p = closed[chain](p, lambda columns=columns: F.conv2d(_scaled(upper(), gate_scale), columns))
        return _norm(p, self.bn3, slice(None), take, "bn3", running)

    def _closed(self, s: Setting, probes: Probes | None) -> dict[str, Callable[[Tensor, Callable[[], Tensor]], Tensor]]:
        """For every chain whose first off gate is to be probed: a function that attaches the probe."""
        found = {}
        for chain, first in self.gate.items() if probes else ():
            on = s.kernel if chain == "tied" else getattr(s, chain, 0)
            gate = first + on
            if chain != "skip" and on < len(chains(self.layer)[chain]) and probes and gate in probes.chosen:
                found[chain] = lambda y, b, gate=gate: probes.attach(y, gate, b, probes.at)
        return found

    def _window(self, kernel: int) -> tuple[slice, slice]:
        lo = (self.layer.kernels[-1] - kernel) // 2
        return slice(lo, lo + kernel), slice(lo, lo + kernel)

    def depthwise(self, h: Tensor, weight: Tensor, kernel: int) -> Tensor:
        stride = self.layer.stride
        if self.padding == "symmetric" or stride == 1:
            return F.conv2d(h, weight, None, stride, kernel // 2, 1, weight.shape[0])
        (top, bottom), (left, right) = (same_padding(n, kernel, stride) for n in h.shape[2:])
        return F.conv2d(F.pad(h, (left, right, top, bottom)), weight, None, stride, 0, 1, weight.shape[0])

    def _ring(self, h: Tensor, c: int, kernel_level: int) -> Tensor:
        """What the next ring would add to the depthwise output."""
        inner, outer = self.layer.kernels[kernel_level : kernel_level + 2]
        ring = crop(self.conv_dw.weight.detach()[:c], outer).clone()
        lo = (outer - inner) // 2
        ring[..., lo : lo + inner, lo : lo + inner] = 0
        return self.depthwise(h, channels_last(ring), outer)

    def _upper(self, x: Tensor, s: Setting) -> Callable[[], Tensor]:
        """The activations of the next channel group at the current kernel, batch statistics; computed once."""
        memo: list[Tensor] = []

        def compute() -> Tensor:
            if not memo:
                part, act = slice(self.channels[s.expansion], self.channels[s.expansion + 1]), self.layer.activation
                take, k = _taker(self, None, ""), self.layer.kernels[s.kernel]
                h = F.conv2d(x, take("conv_pw.weight", part))
                h = activate(_norm(h, self.bn1, part, take, "bn1", False), act)
                y = self.depthwise(h, channels_last(take("conv_dw.weight", part, slice(None), *self._window(k))), k)
                memo.append(activate(_norm(y, self.bn2, part, take, "bn2", False), act))
            return memo[0]

        return compute

    def _squeeze(self, z, s, take, closed, upper, probes):
        """Squeeze-and-excitation at the current level: (scaled activations, the next channel group's scale)."""
        if self.se is None:
            return z, None
        c, optional = self.channels[s.expansion], int(self.layer.se[0] == 0)
        if s.se < optional:  # the path is closed
            if "se" in closed:
                kept = z.detach()
                weights = (self.se.conv_reduce, self.se.conv_expand)
                z = closed["se"](z, lambda: kept * (_scale(kept, weights, c, self.reduced[0]) - 1))
            return z, None
        r = self.reduced[s.se - optional]
        rows, cols = slice(0, r), slice(0, c)
        mean = z.mean((2, 3), keepdim=True)
        hidden = F.conv2d(mean, take("se.conv_reduce.weight", rows, cols), take("se.conv_reduce.bias", rows))
        for chain in ("expansion", "tied"):
            if chain in closed and s.expansion + 1 < len(self.channels):
                reduce = self.se.conv_reduce.weight.detach()[:r, c : self.channels[s.expansion + 1]]
                hidden = closed[chain](hidden, lambda w=reduce: F.conv2d(upper().mean((2, 3), keepdim=True), w))
        hidden = F.relu(hidden)
        q = F.conv2d(hidden, take("se.conv_expand.weight", cols, rows), take("se.conv_expand.bias", cols))
        if "se" in closed and s.se + 1 < len(self.layer.se):
            kept_mean, wider = mean.detach(), slice(r, self.reduced[s.se + 1 - optional])

            def more() -> Tensor:
                assert self.se is not None
                w1, b1 = self.se.conv_reduce.weight.detach()[wider, :c], self.se.conv_reduce.bias
                extra = F.relu(F.conv2d(kept_mean, w1, None if b1 is None else b1.detach()[wider]))
                return F.conv2d(extra, self.se.conv_expand.weight.detach()[:c, wider])

            q = closed["se"](q, more)
        scale = q.sigmoid()
        out = z * scale
        if probes and optional and (gate := self.gate["se"]) in probes.chosen:
            kept_z, kept_scale = z.detach(), scale.detach()
            out = probes.attach(out, gate, lambda: kept_z * (kept_scale - 1))
        kept_hidden = hidden.detach()

        def next_scale() -> Tensor:
            assert self.se is not None and self.se.conv_expand.bias is not None
            more_rows = slice(c, self.channels[s.expansion + 1])
            weight, bias = self.se.conv_expand.weight.detach(), self.se.conv_expand.bias.detach()
            return F.conv2d(kept_hidden, weight[more_rows, rows], bias[more_rows]).sigmoid()

        return out, next_scale

    # -- gradients of open gates --------------------------------------------------------------------------------------

    def collect(self, setting: Setting, leaves: dict[str, Tensor], probes: Probes, name: str) -> None:
        """After the backward pass: <w, dL/dw> of every open gate of this layer (`leaves` by full name)."""
        if not setting.on:
            return

        def pair(key: str) -> tuple[Tensor, Tensor]:
            leaf = leaves[f"{name}.{key}"]
            assert leaf.grad is not None
            return leaf.detach(), leaf.grad

        for chain, first in self.gate.items():
            if chain == "skip":
                if first in probes.chosen:
                    value = torch.dot(*pair("bn3.weight")) + torch.dot(*pair("bn3.bias"))
                    weight = probes.chosen[first]
                    probes.values.append((first, value * weight if weight != 1.0 else value))
                continue
            for j, parts in enumerate(self._switched(chain, setting, pair)):
                probes.values += [(first + j, part) for part in parts]

    def _switched(self, chain: str, s: Setting, pair: Callable[[str], tuple[Tensor, Tensor]]) -> list[list[Tensor]]:
        """<w, dL/dw> over the weights that each open level of a chain switches, a part for every parameter."""
        on, optional = s.kernel if chain == "tied" else getattr(s, chain), int(self.layer.se[0] == 0)
        found: list[list[Tensor]] = [[] for _ in range(on)]
        if on and chain in ("kernel", "tied"):
            leaf, grad = pair("conv_dw.weight")
            taps = leaf * grad
            sums = [crop(taps, k).sum() for k in self.layer.kernels[: on + 1]]
            for j in range(on):
                found[j].append(sums[j + 1] - sums[j])
        columns: list[tuple[str, list[int], int]] = []  # parameter, sizes of its groups, level of the first upper one
        if chain in ("expansion", "tied"):
            columns.append(("conv_pwl.weight", self.channels, 0))
            if self.se is not None and s.se >= optional:
                columns.append(("se.conv_reduce.weight", self.channels, 0))
        if chain == "se":
            columns.append(("se.conv_expand.weight", self.reduced, optional))
        for key, sizes, first in columns:
            for j in range(first, on):
                leaf, grad = pair(key)
                part = slice(sizes[j - first], sizes[j - first + 1])
                found[j].append((leaf[:, part] * grad[:, part]).sum())
        return found


_GETTERS = {
    key: attrgetter(key)
    for key in (
        "conv_pw.weight", "bn1.weight", "bn1.bias", "conv_dw.weight", "bn2.weight", "bn2.bias", "conv_pwl.weight",
        "bn3.weight", "bn3.bias", "se.conv_reduce.weight", "se.conv_reduce.bias", "se.conv_expand.weight",
        "se.conv_expand.bias",
    )
}  # fmt: skip


def _taker(block: SuperBlock, views: Views | None, name: str) -> Callable[..., Tensor]:
    """take("conv_pw.weight", slices...) -> the slice of that parameter, a recorded leaf where there are views."""

    def take(key: str, *index: slice) -> Tensor:
        parameter = _GETTERS[key](block)
        if views is not None:
            return views.take(f"{name}.{key}", parameter, index)
        part = parameter[index]
        return channels_last(part) if part.dim() == 4 and part.shape[1] == 1 else part

    return take


def _norm(x: Tensor, bn: nn.BatchNorm2d, part: slice, take: Callable[..., Tensor], key: str, running: bool) -> Tensor:
    weight, bias = take(f"{key}.weight", part), take(f"{key}.bias", part)
    if not running:
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, bn.eps)
    assert bn.running_mean is not None and bn.running_var is not None
    mean, var = bn.running_mean[part], bn.running_var[part]
    return F.batch_norm(x, mean, var, weight, bias, bn.training, bn.momentum or 0.0, bn.eps)


def _scale(z: Tensor, convs: tuple[nn.Conv2d, nn.Conv2d], c: int, r: int) -> Tensor:
    reduce, expand = convs
    assert reduce.bias is not None and expand.bias is not None
    hidden = F.relu(F.conv2d(z.mean((2, 3), keepdim=True), reduce.weight[:r, :c], reduce.bias[:r]))
    return F.conv2d(hidden, expand.weight[:c, :r], expand.bias[:c]).sigmoid()


def _scaled(z: Tensor, scale: Callable[[], Tensor] | None) -> Tensor:
    return z * scale() if scale else z
