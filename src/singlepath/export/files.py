"""Writing files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

from pathlib import Path

from singlepath.errors import user_error
from singlepath.runs import write_atomic

__all__ = ["make_folder", "write"]


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it.

    Raises:
        UserError: there is a file in the way, or the folder may not be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise user_error(
            f"cannot make the folder {str(folder)!r} ({error.strerror})", "allowed: a folder that can be written",
            "give another path",
        ) from None  # fmt: skip
    return folder


def write(path: Path, content: bytes) -> Path:
    """Write a file under a temporary name, flush it to the disk, then rename it; its folder is made.

    Raises:
        UserError: the folder cannot be made.
    """
    make_folder(path.parent)
    return write_atomic(path, content)
