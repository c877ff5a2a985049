"""Ray for the engine `ray`: started here for a comparison, or joined at an address.

A Ray that finds a token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, which starting a Ray makes) wants it
of everyone, but a client given an address presents it only under RAY_AUTH_MODE=token. So where that is not set and
there is a token, it is set here; a Ray that cannot be joined so is tried once more without.
"""

from __future__ import annotations

import math
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from singlepath.errors import user_error

__all__ = ["check_fits", "join", "start"]

REACHED_SECONDS = 5
MODE = "RAY_AUTH_MODE"
QUIET = {"log_to_driver": False, "logging_level": "error"}


def start(package: Any, workers: int, cpus: float, gpus: float) -> None:
    """Start Ray here.

    Raises:
        UserError: a task asks for more than there is.
    """
    _report_nothing()
    if cpus > workers:
        raise user_error(
            f"--cpus {cpus:g} with --workers {workers}",
            "a task would wait forever",
            f"type --workers {math.ceil(cpus)}",
        )
    package.init(address="local", num_cpus=workers, include_dashboard=False, **QUIET)
    if gpus > (found := package.cluster_resources().get("GPU", 0)):
        package.shutdown()
        raise user_error(f"--gpus {gpus:g}", f"this machine has {found:g}", "type --gpus 0")


def join(package: Any, address: str) -> None:
    """Join the Ray at an address.

    Raises:
        UserError: nothing answers there, or it wants another token.
    """
    _report_nothing()
    errors = (OSError, RuntimeError, ValueError, package.exceptions.RayError)
    try:
        _answers(address)
        if MODE in os.environ or not _has_token():
            package.init(address=address, **QUIET)
            return
        try:
            _set_mode(package, "token")
            package.init(address=address, **QUIET)
        except errors:
            package.shutdown()
            _set_mode(package, None)
            package.init(address=address, **QUIET)
    except errors as error:
        why = " ".join(str(error).split())[:200]
        raise user_error(
            f"no Ray at {address} ({why})", "allowed: host:port of one that runs, or auto",
            f"type ray start --head there; RAY_AUTH_TOKEN and {MODE} have to be the same on both sides",
        ) from None  # fmt: skip


def check_fits(package: Any, cpus: float, gpus: float) -> None:
    """Raises UserError where no machine of the joined Ray has as much as one task takes: it would wait forever."""
    machines = [node.get("Resources", {}) for node in package.nodes() if node.get("Alive")]
    sizes = [(machine.get("CPU", 0), machine.get("GPU", 0)) for machine in machines]
    if any(cpus <= has_cpus and gpus <= has_gpus for has_cpus, has_gpus in sizes):
        return
    has_cpus, has_gpus = max(sizes, key=lambda size: size[::-1] if gpus else size, default=(0, 0))
    raise user_error(
        f"--cpus {cpus:g} --gpus {gpus:g}", f"the largest machine of this Ray has {has_cpus:g} and {has_gpus:g}",
        f"type --cpus {min(cpus, has_cpus):g} --gpus {min(gpus, has_gpus):g}",
    )  # fmt: skip


def _report_nothing() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone


def _answers(address: str) -> None:
    """Ask the port first: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_SECONDS).close()


def _has_token() -> bool:
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(given) or (Path.home() / ".ray" / "auth_token").is_file()


def _set_mode(package: Any, mode: str | None) -> None:
    """Set or unset RAY_AUTH_MODE, also for a Ray that has read it before."""
    os.environ.pop(MODE, None)
    if mode:
        os.environ[MODE] = mode
    with suppress(AttributeError, ImportError):  # private: where it is not there, what was read first stands
        package._raylet.Config.initialize("")
