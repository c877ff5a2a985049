"""The plain blocks a found network is made of. Nothing here knows of gates or searches.

Modules and weights are named as timm names them (`conv_pw`, `bn1`, `conv_dw`, ...), so weights travel between the two.
Activations are NCHW tensors, kept in channels_last memory.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from singlepath.architecture import BlockSpec, NetworkSpec

__all__ = [
    "Conv2d", "DepthwiseSeparable", "InvertedResidual", "Network", "ReductionIdentity", "SqueezeExcite",
    "activate", "build", "build_block", "initialise", "to_channels_last",
]  # fmt: skip


M = TypeVar("M", bound=nn.Module)


def activate(x: Tensor, activation: str) -> Tensor:
    return F.hardswish(x) if activation == "hard_swish" else F.relu(x)


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: (before, after); the odd pixel goes after."""
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2


class Conv2d(nn.Conv2d):
    """A bias-free convolution that keeps ceil(side / stride), padded symmetrically or as TensorFlow's SAME.

    A strided 1x1 convolution that is trained on a CPU takes its pixels first and then has stride 1. The numbers are the
    same, but oneDNN 3.12's weight-gradient kernel (`jit_avx512_common_1x1_convolution_bwd_weights_t`) writes
    past the end of its buffer when the threads share the images unevenly (8 images on 3 threads), and damages the heap.
    """

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, padding: str = "symmetric"):
        symmetric = padding == "symmetric" or stride == 1
        super().__init__(cin, cout, kernel, stride, kernel // 2 if symmetric else 0, groups=groups, bias=False)
        self.symmetric = symmetric

    def forward(self, input: Tensor) -> Tensor:
        if self.kernel_size == (1, 1) and self.stride != (1, 1) and not input.is_cuda and torch.is_grad_enabled():
            return F.conv2d(input[:, :, :: self.stride[0], :: self.stride[1]], self.weight, groups=self.groups)
        if self.symmetric:
            return super().forward(input)
        (top, bottom), (left, right) = (
            same_padding(int(n), k, s) for n, k, s in zip(input.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        return super().forward(F.pad(input, (left, right, top, bottom)))


class SqueezeExcite(nn.Module):
    """x * sigmoid(expand(relu(reduce(mean(x))))), the means over height and width (Hu et al., arXiv 1709.01507)."""

    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_expand(F.relu(self.conv_reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


class DepthwiseSeparable(nn.Module):
    """Depthwise convolution, BN, activation, 1x1 convolution, BN."""

    def __init__(self, spec: BlockSpec, bn_eps: float, padding: str):
        super().__init__()
        self.spec = spec
        self.conv_dw = Conv2d(spec.in_channels, spec.in_channels, spec.kernel, spec.stride, spec.in_channels, padding)
        self.bn1 = nn.BatchNorm2d(spec.in_channels, bn_eps)
        self.se = SqueezeExcite(spec.in_channels, spec.se_channels) if spec.se else nn.Identity()
        self.conv_pw = Conv2d(spec.in_channels, spec.out_channels, 1)
        self.bn2 = nn.BatchNorm2d(spec.out_channels, bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(activate(self.bn1(self.conv_dw(x)), self.spec.activation))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.spec.residual else y


class InvertedResidual(nn.Module):
    """MBConv: 1x1 expansion, depthwise convolution, optional squeeze-and-excitation, linear 1x1 projection; BN after
    each.

    The expansion exists even at e = 1, as in timm.
    """

    def __init__(self, spec: BlockSpec, bn_eps: float, padding: str):
        super().__init__()
        self.spec, mid = spec, spec.mid_channels
        self.conv_pw = Conv2d(spec.in_channels, mid, 1)
        self.bn1 = nn.BatchNorm2d(mid, bn_eps)
        self.conv_dw = Conv2d(mid, mid, spec.kernel, spec.stride, mid, padding)
        self.bn2 = nn.BatchNorm2d(mid, bn_eps)
        self.se = SqueezeExcite(mid, spec.se_channels) if spec.se else nn.Identity()
        self.conv_pwl = Conv2d(mid, spec.out_channels, 1)
        self.bn3 = nn.BatchNorm2d(spec.out_channels, bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.bn1(self.conv_pw(x)), self.spec.activation)
        y = self.se(activate(self.bn2(self.conv_dw(y)), self.spec.activation))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.spec.residual else y


class ReductionIdentity(nn.Module):
    """An identity that must change the shape: 1x1 convolution of the block's stride, BN, no activation
    (NAS-Bench-Macro)."""

    def __init__(self, spec: BlockSpec, bn_eps: float):
        super().__init__()
        self.conv = Conv2d(spec.in_channels, spec.out_channels, 1, spec.stride)
        self.bn = nn.BatchNorm2d(spec.out_channels, bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


def build_block(spec: BlockSpec, bn_eps: float = 1e-5, padding: str = "symmetric") -> nn.Module:
    if spec.kind == "id":
        return ReductionIdentity(spec, bn_eps)
    return (InvertedResidual if spec.kind == "ir" else DepthwiseSeparable)(spec, bn_eps, padding)


class Network(nn.Module):
    """A whole network: [N, in_channels, S, S] float32 -> logits [N, classes]."""

    def __init__(self, spec: NetworkSpec):
        super().__init__()
        self.spec = spec
        self.conv_stem = Conv2d(spec.in_channels, spec.stem_channels, 3, spec.stem_stride, padding=spec.padding)
        self.bn1 = nn.BatchNorm2d(spec.stem_channels, spec.bn_eps)
        self.blocks = nn.Sequential(
            *(nn.Sequential(*(build_block(b, spec.bn_eps, spec.padding) for b in stage)) for stage in spec.stages)
        )
        self.conv_head = Conv2d(spec.blocks[-1].out_channels, spec.head_channels, 1)
        self.bn2 = nn.BatchNorm2d(spec.head_channels, spec.bn_eps)
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(spec.head_channels, spec.classes)

    def stem(self, x: Tensor) -> Tensor:
        return activate(self.bn1(self.conv_stem(x)), self.spec.activation)

    def pool(self, x: Tensor) -> Tensor:
        """What the classifier reads, [N, head_channels]."""
        return activate(self.bn2(self.conv_head(x)), self.spec.activation).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.pool(self.blocks(self.stem(x)))))


def build(spec: NetworkSpec, seed: int | None = None) -> Network:
    """A network with fresh weights, in channels_last memory; the weights are a function of `seed` where it is given."""
    network = Network(spec)
    initialise(network, torch.Generator().manual_seed(seed) if seed is not None else None)
    return to_channels_last(network)


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """The initialisation of Single-Path NAS' release.

    Convolutions N(0, sqrt(2 / fan_out)), fan_out = k * k * out / groups, so sqrt(2 / 25) for a 5x5 depthwise kernel at
    any width; classifier U(+-1 / sqrt(classes)); BN scale 1, shift 0; biases 0.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = math.prod(part.kernel_size) * part.out_channels // part.groups
            part.weight.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(part, nn.Linear):
            bound = 1.0 / math.sqrt(part.out_features)
            part.weight.uniform_(-bound, bound, generator=generator)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
        bias = getattr(part, "bias", None)
        if isinstance(part, nn.Conv2d | nn.Linear) and bias is not None:
            bias.zero_()


def channels_last(weight: Tensor) -> Tensor:
    """A 4-d tensor in channels_last memory, one-channel depthwise kernels included.

    [C, 1, k, k] counts as contiguous in both formats, so `contiguous` leaves it alone and convolutions of 1x1 maps then
    take the slow NCHW path; laying it out through [C, k, k, 1] gives the strides that say channels_last.
    """
    c, one, h, w = weight.shape
    if one == 1:
        return weight.contiguous().view(c, h, w, 1).permute(0, 3, 1, 2)
    return weight.contiguous(memory_format=torch.channels_last)


def to_channels_last(module: M) -> M:
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = channels_last(parameter.data)
    return module
