from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from singlepath.blocks import Network
from singlepath.data import Preprocess
from singlepath.export import export_onnx, export_source

from .helpers import STRANGE, make_network, make_preprocess, make_space


class Exported(NamedTuple):
    network: Network
    preprocess: Preprocess
    classes: tuple[str, ...]
    folder: Path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A colour network in both formats. Tests do not change these files."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    space = make_space("mobile-small", {"input_size": 32, "in_channels": 3})
    network, folder = make_network(space, 3), tmp_path_factory.mktemp("exported")
    preprocess = make_preprocess(network.spec)
    export_onnx(network, preprocess, STRANGE, folder, {"run": "r1"})
    export_source(network, preprocess, STRANGE, folder, {"run": "r1"})
    return Exported(network, preprocess, STRANGE, folder)
