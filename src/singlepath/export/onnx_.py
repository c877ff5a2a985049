"""A network as one ``.onnx`` file: pixels in, logits out, everything a user of it must know in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from singlepath.blocks import Conv2d, Network, same_padding
from singlepath.data import Preprocess
from singlepath.errors import user_error
from singlepath.export.described import Labels, check_fit, plain, preprocess_dict, read_labels, text_values, version
from singlepath.export.files import make_folder
from singlepath.runtimes import onnxruntime_

__all__ = ["FILE", "FromPixels", "export_onnx", "read_metadata"]

FILE = "model.onnx"
CLASSES, PREPROCESS = "singlepath.classes", "singlepath.preprocess"
ARCHITECTURE, VERSION = "singlepath.architecture", "singlepath.version"


class FromPixels(nn.Module):
    """A network that normalises its own input: pixels of 0..255, float32 [N, C, S, S] -> logits [N, classes]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess):
        super().__init__()
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
        self.network = network
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x * self.scale + self.shift)


def export_onnx(
    network: Network,
    preprocess: Preprocess,
    classes: Sequence[str],
    path: Path | str,
    extra_metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``input`` (pixels 0..255, float32 [N, C, S, S], N free) -> ``logits`` [N, classes] and return its path.

    The metadata holds the classes and the preprocessing as JSON, the architecture as timm's string and the version.

    Args:
        path: a file ending in ``.onnx``, or a folder to write ``model.onnx`` in.
        extra_metadata: more properties, key -> text; those above cannot be replaced.

    Raises:
        UserError: data and network do not fit together, the folder cannot be made, or the onnx extra is missing.
    """
    check_fit(network, preprocess, classes)
    file = Path(path) if Path(path).suffix == onnxruntime_.SUFFIX else Path(path) / FILE
    make_folder(file.parent)
    metadata = text_values(extra_metadata) | {
        CLASSES: json.dumps(list(classes)),
        PREPROCESS: json.dumps(preprocess_dict(preprocess)),
        ARCHITECTURE: network.spec.string(),
        VERSION: version(),
    }
    example = torch.full((2, preprocess.channels, preprocess.size, preprocess.size), 128.0)
    exported = FromPixels(fixed_padding(plain(network), example), preprocess).eval()
    onnxruntime_.convert(exported, example, file, metadata)
    return file


@torch.no_grad()
def fixed_padding(network: Network, example: Tensor) -> Network:
    """The network, changed so that SAME padding is a constant of the input size of `example` [N, C, S, S].

    Traced as it is, its arithmetic on shapes would be part of the graph, and wrong for odd sizes: ONNX rounds quotients
    of integers towards zero, Python downwards.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    same = {name: m for name, m in network.named_modules() if isinstance(m, Conv2d) and not m.symmetric}
    hooks = [m.register_forward_pre_hook(lambda m, x: shapes.update({m: tuple(x[0].shape[2:])})) for m in same.values()]
    network(example)
    for hook in hooks:
        hook.remove()
    for name, convolution in same.items():
        parent, _, last = name.rpartition(".")
        network.get_submodule(parent).register_module(last, padded(convolution, shapes[convolution]))
    return network


def padded(convolution: Conv2d, shape: tuple[int, ...]) -> nn.Module:
    """A SAME convolution of inputs of one (height, width)."""
    sizes = zip(shape, convolution.kernel_size, convolution.stride, strict=True)
    (top, bottom), (left, right) = (same_padding(*size) for size in sizes)
    unpadded = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, convolution.kernel_size[0], convolution.stride[0],
        groups=convolution.groups, bias=False,
    )  # fmt: skip
    unpadded.weight = convolution.weight
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), unpadded)


def read_metadata(metadata: Mapping[str, str], path: Path) -> Labels:
    """Classes and preprocessing of an exported file.

    Raises:
        UserError: names what is missing from the metadata, or what in it cannot be read.
    """
    missing = [key for key in (CLASSES, PREPROCESS) if key not in metadata]
    problem = f"without {' and '.join(missing)} in its metadata"
    if not missing:
        try:
            return read_labels(json.loads(metadata[PREPROCESS]), json.loads(metadata[CLASSES]))
        except ValueError as error:
            problem = f"with metadata that cannot be read ({error})"
    raise user_error(
        f"{str(path)!r} is a model {problem}", "allowed: a model exported by singlepath", "export it again"
    )
