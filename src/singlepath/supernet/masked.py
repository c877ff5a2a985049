"""The masked engine: a superkernel with everything computed and multiplied by the gates, by plain autograd.

It is the oracle for the sliced engine (`superkernel`), which says where each gate acts. Gates may be fractional here.

The convolutions of squeeze-and-excitation are linear in the gates they carry, so they are written as a mixture of
levels,

    W(e) z = sum_j (e_j - e_{j+1}) W_j z_j,    e_0 = 1, e_{L+1} = 0,    W_j and z_j up to level j

the same function as masking W's columns. With 0/1 gates it is exactly one level, so the mean over pixels, which torch
sums in an order that depends on the number of channels, rounds as it does in the child (otherwise up to 2e-6 of a
logit in fp32).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from singlepath.blocks import SqueezeExcite, activate, channels_last
from singlepath.supernet.gates import chains
from singlepath.supernet.superkernel import SuperBlock

__all__ = ["masked_block"]


def masked_block(block: SuperBlock, x: Tensor, effective: Tensor) -> Tensor:
    """A superkernel's output under the effective gates e, [gates] of the whole supernet.

    [N, in, S, S] -> [N, out, S', S'].
    """
    layer, act = block.layer, block.layer.activation
    levels = {chain: effective[first : first + len(chains(layer)[chain])] for chain, first in block.gate.items()}
    rings = levels.get("tied", levels.get("kernel"))
    columns = levels.get("tied", levels.get("expansion"))
    h = activate(block.bn1(block.conv_pw(x)), act)
    kernel = block.conv_dw.weight * _kernel_mask(layer.kernels, rings, x)
    z = activate(block.bn2(block.depthwise(h, channels_last(kernel), layer.kernels[-1])), act)
    if block.se is not None:
        z = z * _excitation(block, block.se, z, columns, levels.get("se"))
    mask = _group_mask(block.channels, columns, x).view(1, -1, 1, 1)
    p = F.conv2d(z, block.conv_pwl.weight * mask)
    skip = levels["skip"][0] if "skip" in levels else None
    bn = block.bn3
    weight, bias = (bn.weight, bn.bias) if skip is None else (bn.weight * skip, bn.bias * skip)
    out = F.batch_norm(p, bn.running_mean, bn.running_var, weight, bias, block.training, bn.momentum or 0.0, bn.eps)
    if layer.same_shape and layer.residual:
        return x + out
    return out + (1 - skip) * block.identity(x) if block.identity is not None and skip is not None else out


def _excitation(
    block: SuperBlock, se: SqueezeExcite, z: Tensor, columns: Tensor | None, levels: Tensor | None
) -> Tensor:
    """The scale of every channel, [N, C, 1, 1]: 1 + d_se (sigmoid(.) - 1), written (1 - d_se) + d_se sigmoid(.)."""
    reduce, expand, optional = se.conv_reduce, se.conv_expand, int(block.layer.se[0] == 0)
    assert reduce.bias is not None and expand.bias is not None
    means = [z[:, :c].contiguous(memory_format=torch.channels_last).mean((2, 3), keepdim=True) for c in block.channels]
    scores = []
    for r in block.reduced:
        parts = [F.conv2d(m, reduce.weight[:r, : m.shape[1]], reduce.bias[:r]) for m in means]
        hidden = F.relu(_mixture(parts, columns))
        scores.append(F.conv2d(hidden, expand.weight[:, :r], expand.bias))
    scale = _mixture(scores, None if levels is None else levels[optional:]).sigmoid()
    return (1 - levels[0]) + levels[0] * scale if optional and levels is not None else scale


def _mixture(parts: Sequence[Tensor], levels: Tensor | None) -> Tensor:
    """sum_j (e_j - e_{j+1}) part_j over the levels of one chain, e_0 = 1."""
    if levels is None or len(parts) == 1:
        return parts[-1]
    e = torch.cat([levels.new_ones(1), levels, levels.new_zeros(1)]).to(parts[0].dtype)
    weights = (e[:-1] - e[1:]).unbind()
    return torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum(0)


def _kernel_mask(kernels: tuple[int, ...], levels: Tensor | None, like: Tensor) -> Tensor:
    """[K, K]: 1 on the innermost kernel, e_j on ring j."""
    size = kernels[-1]
    distance = (torch.arange(size) - size // 2).abs()
    reach = torch.maximum(distance[:, None], distance[None, :])
    return _level_mask(torch.bucketize(reach, torch.tensor([k // 2 for k in kernels])), levels, like)


def _group_mask(sizes: list[int], levels: Tensor | None, like: Tensor) -> Tensor:
    """[C]: 1 on the first group, e_j on group j."""
    return _level_mask(torch.bucketize(torch.arange(sizes[-1]), torch.tensor(sizes), right=True), levels, like)


def _level_mask(level: Tensor, levels: Tensor | None, like: Tensor) -> Tensor:
    one = torch.ones(1, dtype=like.dtype, device=like.device)
    values = one if levels is None else torch.cat([one, levels.to(like.dtype)])
    return values[level.to(like.device)]
