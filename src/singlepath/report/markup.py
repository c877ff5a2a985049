"""Markup that is escaped unless it was made here: `el` builds HTML and SVG alike."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any

__all__ = ["Safe", "caption", "el", "embed", "join", "scroll", "table"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_VOID = {"meta", "link", "br"}
_EMPTY_SVG = {"rect", "line", "path", "circle"}


class Safe(str):
    """Text that is markup already. Everything else is escaped on its way into a page."""

    __slots__ = ()


def escape(text: object) -> str:
    """Text for an element or a quoted attribute; characters no page may hold become U+FFFD."""
    return html.escape(_CONTROL.sub("\ufffd", str(text)))


def join(*children: Any) -> Safe:
    """Children one behind the other: `Safe` as it is, lists opened, None left out, the rest escaped."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, Safe):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(join(*child))
        elif child is not None:
            parts.append(escape(child))
    return Safe("".join(parts))


def el(name: str, /, *children: Any, **attributes: Any) -> Safe:
    """One element.

    `class_` is ``class``, `aria_label` is ``aria-label``; None leaves an attribute out, True writes it bare.
    """
    written = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(key)
        elif value is not None and value is not False:
            value = f"{round(value, 2):g}" if isinstance(value, float) else value
            written.append(f'{key}="{escape(value)}"')
    head = " ".join(written)
    if name in _EMPTY_SVG and not children:
        return Safe(f"<{head}/>")
    return Safe(f"<{head}>" if name in _VOID else f"<{head}>{join(*children)}</{name}>")


def scroll(label: str, *children: Any) -> Safe:
    """A box that scrolls sideways by itself, by keyboard too, so that the page never does."""
    return el("div", *children, class_="scroll", role="region", aria_label=label, tabindex="0")


def caption(text: Any) -> Safe:
    return el("figcaption", text)


def table(title: str, columns: list[str], rows: list[list[Any]], class_: str | None = None) -> Safe:
    """A table with a caption; the first cell of a row is its heading, cells after it are right-aligned figures."""
    head = el("thead", el("tr", [el("th", c, scope="col") if c else el("td") for c in columns])) if columns else None
    body = [el("tr", el("th", row[0], scope="row"), [el("td", c) for c in row[1:]]) for row in rows]
    return el("table", el("caption", title), head, el("tbody", body), class_=class_)


def embed(value: Any) -> Safe:
    """JSON for inside a script element: no character that could end it, no NaN (null instead)."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Safe(re.sub("[\x7f\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
