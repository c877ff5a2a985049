"""Does the exported file compute what the network computes, and how fast? Asked in a process without singlepath."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from singlepath.blocks import Network
from singlepath.data import Preprocess
from singlepath.errors import SinglepathError, unknown, user_error
from singlepath.export import onnx_, source
from singlepath.export.described import plain

__all__ = ["TOLERANCE", "Checked", "check_export"]

TOLERANCE, ROUNDING = 1e-4, 1.3e-6  # of logits; and of the largest one, as torch.testing allows float32
RUNNER = Path(__file__).with_name("fresh.py")
FILES = {"onnx": (onnx_.FILE,), "source": (source.FILE, source.WEIGHTS)}
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Checked:
    """An exported model beside the network it came from.

    Attributes:
        max_abs_difference: of the logits, over all images and classes.
        allowed: `TOLERANCE` and, since large logits are rounded more, `ROUNDING` of the largest.
        agreement: the fraction of images that both give the same label.
        ms: milliseconds of one image on one thread, the fastest of several runs, normalisation included.
        bytes: of everything the model needs.
        file: the file that was run.
    """

    max_abs_difference: float
    allowed: float
    agreement: float
    ms: float
    bytes: int
    file: str

    @property
    def holds(self) -> bool:
        """Whether the logits are the same."""
        return self.max_abs_difference <= self.allowed

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_export(kind: str, path: Path | str, network: Network, preprocess: Preprocess, images: Tensor) -> Checked:
    """Run an exported model in a fresh process and compare it with the network in evaluation mode.

    Args:
        kind: "onnx" or "source".
        path: the file that was written, or its folder.
        images: uint8 [N, C, S, S], N at least 1; real images, because noise has no decided label.

    Raises:
        UserError: there is no such file or format.
        SinglepathError: the model does not run, or needs singlepath.
        ValueError: the images are not of that shape.
    """
    shape = (preprocess.channels, preprocess.size, preprocess.size)
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != shape or len(images) == 0:
        raise ValueError(f"images must be uint8 [N, {shape}], N > 0, not {images.dtype} {tuple(images.shape)}")
    file, size = exported(kind, Path(path))
    result = run_fresh(kind, file, images)
    found, wanted = torch.tensor(result["logits"], dtype=torch.float64), reference(network, preprocess, images)
    if found.shape != wanted.shape:
        shapes = tuple(found.shape), tuple(wanted.shape)
        raise SinglepathError(f"{file} gives outputs {shapes[0]} where the network gives {shapes[1]}")
    difference = (found - wanted).abs().max()
    agreement = (found.argmax(1) == wanted.argmax(1)).double().mean()
    allowed = TOLERANCE + ROUNDING * float(wanted.abs().max())
    return Checked(float(difference), allowed, float(agreement), float(result["ms"]), size, str(file))


def exported(kind: str, path: Path) -> tuple[Path, int]:
    """The file to run and the bytes of all it needs."""
    if kind not in FILES:
        raise unknown("export format", kind, FILES, "--format")
    folder = path if path.is_dir() else path.parent
    names = FILES[kind] if path.is_dir() or kind == "source" else (path.name,)
    for name in names:
        if not (folder / name).is_file():
            raise user_error(f"there is no {name} in {str(folder)!r}", f"needed: {', '.join(names)}", "export it again")
    return (folder / names[0]).resolve(), sum((folder / name).stat().st_size for name in names)


@torch.no_grad()
def reference(network: Network, preprocess: Preprocess, images: Tensor) -> Tensor:
    """Logits of the network itself, float64 [N, classes]."""
    network = plain(network)
    return torch.cat([network(preprocess.normalise(part)) for part in images.cpu().split(32)]).double()


def run_fresh(kind: str, file: Path, images: Tensor) -> dict[str, Any]:
    """`fresh.main`'s result for an exported model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels, job, result = folder / "pixels", folder / "job.json", folder / "result.json"
        pixels.write_bytes(images.cpu().contiguous().numpy().tobytes())
        told = {"kind": kind, "model": str(file), "pixels": str(pixels), "shape": list(images.shape)}
        job.write_text(json.dumps(told), encoding="utf-8")
        command = [sys.executable, "-P", "-B", str(RUNNER), str(job), str(result)]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment(os.environ), timeout=TIMEOUT_SECONDS,
                capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SinglepathError(f"{file} did not finish within {TIMEOUT_SECONDS} s") from None
        if done.returncode:
            raise SinglepathError(f"{file} does not run: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        found = json.loads(result.read_text(encoding="utf-8"))
    if "singlepath" in found["modules"]:
        raise SinglepathError(f"{file} imports singlepath and would not run without it")
    return found


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for one thread, with no folder on PYTHONPATH that holds singlepath."""
    kept = [p for p in given.get("PYTHONPATH", "").split(os.pathsep) if p and not (Path(p) / "singlepath").exists()]
    return {**given, "PYTHONPATH": os.pathsep.join(kept), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
