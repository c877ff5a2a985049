"""PyTorch itself, eager, in this process: what a network takes without any export.

Networks are loaded from memory. `convert` writes a ``torch.export`` program (``.pt2``) for other tools; it is not read
back here, because such a file may carry pickled objects.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from singlepath.errors import user_error

__all__ = ["SUFFIX", "Session", "convert", "load", "run", "time_once"]

SUFFIX = ".pt2"


class Session(NamedTuple):
    """A module in evaluation mode and the threads it runs on."""

    module: nn.Module
    threads: int


def convert(module: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a module in evaluation mode as a ``torch.export`` program, `metadata` as files inside it.

    The file appears complete or not at all. The first axis is free: an example of one image is doubled, because an axis
    of size 1 would be frozen.
    """
    doubled = torch.cat([example, example]) if example.shape[0] == 1 else example
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(copy.deepcopy(module).eval(), (doubled,), dynamic_shapes=(batch,))
    temporary = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        torch.export.save(program, temporary, extra_files={str(k): str(v) for k, v in metadata.items()})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(source: Path | str | nn.Module, threads: int = 1) -> Session:
    """A session of a module, which is copied.

    Raises:
        UserError: a file; this runtime takes modules only.
    """
    if not isinstance(source, nn.Module):
        raise user_error(
            f"the file {source}", "the torch runtime runs networks in memory only", "type --runtime onnxruntime"
        )
    module = copy.deepcopy(source).eval()
    return Session(module.requires_grad_(False), threads)


def run(session: Session, x: np.ndarray) -> np.ndarray:
    """The output for one input array."""
    with limited(session.threads), torch.inference_mode():
        return session.module(nhwc(x)).numpy()


def time_once(session: Session, x: np.ndarray) -> float:
    """Milliseconds of one run."""
    with limited(session.threads), torch.inference_mode():
        given = nhwc(x)
        start = perf_counter()
        session.module(given)
        return (perf_counter() - start) * 1e3


def nhwc(x: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(x)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """This many torch threads inside, as many as before outside."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
