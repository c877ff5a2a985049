"""Commands in this process: their status, and what they print."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from singlepath.cli import status


def run(*arguments: object) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = status([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


def printed(*arguments: object) -> dict[str, Any]:
    """The JSON object on the last line of a command that must succeed."""
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert isinstance(found, dict)
    return found
