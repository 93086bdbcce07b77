"""What is logged of an epoch, and what is wrong with it in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from famcli_models.losses import diversity_loss
from famcli_models.methods.cam import CAMOutput
from famcli_models.methods.fam import FAMOutput

FLAT = 0.02  # a map whose standard deviation stays below this separates nothing
FEW, MANY = 0.01, 0.95  # shares of foreground below and above which M says nothing
ALIKE = 0.99  # cosine of part maps that are one and the same
WAITING = 0.1  # share of time waiting for images from which on loading is worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the images.

    Attributes:
        number: From 1.
        terms: Mean of the total loss and of each term, unweighted: ``total``, ``cla``, ``spa``, ``div`` and, with
            targets, ``target``; of a CAM ``total`` and ``cla``.
        foreground: Share of cells of M above τ.
        spread: Mean over images of the standard deviation of M.
        part_similarity: Mean cosine between the part maps A of an image; ``None`` for a CAM, which has no parts.
        top1: Share of training views classified right.
        images: Seen, all processes together.
        seconds: Wall time.
        waiting: Share of that time spent waiting for the next batch.
        skipped: Images that could not be read, since the start of the run.
        gt_known: GT-known Loc on the images the best epoch is chosen by, percent; ``None`` without such images.
    """

    number: int
    terms: Mapping[str, float]
    foreground: float
    spread: float
    part_similarity: float | None = None
    top1: float
    images: int
    seconds: float
    waiting: float
    skipped: int = 0
    gt_known: float | None = None

    @property
    def collapsed(self) -> bool:
        """M is the same everywhere, or FAM's M says foreground nowhere or everywhere.

        The map of a CAM goes from 0 to 1 in every image: how much of it passes τ is a matter of τ, not of learning.
        """
        return self.spread < FLAT or not (self._of_cam or FEW <= self.foreground <= MANY)

    @property
    def _of_cam(self) -> bool:
        return self.part_similarity is None

    def row(self) -> dict[str, Any]:
        """The line of the metrics file."""
        values = asdict(self)
        terms = values.pop("terms")
        rate = self.images / self.seconds if self.seconds else None
        return {"epoch": values.pop("number"), **terms, **values, "images_per_second": rate}

    def warnings(self) -> list[str]:
        """What a reader should worry about, one sentence each."""
        found = []
        if self._of_cam and self.spread < FLAT:
            found.append(f"the maps are flat (standard deviation {self.spread:.4f}): the features have no pattern left")
        elif self._of_cam:
            if not FEW <= self.foreground <= MANY:
                found.append(f"{self.foreground:.1%} of the cells of the maps pass the threshold; set another tau")
        elif self.spread < FLAT:
            found.append(
                f"M is flat (standard deviation {self.spread:.4f}): it has collapsed and no threshold will find a box; "
                "see 'The method' in the documentation, equation (7)"
            )
        elif self.foreground < FEW:
            found.append(f"M passes the threshold in {self.foreground:.1%} of the cells; lower lambda_spa")
        elif self.foreground > MANY:
            found.append(f"M passes the threshold in {self.foreground:.1%} of the cells; raise lambda_spa")
        if self.part_similarity is not None and self.part_similarity > ALIKE:
            found.append(
                f"the part maps are alike (cosine {self.part_similarity:.3f}); raise part_std, so that they start apart"
            )
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

    def epoch(self, number: int, skipped: int) -> Epoch:
        """The epoch that these are the means of."""
        means = {name: total / self.images for name, total in self.sums.items()}
        known = {name: means.pop(name) for name in MEASURES if name in means}
        share = self.waiting / self.seconds if self.seconds else 0.0
        return Epoch(
            number=number,
            terms=means,
            **known,
            images=self.images,
            seconds=self.seconds,
            waiting=share,
            skipped=skipped,
        )


MEASURES = ("foreground", "spread", "part_similarity", "top1")


def measure(out: FAMOutput | CAMOutput, labels: Tensor, tau: float) -> dict[str, Tensor]:
    """The scalars of :data:`MEASURES` for a batch; a CAM has no parts to compare."""
    M = out.M.flatten(1)
    found = {"foreground": M.gt(tau).float().mean(), "spread": M.std(dim=1, correction=0).mean()}
    if isinstance(out, FAMOutput):
        found["part_similarity"] = diversity_loss(out.A.flatten(2))  # of maps here, of features in equation (8)
    return {**found, "top1": (out.logits.argmax(dim=1) == labels).float().mean()}


def stack(values: Mapping[str, Tensor]) -> Tensor:
    """Scalars to one vector ``(n,)`` in the order of their names' appearance, so that they travel together."""
    return torch.stack([value.detach().float().reshape(()) for value in values.values()])
