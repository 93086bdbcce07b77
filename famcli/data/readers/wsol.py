"""Reader of wsolevaluation's metadata, which may lie apart from the images."""

from __future__ import annotations

from pathlib import Path

from famcli.data.metadata import IDS, METADATA, class_names_in, read_split, split_folder, splits_of
from famcli.data.readers import OwnData, default_split, find_images
from famcli.data.sample import Sample, find_split
from famcli_models.errors import DataError


def detect(source: Path) -> bool:
    """A folder with ``image_ids.txt``, or with splits that have it, itself or in its ``metadata``."""
    return source.is_dir() and bool((source / IDS).exists() or _home(source))


def _home(source: Path) -> Path | None:
    """The folder whose folders are splits."""
    return next((folder for folder in (source, source / METADATA) if splits_of(folder)), None)


def read(source: Path, images: Path | None, split: str | None) -> OwnData:
    """Read splits and boxes: of a dataset folder, its ``metadata``, a folder of splits (``metadata/CUB``), or a split.

    Images are looked for around it if their folder is not given.
    """
    home = _home(source)
    if home is None and not (source / IDS).exists():
        deeper = sorted(p.parent.parent for p in source.glob(f"*/*/{IDS}"))
        hint = f": give {deeper[0]}" if deeper else ""
        raise DataError(f"'{source}' has no folder of a split with {IDS}{hint}")
    folders = [source] if home is None else [f for s in splits_of(home) if (f := split_folder(home, s))]
    remarks: list[str] = []
    root = images
    splits: dict[str, list[Sample]] = {}
    for folder in folders:
        samples = read_split(folder, root or source, with_boxes=True, boxes_optional=True)
        if root is None:
            above = [folder.parent, folder.parent.parent, folder.parent.parent.parent]
            places = [*above, *(a / "images" for a in above), *(a / "dataset" / folder.parent.name for a in above)]
            root = find_images([s.name for s in samples], places)
            if root is None:
                root = source
                remarks.append(f"no image of {folder} was found near it: give their folder with --images")
            if root != source:
                samples = read_split(folder, root, with_boxes=True, boxes_optional=True)
        name = folder.name if home is not None else (split or default_split(samples))
        splits[find_split(folder.name) or name] = samples
    root = root or source
    near = (source, root, *((home, home.parent) if home else ()))
    names = next((found for place in near if (found := class_names_in(place))), ())
    return OwnData(names, splits, root, "wsol", tuple(remarks))
