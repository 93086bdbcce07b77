"""Reader of CUB-200-2011: its train-weaksup and test splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from famcli.data.dataset import Sample
from famcli.data.metadata import read_lines
from famcli.data.public.source import Contents, Source
from famcli.data.sample import MAX_PIXEL, NO_BOXES
from famcli_models.errors import DataError, shown

ARCHIVE, MASKS = "CUB_200_2011.tgz", "segmentations.tgz"
TOP, MASK_FOLDER = "CUB_200_2011", "segmentations"
LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")
IMAGES = 11_788
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")


def read_cub(source: Source) -> Contents:
    """Find and read CUB; the boxes of training images are left out, so that nothing can use them by mistake."""
    top = source.tree(ARCHIVE, TOP, TOP, ".", holding="images.txt")
    if top is None:
        if source.archive(ARCHIVE) is None:
            raise source.missing(f"{ARCHIVE}, or the folder {TOP}/ extracted from it")
        source.extract(ARCHIVE, _place, TOP, IMAGES + len(LISTS))
        top = source.out / TOP
    masks: list[Path] = []
    if source.archive(MASKS) is not None:
        source.extract(MASKS, _place_mask, MASK_FOLDER, IMAGES)
        masks = [source.out / MASK_FOLDER, *sorted((source.out / MASK_FOLDER).iterdir())]
    absent = [file for file in (*LISTS, "images/") if not (top / file).exists()]
    if absent:
        raise source.missing(*(f"{top.name}/{file}" for file in absent))
    names = _table(top / "images.txt")
    labels, is_train = _table(top / "image_class_labels.txt"), _table(top / "train_test_split.txt")
    boxes, classes = _table(top / "bounding_boxes.txt", numbers=4), _table(top / "classes.txt")
    order = {number: label for label, number in enumerate(classes)}
    for number, (name,) in names.items():
        if labels.get(number, [""])[0] not in order or number not in is_train or number not in boxes:
            raise DataError(f"'{top}': image {number} ({name}) has no class, split or box: extract the archive again")

    def samples(training: bool) -> Iterator[Sample]:
        for number, (name,) in names.items():
            if (is_train[number][0] == "1") == training:
                label = order[labels[number][0]]
                yield Sample(name, images / name, label, NO_BOXES if training else _box(boxes[number]))

    images = top / "images"
    train = sum(is_train[number][0] == "1" for number in names)
    splits = {
        "train-weaksup": source.sized(samples(training=True), "sizes of train-weaksup", train),
        "test": source.sized(samples(training=False), "sizes of test", len(names) - train),
    }
    class_names = tuple(re.sub(r"^[0-9]+\.", "", name).replace("_", " ") for (name,) in classes.values())
    watched = [*(top / file for file in LISTS), images, *sorted(images.iterdir()), *masks]
    return Contents(images, class_names, splits, watched)


def _place(name: str) -> str | None:
    top, _, rest = name.partition("/")
    hidden = any(part.startswith(".") for part in name.split("/"))  # macOS left ._ files in it
    return name if top == TOP and not hidden and (rest in LISTS or rest.startswith("images/")) else None


def _place_mask(name: str) -> str | None:
    return name if name.startswith(f"{MASK_FOLDER}/") and "/." not in name else None


def _box(values: list[str]) -> np.ndarray:
    """``x y w h`` to half-open xyxy, a pixel wider: wsolevaluation takes ``x + w, y + h`` for inclusive corners."""
    x, y, w, h = (float(v) for v in values)
    return np.array([[int(x), int(y), int(x + w) + 1, int(y + h) + 1]], dtype=np.float64)


def _table(path: Path, numbers: int = 0) -> dict[str, list[str]]:
    """Lines of a key and a value, or of a key and some numbers, in order."""
    rows: dict[str, list[str]] = {}
    for line_number, line in read_lines(path, "replace"):
        key, *rest = line.split()
        good = not numbers or all(NUMBER.fullmatch(v) and float(v) <= MAX_PIXEL for v in rest)
        if not good or len(rest) != (numbers or 1):
            expected = f"a number and {numbers or 1} more"
            raise DataError(f"'{path}', line {line_number}: expected {expected}, got {shown(line)}")
        rows[key] = rest
    return rows
