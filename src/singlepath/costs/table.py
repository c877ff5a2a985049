"""Latency tables: milliseconds of every option of every layer of one space on one device, and how far to trust them.

The file is JSON (`FORMAT`). A network's latency is ``intercept + slope * (rest + sum of its options' ms)``; slope and
intercept were fitted on whole networks (1 and 0 where none were timed), the validation error on others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from singlepath.costs.model import CostModel
from singlepath.errors import unknown, user_error
from singlepath.spaces import Space, make

__all__ = ["BlockTiming", "Correction", "LatencyTable", "Validation", "shipped_tables"]

FORMAT = "singlepath.latency-table/1"
LARGEST_FILE = 50_000_000  # bytes


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BlockTiming(Strict):
    """One option of one layer: the figure used, and how it was got. Times in ms."""

    ms: Amount
    statistics: dict[str, float] = Field(default_factory=dict, description="min, p10, median, rounds ... where timed")


class Correction(Strict):
    slope: Finite = Field(default=1.0, gt=0)
    intercept: Finite = 0.0
    networks: int = 0


class Validation(Strict):
    """Errors on whole networks that the correction was not fitted on. `error95` is relative."""

    rmse_ms: Amount
    mean_ms: Amount
    error95: Amount
    spearman: float
    networks: int


class LatencyTable(Strict):
    """A latency table; see the module's text for what its figures mean.

    Attributes:
        layers: layer name ("stage.index") -> option token -> timing.
        rest_ms: everything that is not searched: stem, fixed blocks, head, classifier.
        calibration: whole networks timed together with the blocks: timm-style string, choices and ms; used to find a
            common drift later.
    """

    format: str = FORMAT
    space: str
    device: str
    runtime: str
    precision: str = "fp32"
    threads: int = Field(default=1, ge=1)
    batch: int = Field(default=1, ge=1)
    input_size: int
    source: str = ""
    hardware: dict[str, str] = Field(default_factory=dict)
    protocol: dict[str, Any] = Field(default_factory=dict)
    rest_ms: Amount
    layers: dict[str, dict[str, BlockTiming]]
    correction: Correction = Correction()
    validation: Validation | None = None
    calibration: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def measurable(self) -> bool:
        """Whether a network can be timed where this table was made; a table from published figures alone cannot."""
        return self.protocol.get("kind") != "published"

    def costs(self, space: Space) -> CostModel:
        """The cost of every option of a space in ms.

        Raises:
            UserError: the table was made for another space or input size, or gives a network no time above 0.
        """
        self.check(space)
        slope, layers = self.correction.slope, []
        for layer in space.searchable:
            layers.append(tuple(slope * self._ms(layer.name, o.token) for o in layer.options))
        fixed = self.correction.intercept + slope * self.rest_ms
        costs = CostModel("latency", "ms", fixed, tuple(layers), self.validation.error95 if self.validation else 0.0)
        if not 0 < costs.smallest <= costs.largest < math.inf:
            raise user_error(
                f"the table of {self.device} says that networks take {costs.smallest:.4g} to {costs.largest:.4g} ms",
                "allowed: above 0, and finite", f"measure one: singlepath measure --space '{space.id}'",
            )  # fmt: skip
        return costs

    def _ms(self, layer: str, token: str) -> float:
        timing = self.layers[layer].get(token)
        return timing.ms if timing else 0.0  # only a skipped layer may be absent: `check` has seen to the others

    def check(self, space: Space) -> None:
        """Refuse a space this table does not describe."""
        fix = f"type --space '{self.space}' or measure a table: singlepath measure --space '{space.id}'"
        if space.input_size != self.input_size:
            raise user_error(
                f"the table is for {self.input_size} px inputs", f"the space has {space.input_size} px", fix
            )
        own = make(self.space)
        if structure(own, self.measurable) != structure(space, self.measurable):
            raise user_error(f"the table was made for space {self.space}", f"this run searches {space.id}", fix)
        for layer in space.searchable:
            missing = [t for t in layer.tokens if t not in self.layers.get(layer.name, {}) and t != "skip"]
            if missing:
                raise user_error(
                    f"the table has no {missing[0]} for layer {layer.name}", f"space {space.id} allows it", fix
                )

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str, name: str = "table") -> LatencyTable:
        """Raises UserError where the text is not a latency table."""
        try:
            table = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"]) or "the file"
            raise user_error(
                f"{name} is not a latency table ({where}: {first['msg']})", f"allowed: format {FORMAT!r}",
                "make one with: singlepath measure",
            ) from None  # fmt: skip
        if table.format != FORMAT:
            raise user_error(f"{name} has format {table.format!r}", f"allowed: {FORMAT!r}", "measure it again")
        return table

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """A table from a file, or a shipped one by its device's name."""
        shipped = shipped_tables()
        if str(path) in shipped:
            return cls.from_json(shipped[str(path)], str(path))
        path = Path(path)
        if not path.is_file():
            raise unknown("latency table", path, shipped, "--table")
        if path.stat().st_size > LARGEST_FILE:
            raise user_error(
                f"{path} has {path.stat().st_size} bytes", f"allowed: {LARGEST_FILE}", "give a latency table"
            )
        return cls.from_json(path.read_text(errors="replace"), str(path))


def structure(space: Space, padding: bool = True) -> tuple[Any, ...]:
    """What latency depends on: all of a space but its class count and its name.

    Published figures hold for either padding: those of the Pixel 1 were measured with TensorFlow's.
    """
    layers = tuple(tuple(getattr(layer, f.name) for f in fields(layer)) for layer in space.layers)
    ends = (space.in_channels, space.stem_channels, space.stem_stride, space.head_channels)
    return (layers, *ends, space.padding if padding else None)


def shipped_tables() -> Mapping[str, str]:
    """The tables that come with the package: device name -> JSON text."""
    folder = resources.files("singlepath.costs") / "tables"
    return {f.name.removesuffix(".json"): f.read_text() for f in folder.iterdir() if f.name.endswith(".json")}
