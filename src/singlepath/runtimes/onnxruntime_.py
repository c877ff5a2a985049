"""ONNX Runtime on the CPU: modules become ``.onnx`` files with their metadata inside."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from singlepath.errors import optional, user_error

__all__ = ["INPUT", "OUTPUT", "SUFFIX", "convert", "load", "metadata", "run", "time_once"]

SUFFIX = ".onnx"
INPUT, OUTPUT = "input", "logits"
OPSET = 18


def convert(module: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a module in evaluation mode as ONNX (opset 18, first axis free) with `metadata` as its properties.

    The file appears complete or not at all. The module's training mode is left as it was.

    Args:
        example: an input, [N, C, H, W]; only the first axis stays free.
    """
    onnx = optional("onnx", "onnx")
    model = onnx.load_from_string(traced(module, example))
    onnx.helper.set_model_props(model, {str(k): str(v) for k, v in metadata.items()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(model.SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def traced(module: nn.Module, example: Tensor) -> bytes:
    """The module as ONNX bytes, by tracing: 0.02 s a block where the newer exporter takes 1 s."""
    buffer: Any = io.BytesIO()  # the exporter takes files too, whatever its annotation says
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), buffer, dynamo=False, opset_version=OPSET, training=torch.onnx.TrainingMode.EVAL,
            input_names=[INPUT], output_names=[OUTPUT], dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )  # fmt: skip
    return buffer.getvalue()


def load(source: Path | str | nn.Module, threads: int = 1) -> Any:
    """An inference session of an ``.onnx`` file on `threads` CPU threads.

    Raises:
        UserError: a missing file, one that is not ONNX, or a module (convert it first).
    """
    runtime = optional("onnxruntime", "onnx")
    if isinstance(source, nn.Module) or not Path(source).is_file():
        raise user_error(
            f"{type(source).__name__} {str(source)[:80]!r}", "allowed: an .onnx file", "convert the network first"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise user_error(
            f"{source} is not a model ONNX Runtime reads ({first})", "allowed: an .onnx file", "export it again"
        ) from None


def metadata(session: Any) -> dict[str, str]:
    """The properties `convert` wrote."""
    return dict(session.get_modelmeta().custom_metadata_map)


def run(session: Any, x: np.ndarray) -> np.ndarray:
    """The first output for one input array."""
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def time_once(session: Any, x: np.ndarray) -> float:
    """Milliseconds of one run."""
    feed = {session.get_inputs()[0].name: x}
    start = perf_counter()
    session.run(None, feed)
    return (perf_counter() - start) * 1e3
