"""Batches in an order that is a function of (seed, epoch), from any point of an epoch on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .augment import Augment
from .base import Images
from .preprocess import Preprocess
from .splits import generator

__all__ = ["Batch", "batch_count", "batches", "evaluation_batches"]


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes:
        x: float32 [N, C, S, S], normalised, channels_last.
        y: int64 [N], positions in the class names.
        index: int64 [N], positions in the images the batch is from; on the CPU.
    """

    x: Tensor
    y: Tensor
    index: Tensor


def batch_count(count: int, batch_size: int, *, drop_last: bool = True) -> int:
    """Batches in an epoch of `count` images; fewer images than `batch_size` make one batch."""
    whole, rest = divmod(count, batch_size)
    return whole + (rest > 0 and (not drop_last or whole == 0))


def batches(
    images: Images,
    preprocess: Preprocess,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: Augment | None = None,
    start: int = 0,
    drop_last: bool = True,
    shuffle: bool = True,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """The batches of one epoch.

    Args:
        augment: None leaves the images as evaluation sees them.
        start: batches to leave out at the beginning; they are not computed.
        drop_last: leave out a last batch that is not full (never the only one).
        workers: processes that decode files; images in memory need none. The result is the same for any number.
        device: where batches are augmented and delivered.
    """
    count = len(images)
    order = generator(seed, "order", epoch).permutation(count) if shuffle else range(count)
    number = batch_count(count, batch_size, drop_last=drop_last)
    chunks = list(torch.as_tensor(order, dtype=torch.int64).split(batch_size))[start:number]
    draws = augment.table(count, seed, epoch) if augment else {}
    stream = images.stream(chunks, preprocess, draws.get("crop"), workers)
    for index, read in zip(chunks, stream, strict=True):
        pixels = read.to(device)
        if augment is None:
            x = preprocess.normalise(pixels)
        else:
            x = augment.apply(pixels, {name: rows[index].to(device) for name, rows in draws.items()}, preprocess)
        yield Batch(x, images.labels[index].to(device), index)


def evaluation_batches(
    images: Images,
    preprocess: Preprocess,
    *,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Every image once, in order, as it is, the last batch possibly smaller."""
    return batches(
        images,
        preprocess,
        batch_size=batch_size,
        seed=0,
        epoch=0,
        drop_last=False,
        shuffle=False,
        workers=workers,
        device=device,
    )
