"""What `check` looks at beside the budget: whether the data loads, and what a search will cost on this machine."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from singlepath.architecture import Architecture
from singlepath.errors import UserError
from singlepath.pipeline.setup import best_device, load_data, note_detail, set_threads
from singlepath.runs import read_json
from singlepath.search.base import EPOCHS, PASSES
from singlepath.search.scoring import HELD_OUT, RECALIBRATION
from singlepath.search.single_path import CHILDREN, SCORED, candidates_for
from singlepath.spaces import SPACES, Space, make
from singlepath.spaces.named import ALIASES, NAMED, resolve
from singlepath.supernet import Setting, Supernet, Views, build
from singlepath.training.train import autocast

__all__ = ["check_data", "search_estimate", "search_seconds", "seconds_per_image", "space_named_in"]

BATCHES = 16, 64  # images of the timed passes; the second where a pass takes less than `LONGEST`
LONGEST = 1.0  # seconds
FORWARD = 1 / 3  # of a training pass' time
TOGETHER = 0.5 / SCORED  # the same, of networks that are scored together


def check_data(source: str, space: Space, device: str, seed: int, limit: int | None) -> dict[str, Any]:
    """Load the data as a search would; the test part stays closed."""
    data = load_data(source, space, seed=seed, limit=limit)
    note_detail(data, space, device)
    return {
        "name": data.name, "classes": len(data.classes), "train": len(data.train), "held_out": len(data.val),
        "skipped": len(data.skipped), "shorter_edge": data.side, "input_size": space.input_size,
    }  # fmt: skip


def search_estimate(space: Space, images: int | None, held_out: int | None, seed: int) -> dict[str, Any]:
    """What a default search computes, and the minutes it takes here; reading image files is not in them.

    Args:
        images, held_out: of the search's training and held-out parts; None where no data is given, and a search of the
            least passes with as many held-out images as are ever scored is assumed.

    Returns:
        `passes`, forward and backward, of single images; `scored`, forward passes of the
        candidates that are compared at the end.
    """
    set_threads(None)
    epochs = max(EPOCHS, math.ceil(PASSES / images / CHILDREN)) if images else 0
    passes = epochs * images * CHILDREN if images else PASSES
    held_out = HELD_OUT if held_out is None else held_out
    minutes = search_seconds(seconds_per_image(space, seed), passes, held_out) / 60
    return {
        "images": images, "passes": passes, "scored": scored_images(passes, held_out), "minutes": round(minutes, 1)
    }  # fmt: skip


def scored_images(passes: int, held_out: int, networks: int | None = None) -> int:
    """Forward passes of single images with which a search of so many training passes scores networks, by default as
    many as it chooses."""
    networks = candidates_for(passes, held_out) if networks is None else networks
    return networks * (RECALIBRATION + min(HELD_OUT, held_out))


def search_seconds(each: float, passes: int, held_out: int, networks: int | None = None) -> float:
    """Seconds of a search, its scoring included, where a training pass of one image takes `each`."""
    return each * (passes + TOGETHER * scored_images(passes, held_out, networks))


def seconds_per_image(space: Space, seed: int) -> float:
    """Seconds that one training pass of one image takes here, from a few timed passes of a middle network."""
    device = best_device()
    supernet = build(space, seed).to(device).train()
    settings = supernet.settings(space.architecture([len(layer.options) // 2 for layer in space.searchable]))

    def best(batch: int) -> float:
        """Of three passes; one before them sets things up."""
        x = torch.randn(batch, space.in_channels, space.input_size, space.input_size, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        return min([one_pass(supernet, settings, x) for _ in range(4)][1:]) / batch

    small, large = BATCHES
    found = best(small)
    return best(large) if found * large < LONGEST else found


def one_pass(supernet: Supernet, settings: list[Setting], x: Tensor) -> float:
    """Seconds of a forward and backward pass."""
    wait = torch.cuda.synchronize if x.is_cuda else lambda: None
    wait()
    started = time.perf_counter()
    with autocast(x.device):
        logits = supernet(x, settings, Views())
    logits.float().sum().backward()
    wait()
    return time.perf_counter() - started


def space_named_in(text: str) -> str:
    """The space that an architecture given as text belongs to: the one it names, or the first that can express it."""
    path = Path(text)
    file = path / "architecture.json" if path.is_dir() else path
    if file.is_file():
        return Architecture.from_dict(read_json(file)).space
    if text in NAMED or text in ALIASES:
        return NAMED[ALIASES.get(text, text)].space or "mobile"
    for name in SPACES:
        try:
            resolve(text, make(name))
        except UserError:
            continue
        return name
    return "mobile"
