"""Reader of ImageNetV2 threshold-0.7 with wsolevaluation's boxes, which is the train-fullsup split of ILSVRC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from famcli.data.dataset import Sample, open_dataset
from famcli.data.images import is_image
from famcli.data.metadata import boxes_by_name, read_lines
from famcli.data.public.source import Contents, Source
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError, FamError

ARCHIVE, BOXES = "imagenetv2-threshold0.7.tar.gz", "metadata/ILSVRC/val/localization.txt"
TREES = ("val2", "imagenetv2-threshold0.7-format-val", "imagenetv2-threshold0.7", ".", "ILSVRC/val2")
MAPPING = ("metadata/ILSVRC/val/mapping.txt", "mapping.txt")
INTO, IMAGES, CLASSES = "val2", 10_000, 1_000  # wsolevaluation's lists say val2/CLASS/IMAGE


def read_imagenetv2(source: Source) -> Contents:
    """Find and read ImageNetV2: its folders 0 to 999 are class indices in the order of the sorted WordNet ids."""
    lists = source.benchmark_list(BOXES, "localization.txt", "metadata/val/localization.txt")
    tree = source.tree(ARCHIVE, INTO, *TREES, holding="0/*")
    lacking = [] if tree or source.archive(ARCHIVE) else [f"{ARCHIVE}, or the folder with 0/ to 999/ extracted from it"]
    if lists is None:
        lacking.append(f"the boxes, {BOXES} ('fam data download imagenetv2' gets them)")
    if lacking or lists is None:
        raise source.missing(*lacking)
    if tree is None:
        source.extract(ARCHIVE, _place, INTO, IMAGES)
        tree = source.out / INTO
    tree = tree.absolute()
    folders = sorted((int(p.name), p) for p in tree.iterdir() if p.name.isdecimal() and p.is_dir())  # 10 after 9
    wrong = [p.name for label, p in folders if label >= CLASSES]
    if wrong or not folders:
        msg = f"'{tree}' should have folders 0 to {CLASSES - 1}, one for each class; it has {wrong[:3] or 'none'}"
        raise DataError(msg)
    files = [
        (f"{folder.name}/{p.name}", label)
        for label, folder in folders
        for p in sorted(folder.iterdir())
        if is_image(p.name)
    ]
    boxes = _by_file(boxes_by_name(lists), [name for name, _ in files], source, lists)
    samples = [Sample(f"{tree.name}/{name}", tree / name, label, boxes[name]) for name, label in files]
    return Contents(
        images=tree.parent,
        class_names=_class_names(source),
        splits={"train-fullsup": source.sized(samples, "sizes of train-fullsup", len(samples))},
        watched=[lists, tree, *(folder for _, folder in folders)],
    )


def _place(name: str) -> str | None:
    folder, _, file = name.rpartition("/")
    folder = folder.rpartition("/")[2]
    return f"{INTO}/{folder}/{file}" if folder.isdecimal() and not file.startswith(".") else None


def _by_file(boxes: Mapping[str, FloatArray], names: list[str], source: Source, lists: Path) -> dict[str, FloatArray]:
    """Boxes by ``CLASS/IMAGE``; wsolevaluation lists the old names, such as ``0/7.jpeg``, beside the present ones."""
    path = source.first(*MAPPING)
    pairs = [line.split(", ") for _, line in read_lines(path)] if path else []
    mapping = {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
    mapping |= {new: old for old, new in mapping.items()}
    by_name = {"/".join(name.split("/")[-2:]): array for name, array in boxes.items()}
    found = {name: by_name.get(name, by_name.get(mapping.get(name, ""))) for name in names}
    lost = [name for name, array in found.items() if array is None]
    if lost:
        raise DataError(
            f"'{lists}' has no box for {len(lost)} of {len(names)} images, such as '{lost[0]}'. ImageNetV2 renamed its "
            f"files in 2020: get the present lists with 'fam data download imagenetv2', or put wsolevaluation's "
            f"{MAPPING[0]} beside them"
        )
    return {name: array for name, array in found.items() if array is not None}


def _class_names(source: Source) -> tuple[str, ...]:
    """The archive has none; those of ILSVRC if it is prepared beside."""
    try:
        names = open_dataset(source.out.absolute().parent / "ilsvrc").class_names
    except FamError:
        return ()
    return names if len(names) == CLASSES else ()
