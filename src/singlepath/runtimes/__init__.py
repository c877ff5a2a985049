"""What runs a network: a plain dict, name -> `Runtime`, one file each. Used by export and by devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from singlepath.errors import unknown
from singlepath.runtimes import onnxruntime_, torch_

__all__ = ["RUNTIMES", "Runtime", "get"]


class Runtime(NamedTuple):
    """The functions of a runtime.

    Attributes:
        convert: ``(module, example [N, C, H, W], path, metadata)``: writes the runtime's file, metadata inside.
        load: ``(path or module, threads)`` -> a session, whatever this runtime takes one to be.
        run: ``(session, x)`` -> the first output.
        time_once: ``(session, x)`` -> milliseconds of one run, on the runtime's clock.
        suffix: of the files `convert` writes.
        in_memory: `load` takes modules, not files.
    """

    convert: Callable[[nn.Module, Tensor, Path, Mapping[str, str]], None]
    load: Callable[..., Any]
    run: Callable[[Any, np.ndarray], np.ndarray]
    time_once: Callable[[Any, np.ndarray], float]
    suffix: str
    in_memory: bool = False


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(
        onnxruntime_.convert, onnxruntime_.load, onnxruntime_.run, onnxruntime_.time_once, onnxruntime_.SUFFIX
    ),
    "torch": Runtime(torch_.convert, torch_.load, torch_.run, torch_.time_once, torch_.SUFFIX, in_memory=True),
}


def get(name: str) -> Runtime:
    """The runtime of a name.

    Raises:
        UserError: it is not registered.
    """
    if name not in RUNTIMES:
        raise unknown("runtime", name, RUNTIMES, "--runtime")
    return RUNTIMES[name]
