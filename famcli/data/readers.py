"""Labelled image lists on disk: the wsolevaluation metadata layout.

A dataset is a folder with ``metadata/<split>/image_ids.txt`` and ``class_labels.txt``, and
``localization.txt`` where boxes may be used for evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.data.images import DECODE_MARGIN, Picture, read_picture
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError

WHOLE_NUMBER = re.compile(r"-?[0-9]+(\.0*)?")  # boxes of some tools are written 12.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset.

    Attributes:
        name: Relative POSIX path.
        path: The image file.
        label: Class index.
        boxes: ``(N, 4)`` half-open xyxy in the file's pixels; empty unless boxes were asked for.
    """

    name: str
    path: Path
    label: int
    boxes: FloatArray


def read_samples(root: Path, split: str, *, with_boxes: bool = False) -> list[Sample]:
    """Samples of one split, in the order of ``image_ids.txt``.

    The files store inclusive corners; one is added to the right and the bottom here, so that boxes are
    half-open as everywhere else.

    Args:
        root: Folder of the dataset.
        split: For example ``train`` or ``test``.
        with_boxes: Read ``localization.txt``. Training never does.

    Raises:
        DataError: A file is missing, a line cannot be read, or an image has no label or no box.
    """
    folder = root / "metadata" / split
    if not folder.is_dir():
        splits = sorted(p.name for p in (root / "metadata").glob("*")) or ["none"]
        msg = f"'{root}' has no metadata/{split}/ (splits found: {', '.join(splits)})"
        raise DataError(msg)
    names = [row[0] for row in _rows(folder / "image_ids.txt", 1)]
    labels = {row[0]: row[1] for row in _rows(folder / "class_labels.txt", 2)}
    boxes: dict[str, list[tuple[float, ...]]] = {}
    if with_boxes:
        for name, *corners in _rows(folder / "localization.txt", 5):
            x0, y0, x1, y1 = (float(c) for c in corners)
            boxes.setdefault(name, []).append((x0, y0, x1 + 1, y1 + 1))
    samples = []
    for name in names:
        if name not in labels or (with_boxes and name not in boxes):
            what = "label in class_labels.txt" if name not in labels else "box in localization.txt"
            msg = f"{folder}: image '{name}' has no {what}"
            raise DataError(msg)
        array = np.array(boxes.get(name, []), dtype=np.float64).reshape(-1, 4)
        samples.append(Sample(name, root / name, int(float(labels[name])), array))
    if not samples:
        msg = f"{folder}: no images in image_ids.txt"
        raise DataError(msg)
    return samples


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


def read_class_names(path: Path) -> list[str]:
    """Class names, one a line, a WordNet id at the start left out and only the first synonym kept.

    A name that is there already, up to case, keeps its second synonym or its WordNet id to stay unique.

    Raises:
        DataError: The file cannot be read.
    """
    names: list[str] = []
    seen: set[str] = set()
    for line in _lines(path):
        first, _, rest = line.partition(" ")
        wordnet = first if len(first) == 9 and first[0] == "n" and first[1:].isdigit() else ""
        synonyms = (rest if wordnet else line).split(", ")
        name = synonyms[0]
        if name.lower() in seen:
            name = f"{name} ({synonyms[1] if len(synonyms) > 1 else wordnet or len(names)})"
        seen.add(name.lower())
        names.append(name)
    return names


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read {path}: {error}"
        raise DataError(msg) from error


def _rows(path: Path, width: int) -> list[list[str]]:
    rows = [line.rsplit(",", width - 1) for line in _lines(path)]
    for number, row in enumerate(rows, 1):
        if len(row) != width or not all(WHOLE_NUMBER.fullmatch(value) for value in row[1:]):
            msg = f"{path}, line {number}: expected {width} fields (a path, then whole numbers), got '{','.join(row)}'"
            raise DataError(msg)
    return rows
