"""A user's own data, whatever form it came in."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from famcli.data.sample import TEST, TRAIN, Sample
from famcli_models.boxes import FloatArray, box_area

LOOKED_FOR = 20  # image files, to tell which folder they are in


@dataclass(frozen=True, slots=True)
class OwnData:
    """What was read.

    Attributes:
        class_names: Names by label.
        splits: Samples, with their boxes, by the paper's name of the split.
        images: The folder that image names are relative to.
        format: A name of :data:`famcli.data.readers.FORMATS`.
        remarks: Sentences on what was left out or decided.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[Sample]]
    images: Path
    format: str
    remarks: tuple[str, ...] = ()

    def facts(self) -> Mapping[str, Any]:
        """What a dataset made of it should remember."""
        return {"format": self.format, "remarks": list(self.remarks)}


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in the order of their labels: by name, or by value if all are numbers.

    ImageNetV2's folders 0 to 999, sorted as text, would give 10 the label 2.
    """
    unique = set(names)
    numbers = all(name.isascii() and name.isdigit() for name in unique)
    return tuple(sorted(unique, key=(lambda name: (int(name), name)) if numbers else str))


def main_class(classes: Sequence[str], boxes: FloatArray) -> str:
    """The class whose boxes, one for each entry of ``classes``, cover the largest area; of equals the first."""
    areas: dict[str, float] = {}
    for name, area in zip(classes, box_area(boxes).tolist(), strict=True):
        areas[name] = areas.get(name, 0.0) + area
    return max(areas, key=lambda name: areas[name])


def boxes_of(rows: Sequence[Sequence[float]]) -> FloatArray:
    """Rows of four numbers as ``(N, 4)``."""
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def default_split(samples: Sequence[Sample]) -> str:
    """The split of images of which nothing says it: those with boxes can be tested on, others train."""
    return TEST if any(len(s.boxes) for s in samples) else TRAIN


def find_images(names: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """The folder in which most of the first few files exist; ``None`` if none does anywhere."""
    best, most = None, 0
    for folder in folders:
        # os.path and not Path: for a name longer than a file system holds, Path raises.
        there = sum(os.path.isfile(folder / name) for name in names[:LOOKED_FOR])
        if there > most:
            best, most = folder, there
    return best


def common_root(splits: Mapping[str, tuple[Path, list[Sample]]]) -> tuple[Path, dict[str, list[Sample]]]:
    """One folder that all names are relative to, for splits that each have their own.

    Splits of the same folder keep their names; otherwise the names get their folder in front.
    """
    folders = {folder for folder, _ in splits.values()}
    if len(folders) == 1:
        return folders.pop(), {split: samples for split, (_, samples) in splits.items()}
    root = Path(os.path.commonpath([f.absolute() for f in folders]))
    return root, {
        split: [dataclasses.replace(s, name=(folder.absolute().relative_to(root) / s.name).as_posix()) for s in samples]
        for split, (folder, samples) in splits.items()
    }
