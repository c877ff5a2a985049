"""Which files of a large folder can be decoded, remembered from one command to the next.

What is known of a list of files stands in one small JSON file of the user's cache folder, named by the files' names,
sizes and times: a bit a file. Losing it costs only time. Files that cannot be decoded are tried again each time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from singlepath.errors import SinglepathError
from singlepath.runs import read_json, write_json

from .source import FilePart

__all__ = ["cache_folder", "readable"]

KEPT = 32  # cache files; older ones are removed
LARGEST = 2**24  # bytes of a cache file


def readable(part: FilePart, indices: np.ndarray, check: Callable[[np.ndarray], list[bool]]) -> np.ndarray:
    """Whether each of the files at `indices` can be decoded, bool; `check` decodes those not known to be fine."""
    file = cache_folder() / f"checked-{_fingerprint(part)}.json"
    fine = _read(file, len(part.paths))
    new = indices[~fine[indices]]
    fine[new] = check(new)
    if fine[new].any():
        _write(file, fine)
    return fine[indices]


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/singlepath or ~/.cache/singlepath."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "singlepath"


def _fingerprint(part: FilePart) -> str:
    digest = hashlib.sha256()
    for index, path in enumerate(part.paths):
        try:
            found = path.stat()
        except OSError:  # it went, or is a link to nothing: decoding says so
            found = None
        facts = (found.st_size, found.st_mtime_ns) if found else None
        digest.update(f"{part.name(index)}\0{facts}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _read(file: Path, count: int) -> np.ndarray:
    """Which files are fine, bool [count]; none where the cache file is missing or is not ours."""
    try:
        if file.stat().st_size <= LARGEST:
            bits = np.frombuffer(bytes.fromhex(read_json(file)["fine"]), np.uint8)
            if len(bits) == -(-count // 8):
                return np.unpackbits(bits, count=count).astype(bool)
    except (OSError, SinglepathError, LookupError, TypeError, ValueError):
        pass
    return np.zeros(count, bool)


def _write(file: Path, fine: np.ndarray) -> None:
    try:
        write_json(file, {"fine": np.packbits(fine).tobytes().hex()})
        for old in sorted(file.parent.glob("checked-*.json"), key=lambda f: f.stat().st_mtime)[:-KEPT]:
            old.unlink()
    except OSError:
        pass  # the next command decodes the files again
