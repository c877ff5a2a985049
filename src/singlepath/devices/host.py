"""This machine, in words that go into tables and reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform

from singlepath.environment import cpu_name

__all__ = ["hardware", "version"]


def hardware() -> dict[str, str]:
    """CPU model, usable cores, operating system, architecture; nothing that names the machine or its user."""
    return {
        "cpu": cpu_name(),
        "cores": str(usable_cores()),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


def usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def version(package: str) -> str:
    """The installed version of a package, empty where it is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
