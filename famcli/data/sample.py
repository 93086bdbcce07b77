"""One labelled image of a dataset, the names of splits, and how large a number in a file of labels or boxes may be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from famcli.data.depth import AUTO_RANGE, ValueRange
from famcli.data.images import DECODE_MARGIN, Picture, open_picture
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError, shown

TRAIN: Final = "train-weaksup"
FULLSUP: Final = "train-fullsup"
TEST: Final = "test"
SPLITS: Final = (TRAIN, FULLSUP, TEST)
BENCHMARK_NAMES: Final = {TRAIN: "train", FULLSUP: "val", TEST: "test"}  # wsolevaluation's folders
_ALIASES: Final = {TRAIN: ("train", "training"), FULLSUP: ("val", "valid", "validation", "dev"), TEST: ("testing",)}
_KNOWN: Final = {alias: split for split, aliases in _ALIASES.items() for alias in (split, *aliases)}

MAX_CLASSES = 100_000  # the most that a model can have
MAX_PIXEL = 10**9  # no coordinate of an image that can be read comes near

NO_BOXES: FloatArray = np.zeros((0, 4))  # one for all: a million samples share it
NO_BOXES.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset.

    Attributes:
        name: Relative POSIX path.
        path: The image file.
        label: Class index.
        boxes: ``(N, 4)`` half-open xyxy in original pixels, EXIF orientation applied; empty unless boxes were
            asked for.
        size_hw: ``(h, w)`` in the same frame as the dataset states it, if it does; the file may disagree.
    """

    name: str
    path: Path
    label: int
    boxes: FloatArray
    size_hw: tuple[int, int] | None = None


@contextmanager
def open_sample(sample: Sample, size: int, value_range: ValueRange = AUTO_RANGE) -> Iterator[Picture]:
    """The picture of a sample as :func:`read_sample`; until the context ends, others wait for the memory it takes."""
    with ExitStack() as stack:
        try:
            picture = stack.enter_context(open_picture(sample.path, DECODE_MARGIN * size, value_range))
        except DataError as error:
            raise DataError(f"{sample.path}: {error}") from error
        yield picture


def read_sample(sample: Sample, size: int, value_range: ValueRange = AUTO_RANGE) -> Picture:
    """The picture of a sample for a network input of ``size`` pixels; an error names the image."""
    with open_sample(sample, size, value_range) as picture:
        return picture


def check_labels(samples: Sequence[Sample], num_classes: int) -> None:
    """Make sure that a model knows the classes of all samples, which are 0 to ``num_classes`` - 1."""
    for sample in samples:
        if not 0 <= sample.label < num_classes:
            raise DataError(
                f"'{sample.name}' has label {sample.label}, but the model's {num_classes} classes are numbered from 0: "
                "was it made for other classes?"
            )


def sha256_samples(samples: Sequence[Sample]) -> str:
    """SHA-256 of the names, labels and boxes, in hexadecimal."""
    lines = "".join(f"{sample.name}\n{sample.label}\n{sample.boxes.tolist()}\n" for sample in samples)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def find_split(name: str) -> str | None:
    """The paper's name of a split, whatever the case; ``None`` if it is no known name."""
    return _KNOWN.get(name.lower())


def split_name(name: str) -> str:
    """The paper's name of a split; a name that is not known stays as it is."""
    return find_split(name) or name


def in_order(splits: Iterable[str]) -> list[str]:
    """Each split once: the paper's three in its order, then others by name."""
    found = set(splits)
    return [s for s in SPLITS if s in found] + sorted(found.difference(SPLITS))


def bounded(value: Any, top: float = MAX_PIXEL) -> float:
    """A number of a file, at most ``top`` of either sign; a ``ValueError`` says in short what it is instead."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) <= top:  # also what is not a number
        raise ValueError(f"{shown(value)} is not a number up to {top:,.0f}")
    return number
