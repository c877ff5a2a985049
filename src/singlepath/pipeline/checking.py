"""What `check` looks at beside the budget: whether the data loads, and what a search will cost on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from singlepath.architecture import Architecture
from singlepath.errors import UserError
from singlepath.pipeline.setup import best_device, load_data, set_threads
from singlepath.runs import read_json
from singlepath.search.base import PASSES
from singlepath.spaces import SPACES, Space, make
from singlepath.spaces.named import ALIASES, NAMED, resolve
from singlepath.supernet import Views, build

__all__ = ["check_data", "search_estimate", "seconds_per_image", "space_named_in"]

BATCH = 16  # images of the timed passes


def check_data(source: str, space: Space, seed: int, limit: int | None) -> dict[str, Any]:
    """Load the data as a search would; the test part stays closed."""
    data = load_data(source, space, seed=seed, limit=limit)
    return {
        "name": data.name, "classes": len(data.classes), "train": len(data.train), "held_out": len(data.val),
        "skipped": len(data.skipped), "input_size": space.input_size,
    }  # fmt: skip


def search_estimate(space: Space, source: str | None, seed: int, limit: int | None) -> dict[str, Any]:
    """Image passes of a default search, and the minutes they take here."""
    set_threads(None)
    images = len(load_data(source, space, seed=seed, limit=limit).train) if source else None
    passes = max(PASSES, 15 * (images or 0))
    return {"images": images, "passes": passes, "minutes": round(seconds_per_image(space, seed) * passes / 60, 1)}


def seconds_per_image(space: Space, seed: int) -> float:
    """Seconds that one training pass of one image takes here, from a few timed passes of a middle network."""
    supernet = build(space, seed).to(best_device()).train()
    settings = supernet.settings(space.architecture([len(layer.options) // 2 for layer in space.searchable]))
    x = torch.randn(BATCH, space.in_channels, space.input_size, space.input_size, device=best_device())
    x, best = x.contiguous(memory_format=torch.channels_last), float("inf")
    for _ in range(4):
        started = time.perf_counter()
        supernet(x, settings, Views()).sum().backward()
        best = min(best, time.perf_counter() - started)
    return best / BATCH


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
