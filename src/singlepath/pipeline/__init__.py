"""The jobs a user asks for, made of the rooms below: every command is one function here."""

from singlepath.pipeline.benching import bench
from singlepath.pipeline.commands import (
    check,
    design,
    evaluate,
    export,
    front,
    predict,
    report,
    search,
    train,
)
from singlepath.pipeline.measuring import latency, measure
from singlepath.pipeline.tuning import tune

__all__ = [
    "COMMANDS", "bench", "check", "design", "evaluate", "export", "front", "latency", "measure", "predict",
    "report", "search", "train", "tune",
]  # fmt: skip

COMMANDS = {
    f.__name__: f
    for f in (
        design, check, measure, search, train, evaluate, predict, latency, export, front, report, tune, bench,
    )
}  # fmt: skip
