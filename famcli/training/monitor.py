"""What is logged of an epoch, and what is wrong with it in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from famcli_models.methods.method import Method

OLD_MEASURES = ("foreground", "spread", "part_similarity", "top1")
WAITING = 0.1  # share of time waiting for images from which on loading is worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the images.

    Attributes:
        number: From 1.
        terms: Mean of the total loss and of each term, unweighted; with targets ``target`` among them.
        measures: Means of what the method logs beside, see :meth:`famcli_models.Method.measures`.
        images: Seen, all processes together.
        seconds: Wall time.
        waiting: Share of that time spent waiting for the next batch.
        skipped: Images that could not be read, since the start of the run.
        gt_known: GT-known Loc on the images the best epoch is chosen by, percent; ``None`` without such images.
    """

    number: int
    terms: Mapping[str, float]
    measures: Mapping[str, float]
    images: int
    seconds: float
    waiting: float
    skipped: int = 0
    gt_known: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Epoch:
        """The epoch of a saved state; version 0.1 kept the measures beside the other fields."""
        old = {name: values[name] for name in OLD_MEASURES if values.get(name) is not None}
        rest = {name: value for name, value in values.items() if name not in OLD_MEASURES}
        return cls(**{"measures": old, **rest})

    def row(self) -> dict[str, Any]:
        """The line of the metrics file."""
        values = asdict(self)
        terms, measures = values.pop("terms"), values.pop("measures")
        rate = self.images / self.seconds if self.seconds else None
        return {"epoch": values.pop("number"), **terms, **measures, **values, "images_per_second": rate}

    def warnings(self, model: Method) -> list[str]:
        """What a reader should worry about, one sentence each."""
        found = model.warnings(self.measures)
        if self.waiting > WAITING:
            found.append(f"{self.waiting:.0%} of the time went into waiting for images; raise --workers")
        return found


@dataclass(slots=True)
class Meter:
    """Means over the images of an epoch so far.

    Attributes:
        sums: Of each value, times the images.
        images: Seen.
        seconds: Wall time.
        waiting: Seconds of it that were spent waiting.
    """

    sums: dict[str, float] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def add(self, values: Mapping[str, float], images: int, seconds: float, waiting: float) -> None:
        """Add the means over some images, and the time they took."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * images
        self.images += images
        self.seconds += seconds
        self.waiting += waiting

    def epoch(self, number: int, skipped: int, measured: Collection[str]) -> Epoch:
        """The epoch that these are the means of; the values in ``measured`` are no terms of the loss."""
        means = {name: total / self.images for name, total in self.sums.items()}
        share = self.waiting / self.seconds if self.seconds else 0.0
        return Epoch(
            number=number,
            terms={name: value for name, value in means.items() if name not in measured},
            measures={name: value for name, value in means.items() if name in measured},
            images=self.images,
            seconds=self.seconds,
            waiting=share,
            skipped=skipped,
        )


def stack(values: Mapping[str, Tensor]) -> Tensor:
    """Scalars to one vector ``(n,)`` in the order of their names' appearance, so that they travel together."""
    return torch.stack([value.detach().float().reshape(()) for value in values.values()])
