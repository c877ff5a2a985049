"""The jobs a user asks for, made of the rooms below: every command is one function here."""

from singlepath.pipeline.commands import (
    COMMANDS,
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
)

__all__ = [
    "COMMANDS", "check", "design", "evaluate", "export", "front", "latency", "measure", "predict",
    "report", "search", "train",
]  # fmt: skip
