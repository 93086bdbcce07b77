"""What the ``card.toml`` of a packaged model says: the facts of its card that no program can know."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, TypeAdapter

from famcli.hub.card import TITLES, Measured
from famcli.results.schema import METRICS, Count, Number, Text, check, one_of
from famcli.results.tables import Cell, Table
from famcli_models.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FACTS_FILE = "card.toml"
HELD_OUT = "held out"  # in the place of a split


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutRow:
    """What a method reaches on some photographs."""

    data: Text
    images: Count
    method: Text
    metrics: Mapping[Annotated[Text, one_of(*METRICS)], Number]  # in percent

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What others measured on photographs that were kept apart from all choices; the model's rows come first."""

    weights_sha256: Text  # of the weights that they measured
    note: Text
    rows: tuple[HeldOutRow, ...]

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    def table(self) -> Table:
        """A line for each row."""
        names = [name for name in METRICS if any(name in row.metrics for row in self.rows)]
        lines = [
            (
                f"{row.data}: {row.method}",
                [Cell(row.images, form="d"), *(Cell.from_number(row.metrics.get(name)) for name in names)],
            )
            for row in self.rows
        ]
        return Table(["photographs", "number", *(METRICS[name] for name in names)], lines)

    def measured(self) -> tuple[Measured, ...]:
        """The rows of the model, as lists have them."""
        return tuple(
            Measured(
                data=row.data,
                split=HELD_OUT,
                images=row.images,
                values={name: number.value for name, number in row.metrics.items() if name in TITLES},
            )
            for row in self.rows
            if row.method == self.rows[0].method
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """The tables and texts of ``card.toml``, in the order of the card."""

    purpose: Text  # what to take this model for, in a few words
    terms_in_short: Text
    summary: Text
    data: Text  # that it was trained on
    terms: Text
    command: Text  # that made it
    time: Text  # that the command took
    calibration: Text = ""
    held_out: HeldOut | None = None
    notes: Mapping[Text, Text] = field(default_factory=dict)  # on the numbers, by data set
    limits: Text

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    @classmethod
    def from_folder(cls, folder: Path) -> CardFacts:
        """Read the file of a packaged model.

        Raises:
            DataError: It is absent, no TOML, or lacks a text; the message says which.
        """
        path = folder / FACTS_FILE
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        return check(_FACTS, document, f"{path} is not what a card is made of")


_FACTS = TypeAdapter(CardFacts)
