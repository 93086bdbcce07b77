"""One labelled image of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.data.images import DECODE_MARGIN, Picture, read_picture
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError

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


def read_sample(sample: Sample, size: int) -> Picture:
    """The picture of a sample for a network input of ``size`` pixels.

    Raises:
        DataError: The image cannot be read; the message names it.
    """
    try:
        return read_picture(sample.path, at_least=DECODE_MARGIN * size)
    except DataError as error:
        msg = f"{sample.path}: {error}"
        raise DataError(msg) from error


def check_labels(samples: Sequence[Sample], num_classes: int) -> None:
    """Make sure that a model knows the classes of all samples.

    Raises:
        DataError: A label is not in 0..num_classes - 1.
    """
    for sample in samples:
        if not 0 <= sample.label < num_classes:
            msg = (
                f"'{sample.name}' has label {sample.label}, but the model's {num_classes} classes are numbered from 0: "
                "was it made for other classes?"
            )
            raise DataError(msg)
