"""CUB-200-2011: the official lists of the archive to train-weaksup and test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from famcli.data.dataset import Sample
from famcli.data.public.source import Contents, Source, read_lines
from famcli.data.sample import NO_BOXES, bounded
from famcli_models.errors import DataError, shown

ARCHIVE, MASKS = "CUB_200_2011.tgz", "segmentations.tgz"
TOP, MASK_FOLDER = "CUB_200_2011", "segmentations"
LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")
IMAGES = 11_788
BOX = 4  # values of a box
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
PREFIX = re.compile(r"^[0-9]+\.")  # 001.Black_footed_Albatross


def read_cub(source: Source) -> Contents:
    """Find and read CUB.

    The boxes of the training images are left out: training with them would not be weakly supervised, and nothing
    here should be able to use them by mistake.

    Raises:
        DataError: Something is missing or damaged.
    """
    top = _tree(source)
    if top is None:
        if source.archive(ARCHIVE) is None:
            lacking = f"{ARCHIVE}, or the folder {TOP}/ extracted from it"
            raise source.missing(lacking)
        source.extract(ARCHIVE, _place, TOP, IMAGES + len(LISTS))
        top = source.out / TOP
    masks: list[Path] = []
    if source.archive(MASKS) is not None:
        source.extract(MASKS, _place_mask, MASK_FOLDER, IMAGES)
        masks = [source.out / MASK_FOLDER, *sorted((source.out / MASK_FOLDER).iterdir())]
    absent = [file for file in LISTS if not (top / file).is_file()]
    if absent or not (top / "images").is_dir():
        raise source.missing(*(f"{top.name}/{file}" for file in [*absent, "images/"] if not (top / file).exists()))
    names = _table(top / "images.txt", 1)
    labels, is_train = _table(top / "image_class_labels.txt", 1), _table(top / "train_test_split.txt", 1)
    boxes, classes = _table(top / "bounding_boxes.txt", BOX), _table(top / "classes.txt", 1)
    order = {number: label for label, number in enumerate(classes)}
    for number in names:
        if labels.get(number, [""])[0] not in order or number not in is_train or number not in boxes:
            msg = f"'{top}': image {number} ({names[number][0]}) has no class, split or box: extract the archive again"
            raise DataError(msg)

    def samples(training: bool) -> Iterator[Sample]:
        for number, (name,) in names.items():
            if (is_train[number][0] == "1") == training:
                label = order[labels[number][0]]
                yield Sample(name, top / "images" / name, label, NO_BOXES if training else _box(boxes[number]))

    train = sum(is_train[number][0] == "1" for number in names)
    return Contents(
        images=top / "images",
        class_names=tuple(PREFIX.sub("", name).replace("_", " ") for (name,) in classes.values()),
        splits={
            "train-weaksup": source.sized(samples(training=True), "sizes of train-weaksup", train),
            "test": source.sized(samples(training=False), "sizes of test", len(names) - train),
        },
        watched=[*(top / file for file in LISTS), top / "images", *sorted((top / "images").iterdir()), *masks],
    )


def _tree(source: Source) -> Path | None:
    found = source.first(TOP, ".", holding="images.txt")
    # What this program extracted may be half of it: the archive, if it is still there, goes first.
    ours = found is not None and found.absolute() == (source.out / TOP).absolute()
    return None if ours and (source.folder / ARCHIVE).is_file() else found


def _place(name: str) -> str | None:
    top, _, rest = name.partition("/")
    hidden = any(part.startswith(".") for part in name.split("/"))  # macOS left ._ files in it
    return name if top == TOP and not hidden and (rest in LISTS or rest.startswith("images/")) else None


def _place_mask(name: str) -> str | None:
    return name if name.startswith(f"{MASK_FOLDER}/") and "/." not in name else None


def _box(values: list[str]) -> np.ndarray:
    """``x y w h`` of the list to half-open xyxy.

    wsolevaluation writes ``x, y, x + w, y + h`` as whole numbers and reads them as inclusive corners, so the box is
    one pixel wider than ``w``; the benchmark's numbers are kept.
    """
    x, y, w, h = (float(v) for v in values)
    return np.array([[int(x), int(y), int(x + w) + 1, int(y + h) + 1]], dtype=np.float64)


def _table(path: Path, values: int) -> dict[str, list[str]]:
    """Lines of a key and values, in order; four values are numbers."""
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(path, "replace"), 1):
        key, *rest = line.split() or [""]
        try:
            good = len(rest) == values and (values != BOX or all(NUMBER.fullmatch(v) and bounded(v) >= 0 for v in rest))
        except ValueError:
            good = False
        if not good:
            msg = f"'{path}', line {number}: expected a number and {values} more, got {shown(line)}"
            raise DataError(msg)
        rows[key] = rest
    return rows
