"""One exception family, and the helpers that word it.

A user's mistake is one line: what was given, what is allowed, what to type. The command line turns it into exit status
2.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = ["SinglepathError", "UserError", "optional", "unknown", "user_error"]


class SinglepathError(Exception):
    """Base of everything singlepath raises on purpose (exit status 1 on the command line)."""


class UserError(SinglepathError):
    """The input cannot be used; the message is one line and says what to type instead (exit status 2)."""


def user_error(given: str, allowed: str, fix: str) -> UserError:
    """A `UserError` of the three parts every message has; newlines are folded so that it stays one line."""
    return UserError(" ".join(f"{given}; {allowed}; {fix}".split()))


def unknown(kind: str, name: object, known: Iterable[str], flag: str | None = None) -> UserError:
    """A `UserError` for a name that is not registered, with the nearest known one.

    `kind` is the word for the thing ("space"), `flag` what the user types in front of it ("--space").
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)
    fix = (
        f"type {flag} {near[0]}" if flag and near else (f"did you mean {near[0]!r}?" if near else "none is registered")
    )
    return user_error(f"unknown {kind} {str(name)!r}", f"known: {', '.join(names)}", fix)


def optional(module: str, extra: str) -> ModuleType:
    """Import an optional package where it is used.

    Raises:
        UserError: the package is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).split(".")[0]
        raise user_error(
            f"the package {missing!r} is not installed",
            f"this needs the extra {extra!r}",
            f'type: pip install -c constraints.txt "singlepath[{extra}]"',
        ) from None
