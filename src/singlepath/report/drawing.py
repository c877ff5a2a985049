"""The found network, block by block: width = channels, colour = kernel, height = expansion, cost of each beneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from singlepath.report.charts import text
from singlepath.report.markup import Safe, el, join, scroll, table
from singlepath.report.numbers import number, percent, plain_cost
from singlepath.report.run_data import RunData

__all__ = ["block_table", "drawing"]

GUTTER = 78
LIMIT = 880
SLOT = 52
STAGE_GAP = 12
WIDEST = 64
BASE = 158  # where the blocks stand
TALLEST = 84
COST_BASE = 254
COST_TALLEST = 40
ROW = 306


@dataclass(frozen=True)
class Block:
    """One position, checked: everything the drawing needs, whatever the file held."""

    name: str
    stage: str
    token: str
    kind: str
    kernel: int
    expansion: float
    se: float
    inside: int
    outside: int
    stride: int
    side: int
    cost: float | None
    searchable: bool

    @property
    def skipped(self) -> bool:
        return self.kind == "skip"

    @property
    def kernel_text(self) -> str:
        return "skip" if self.skipped else f"{self.kernel}×{self.kernel}"

    @property
    def what(self) -> str:
        if self.skipped:
            return "skipped, nothing is computed"
        kinds = {"ir": "inverted residual", "ds": "depthwise-separable", "id": "strided 1×1 convolution (identity)"}
        parts = [kinds.get(self.kind, self.kind), f"kernel {self.kernel_text}", f"expansion {self.expansion:g}"]
        return ", ".join(parts + [f"squeeze-and-excitation {self.se:g}"] * bool(self.se))


def _block(row: dict[str, Any]) -> Block:
    def whole(key: str, default: int) -> int:
        return int(number(row.get(key)) or default)

    token = str(row.get("token", "?"))
    kind = "skip" if token == "skip" and row.get("kind") in (None, "skip") else str(row.get("kind", "ir"))
    return Block(
        str(row.get("name", "?")),
        str(row.get("stage", "?")),
        token,
        kind,
        whole("kernel", 1),
        number(row.get("expansion")) or 1.0,
        number(row.get("se")) or 0.0,
        whole("in_channels", 1),
        whole("out_channels", 1),
        whole("stride", 1),
        whole("side", 1),
        number(row.get("cost")),
        row.get("searchable") is not False,
    )


def _blocks(run: RunData) -> list[Block]:
    return [_block(row) for row in run.rows("blocks")]


def _costs(run: RunData) -> list[float]:
    known = [b.cost for b in _blocks(run)] + [run.number("cost", "rest")]
    return [c for c in known if c is not None]


@dataclass(frozen=True)
class Scale:
    """What turns channels, expansions and costs into pixels: one for the whole drawing."""

    channel: float
    expansion: float
    cost: float
    whole: float | None
    unit: str

    @classmethod
    def of(cls, run: RunData, peers: Sequence[RunData]) -> Scale:
        """The scale of a run's drawing, shared with the `peers` of its own space and unit, so that they compare."""
        same = [p for p in peers if (p.unit, p.part("space").get("id")) == (run.unit, run.part("space").get("id"))]
        every = [b for p in (run, *same) for b in _blocks(p)]
        costs = [c for p in (run, *same) for c in _costs(p)]
        whole = run.number("cost", "predicted")
        return cls(
            WIDEST / max(b.outside for b in every),
            TALLEST / max(6.0, *(b.expansion for b in every)),
            COST_TALLEST / (max(costs, default=0.0) or 1.0),
            sum(_costs(run)) or None if whole is None else whole,
            run.unit,
        )

    def slot(self, block: Block) -> float:
        return max(SLOT, block.outside * self.channel + 10)

    def share(self, cost: float) -> str:
        return percent(cost / self.whole) if self.whole else ""


def drawing(run: RunData, label: str = "The found network", peers: Sequence[RunData] = ()) -> Safe | None:
    """The network as SVG in a box that scrolls, None without blocks; `peers` are drawn beside it to one scale."""
    blocks = _blocks(run)
    if not blocks:
        return None
    rest = run.number("cost", "rest")
    scale = Scale.of(run, peers)
    rows = _rows(_stages(blocks), scale)
    parts = [_row(row, i, scale, rest if row is rows[-1] else None) for i, row in enumerate(rows)]
    skipped = sum(b.skipped for b in blocks)
    svg = el(
        "svg",
        [p for p, _ in parts],
        viewBox=f"0 0 {max(w for _, w in parts):.0f} {ROW * len(rows) - 12}",
        width=f"{max(w for _, w in parts):.0f}",
        role="group",
        class_="network",
        aria_label=f"{label}: {len(blocks)} positions, {skipped} of them skipped",
    )
    return join(scroll(f"{label}, drawing", svg), _legend(blocks, run))


