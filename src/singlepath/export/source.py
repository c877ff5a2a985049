"""A network as a Python file that needs only PyTorch, and its weights: ``model.py`` and ``model.safetensors``.

``template.py`` is such a file with every part a network may have; here the parts that one network has are kept and its
values put in. There, ``#: begin PART`` to ``#: end``, or ``#: PART`` behind a line, says what belongs to which part.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from singlepath.architecture import BlockSpec, NetworkSpec
from singlepath.blocks import Network
from singlepath.data import Preprocess
from singlepath.export.described import check_fit, preprocess_dict, version
from singlepath.export.files import write
from singlepath.export.weights import save_weights

__all__ = ["FILE", "WEIGHTS", "export_source", "source_text"]

FILE, WEIGHTS = "model.py", "model.safetensors"
TEMPLATE = Path(__file__).with_name("template.py")
WIDTH = 110
ACTIVATIONS = {"relu": "relu", "hard_swish": "hardswish"}  # by their name in torch.nn.functional


def export_source(
    network: Network,
    preprocess: Preprocess,
    classes: Sequence[str],
    path: Path | str,
    extra_metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``model.py`` and ``model.safetensors`` into the folder `path` and return the path of the former.

    The model takes pixels of 0..255 and normalises them inside. The weights carry the same description as those of
    `save_weights`, `extra_metadata` included.

    Raises:
        UserError: data and network do not fit together, or the folder cannot be made.
    """
    check_fit(network, preprocess, classes)
    folder = Path(path)
    save_weights(network, preprocess, classes, folder / WEIGHTS, extra_metadata)
    return write(folder / FILE, source_text(network.spec, preprocess, classes).encode())


def source_text(spec: NetworkSpec, preprocess: Preprocess, classes: Sequence[str]) -> str:
    """The text of ``model.py``. Every value is written as a Python literal, so no name can become code."""
    parts = {block.kind for block in spec.blocks}
    parts |= {"se"} if any(block.se for block in spec.blocks) else set()
    parts |= {"same"} if spec.padding == "same" else set()
    parts |= {"pictures"} if preprocess.channels in (1, 3) else set()
    return assemble(TEMPLATE.read_text(encoding="utf-8"), parts, values(spec, preprocess, classes))


def assemble(template: str, parts: Collection[str], values: str) -> str:
    """The template with only these parts, and with `values` in place of its own."""
    lines: list[str] = []
    inside = ""
    for line in template.splitlines():
        if marker := re.fullmatch(r"#: (?:begin (\w+)|end)", line):
            inside = marker[1] or ""
            lines += values.splitlines() if inside == "values" else []
            continue
        text, _, part = line.partition("  #: ")
        if (not inside or inside in parts) and (not part or part in parts):
            lines.append(text)
    return "\n".join(lines).rstrip("\n") + "\n"


def values(spec: NetworkSpec, preprocess: Preprocess, classes: Sequence[str]) -> str:
    """The part of ``model.py`` that differs from network to network."""
    pairs = [f"{literal(key)}: {literal(value)}" for key, value in preprocess_dict(preprocess).items()]
    sizes = (spec.stem_channels, spec.stem_stride, spec.head_channels)
    return "\n".join(
        [
            f"VERSION = {literal(version())}  # of singlepath, which wrote this file",
            f"CLASSES = {listing(map(literal, classes))}",
            f"PREPROCESS = {listing(pairs, '{}', per_line=1)}",
            "",
            f"STEM_CHANNELS, STEM_STRIDE, HEAD_CHANNELS = {', '.join(map(repr, sizes))}",
            f"ACTIVATION, BN_EPS = {literal(ACTIVATIONS[spec.activation])}, {spec.bn_eps!r}",
            f"STAGES = {stages(spec)}",
        ]
    )


def stages(spec: NetworkSpec) -> str:
    """The blocks as a list of stages, a line each, with their columns aligned."""
    with_se = any(block.se for block in spec.blocks)
    rows = {id(block): row(block, with_se) for block in spec.blocks}
    widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]
    lines = ["[  # a list a stage, a row a `Block`"]
    for stage in spec.stages:
        lines.append("    [")
        for block in stage:
            cells = zip(rows[id(block)], widths, strict=True)
            lines.append(f"        ({', '.join(cell.rjust(width) for cell, width in cells)}),")
        lines.append("    ],")
    return "\n".join([*lines, "]"])


def row(block: BlockSpec, with_se: bool) -> list[str]:
    """One block as the literals of its tuple."""
    inside = block.mid_channels if block.kind == "ir" else block.in_channels
    cells: list[object] = [block.kind, block.in_channels, inside, block.out_channels, block.kernel, block.stride]
    cells += [block.se_channels] if with_se else []
    return [literal(cell) for cell in [*cells, block.residual, ACTIVATIONS[block.activation]]]


def literal(value: object) -> str:
    """`repr`, with strings in double quotes; whatever cannot be printed is escaped."""
    text = repr(value)
    if not isinstance(value, str) or text[0] == '"':
        return text
    inner = text[1:-1].replace("\\'", "'").replace('"', '\\"')
    return f'"{inner}"'


def listing(items: Iterable[str], brackets: str = "[]", per_line: int | None = None) -> str:
    """Literals in brackets, on one line where they fit, otherwise as many a line as fit (or `per_line`)."""
    items = list(items)
    one = f"{brackets[0]}{', '.join(items)}{brackets[1]}"
    if len(one) <= WIDTH - 20 and per_line is None:
        return one
    lines = [""]
    for item in items:
        full = per_line is not None or len(lines[-1]) + len(item) + 2 > WIDTH - 4
        if lines[-1] and full:
            lines.append("")
        lines[-1] += f"{' ' * bool(lines[-1])}{item},"
    return "\n".join([brackets[0], *(f"    {line}" for line in lines), brackets[1]])
