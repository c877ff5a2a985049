"""Networks whose numbers notice every mistake, and images."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from singlepath import blocks, spaces
from singlepath.data import Preprocess

STRANGE = ("it's", 'say "hi"', "new\nline", "back\\slash'\"", "日本 é", '"""', "{x}", "\u202eevil", "\ud800", "")

SPACES: list[tuple[str, dict[str, Any]]] = [
    (name, options)
    for name in spaces.SPACES
    for options in (
        {"padding": "symmetric", "input_size": 33, "in_channels": 3},
        {
            "padding": "same", "input_size": 21, "in_channels": 1, "se": (0.0, 0.25, 0.5), "kernels": (3, 5, 7),
            "activation": "hard_swish",
        },
    )
]  # fmt: skip
"""Every registered space, twice: the second time with all it can do."""


def make_space(name: str, options: dict[str, Any], classes: int = len(STRANGE)) -> spaces.Space:
    """A narrow space; options that it does not have are left out."""
    known = inspect.signature(spaces.SPACES[name]).parameters
    given = {"width": 0.25, "classes": classes, **options}
    return spaces.make(name, **{key: value for key, value in given.items() if key in known})


def make_network(space: spaces.Space, seed: int) -> blocks.Network:
    """A random architecture with random weights, BN statistics of some other images and random BN affine."""
    network = blocks.build(space.network(space.sample(np.random.default_rng(seed))), seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.5, 0.5, generator=generator)
    shape = (8, space.in_channels, space.input_size, space.input_size)
    with torch.no_grad():
        for _ in range(20):
            network(1.5 * torch.randn(shape, generator=generator) + 0.3)
        spread_labels(network.eval())
    return network


def spread_labels(network: blocks.Network) -> None:
    """Scale and shift the classifier so that images differ in their labels; at most by 5, or rounding would show."""
    preprocess = make_preprocess(network.spec)
    logits = network(preprocess.normalise(make_pixels(preprocess, 32, seed=99)))
    classifier, scale = network.classifier, (3 / logits.std(0)).clamp(max=5)
    classifier.weight.data *= scale[:, None]
    classifier.bias.data = (classifier.bias - logits.mean(0)) * scale


def make_preprocess(spec: Any, extra: int = 5) -> Preprocess:
    """Unlike in every channel, and mean unlike std."""
    means, stds = (0.31, 0.47, 0.62)[: spec.in_channels], (0.24, 0.21, 0.29)[: spec.in_channels]
    return Preprocess(spec.input_size, spec.input_size + extra, means, stds, spec.in_channels)


def make_pixels(preprocess: Preprocess, count: int, seed: int = 0) -> torch.Tensor:
    """uint8 [count, C, S, S]: soft shapes, not noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, preprocess.channels, 4, 4, generator=generator) * 255
    size = (preprocess.size, preprocess.size)
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255).to(torch.uint8)


def eager(network: blocks.Network, preprocess: Preprocess, pixels: torch.Tensor) -> torch.Tensor:
    """What the exported model must give, computed in the plainest way."""
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
    with torch.no_grad():
        return network.eval()(((pixels.double() / 255 - mean) / std).float())


def write_pictures(folder: Path, count: int = 3, size: tuple[int, int] = (53, 41), seed: int = 0) -> list[Path]:
    """PNG files of soft colours."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path)
    return paths


def import_file(path: Path) -> ModuleType:
    """A Python file as a module, in this process."""
    spec = importlib.util.spec_from_file_location(f"model_{abs(hash(path))}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
