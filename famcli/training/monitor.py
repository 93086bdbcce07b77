"""What is logged of a training: means over an epoch, the metrics file, and warnings in words."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from famcli_models.files import write_atomic

if TYPE_CHECKING:
    from famcli_models.methods.method import Method

OLD_MEASURES = ("foreground", "spread", "part_similarity", "top1")
T = TypeVar("T")
WAITING = 0.1  # share of time waiting for images from which on loading is worth a word


class Progress(Protocol):
    """Shows how far a long step is."""

    def __call__(self, what: str, total: int, done: int = 0, /) -> AbstractContextManager[Callable[[int], object]]:
        """A context for the step, with a function to call with each number of images that have been done since."""


def no_progress(_what: str, _total: int, _done: int = 0, /) -> AbstractContextManager[Callable[[int], object]]:
    """Show nothing."""
    return nullcontext(lambda _images: None)


def counted(results: Iterable[T], step: Callable[[int], object]) -> Iterator[T]:
    """The same, with a step of progress after each."""
    for result in results:
        yield result
        step(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the images."""

    number: int  # from 1
    terms: Mapping[str, float]  # means of the total loss and of each term, unweighted
    measures: Mapping[str, float]  # means of what the method logs beside, see Method.measures
    images: int  # trained on, all processes together
    seconds: float  # wall time
    waiting: float  # share of that time spent waiting for the next batch
    skipped: int = 0  # images that could not be read, since the start of the run
    gt_known: float | None = None  # GT-known Loc on the validation set, percent
    val_loss: float | None = None  # where the validation set has no boxes: the cross entropy of its classes
    val_top1: float | None = None  # and the share of images whose class is right

    @staticmethod
    def current(values: Any) -> Any:
        """The fields of an epoch in a saved state; version 0.1 kept the measures beside the other fields."""
        if not isinstance(values, dict):
            return values
        old = {name: values[name] for name in OLD_MEASURES if values.get(name) is not None}
        rest = {name: value for name, value in values.items() if name not in OLD_MEASURES}
        return {"measures": old, **rest}

    def row(self) -> dict[str, Any]:
        """The line of the metrics file."""
        values = {name: value for name, value in asdict(self).items() if value is not None or name == "gt_known"}
        terms, measures = values.pop("terms"), values.pop("measures")
        rate = self.images / self.seconds if self.seconds else None
        return {"epoch": values.pop("number"), **terms, **measures, **values, "images_per_second": rate}

    def objective(self, weights: Mapping[str, float]) -> float:
        """The loss with given weights of its terms: where a weight rises, the totals of epochs do not compare."""
        return sum(weight * self.terms.get(name, 0.0) for name, weight in weights.items())

    def sentence(self, epochs: int, validation: str) -> str:
        """The line that a run prints; ``validation`` is the name of the validation set."""
        terms = [f"{name} {value:.4f}" for name, value in self.terms.items()]
        measures = {name.replace("_", " "): value for name, value in self.measures.items()}
        shares = {name: measures.pop(name) for name in ("foreground", "top1") if name in measures}
        logged = [f"{name} {value:.1%}" for name, value in shares.items()]
        logged += [f"{name} {value:.3f}" for name, value in measures.items()]
        logged += [] if self.gt_known is None else [f"{validation} GT-known {self.gt_known:.1f} %"]
        logged += [] if self.val_top1 is None else [f"{validation} top1 {self.val_top1:.1%}"]
        left = self.seconds * (epochs - self.number) / 60
        logged += [f"{self.images / self.seconds:.0f} images/s", f"{left:.0f} min left"]
        return f"epoch {self.number} of {epochs}: {'  '.join(terms + logged)}"

    def warnings(self, model: Method) -> list[str]:
        """What a reader should worry about, one sentence each."""
        found = model.warnings(self.measures)
        if self.waiting > WAITING:
            found.append(f"{self.waiting:.0%} of the time went into waiting for images; raise --workers")
        return found


@dataclass(slots=True)
class Meter:
    """Sums of an epoch so far: of each value times the images, images, seconds, and seconds of waiting for them."""

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
        return Epoch(
            number=number,
            terms={name: value for name, value in means.items() if name not in measured},
            measures={name: value for name, value in means.items() if name in measured},
            images=self.images,
            seconds=self.seconds,
            waiting=self.waiting / self.seconds if self.seconds else 0.0,
            skipped=skipped,
        )


def write_metrics(path: Path, history: Sequence[Epoch]) -> None:
    """Write a line for each epoch; a reader finds the old file or the new one."""
    rows, text = [epoch.row() for epoch in history], io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8", newline=""))
