"""What a result depends on beside its options: versions, commit and hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

__all__ = ["cpu_name", "environment"]

PACKAGES = ("singlepath", "torch", "numpy", "onnx", "onnxruntime", "scikit-learn", "pillow", "pyarrow", "safetensors")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware: what a result depends on beside its options."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    hardware = {"cpu": cpu_name(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {"versions": versions, "commit": commit(), "hardware": hardware}


def commit() -> str | None:
    """The git commit of the source tree with "+" for local changes, None outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model name, as the system gives it; on ARM, which has none, the board's or the core's number."""
    if cpuinfo.is_file():
        lines = [line.partition(":") for line in cpuinfo.read_text(errors="replace").splitlines()]
        said = {name.strip(): value.strip() for name, _, value in reversed(lines) if value.strip()}
        for name in ("model name", "Hardware", "Model"):
            if name in said:
                return said[name]
        if "CPU part" in said:
            return f"{platform.machine()} {said.get('CPU implementer', '')} {said['CPU part']}"
    return platform.processor() or platform.machine()
