"""NAS-Bench-Macro's space: eight layers, each the identity, k3 e3 or k5 e6; 3^8 = 6,561 strings, 3,969 networks.

Source: "Prioritized Architecture Sampling with Monto-Carlo Tree Search" (arXiv 2103.11922) and its published table,
which names a network by eight digits: 0 identity, 1 k3 e3, 2 k5 e6. Where a stage begins, the identity is a 1x1
convolution of stride 2 with BN.
"""

from __future__ import annotations

from singlepath.spaces.base import Layer, Space
from singlepath.spaces.mobile import checked_depth, scaled

__all__ = ["macro"]

STAGES = ((2, 64), (3, 128), (3, 256))


def macro(
    *, width: float = 1.0, input_size: int = 32, classes: int = 10, in_channels: int = 3,
    padding: str = "symmetric", depth: int = 1, id: str = "macro",
) -> Space:  # fmt: skip
    """Stem 32 at stride 1, three stages of 2, 3 and 3 layers (64, 128, 256 channels, first stride 2), head 1280.

    `depth` repeats every layer so many times; the benchmark's networks have depth 1.
    """
    channels = stem = scaled(32, width)
    side, layers = input_size, []
    for stage, (count, out) in enumerate(STAGES):
        for index in range(count * checked_depth(depth)):
            stride = 2 if index == 0 else 1
            layer = Layer(
                stage, index, channels, scaled(out, width), stride, side, (3, 5), (3.0, 6.0), skippable=True, tied=True
            )
            layers.append(layer)
            channels, side = layer.out_channels, -(-side // stride)
    # the benchmark's digit i is the option at position "120"[i]: options are (k3 e3, k5 e6, identity)
    return Space(
        id, tuple(layers), input_size, in_channels, stem, 1, scaled(1280, width), classes, padding=padding, digits="120"
    )