def _stages(blocks: list[Block]) -> list[list[Block]]:
    stages: list[list[Block]] = []
    for block in blocks:
        if stages and stages[-1][0].stage == block.stage:
            stages[-1].append(block)
        else:
            stages.append([block])
    return stages


def _rows(stages: list[list[Block]], scale: Scale) -> list[list[list[Block]]]:
    """Stages in rows of about equal length, none longer than the page where a stage fits it."""
    widths = [sum(scale.slot(b) for b in stage) + STAGE_GAP for stage in stages]
    room = LIMIT - GUTTER - SLOT
    aim = sum(widths) / -(-sum(widths) // room)
    rows: list[list[list[Block]]] = [[]]
    used = 0.0
    for stage, width in zip(stages, widths, strict=True):
        if rows[-1] and (used + width > room or used + width / 2 > aim):
            rows.append([])
            used = 0.0
        rows[-1].append(stage)
        used += width
    return rows


def _row(stages: list[list[Block]], index: int, scale: Scale, rest: float | None) -> tuple[Safe, float]:
    """One row of the drawing and its width."""
    count = sum(map(len, stages)) + (rest is not None)
    used = sum(scale.slot(b) for stage in stages for b in stage) + STAGE_GAP * len(stages) + SLOT
    stretch = min(18.0, max(0.0, (LIMIT - GUTTER - used) / count))
    parts, x = [], float(GUTTER)
    for stage in stages:
        width = sum(scale.slot(b) + stretch for b in stage)
        parts.append(_stage_head(stage, x, width))
        for block in stage:
            parts.append(_group(block, x, scale.slot(block) + stretch, scale))
            x += scale.slot(block) + stretch
        x += STAGE_GAP
    if rest is not None:
        parts.append(_rest(rest, x, SLOT + stretch, scale))
        x += SLOT + stretch
    return el("g", _ruler(x, scale), parts, transform=f"translate(0 {index * ROW})"), x + 4


def _ruler(end: float, scale: Scale) -> list[Safe]:
    """The names of what stands in each line, and the height of expansions."""
    marks = [
        el("line", x1=GUTTER, x2=end, y1=BASE - e * scale.expansion, y2=BASE - e * scale.expansion, class_="grid")
        for e in (1, 3, 6)
    ]
    ticks = [text(GUTTER - 8, BASE - e * scale.expansion + 4, f"×{e}", "tick", "end") for e in (1, 3, 6)]
    names = [
        ("expansion", BASE + 18),
        ("channels", BASE + 34),
        ("block", BASE + 50),
        (scale.unit, COST_BASE + 16),
        ("share", COST_BASE + 32),
    ]
    lines = [el("line", x1=GUTTER, x2=end, y1=y, y2=y, class_="axis") for y in (BASE, COST_BASE)]
    return [*marks, *ticks, *lines, *(text(0, y, name, "tick") for name, y in names)]


def _stage_head(stage: list[Block], x: float, width: float) -> Safe:
    first, last = stage[0], stage[-1]
    out = -(-last.side // last.stride) if len(stage) > 1 or last.stride > 1 else last.side
    sides = f"{first.side}" if first.side == out else f"{first.side}→{out}"
    return join(
        text(x + 3, 12, f"Stage {first.stage}" if width > 62 else f"St. {first.stage}", "stage"),
        text(x + 3, 27, f"{sides} px", "tick"),
        el("path", d=f"M{x + 3:.1f} 38v-4h{width - 6:.1f}v4", class_="bracket"),
    )


def _group(block: Block, x: float, slot: float, scale: Scale) -> Safe:
    middle = x + slot / 2
    wide = max(3.0, block.outside * scale.channel)
    tall = (3.0 if block.skipped else block.expansion) * scale.expansion
    shape = el(
        "rect",
        x=middle - wide / 2,
        y=BASE - tall,
        width=wide,
        height=tall,
        class_="skipped" if block.skipped else "shape",
    )
    se = text(middle, BASE - tall - 20, f"SE {block.se:g}", "tick", "middle") if block.se else None
    name = "block-name" if block.searchable else "block-name fixed"
    return el(
        "g",
        el("title", _spoken(block, scale)),
        el("rect", x=x, y=44, width=slot, height=ROW - 62, class_="hit"),
        shape,
        se,
        text(middle, BASE - tall - 6, block.kernel_text, "kernel", "middle"),
        text(middle, BASE + 18, "–" if block.skipped else f"×{block.expansion:g}", "tick", "middle"),
        text(middle, BASE + 34, str(block.outside), "tick", "middle"),
        text(middle, BASE + 50, block.name, name, "middle"),
        _cost(block.cost, middle, scale, "skipped" if block.skipped else "absent"),
        class_=f"block k{0 if block.skipped else block.kernel}" + " skip" * block.skipped,
        data_block=block.name,
        role="img",
    )


def _cost(value: float | None, middle: float, scale: Scale, kind: str) -> list[Safe]:
    """The bar of a cost and its figures; a skipped block costs nothing, an unknown cost is a dash."""
    if value is None or kind == "skipped":
        return [text(middle, COST_BASE + 16, "0" if kind == "skipped" else "–", "tick", "middle")]
    tall = max(0.0, value * scale.cost)
    bar = el("rect", x=middle - 9, y=COST_BASE - tall, width=18, height=tall, class_="cost")
    share = text(middle, COST_BASE + 32, scale.share(value), "tick", "middle")
    return [bar, text(middle, COST_BASE + 16, plain_cost(value, scale.unit), "figure", "middle"), share]


def _rest(value: float, x: float, slot: float, scale: Scale) -> Safe:
    middle = x + slot / 2
    spoken = f"Stem, head and classifier together: {plain_cost(value, scale.unit)} {scale.unit} {scale.share(value)}"
    names = [
        text(middle, BASE + 18 + 16 * i, word, "tick", "middle")
        for i, word in enumerate(("stem,", "head,", "classifier"))
    ]
    return el("g", el("title", spoken), names, _cost(value, middle, scale, "rest"), class_="rest", role="img")


def _spoken(block: Block, scale: Scale) -> str:
    """The block in words, for a pointer's hint and for a screen reader."""
    shape = (
        f"{block.inside} to {block.outside} channels at {block.side}×{block.side} px"
        + f", stride {block.stride}" * (block.stride > 1)
    )
    parts = [f"Block {block.name}: {block.what}", shape]
    if block.cost is not None and not block.skipped:
        parts.append(
            f"{plain_cost(block.cost, scale.unit)} {scale.unit}" + f" ({scale.share(block.cost)})" * bool(scale.whole)
        )
    return "; ".join(parts + ["fixed by the space"] * (not block.searchable))


def _legend(blocks: list[Block], run: RunData) -> Safe:
    kernels = sorted({b.kernel for b in blocks if not b.skipped})
    keys = [el("li", el("span", class_=f"swatch k{k}"), f"kernel {k}×{k}") for k in kernels]
    if any(b.skipped for b in blocks):
        keys.append(el("li", el("span", class_="swatch dashed"), "skipped block"))
    keys += [el("li", "width: output channels"), el("li", "height: expansion")]
    if any(b.cost is not None for b in blocks):
        keys.append(el("li", el("span", class_="swatch cost"), f"predicted {run.text('cost', 'kind') or 'cost'}"))
    if not all(b.searchable for b in blocks):
        keys.append(el("li", el("i", "0.0"), " slanted: fixed by the space"))
    return el("ul", keys, class_="legend")


def block_table(run: RunData) -> Safe | None:
    """The same as the drawing, as a table."""
    blocks = _blocks(run)
    if not blocks:
        return None
    scale = Scale.of(run, ())
    rows = [
        [b.name, b.what, f"{b.inside} → {b.outside}", str(b.stride), f"{b.side} px", *_cost_cells(b, scale)]
        for b in blocks
    ]
    columns = ["Block", "Operation", "Channels", "Stride", "Input", scale.unit, "Share"]
    return scroll("Blocks of the network", table("Every position of the network", columns, rows, "blocks"))


def _cost_cells(block: Block, scale: Scale) -> list[str]:
    if block.skipped or block.cost is None:
        return ["0" if block.skipped else "not known", "–"]
    return [plain_cost(block.cost, scale.unit), scale.share(block.cost)]
