"""A user's own data in the forms it usually has: the table of readers, and what several of them share."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from famcli.data.sample import NO_BOXES, TEST, TRAIN, Sample, in_order, split_name
from famcli.data.sources import missing_hint
from famcli_models.boxes import FloatArray, box_area
from famcli_models.errors import DataError, UnknownNameError

AUTO = "auto"
# What users call a form, and what it is. Each is the module of that name in this folder, whose ``detect(source)`` says
# whether a file or folder looks like it, and whose ``read(source, images, split)`` gives the data. In the order in
# which they are tried: the plainest last, because any folder could be one.
READERS: Mapping[str, str] = {
    "wsol": "wsolevaluation metadata",
    "coco": "COCO JSON",
    "voc": "Pascal VOC XML",
    "csv": "CSV with a header",
    "folder": "a folder of images for each class",
}
T = TypeVar("T")
TRIED = 20  # image files, to tell which folder they are in


class OwnData(NamedTuple):
    """What was read."""

    class_names: tuple[str, ...]  # by label
    splits: dict[str, list[Sample]]  # with their boxes, by the paper's name of the split
    images: Path  # the folder that image names are relative to
    format: str  # a name of READERS
    remarks: tuple[str, ...] = ()  # sentences on what was left out or decided

    def facts(self) -> Mapping[str, Any]:
        """What a dataset made of it should remember."""
        return {"format": self.format, "remarks": list(self.remarks)}


class Row(NamedTuple):
    """One image as a reader found it."""

    name: str  # relative to the folder of the images
    split: str | None  # the paper's name, if something tells it
    classes: Sequence[str]  # of each object; the first alone counts where there are no boxes
    boxes: Sequence[Sequence[float]] | FloatArray = ()  # (N, 4) half-open xyxy of the same objects, or none
    size_hw: tuple[int, int] | None = None  # (h, w) if stated


def read_own(
    source: Path,
    format: str = AUTO,  # noqa: A002  (the word that users type)
    *,
    images: Path | None = None,
    split: str | None = None,
) -> OwnData:
    """Read own data: labels from 0 in the order of class names (COCO: of category ids), boxes half-open.

    ``images`` is the folder that image names are relative to, if it is not found near the source; ``split`` that of
    images of which nothing tells it, by default ``test`` if any has a box, else ``train-weaksup``.
    """
    if format != AUTO and format not in READERS:
        raise UnknownNameError("format", format, [AUTO, *READERS])
    if not source.exists():
        raise DataError(f"'{source}' does not exist{missing_hint(source)}")
    if images is not None and not images.is_dir():
        raise DataError(f"--images '{images}' is no folder{missing_hint(images)}")
    modules = (import_module(f"{__name__}.{name}") for name in (READERS if format == AUTO else [format]))
    reader = next((module for module in modules if format != AUTO or module.detect(source)), None)
    if reader is None:
        raise DataError(f"'{source}' is in no form that fam knows ({'; '.join(READERS.values())})")
    own: OwnData = reader.read(source, images, split_name(split) if split else None)
    return own


def own_data(
    form: str, rows: Sequence[Row], root: Path, split: str | None, origin: str, remarks: Iterable[str] = ()
) -> OwnData:
    """Data of rows, classes sorted to labels, of an image that whose boxes cover most; ``origin`` begins a remark."""
    unique = {name for row in rows for name in row.classes}
    numbers = all(name.isascii() and name.isdigit() for name in unique)  # sorted by value: as text, 10 is before 2
    class_names = tuple(sorted(unique, key=(lambda name: (int(name), name)) if numbers else str))
    labels = {name: label for label, name in enumerate(class_names)}
    placed: list[tuple[str | None, Sample]] = []
    others = 0
    for row in rows:
        boxes = boxes_from(row.boxes) if len(row.boxes) else NO_BOXES
        main = main_class(row.classes, boxes) if len(boxes) else row.classes[0]
        kept = [i for i in range(len(boxes)) if row.classes[i] == main]
        others += len(boxes) - len(kept)
        boxes = boxes[kept] if kept else NO_BOXES
        placed.append((row.split, Sample(row.name, root / row.name, labels[main], boxes, row.size_hw)))
    default = split or default_split([sample for _, sample in placed])
    splits: dict[str, list[Sample]] = {name: [] for name in in_order(where or default for where, _ in placed)}
    for where, sample in placed:
        splits[where or default].append(sample)
    left_out = [f"{origin}: {others} boxes of other classes than the image's main one were left out"] if others else []
    return OwnData(class_names, splits, root, form, (*remarks, *left_out))


def main_class(classes: Sequence[T], boxes: FloatArray) -> T:
    """The class whose boxes, one for each entry of ``classes``, cover the largest area; of equals the first."""
    if len(set(classes)) == 1:  # mostly, and a million calls of NumPy take a while
        return classes[0]
    areas: dict[T, float] = {}
    for name, area in zip(classes, box_area(boxes).tolist(), strict=True):
        areas[name] = areas.get(name, 0.0) + area
    return max(areas, key=lambda name: areas[name])


def boxes_from(rows: Sequence[Sequence[float]] | FloatArray) -> FloatArray:
    """Rows of four numbers as ``(N, 4)``."""
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def default_split(samples: Sequence[Sample]) -> str:
    """The split of images of which nothing says it: those with boxes can be tested on, others train."""
    return TEST if any(len(s.boxes) for s in samples) else TRAIN


def files_below(folder: Path, suffix: str) -> list[str]:
    """Sorted relative names of files with a suffix at any depth; links to folders and hidden ones are passed over."""
    found: list[str] = []
    waiting = [""] if folder.is_dir() else []
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(folder / here))
        except OSError as error:
            raise DataError(f"cannot read the folder '{folder / here}': {error.strerror}") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{here}{entry.name}/")
            elif entry.name.lower().endswith(suffix):
                found.append(here + entry.name)
    return sorted(found)


def portable(name: str) -> str:
    """A name in its plainest form, with slashes where Windows programs write backslashes."""
    return posixpath.normpath(name.replace("\\", "/"))


def find_images(names: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """The folder in which most of the first few files exist; ``None`` if none does anywhere."""
    # os.path and not Path: for a name longer than a file system holds, Path raises.
    found = {folder: sum(os.path.isfile(folder / name) for name in names[:TRIED]) for folder in folders}
    best = max(found, key=lambda folder: found[folder], default=None)
    return best if best and found[best] else None
