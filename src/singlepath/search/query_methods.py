"""Methods that search by asking, by name: frozen dataclasses of their settings, run by `queries.run_queries`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from singlepath.errors import unknown, user_error
from singlepath.search.brpnas import BrpNas
from singlepath.search.evolution import Evolution
from singlepath.search.local import LocalSearch
from singlepath.search.nsga2 import Nsga2
from singlepath.search.queries import QueryMethod
from singlepath.search.random_queries import RandomSearch
from singlepath.search.weaknas import WeakNas
from singlepath.spaces import parse_id

__all__ = ["QUERY_METHODS", "make_method"]

QUERY_METHODS: dict[str, Callable[..., QueryMethod]] = {
    "random": RandomSearch, "local": LocalSearch, "evolution": Evolution, "nsga2": Nsga2, "weaknas": WeakNas,
    "brp-nas": BrpNas,
}  # fmt: skip


AT_LEAST_ONE = ("population", "tournament", "first", "batch", "members", "rounds")


def make_method(text: str, **settings: Any) -> QueryMethod:
    """The method of a name, or of a text such as ``weaknas(predictor="ridge", batch=10)``; `settings` are added.

    Raises:
        UserError: an unknown method or setting, or a value that is not of the setting's kind.
    """
    name, given = parse_id(text, "methods")
    if name not in QUERY_METHODS:
        raise unknown("method", name, QUERY_METHODS, "--methods")
    kind: Any = QUERY_METHODS[name]
    known = {f.name: f.default for f in fields(kind)}
    for key, value in (given | settings).items():
        if key not in known:
            raise unknown(f"setting of {name}", key, known) if known else user_error(
                f"{name} with {key}", f"{name} has no settings", f"type --methods {name}"
            )  # fmt: skip
        wanted = known[key]
        numeric = isinstance(wanted, float) and isinstance(value, int) and not isinstance(value, bool)
        if wanted is not None and not numeric and type(value) is not type(wanted):
            raise user_error(
                f"{key}={value!r}", f"{key} of {name} is a {type(wanted).__name__}", f"type {key}={wanted!r}"
            )
        check_range(name, key, value, wanted)
    return kind(**(given | settings))


def check_range(method: str, key: str, value: Any, default: Any) -> None:
    """Real settings are shares, whole ones counts, of some things at least one; a scale is a mean and a deviation.

    Raises:
        UserError: another value.
    """
    if isinstance(default, float):
        fine, allowed = 0 <= value <= 1, "a share, 0 to 1"
    elif type(default) is int:
        least = int(key in AT_LEAST_ONE)
        fine, allowed = value >= least, f"{least} or more"
    elif key == "scale" and value is not None:
        fine = isinstance(value, tuple | list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
        fine, allowed = fine and math.isfinite(value[0]) and 0 < value[1] < math.inf, "None or (mean, deviation)"
    else:
        return
    if not fine:
        raise user_error(f"{key}={value!r}", f"{key} of {method} is {allowed}", f"type {key}={default!r}")
