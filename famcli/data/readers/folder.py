"""Images in a folder for each class, ``cat/1.jpg``, with or without folders of splits around, ``train/cat/1.jpg``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from famcli.data.listing import list_images
from famcli.data.readers.own import OwnData, sorted_classes
from famcli.data.sample import NO_BOXES, TRAIN, Sample, find_split, in_order
from famcli_models.errors import DataError


def detect(source: Path) -> bool:
    """Any folder may be one."""
    return source.is_dir()


def read(source: Path, images: Path | None, split: str | None) -> OwnData:
    """Read a folder of folders. The class is the first folder's name, whatever lies deeper; there are no boxes.

    Folders may be symbolic links.

    Args:
        source: The folder.
        images: Not used: the images are in the folder itself.
        split: Split of the images if the folders tell none; train-weaksup if not given.

    Raises:
        DataError: There is no image in a folder of a class.
    """
    del images
    listing = list_images([str(source)], follow_links=True)
    parts = [PurePosixPath(name).parts for name in listing.names]
    remarks: list[str] = []
    if _is_split(parts):
        # train/cat/1.jpg; a folder beside train/ is no class
        placed = [(find_split(p[0]), p[1], n) for p, n in zip(parts, listing.names, strict=True) if len(p) > 2]
        others = Counter(p[0] for p in parts if len(p) > 1 and not find_split(p[0]))
        if others:
            names = ", ".join(f"{name}/ ({count})" for name, count in sorted(others.items()))
            remarks.append(f"'{source}' has folders of splits; images of other folders were left out: {names}")
    else:
        placed = [(split or TRAIN, p[0], n) for p, n in zip(parts, listing.names, strict=True) if len(p) > 1]
    loose = sum(len(p) == 1 for p in parts)
    if loose:
        remarks.append(f"'{source}': {loose} images in no folder of a class were left out")
    found = [(where, class_name, name) for where, class_name, name in placed if where is not None]
    if not found:
        msg = f"'{source}' has images, but none in a folder of its class: expected {source}/CLASS/IMAGE"
        raise DataError(msg)
    classes = sorted_classes(class_name for _, class_name, _ in found)
    labels = {name: i for i, name in enumerate(classes)}
    splits: dict[str, list[Sample]] = {name: [] for name in in_order(where for where, _, _ in found)}
    for where, class_name, name in found:
        splits[where].append(Sample(name, listing.path(name), labels[class_name], NO_BOXES))
    return OwnData(classes, splits, listing.root, "folder", tuple(remarks))


def _is_split(parts: list[tuple[str, ...]]) -> bool:
    """Folders named as splits hold folders, not images: they are splits, not classes of that name."""
    named = [p for p in parts if len(p) > 1 and find_split(p[0])]
    return bool(named) and all(len(p) > 2 for p in named)
