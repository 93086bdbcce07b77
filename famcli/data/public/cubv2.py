"""CUBV2: five photographs a class, collected and boxed by wsolevaluation, the train-fullsup of CUB."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from famcli.data.dataset import Sample
from famcli.data.metadata import boxes_by_name
from famcli.data.public.source import Contents, Source
from famcli_models.errors import DataError

ARCHIVE, BOXES = "CUBV2.tar", "metadata/CUB/val/localization.txt"
CLASS = re.compile(r"([0-9]{3})\.(.+)")  # 001.Black_footed_Albatross
TREES = (".", "CUBV2", "CUB", "dataset/CUB", "images", "CUB_200_2011/images")
IMAGES = "images"


def read_cubv2(source: Source) -> Contents:
    """Find and read CUBV2; its list of boxes is its list of images.

    The tree may also hold CUB's own images, as wsolevaluation extracts both to one folder.

    Raises:
        DataError: Something is missing or damaged.
    """
    lists = source.first(BOXES, "localization.txt", "metadata/val/localization.txt")
    boxes = boxes_by_name(lists) if lists else {}
    tree = _tree(source, boxes)
    lacking = [] if tree or source.archive(ARCHIVE) else [f"{ARCHIVE}, or the folder of its images by class"]
    if not lists:
        lacking.append(f"the boxes, {BOXES} ('fam data download cubv2' gets them)")
    if lacking or not lists:
        raise source.missing(*lacking)
    if tree is None:
        source.extract(ARCHIVE, _place, IMAGES, len(boxes))
        tree = source.out / IMAGES
    if BOXES.endswith(lists.name) and (source.folder / BOXES) == lists:
        source.archive(BOXES)  # says that it is not pinned
    samples = []
    for name, array in boxes.items():
        match = CLASS.fullmatch(name.partition("/")[0])
        if match is None:
            msg = f"'{lists}': '{name}' is not CLASS/IMAGE with a class such as 001.Black_footed_Albatross"
            raise DataError(msg)
        samples.append(Sample(name, tree / name, int(match[1]) - 1, array))
    names = {int(match[1]): match[2].replace("_", " ") for match in map(CLASS.fullmatch, _classes(boxes)) if match}
    return Contents(
        images=tree,
        class_names=tuple(names[i] for i in sorted(names)) if sorted(names) == list(range(1, len(names) + 1)) else (),
        splits={"train-fullsup": source.sized(samples, "sizes of train-fullsup", len(samples))},
        watched=[lists, tree, *(tree / name for name in _classes(boxes))],
    )


def _classes(names: Iterable[str]) -> list[str]:
    return sorted({name.partition("/")[0] for name in names})


def _tree(source: Source, boxes: Iterable[str]) -> Path | None:
    name = next(iter(boxes), None)
    found = source.first(*TREES, holding=name) if name else None
    ours = found is not None and found.absolute() == (source.out / IMAGES).absolute()
    return None if ours and (source.folder / ARCHIVE).is_file() else found


def _place(name: str) -> str | None:
    folder, _, file = name.rpartition("/")
    folder = folder.rpartition("/")[2]
    return f"{IMAGES}/{folder}/{file}" if CLASS.fullmatch(folder) and not file.startswith(".") else None
