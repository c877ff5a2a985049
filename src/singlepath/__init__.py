"""singlepath designs a convolutional network for your images, your device and your latency budget in one short search.

The command line's commands are functions of the same names here::

    import singlepath as sp

    result = sp.design(data="digits", budget="60%", out="runs/digits")
    print(result["test_accuracy"], result["report"])
"""

from importlib import metadata

from singlepath.architecture import Architecture
from singlepath.costs import LatencyTable
from singlepath.errors import SinglepathError, UserError
from singlepath.pipeline import (
    bench,
    check,
    design,
    evaluate,
    export,
    front,
    latency,
    measure,
    predict,
    report,
    search,
    train,
    tune,
)
from singlepath.spaces import make as make_space
from singlepath.supernet import build as build_supernet

__version__ = metadata.version("singlepath")
__all__ = [
    "Architecture", "LatencyTable", "SinglepathError", "UserError", "bench", "build_supernet", "check", "design",
    "evaluate", "export", "front", "latency", "make_space", "measure", "predict", "report", "search", "train", "tune",
]  # fmt: skip
