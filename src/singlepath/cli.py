"""The command line: one command a function of `pipeline.commands`, flags from its signature, no logic of its own.

Every command also takes ``--json`` (the last line of standard output is one JSON object) and ``--config`` (a YAML file
of options, such as a run's config.yaml). Exit status: 0, 2 for a user's mistake (one line), 1 for ours, 130 after
Ctrl-C.
"""

from __future__ import annotations

import errno
import inspect
import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import TypeAdapter, ValidationError

from singlepath.errors import SinglepathError, UserError, unknown, user_error
from singlepath.pipeline import COMMANDS
from singlepath.pipeline.options import ANEW, out_of_bounds
from singlepath.pipeline.outcome import going_on as how_to_go_on
from singlepath.pipeline.progress import shown
from singlepath.pipeline.setup import keep_memory
from singlepath.runs import other_option

__all__ = ["app", "main"]

INTERRUPTED = 130
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)

app = typer.Typer(
    help="Designs a convolutional network for your images, device and latency budget.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="print the result as one JSON object, the last line")]
Unread = Annotated[int, typer.Option(help="not used: nothing of this command is drawn at random")]
Config = Annotated[Path | None, typer.Option(help="a YAML file of options; flags win over it")]


def command(function: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """The function as a command: the same parameters, and --json and --config."""
    signature = inspect.signature(function, eval_str=True)
    types = {k: p.annotation for k, p in signature.parameters.items()}

    def run(ctx: typer.Context, **values: Any) -> None:
        as_json, config = values.pop("json"), values.pop("config")
        if "seed" not in types:
            values.pop("seed")  # nothing of this command is drawn at random
        given = {k for k in values if ctx.get_parameter_source(k).name == "COMMANDLINE"}  # type: ignore[union-attr]
        if config is not None:
            merge(values, given, read_options(Path(config), types))
        if (run_folder := values.get("resume")) is not None:
            own_command(Path(run_folder), function.__name__)
            kept = read_options(Path(run_folder), types)
            for name in given & kept.keys():  # the function itself takes a default for "not given"
                if values[name] == signature.parameters[name].default != kept[name] and name not in ANEW:
                    raise other_option(Path(run_folder), name, values[name], kept[name])
            merge(values, given, kept)
        with shown():
            result = function(**values)
        show(result, as_json)

    extra = {
        "json": inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json),
        "config": inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config),
    }
    if "seed" not in types:
        extra["seed"] = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=Unread)
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    run.__signature__ = inspect.Signature([context, *own, *extra.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {"ctx": typer.Context} | {p.name: p.annotation for p in [*own, *extra.values()]}
    run.__doc__, run.__name__ = inspect.getdoc(function), function.__name__
    return run


def own_command(run: Path, name: str) -> None:
    """Refuse to go on with a run that another command began; its own is named."""
    if (run / "config.yaml").is_file() and f"singlepath {name} " not in (fix := how_to_go_on(run)):
        raise user_error(f"the run in {run} was not begun by {name}", "a run goes on with its own command", fix)


def read_options(path: Path, types: dict[str, Any]) -> dict[str, Any]:
    """The options of a YAML file or of a run folder's config.yaml, each as its type says."""
    file = path / "config.yaml" if path.is_dir() else path
    if not file.is_file():
        raise user_error(f"there is no {file}", "allowed: a run folder, or a YAML file of options", "check the path")
    try:
        loaded = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise user_error(
            f"{file} is not YAML ({str(error).splitlines()[0]})", "allowed: option: value", "mend it"
        ) from None
    options = loaded.get("options", loaded) if isinstance(loaded, dict) else None
    if not isinstance(options, dict):
        raise user_error(f"{file} holds no options", "allowed: lines of option: value", "mend the file")
    read = {}
    for name, value in options.items():
        option = str(name).replace("-", "_")
        if option == "compute":
            continue  # written by the run itself: cpu or cuda
        if option not in types:
            raise unknown("option", name, types, f"in {file}:")
        read[option] = typed(option, value, types[option], file)
    return read


def typed(option: str, value: Any, kind: Any, file: Path) -> Any:
    """A value of a file as an option's type; numbers and lists stand for their text where the option is a text."""
    adapter, found, allowed = TypeAdapter(kind), None, None
    for given in (value, str(value)):
        try:
            found = adapter.validate_python(given)
            allowed = out_of_bounds(kind, found)
            break
        except ValidationError as error:
            allowed = allowed or error.errors()[0]["msg"]
    if allowed:
        raise user_error(f"{option}: {value!r} in {file}", f"allowed: {allowed}", f"correct {option} there")
    return found


def merge(values: dict[str, Any], given: set[str], options: dict[str, Any]) -> None:
    """Options of a file, where the user has not typed the flag."""
    for name, value in options.items():
        if name not in given:
            values[name] = value


def show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(finite(result)), flush=True)
        return
    for key, value in result.items():
        if not isinstance(value, dict | list):
            print(f"{key}: {value:.6g}" if isinstance(value, float) else f"{key}: {value}")
        elif isinstance(value, dict) and all(not isinstance(v, dict | list) for v in value.values()):
            print(
                f"{key}: " + ", ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
            )


def finite(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value


for _function in COMMANDS.values():
    app.command(_function.__name__)(command(_function))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    keep_memory()
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(status(sys.argv[1:] if arguments is None else arguments))


def status(arguments: list[str]) -> int:
    try:
        outcome = app(args=arguments, prog_name="singlepath", standalone_mode=False)
        if outcome == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        return outcome if isinstance(outcome, int) else 0
    except UserError as error:
        print(f"singlepath: {error}", file=sys.stderr)
        return 2
    except SinglepathError as error:
        print(f"singlepath: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        print(f"singlepath: interrupted; {going_on(arguments)}", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return failed(error, arguments) if error.errno not in UNUSABLE else refused(error)
    except Exception as error:
        return failed(error, arguments)


def refused(error: OSError) -> int:
    """A file or folder of the user's that the system does not let us use: one line."""
    print(
        f"singlepath: {error.filename or 'the disk'}: {error.strerror}; allowed: what this user may read and write, "
        "with room left; change its rights or place, then type the command again", file=sys.stderr,
    )  # fmt: skip
    return 2


def going_on(arguments: list[str]) -> str:
    """How to go on with the command that was interrupted."""
    function = COMMANDS.get(arguments[0]) if arguments else None
    resumes = function is not None and "resume" in inspect.signature(function).parameters
    return "go on with --resume RUN" if resumes else "type it again"


def failed(error: Exception, arguments: list[str]) -> int:
    """A wrong flag of the command line (2, one line), or a failure of ours (1, with its traceback)."""
    message = getattr(error, "format_message", None)
    if message is None:
        traceback.print_exc()
        return 1
    print(f"singlepath: {nearest(str(message()), arguments)}", file=sys.stderr)
    return 2


def nearest(message: str, arguments: list[str]) -> str:
    """A usage error in one line, with what to type."""
    text = " ".join(message.split())
    name = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    if text.startswith("No such command"):
        return str(unknown("command", arguments[0], COMMANDS, "singlepath"))
    if text.startswith("No such option"):
        flag = next((a for a in text.replace(".", " ").split() if a.startswith("-")), "")
        parameters = inspect.signature(COMMANDS[name]).parameters if name else {}
        flags = [f"--{p.replace('_', '-')}" for p in [*parameters, "json", "config"]]
        return str(unknown(f"option of {name}", flag, flags, f"singlepath {name}"))
    return f"{text}; see what is allowed: singlepath {name} --help".replace("  ", " ")
