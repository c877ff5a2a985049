"""Devices: this host, which can time networks, and tables made elsewhere, which can only predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from singlepath.costs import LatencyTable, shipped_tables
from singlepath.devices.build import measure
from singlepath.devices.host import hardware
from singlepath.devices.networks import Measured, calibration_networks, measure_network, time_networks, unmeasurable
from singlepath.devices.timing import Timing, time_interleaved
from singlepath.errors import unknown, user_error

__all__ = [
    "HOST", "Device", "Measured", "Timing", "calibration_networks", "device", "hardware", "measure", "measure_network",
    "time_interleaved", "time_networks", "unmeasurable",
]  # fmt: skip

HOST = "host"


@dataclass(frozen=True)
class Device:
    """Where latency comes from.

    Attributes:
        name: "host", or the device's name in its table.
        table: the table it comes with; None for this host, whose table `measure` makes for a space.
    """

    name: str
    table: LatencyTable | None = None


def device(name: str) -> Device:
    """The device of a name: "host", a shipped table's, or a path of a latency table.

    Raises:
        UserError: none of these, or a file that is not a latency table.
    """
    if name == HOST:
        return Device(HOST)
    if name in shipped_tables() or Path(name).is_file():
        table = LatencyTable.load(name)
        return Device(table.device, table)
    if name.endswith(".json"):
        raise user_error(f"no file {name}", "allowed: a latency table", "make one with: singlepath measure")
    raise unknown("device", name, [HOST, *shipped_tables()], "--device")
