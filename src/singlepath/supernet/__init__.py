"""The supernet: every architecture of a space in one set of nested weights, and the gates that choose among them."""

from singlepath.supernet.gates import Gate, Setting, sample_settings
from singlepath.supernet.network import Supernet, build, frozen_statistics, recalibrate
from singlepath.supernet.superkernel import Probes, Views
from singlepath.supernet.together import children_features

__all__ = [
    "Gate", "Probes", "Setting", "Supernet", "Views", "build", "children_features", "frozen_statistics", "recalibrate",
    "sample_settings",
]  # fmt: skip
