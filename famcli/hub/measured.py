"""What was measured of a model, in short: what a list shows of a result card, or of the header of a model card.

Nothing here knows a number of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from famcli.hub.text import one_line
from famcli.results.schema import METRICS, Results
from famcli_models.errors import DataError

# Away from the tables of fam eval a title has to say by itself that it is about boxes.
TITLES: Mapping[str, str] = {**METRICS, "gt_known": "GT-known Loc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One evaluation.

    Attributes:
        data: Name of the dataset.
        split: Its split.
        images: How many were scored.
        protocol: Name of the protocol.
        tau: Threshold on the map, if there is one.
        tau_from: How it was chosen; ``oracle`` is on the very images scored.
        values: In percent, by a name of :data:`TITLES`.
    """

    data: str
    split: str
    images: int
    protocol: str
    tau: float | None
    tau_from: str
    values: Mapping[str, float]

    @classmethod
    def of(cls, results: Results) -> Measured:
        """The first row of a result card.

        Raises:
            DataError: It has no number.
        """
        data, first = results.data, results.rows[0]
        values = {name: number.value for name, number in first.metrics.items() if name in TITLES}
        if not values:
            msg = f"the result on '{one_line(data['name'])}' has no scores: its first row is without metrics"
            raise DataError(msg)
        return cls(
            data=data["name"],
            split=data["split"],
            images=data["images"],
            protocol=results.protocol["name"],
            tau=first.tau,
            tau_from=first.tau_from,
            values=values,
        )

    def sentence(self) -> str:
        """``GT-known Loc 69.6, Top-1 Loc 54.1 (ilsvrc-val-mini/test, 608 images)``."""
        shown = [name for name in TITLES if name in self.values and name != "mean_iou"][:2]
        numbers = ", ".join(f"{TITLES[name]} {self.values[name]:.1f}" for name in shown)
        return f"{numbers} ({self.data}/{self.split}, {self.images:,} images)"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what a list shows."""
        where = {"data": self.data, "split": self.split, "images": self.images, "protocol": self.protocol}
        numbers = {name: round(value, 2) for name, value in self.values.items()}
        return {**where, "tau": self.tau, "tau_from": self.tau_from, **numbers}
