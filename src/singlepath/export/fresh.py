"""Runs an exported model in a process that has never heard of singlepath: ``python -P fresh.py JOB RESULT``.

Only `check` starts it. JOB and RESULT are JSON files. It imports the standard library and what the model needs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

CHUNK = 32  # images a batch: bounds memory
WARM_UP, LEAST, MOST, SECONDS = 3, 5, 50, 2.0

Run = Callable[[Any], list[list[float]]]
"""A batch -> logits."""
Prepare = Callable[[bytes, list[int]], Any]
"""Bytes and their shape [n, C, S, S] -> a batch of float32."""


def onnx_model(path: str) -> tuple[Run, Prepare]:
    """How to run an ONNX file on one thread."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def prepare(pixels: bytes, shape: list[int]) -> Any:
        return np.frombuffer(pixels, np.uint8).reshape(shape).astype(np.float32)

    def run(x: Any) -> list[list[float]]:
        return np.asarray(session.run(None, {name: x})[0]).tolist()

    return run, prepare


def source_model(path: str) -> tuple[Run, Prepare]:
    """How to run a stand-alone ``model.py`` on one thread."""
    import torch

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()

    def prepare(pixels: bytes, shape: list[int]) -> Any:
        return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(shape).float()

    def run(x: Any) -> list[list[float]]:
        with torch.inference_mode():
            return network(x).tolist()

    return run, prepare


MODELS = {"onnx": onnx_model, "source": source_model}


def fastest(run: Callable[[], object]) -> float:
    """Milliseconds of the fastest run: at least 5 runs, then up to 50 within two seconds."""
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    start = perf_counter()
    while len(times) < LEAST or (len(times) < MOST and perf_counter() - start < SECONDS):
        before = perf_counter()
        run()
        times.append(perf_counter() - before)
    return min(times) * 1e3


def main(job_file: str, result_file: str) -> None:
    """JOB: kind, model, pixels (a file of bytes), shape. RESULT: logits, ms of one image, modules (top-level names)."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    pixels, (count, *shape) = Path(job["pixels"]).read_bytes(), job["shape"]
    run, prepare = MODELS[job["kind"]](job["model"])
    size = len(pixels) // count
    logits: list[list[float]] = []
    for start in range(0, count, CHUNK):
        stop = min(count, start + CHUNK)
        logits += run(prepare(pixels[start * size : stop * size], [stop - start, *shape]))
    one = prepare(pixels[:size], [1, *shape])
    ms, modules = fastest(lambda: run(one)), sorted({name.split(".")[0] for name in sys.modules})
    result = {"ms": ms, "logits": logits, "modules": modules}
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
