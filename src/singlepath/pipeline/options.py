"""The options of every command, each with its help text: one source for the command line, configuration files and the
API."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from singlepath.errors import user_error

__all__ = [
    "ANEW", "LATER", "AllowChanged", "ArchitectureText", "AtOnce", "BatchSize", "BudgetText", "Compare", "DataSource",
    "Decoders", "DeviceName", "Epochs", "Limit", "Mode", "Out", "Passes", "Quick", "RecipeName", "Resume", "RunFolder",
    "RuntimeName", "Seed", "SpaceActivation", "SpaceExpansions", "SpaceInput", "SpaceKernels", "SpaceName", "SpaceSe",
    "SpaceWidth", "Threads", "TrainEpochs", "TrialEpochs", "TrialNumber", "TunedMode", "Workers", "check_numbers",
    "out_of_bounds",
]  # fmt: skip

# what a command that goes on with a run may be given anew: where the same images lie now, and more trials
ANEW = ("data", "trials")
LATER = ("finalists",)  # options that older runs do not have: they were made with what is the default

DataSource = Annotated[str, typer.Option(help="digits, a folder of class folders, image parquet files, or a .npz file")]
SpaceName = Annotated[
    str, typer.Option(help="mobile, mobile-small or macro; options in brackets: 'mobile(width=0.5, depth=2)'")
]
SpaceWidth = Annotated[float | None, typer.Option(help="width multiplier of the space")]
SpaceInput = Annotated[int | None, typer.Option(help="side of the network's input, px")]
SpaceKernels = Annotated[str | None, typer.Option(help="kernel choices, ascending: 3,5,7")]
SpaceExpansions = Annotated[str | None, typer.Option(help="expansion choices, ascending: 3,6")]
SpaceSe = Annotated[str | None, typer.Option(help="squeeze-and-excitation choices: 0,0.25,0.5")]
SpaceActivation = Annotated[str | None, typer.Option(help="relu or hard_swish")]
DeviceName = Annotated[str, typer.Option(help="host (this machine), pixel1, or a latency table's file")]
BudgetText = Annotated[str, typer.Option(help="80ms, 300MMACs, 4Mparams, or 60% of the largest network's latency")]
RuntimeName = Annotated[str, typer.Option(help="what runs networks on the host: onnxruntime or torch")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="of every random draw")]
Epochs = Annotated[int | None, typer.Option(min=1, help="passes over the images; by default chosen from their number")]
FinalEpochs = Annotated[
    int | None, typer.Option(min=1, help="passes over the images; by default 30 (base), 60 (full), 350 (single-path)")
]
TrainEpochs = Annotated[int | None, typer.Option(min=1, help="epochs of the final trainings")]
BatchSize = Annotated[int | None, typer.Option(min=2, help="images a step; by default chosen from their number")]
Limit = Annotated[int | None, typer.Option(min=1, help="use only so many training images")]
RecipeName = Annotated[str, typer.Option(help="base (no tricks), full (with), or single-path (the paper's)")]
Mode = Annotated[str, typer.Option(help="single-path, paper (the original's method), or random")]
Out = Annotated[Path | None, typer.Option(help="the run folder to make; by default runs/COMMAND-date-time")]
Resume = Annotated[Path | None, typer.Option(help="go on with this run folder; its options are taken from it")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]
ArchitectureText = Annotated[
    str, typer.Option(help="a name (spnasnet_100), architecture.json, a run folder, or a line of timm block strings")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads of torch; by default what OMP_NUM_THREADS says")]
Workers = Annotated[int, typer.Option(min=0, help="processes that decode image files")]
TunedMode = Annotated[str, typer.Option(help="single-path, or paper (the original's method)")]
TrialNumber = Annotated[
    int | None, typer.Option(min=1, help="short searches to make at most, more of them with --resume; by default 40")
]
TrialEpochs = Annotated[
    int | None, typer.Option(min=1, help="of every short search; by default chosen from the images")
]
AtOnce = Annotated[int, typer.Option(min=1, help="short searches at once, each in a process of its own")]
Passes = Annotated[
    int | None, typer.Option(min=1, help="image passes that everything may take; by default what the trials take")
]
Compare = Annotated[bool, typer.Option("--compare", help="also search once, directly, with the image passes it took")]
Decoders = Annotated[int, typer.Option(min=0, help="processes that decode image files, for every search")]
Quick = Annotated[bool, typer.Option("--quick", help="a short run of the same code, to see that it works")]
AllowChanged = Annotated[bool, typer.Option("--allow-changed", help="resume with other threads or another device")]


def out_of_bounds(kind: Any, value: Any) -> str | None:
    """What an option of this type allows, where the value is a number outside the bounds of its flag."""
    for flag in getattr(kind, "__metadata__", ()):
        least, most = getattr(flag, "min", None), getattr(flag, "max", None)
        if value is not None and least is not None and not least <= value <= (value if most is None else most):
            return f"{least} or more" if most is None else f"{least} to {most}"
    return None


def check_place(out: Path | None, resume: Path | None) -> None:
    """Raise `UserError` where a run is to be gone on with and to be made."""
    if out is not None and resume is not None:
        raise user_error(f"--out {out} and --resume {resume}", "a resumed run stays where it is", "leave --out out")


def no_number(kind: Any, value: Any) -> str | None:
    """What an option of this type allows, where the type is a number's and the value is of another; NumPy's numbers are
    of another, since a run's options are kept as plain text."""
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    types = {*get_args(base)} or {base}
    if not types & {int, float} or type(value) in {*types, int}:
        return None
    return "a number (float)" if float in types else "a whole number (int)"


def check_numbers(function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Refuse what a number's flag would refuse: Python and the command line take the same.

    Raises:
        UserError: a value of another type, or below or above the bounds of its option.
    """
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind, value = parameter.annotation, values[name]
        flag = f"--{name.replace('_', '-')}"
        if allowed := no_number(kind, value):
            raise user_error(f"{flag} {value!r}", f"allowed: {allowed}", f"give {name} {allowed}")
        if allowed := out_of_bounds(kind, value):
            raise user_error(f"{flag} {value}", f"allowed: {allowed}", f"type {flag} {allowed.split()[0]}")
