"""The spaces, a plain dict: name -> function that declares it. `make` reads ``mobile(width=0.5)``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from singlepath.errors import unknown, user_error
from singlepath.spaces.base import Layer, Option, Space
from singlepath.spaces.macro import macro
from singlepath.spaces.mobile import mobile, mobile_small

__all__ = ["SPACES", "Layer", "Option", "Space", "make"]

SPACES: dict[str, Callable[..., Space]] = {"mobile": mobile, "mobile-small": mobile_small, "macro": macro}
BOUNDS = {"width": (0.01, 16), "classes": (2, 10**6), "in_channels": (1, 1024), "input_size": (1, 4096)}
SPELLINGS = {"hswish": "hard_swish", "h-swish": "hard_swish"}  # of activations


def make(text: str, **options: Any) -> Space:
    """The space of a name, or of an id such as ``mobile(width=0.5, kernels=(3, 5, 7))``; `options` are added.

    Raises:
        UserError: an unknown space or option, or a value it cannot take.
    """
    name, given = parse_id(text)
    if name not in SPACES:
        raise unknown("space", name, SPACES, "--space")
    declare = SPACES[name]
    parameters = {k: p.default for k, p in inspect.signature(declare).parameters.items() if k != "id"}
    merged = given | {k: v for k, v in options.items() if v is not None}
    for key in merged:
        if key not in parameters:
            raise unknown(f"option of space {name}", key, parameters)
    merged = {k: tuple(v) if isinstance(v, list) else v for k, v in merged.items()}
    if "activation" in merged:
        merged["activation"] = SPELLINGS.get(merged["activation"], merged["activation"])
    for key, (least, most) in BOUNDS.items():
        whole = isinstance(least, int)
        if isinstance(value := merged.get(key), int | float) and not (
            least <= value <= most and (not whole or value == int(value))
        ):
            allowed = f"allowed: {'whole numbers from ' * whole}{least} to {most}"
            raise user_error(f"{key} {value} of space {name}", allowed, f"type {key}={parameters[key]}")
    changed = {k: merged[k] for k in parameters if k in merged and merged[k] != parameters[k]}
    inner = ", ".join(f"{k}={v!r}" for k, v in changed.items())
    try:
        space = declare(**merged, id=f"{name}({inner})" if inner else name)
    except TypeError:
        raise user_error(f"space {text!r} with {merged}", f"allowed: {parameters}", f"type --space {name}") from None
    if not space.searchable:
        raise user_error(
            f"space {space.id}", "every layer has one option, so there is nothing to search", "type --kernels 3,5"
        )
    return space


def parse_id(text: str, kind: str = "space") -> tuple[str, dict[str, Any]]:
    """Name and options of an id, of a space or another `kind`. Values are Python literals; nothing is evaluated."""
    name, _, inner = text.strip().partition("(")
    if not inner:
        return name, {}
    try:
        call = ast.parse(f"f({inner}", mode="eval").body
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        assert len(options) == len(call.keywords)
        return name.strip(), options
    except (SyntaxError, ValueError, AssertionError):
        raise user_error(
            f"{kind} {text!r}", "allowed: name or name(option=value, ...)", f"type --{kind} {name}"
        ) from None
