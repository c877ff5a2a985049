"""Images in memory, images in files, and a data set made of either."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from singlepath.errors import SinglepathError

from .geometry import centre_crop, crop_boxes, resized_crop
from .pictures import CorruptImage, open_picture
from .preprocess import Preprocess, convert

__all__ = ["ArrayImages", "Data", "FileImages", "Images"]


class Images(Protocol):
    """Labelled images that can be read in any order."""

    @property
    def labels(self) -> Tensor:
        """int64 [N], on the CPU."""
        ...

    def __len__(self) -> int: ...

    def __add__(self, other: Any, /) -> Images:
        """These images, then the others of the same kind."""
        ...

    def subset(self, indices: Tensor | np.ndarray | Sequence[int]) -> Images:
        """The images at `indices`, in that order."""
        ...

    def fingerprint(self) -> str:
        """A SHA-256 that changes when the images, their order or their labels do.

        Of files too many for memory: when their names, sizes in bytes, order or labels do.
        """
        ...

    def stream(
        self, chunks: Sequence[Tensor], preprocess: Preprocess, crops: Tensor | None, workers: int
    ) -> Iterator[Tensor]:
        """uint8 [len(chunk), C, size, size] for every chunk of indices, in order.

        `crops` [N, 4] are the shapes of random resized crops (`geometry.crop_boxes`), None the centre crop.
        """
        ...


def _positions(indices: Tensor | np.ndarray | Sequence[int]) -> Tensor:
    return torch.as_tensor(np.asarray(indices, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in memory: `pixels` uint8 [N, C, R, R], R the `resize` of the data's `Preprocess`; `labels` int64 [N]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: ArrayImages) -> ArrayImages:
        if not isinstance(other, ArrayImages):
            return NotImplemented
        return ArrayImages(torch.cat([self.pixels, other.pixels]), torch.cat([self.labels, other.labels]))

    def subset(self, indices: Tensor | np.ndarray | Sequence[int]) -> ArrayImages:
        where = _positions(indices)
        return ArrayImages(self.pixels[where], self.labels[where])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        digest.update(self.pixels.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    def stream(
        self, chunks: Sequence[Tensor], preprocess: Preprocess, crops: Tensor | None, workers: int
    ) -> Iterator[Tensor]:
        side = self.pixels.shape[-1]
        for chunk in chunks:
            pixels = self.pixels[chunk]
            if crops is None:
                yield centre_crop(pixels, preprocess.size)
            else:
                yield resized_crop(pixels, crop_boxes(crops[chunk], side, side), preprocess.size)


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images in files, decoded each time they are read: `paths` of N files, `labels` int64 [N]."""

    paths: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: FileImages) -> FileImages:
        if not isinstance(other, FileImages):
            return NotImplemented
        return FileImages(self.paths + other.paths, torch.cat([self.labels, other.labels]))

    def subset(self, indices: Tensor | np.ndarray | Sequence[int]) -> FileImages:
        where = _positions(indices)
        return FileImages(tuple(self.paths[i] for i in where.tolist()), self.labels[where])

    def fingerprint(self) -> str:
        """Of the files' names, sizes in bytes and labels, not of their content."""
        digest = hashlib.sha256()
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            digest.update(
                f"{path.parent.name}/{path.name}\0{path.stat().st_size}\0{label}\n".encode(errors="surrogateescape")
            )
        return digest.hexdigest()

    def stream(
        self, chunks: Sequence[Tensor], preprocess: Preprocess, crops: Tensor | None, workers: int
    ) -> Iterator[Tensor]:
        loader = DataLoader(
            _Decoder(self.paths, preprocess, crops),  # pyright: ignore[reportArgumentType]
            batch_sampler=[chunk.tolist() for chunk in chunks],
            num_workers=workers,
            collate_fn=torch.stack,
            generator=torch.Generator(),  # otherwise each pass would draw from, and so move, the global generator
        )
        return iter(loader)


@dataclass(frozen=True)
class _Decoder:
    """What a worker process needs to turn an index into pixels."""

    paths: tuple[Path, ...]
    preprocess: Preprocess
    crops: Tensor | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """uint8 [C, size, size].

        Raises:
            SinglepathError: the file was readable when the data was loaded and is not any more.
        """
        try:
            image = open_picture(self.paths[index])
        except CorruptImage as error:
            raise SinglepathError(f"cannot read {self.paths[index]} any more: {error}") from None
        if self.crops is None:
            return self.preprocess.image(image)
        image = convert(image, self.preprocess.channels)
        box = crop_boxes(self.crops[index : index + 1], *image.size)[0].tolist()
        size = self.preprocess.size
        box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
        pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
        return torch.from_numpy(pixels).view(size, size, self.preprocess.channels).permute(2, 0, 1).contiguous()


@dataclass
class Data:
    """A data set that is split into a training part, a held-out part and a test part nobody has read yet.

    Attributes:
        name: what it is called in reports.
        classes: the class names; a label is a position in them.
        train: the images weights are trained on.
        val: the held-out part of the training images, which decides.
        preprocess: the evaluation path; its mean and std are those of `train`.
        flip: whether a mirrored image is still of its class (not so for digits).
        skipped: names of the images that could not be decoded; opening the test part may add to it.
        fingerprint: SHA-256 of classes, preprocessing, training and held-out images.
        read_test: reads the test part: images, and names of those skipped.
        side: the shorter edge of the images as they were given, px, the median of some; None where none was read.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    val: Images
    preprocess: Preprocess
    flip: bool
    skipped: list[str]
    fingerprint: str
    read_test: Callable[[], tuple[Images, list[str]]] = field(repr=False)
    side: int | None = None
    _test: Images | None = field(default=None, init=False, repr=False)

    @cached_property
    def all_train(self) -> Images:
        """`train`, then `val`: what a final network is trained on."""
        return self.train + self.val

    def open_test(self) -> Images:
        """The test images. They are read by the first call and by nothing else.

        Raises:
            UserError: they cannot be used (missing, unknown classes, more than 1 % corrupt).
        """
        if self._test is None:
            self._test, skipped = self.read_test()
            self.skipped.extend(skipped)
        return self._test
