"""Labels for image files, from an exported model or from a network in memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from singlepath.blocks import Network
from singlepath.data import Preprocess
from singlepath.data.pictures import SUFFIXES, CorruptImage, open_picture
from singlepath.data.preprocess import FILE_CHANNELS
from singlepath.errors import UserError, user_error
from singlepath.export import onnx_, source
from singlepath.export.described import Labels, plain
from singlepath.export.weights import load_weights
from singlepath.runtimes import onnxruntime_

__all__ = ["Prediction", "find_images", "predict", "predict_network"]

BATCH = 32
WEIGHTS = ".safetensors"
IN_FOLDER = (source.WEIGHTS, "weights.safetensors", onnx_.FILE)
"""What is looked for in a folder, in this order."""

Logits = Callable[[Tensor], Tensor]
"""Images uint8 [N, C, S, S] -> logits [N, classes]."""

Skip = Callable[[Path, str], None]
"""Told of every image that cannot be read, and why: both in words of one line."""


def warn(file: Path, reason: str) -> None:
    """The `Skip` of callers who name none."""
    warnings.warn(f"skipped {str(file)!r}: {reason}", stacklevel=2)


@dataclass(frozen=True)
class Prediction:
    """What an image shows.

    Attributes:
        file: the image.
        label: the most probable class.
        probability: of `label`, 0 to 1.
        top: the most probable classes with their probabilities, best first.
    """

    file: Path
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "file": str(self.file), "top": [list(pair) for pair in self.top]}


def predict(
    path: Path | str, images: Sequence[Path | str], top: int = 1, skip: Skip = warn
) -> list[Prediction]:  # fmt: skip
    """Label images with an exported model. Its code is not run: ``model.py`` stands for the weights beside it.

    An image that cannot be read has no prediction: `skip` is told, and the others are labelled.

    Args:
        path: an ``.onnx`` file, a ``.safetensors`` file of `save_weights`, or a folder with either.
        images: image files, and folders, which stand for all image files below them.
        top: how many classes to list for each image.
        skip: called with every unreadable image and the reason; by default it warns.

    Raises:
        UserError: `path` is no such model, an image does not exist, or not one image can be read; names it.
    """
    file = model_file(Path(path))
    if file.suffix == WEIGHTS:
        return predict_network(*load_weights(file), images, top, skip)
    session = onnxruntime_.load(file)
    labels = onnx_.read_metadata(onnxruntime_.metadata(session), file)
    check_shapes(session, labels, file)

    def logits(pixels: Tensor) -> Tensor:
        return torch.from_numpy(onnxruntime_.run(session, pixels.float().numpy()))

    return label(logits, labels, images, top, skip)


def predict_network(
    network: Network, preprocess: Preprocess, classes: Sequence[str], images: Sequence[Path | str], top: int = 1,
    skip: Skip = warn,
) -> list[Prediction]:  # fmt: skip
    """Label images with a network, in evaluation mode; it is left as it is. Arguments and errors as in `predict`."""
    evaluated = plain(network)

    @torch.no_grad()
    def logits(pixels: Tensor) -> Tensor:
        return evaluated(preprocess.normalise(pixels))

    return label(logits, Labels(preprocess, tuple(classes)), images, top, skip)


def model_file(path: Path) -> Path:
    """The file that holds the model."""
    if path.is_dir():
        for name in IN_FOLDER:
            if (path / name).is_file():
                return path / name
        raise user_error(
            f"there is no model in the folder {str(path)!r}", f"looked for {', '.join(IN_FOLDER)}",
            "type the path of an exported model",
        )  # fmt: skip
    if path.name == source.FILE and path.with_name(source.WEIGHTS).is_file():
        return path.with_name(source.WEIGHTS)
    if path.suffix not in (onnxruntime_.SUFFIX, WEIGHTS) or not path.is_file():
        problem = "is not a model" if path.is_file() else "does not exist"
        raise user_error(
            f"the model {str(path)!r} {problem}",
            f"allowed: {onnxruntime_.SUFFIX} and {WEIGHTS} files, or a folder with one",
            "type the path of an exported model",
        )  # fmt: skip
    return path


def check_shapes(session: Any, labels: Labels, file: Path) -> None:
    """Refuse a model whose metadata belong to another one."""
    size, channels = labels.preprocess.size, labels.preprocess.channels
    shapes = session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[1:]
    if shapes != ([channels, size, size], [len(labels.classes)]):
        raise user_error(
            f"{str(file)!r} takes {shapes[0]} and gives {shapes[1]}, but its metadata say {[channels, size, size]} and "
            f"{len(labels.classes)} classes", "allowed: a model exported by singlepath", "export it again",
        )  # fmt: skip


def label(logits: Logits, labels: Labels, images: Sequence[Path | str], top: int, skip: Skip) -> list[Prediction]:
    """Predictions for the image files that can be read, a batch at a time."""
    if top < 1:
        raise user_error(f"top {top}", f"allowed: 1 to {len(labels.classes)}", "type --top 1")
    if labels.preprocess.channels not in FILE_CHANNELS:
        raise user_error(
            f"the network takes {labels.preprocess.channels} channels", "image files have 1 or 3",
            "give it arrays through the Python interface of the exported model",
        )  # fmt: skip
    found: list[Prediction] = []
    unread: list[tuple[Path, str]] = []
    files = find_images(images)
    for start in range(0, len(files), BATCH):
        readable, pixels = read_images(files[start : start + BATCH], labels.preprocess, unread)
        if readable:
            probabilities = logits(torch.stack(pixels)).double().softmax(1)
            found += [prediction(f, p, labels.classes, top) for f, p in zip(readable, probabilities, strict=True)]
    if not found:
        raise none_readable(unread)
    for file, reason in unread:
        skip(file, reason)
    return found


def prediction(file: Path, probabilities: Tensor, classes: Sequence[str], top: int) -> Prediction:
    """From the probabilities [classes] of one image."""
    values, places = probabilities.topk(min(top, len(classes)))
    best = tuple((classes[int(i)], float(p)) for i, p in zip(places, values, strict=True))
    return Prediction(file, best[0][0], best[0][1], best)


def read_images(
    files: Sequence[Path], preprocess: Preprocess, unread: list[tuple[Path, str]]
) -> tuple[list[Path], list[Tensor]]:
    """The files that can be read with their pixels uint8 [C, size, size]; the others are added to `unread`."""
    readable, pixels = [], []
    for file in files:
        try:
            pixels.append(preprocess.image(open_picture(file)))
            readable.append(file)
        except CorruptImage as error:
            unread.append((file, " ".join(str(error).split()) or "it cannot be decoded"))
    return readable, pixels


def none_readable(unread: Sequence[tuple[Path, str]]) -> UserError:
    file, reason = unread[0]
    single = f"the image {str(file)!r} cannot be read ({reason})"
    several = f"none of the {len(unread)} images can be read (the first is {str(file)!r}: {reason})"
    return user_error(
        single if len(unread) == 1 else several, f"allowed: {', '.join(sorted(SUFFIXES))}", "repair it or leave it out"
    )


def find_images(given: Sequence[Path | str]) -> list[Path]:
    """The files, and for a folder the image files below it, ordered by name.

    Raises:
        UserError: none is given, one does not exist, or a folder holds none.
    """
    if not given:
        raise user_error("no image is given", "allowed: image files and folders of them", "type predict MODEL IMAGE...")
    found: list[Path] = []
    for path in map(Path, given):
        if not path.exists():
            raise user_error(
                f"the image {str(path)!r} does not exist", "allowed: image files and folders", "correct the path"
            )
        below = sorted(images_below(path)) if path.is_dir() else [path]
        if not below:
            raise user_error(
                f"the folder {str(path)!r} holds no images", f"allowed: {', '.join(sorted(SUFFIXES))}",
                "type another folder",
            )  # fmt: skip
        found += below
    return found


def images_below(folder: Path) -> Iterator[Path]:
    """Image files anywhere below a folder; hidden ones are left out."""
    for parent, _, names in os.walk(folder):
        yield from (
            Path(parent, name) for name in names if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        )
