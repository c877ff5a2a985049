"""Networks carried over to a deeper space: every layer's choice repeated, `times` = its depth over theirs.

    o_1 o_2 ... o_n   ->   o_1 ... o_1  o_2 ... o_2  ...  o_n ... o_n        within every stage that repeats

Whether networks rank alike at both depths is the depth gap of "NAS evaluation is frustratingly hard" (arXiv 1912.12522,
section 5: cells searched in a network of 8 are used in one of 20).
"""

from __future__ import annotations

from dataclasses import replace

from singlepath.architecture import Architecture
from singlepath.spaces import Layer, Option, Space, make, parse_id

__all__ = ["at_depth", "carried", "depth_of"]


def depth_of(space: str) -> int:
    """The depth that a space's id names; 1 where it names none."""
    return int(parse_id(space)[1].get("depth", 1))


def at_depth(space: Space, depth: int) -> Space:
    """The space of another depth, its other options kept.

    Raises:
        UserError: spaces of this name have no depth, or not this one.
    """
    return make(space.id, depth=depth)


def carried(architecture: Architecture, space: Space, deeper: Space) -> Architecture:
    """The architecture of `space` in `deeper`, by its canonical name.

    A repeat that lacks the choice's kernel (it sees smaller feature maps than the strided layer before it) takes the
    largest one below; a layer that is skipped is skipped in every repeat.

    Raises:
        ValueError: `deeper` is not a multiple of `space`, or a repeat lacks the choice's expansion or ratio.
    """
    choices: list[str] = []
    options = space.options(architecture)
    for stage in sorted({layer.stage for layer in space.layers}):
        own = [option for layer, option in zip(space.layers, options, strict=True) if layer.stage == stage]
        layers = [layer for layer in deeper.layers if layer.stage == stage]
        times, rest = divmod(len(layers), len(own))
        if rest or not times:
            raise ValueError(f"stage {stage} has {len(own)} layers in {space.id} and {len(layers)} in {deeper.id}")
        choices += [_nearest(own[i // times], layer) for i, layer in enumerate(layers) if layer.searchable]
    return deeper.canonical(Architecture(deeper.id, tuple(choices)))


def _nearest(option: Option, layer: Layer) -> str:
    kernels = [o.kernel for o in layer.options if o == replace(option, kernel=o.kernel) and o.kernel <= option.kernel]
    if not kernels:
        raise ValueError(f"layer {layer.name} has nothing like {option.token}")
    return replace(option, kernel=max(kernels)).token
