"""A method with one setting off or changed at a time: what each part of it is worth.

Alternatives of a setting are those listed here; of one that is not listed, the other truth value, or half and twice the
number. Each is a method text, ``weaknas(predictor='ridge')``, and a contender like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from singlepath.errors import UserError, unknown, user_error
from singlepath.search.predictors import PREDICTORS
from singlepath.search.queries import Pool
from singlepath.search.query_methods import make_method
from singlepath.search.ranking import LABELS
from singlepath.search.weaknas import SAMPLINGS
from singlepath.spaces import parse_id

__all__ = ["ALTERNATIVES", "ablation"]

SAMPLE = 1_000  # candidates ranked where not all are
ALTERNATIVES: dict[str, dict[str, Sequence[Any]]] = {
    "weaknas": {
        "predictor": tuple(PREDICTORS), "labels": tuple(LABELS), "sampling": SAMPLINGS, "first": (5, 20),
        "largest": (1.0,), "batch": (1, 10), "top": (100,), "members": (5,), "explore": (0.5,), "sample": (SAMPLE,),
        "scale": (),  # needs statistics of the whole table
    },
    "brp-nas": {"sample": (SAMPLE,), "training": (0.25, 0.75), "top": (0.0, 1.0)},
    "nsga2": {"crossover": (0.0, 0.5)},
}  # fmt: skip


def ablation(text: str, pool: Pool, factors: Sequence[str] = ()) -> list[str]:
    """The method's text, then one for every alternative of every setting (of `factors`, where given), others kept.

    Raises:
        UserError: an unknown method or setting; a method without settings.
    """
    name, given = parse_id(text, "methods")
    settings = asdict(make_method(text))
    if not settings:
        raise user_error(f"an ablation of {name}", f"{name} has no settings", "type --ablate weaknas")
    for factor in factors:
        if factor not in settings:
            raise unknown(f"setting of {name}", factor, settings, "--factors")
    texts = [text]
    for key, value in settings.items():
        if not factors or key in factors:
            changed = [other for other in _alternatives(name, key, value, pool) if other != value]
            texts += [varied for other in changed if (varied := _text(name, given | {key: other}))]
    return texts


def _alternatives(name: str, key: str, value: Any, pool: Pool) -> Sequence[Any]:
    if key == "encoding":
        return [encoding for encoding in pool.encoders if encoding != (value or next(iter(pool.encoders)))]
    if (listed := ALTERNATIVES.get(name, {}).get(key)) is not None:
        return listed
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return sorted({max(1, value // 2), max(1, 2 * value)})
    return [value / 2, value * 2] if isinstance(value, float) else []


def _text(name: str, settings: dict[str, Any]) -> str | None:
    """The method's text; None where the method refuses these settings together."""
    text = f"{name}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"
    try:
        make_method(text)
    except UserError:
        return None
    return text
