"""Reader of CUB-200-2011 (its train-weaksup and test splits) and of CUBV2, which is its train-fullsup split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from famcli.data.dataset import Sample
from famcli.data.metadata import boxes_by_name, read_lines
from famcli.data.public.source import Contents, Source
from famcli.data.sample import NO_BOXES, bounded
from famcli_models.errors import DataError, shown

ARCHIVE, MASKS = "CUB_200_2011.tgz", "segmentations.tgz"
TOP, MASK_FOLDER = "CUB_200_2011", "segmentations"
LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")
IMAGES = 11_788
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
V2_ARCHIVE, V2_BOXES, V2_INTO = "CUBV2.tar", "metadata/CUB/val/localization.txt", "images"
V2_TREES = (".", "CUBV2", "CUB", "dataset/CUB", "images", "CUB_200_2011/images")
CLASS = re.compile(r"([0-9]{3})\.(.+)")  # 001.Black_footed_Albatross


def read_cub(source: Source) -> Contents:
    """Find and read CUB.

    The boxes of the training images are left out: training with them would not be weakly supervised, and nothing
    here should be able to use them by mistake.
    """
    top = source.tree(ARCHIVE, TOP, TOP, ".", holding="images.txt")
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
                yield Sample(name, top / "images" / name, label, NO_BOXES if training else _box(boxes[number]))

    train = sum(is_train[number][0] == "1" for number in names)
    return Contents(
        images=top / "images",
        class_names=tuple(re.sub(r"^[0-9]+\.", "", name).replace("_", " ") for (name,) in classes.values()),
        splits={
            "train-weaksup": source.sized(samples(training=True), "sizes of train-weaksup", train),
            "test": source.sized(samples(training=False), "sizes of test", len(names) - train),
        },
        watched=[*(top / file for file in LISTS), top / "images", *sorted((top / "images").iterdir()), *masks],
    )


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


def _table(path: Path, numbers: int = 0) -> dict[str, list[str]]:
    """Lines of a key and a value, or of a key and some numbers, in order."""
    rows: dict[str, list[str]] = {}
    for line_number, line in read_lines(path, "replace"):
        key, *rest = line.split()
        try:
            good = len(rest) == (numbers or 1)
            good = good and (not numbers or all(NUMBER.fullmatch(v) and bounded(v) >= 0 for v in rest))
        except ValueError:
            good = False
        if not good:
            msg = f"'{path}', line {line_number}: expected a number and {numbers or 1} more, got {shown(line)}"
            raise DataError(msg)
        rows[key] = rest
    return rows


def read_cubv2(source: Source) -> Contents:
    """Find and read CUBV2, five photographs a class collected by wsolevaluation; its list of boxes lists its images.

    The tree may also hold CUB's own images, as wsolevaluation extracts both to one folder.
    """
    lists = source.benchmark_list(V2_BOXES, "localization.txt", "metadata/val/localization.txt")
    boxes = boxes_by_name(lists) if lists else {}
    first = next(iter(boxes), "")
    tree = source.tree(V2_ARCHIVE, V2_INTO, *V2_TREES, holding=first) if first else None
    lacking = [] if tree or source.archive(V2_ARCHIVE) else [f"{V2_ARCHIVE}, or the folder of its images by class"]
    if not lists:
        lacking.append(f"the boxes, {V2_BOXES} ('fam data download cubv2' gets them)")
    if lacking or not lists:
        raise source.missing(*lacking)
    if tree is None:
        source.extract(V2_ARCHIVE, _place_v2, V2_INTO, len(boxes))
        tree = source.out / V2_INTO
    samples: list[Sample] = []
    names: dict[int, str] = {}
    for name, array in boxes.items():
        match = CLASS.fullmatch(name.partition("/")[0])
        if match is None:
            raise DataError(f"'{lists}': '{name}' is not CLASS/IMAGE with a class such as 001.Black_footed_Albatross")
        names[int(match[1])] = match[2].replace("_", " ")
        samples.append(Sample(name, tree / name, int(match[1]) - 1, array))
    return Contents(
        images=tree,
        class_names=tuple(names[i] for i in sorted(names)) if sorted(names) == list(range(1, len(names) + 1)) else (),
        splits={"train-fullsup": source.sized(samples, "sizes of train-fullsup", len(samples))},
        watched=[lists, tree, *(tree / folder for folder in sorted({name.partition("/")[0] for name in boxes}))],
    )


def _place_v2(name: str) -> str | None:
    folder, _, file = name.rpartition("/")
    folder = folder.rpartition("/")[2]
    return f"{V2_INTO}/{folder}/{file}" if CLASS.fullmatch(folder) and not file.startswith(".") else None
