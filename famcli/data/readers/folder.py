"""Reader of a folder for each class, ``cat/1.jpg``, with or without folders of splits around, ``train/cat/1.jpg``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from famcli.data.listing import list_images
from famcli.data.readers import OwnData, Row, own_data
from famcli.data.sample import find_split
from famcli_models.errors import DataError


def detect(source: Path) -> bool:
    """Any folder may be one."""
    return source.is_dir()


def read(source: Path, images: Path | None, split: str | None) -> OwnData:
    """Read a folder, or link, of images for each class, which is the first folder's name, whatever lies deeper."""
    del images  # they are in the folder itself
    listing = list_images([str(source)], follow_links=True).check_whole()
    parts = [PurePosixPath(name).parts for name in listing.names]
    remarks = [f"'{source}': {remark}" for remark in listing.remarks]
    # Folders named as splits that hold folders, and no images, are splits and not classes of that name.
    named = [p for p in parts if len(p) > 1 and find_split(p[0])]
    if named and all(len(p) > 2 for p in named):
        rows = [Row("/".join(p), find_split(p[0]), [p[1]]) for p in named]
        others = Counter(p[0] for p in parts if len(p) > 1 and not find_split(p[0]))
        if others:
            names = ", ".join(f"{name}/ ({count})" for name, count in sorted(others.items()))
            remarks.append(f"'{source}' has folders of splits; images of other folders were left out: {names}")
    else:
        rows = [Row("/".join(p), split, [p[0]]) for p in parts if len(p) > 1]
    loose = sum(len(p) == 1 for p in parts)
    if loose:
        remarks.append(f"'{source}': {loose} images in no folder of a class were left out")
    if not rows:
        raise DataError(f"'{source}' has images, but none in a folder of its class: expected {source}/CLASS/IMAGE")
    return own_data("folder", rows, Path(listing.root), split, f"'{source}'", remarks)
