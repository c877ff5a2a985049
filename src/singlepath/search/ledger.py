"""A ledger of image passes: how many may be computed, and what they went to.

An image pass is one image through the network, forward and backward. The ledger is a file that several processes
charge; what is written is either whole or not there.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from singlepath.errors import SinglepathError
from singlepath.runs import read_json, write_json

__all__ = ["Ledger", "Lock"]

SEARCH = "search"  # what a trial's own row is called


class Lock:
    """A lock between processes, `path` its file; the system opens it when its holder ends, however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        """Wait for it; True, as optuna asks."""
        file = open(self.path, "a")  # noqa: SIM115 - held until release()
        fcntl.flock(file, fcntl.LOCK_EX)
        self._file = file
        return True

    def release(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class Ledger:
    """So many image passes, and a row for everything they are charged with.

    A row is ``{"what", "passes", "trial", "reserved"}``: `trial` is None where it belongs to none; `reserved` where the
    passes are set aside and not all computed yet.

    Attributes:
        path: the ledger's file; made by the first charge.
        total: image passes, of which none more is ever charged.
    """

    path: Path
    total: int

    def rows(self) -> list[dict[str, Any]]:
        return read_json(self.path)["rows"] if self.path.is_file() else []

    @property
    def spent(self) -> int:
        """Passes that were computed."""
        return sum(row["passes"] for row in self.rows() if not row["reserved"])

    @property
    def left(self) -> int:
        """Passes that are neither computed nor set aside."""
        return self.total - sum(row["passes"] for row in self.rows())

    def of(self, trial: int) -> int:
        """Passes that a trial was charged with, or that are set aside for it."""
        return sum(row["passes"] for row in self.rows() if row["trial"] == trial)

    def charge(self, what: str, passes: int, trial: int | None = None, *, reserved: bool = False) -> None:
        """Write passes down.

        Raises:
            SinglepathError: there are not so many left; nothing is written.
        """
        with self._lock():
            rows, left = self.rows(), self.left
            if passes > left:
                raise SinglepathError(f"{what}: {passes:,} image passes, and the ledger has {left:,} left")
            self._write([*rows, {"what": what, "passes": passes, "trial": trial, "reserved": reserved}])

    def reserve(self, trial: int, passes: int) -> None:
        """Set a trial's share aside, once.

        Raises:
            SinglepathError: there is no room for it.
        """
        if self._own(self.rows(), trial) is None:
            self.charge(SEARCH, passes, trial, reserved=True)

    def settle(self, trial: int, passes: int) -> None:
        """Put what a trial took in the place of its share.

        Raises:
            SinglepathError: it took more than that, or nothing was set aside for it.
        """
        with self._lock():
            rows = self.rows()
            row = self._own(rows, trial)
            held = row["passes"] if row else 0
            if row is None or passes > held:
                raise SinglepathError(f"trial {trial} took {passes:,} image passes, {held:,} were set aside for it")
            row.update(passes=passes, reserved=False)
            self._write(rows)

    def held(self, trial: int) -> int | None:
        """The share that is set aside for a trial; None where there is none, or it is settled."""
        row = self._own(self.rows(), trial)
        return row["passes"] if row and row["reserved"] else None

    @staticmethod
    def _own(rows: list[dict[str, Any]], trial: int) -> dict[str, Any] | None:
        return next((row for row in rows if row["trial"] == trial and row["what"] == SEARCH), None)

    def _lock(self) -> Lock:
        return Lock(self.path.with_name(f".{self.path.name}.lock"))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        write_json(self.path, {"total": self.total, "rows": rows})
