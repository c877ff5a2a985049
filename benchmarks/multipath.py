"""A multi-path supernet on the layers of a space: what the single-path one is compared with.

Every searchable layer holds a block of its own for each of its options and adds up all of their outputs, weighted by
a softmax (DARTS, arXiv 1806.09055; FBNet, arXiv 1812.03443): with kernels {3, 5}, expansions {3, 6} and skip, 5
operations a layer; with kernels up to 7, 7. The options are the space's own: a kernel that would touch only padding is
no option.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from singlepath.blocks import Conv2d, activate, build_block, initialise, to_channels_last
from singlepath.spaces import Layer, Space

__all__ = ["MultiPath", "build_multipath"]


class Mixed(nn.Module):
    """One layer: sum over its options o of softmax(alpha)_o block_o(x)."""

    def __init__(self, layer: Layer, bn_eps: float, padding: str):
        super().__init__()
        specs = [layer.block(option) for option in layer.options]
        self.blocks = nn.ModuleList(
            nn.Identity() if spec is None else build_block(spec, bn_eps, padding) for spec in specs
        )
        self.alpha = nn.Parameter(torch.zeros(len(specs)))

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.alpha, 0).unbind()
        out = weights[0] * self.blocks[0](x)
        for w, block in zip(weights[1:], self.blocks[1:], strict=True):
            out = out + w * block(x)
        return out


class MultiPath(nn.Module):
    """Images [N, C, S, S] -> logits [N, classes], every option of every layer computed."""

    def __init__(self, space: Space):
        super().__init__()
        self.activation = space.activation
        self.conv_stem = Conv2d(space.in_channels, space.stem_channels, 3, space.stem_stride, padding=space.padding)
        self.bn1 = nn.BatchNorm2d(space.stem_channels, space.bn_eps)
        self.layers = nn.Sequential(*(Mixed(layer, space.bn_eps, space.padding) for layer in space.layers))
        self.conv_head = Conv2d(space.layers[-1].out_channels, space.head_channels, 1)
        self.bn2 = nn.BatchNorm2d(space.head_channels, space.bn_eps)
        self.classifier = nn.Linear(space.head_channels, space.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(activate(self.bn1(self.conv_stem(x)), self.activation))
        x = activate(self.bn2(self.conv_head(x)), self.activation)
        return self.classifier(x.mean((2, 3)))


def build_multipath(space: Space, seed: int) -> MultiPath:
    """Fresh weights (a function of `seed`), channels_last."""
    network = MultiPath(space)
    initialise(network, torch.Generator().manual_seed(seed))
    return to_channels_last(network)
