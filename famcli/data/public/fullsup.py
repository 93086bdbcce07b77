"""Reader of CUBV2 and of ImageNetV2 threshold-0.7, the train-fullsup splits of CUB and of ILSVRC."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from famcli.data.dataset import Sample, open_dataset
from famcli.data.images import is_image
from famcli.data.metadata import boxes_by_name, read_lines
from famcli.data.public.source import Contents, Source
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError, FamError

CUB_TREES = (".", "CUBV2", "CUB", "dataset/CUB", "images", "CUB_200_2011/images")
CUB_CLASS = re.compile(r"([0-9]{3})\.(.+)")  # 001.Black_footed_Albatross
IMAGENET_TREES = ("val2", "imagenetv2-threshold0.7-format-val", "imagenetv2-threshold0.7", ".", "ILSVRC/val2")
MAPPING = ("metadata/ILSVRC/val/mapping.txt", "mapping.txt")
CLASSES = 1_000


def read_cubv2(source: Source) -> Contents:
    """Find and read CUBV2, five photographs a class collected by wsolevaluation; its list of boxes lists its images.

    The tree may also hold CUB's own images, as wsolevaluation extracts both to one folder.
    """
    what = "the folder of its images by class"
    tree, lists, boxes = _tree_and_boxes(
        source, "images", CUB_TREES, None, what, lambda f: bool(CUB_CLASS.fullmatch(f))
    )
    samples: list[Sample] = []
    names: dict[int, str] = {}
    for name, array in boxes.items():
        match = CUB_CLASS.fullmatch(name.partition("/")[0])
        if match is None:
            raise DataError(f"'{lists}': '{name}' is not CLASS/IMAGE with a class such as 001.Black_footed_Albatross")
        names[int(match[1])] = match[2].replace("_", " ")
        samples.append(Sample(name, tree / name, int(match[1]) - 1, array))
    class_names = tuple(names[i] for i in sorted(names)) if sorted(names) == list(range(1, len(names) + 1)) else ()
    folders = sorted({name.partition("/")[0] for name in boxes})
    return _contents(source, tree, class_names, samples, [lists, tree, *(tree / folder for folder in folders)])


def read_imagenetv2(source: Source) -> Contents:
    """Find and read ImageNetV2: its folders 0 to 999 are class indices in the order of the sorted WordNet ids."""
    what = "the folder with 0/ to 999/ extracted from it"  # into val2, as wsolevaluation's lists say val2/CLASS/IMAGE
    tree, lists, listed = _tree_and_boxes(source, "val2", IMAGENET_TREES, "0/*", what, str.isdecimal)
    tree = tree.absolute()
    folders = sorted((int(p.name), p) for p in tree.iterdir() if p.name.isdecimal() and p.is_dir())  # 10 after 9
    wrong = [p.name for label, p in folders if label >= CLASSES]
    if wrong or not folders:
        found = wrong[:3] or "none"
        raise DataError(f"'{tree}' should have folders 0 to {CLASSES - 1}, one for each class; it has {found}")
    files = {
        f"{folder.name}/{name}": label
        for label, folder in folders
        for name in sorted(p.name for p in folder.iterdir() if is_image(p.name))
    }
    boxes = _by_file(listed, list(files), source, lists)
    samples = [Sample(f"{tree.name}/{name}", tree / name, label, boxes[name]) for name, label in files.items()]
    try:  # the archive has no names of classes; those of ILSVRC if it is prepared beside
        names = open_dataset(source.out.absolute().parent / "ilsvrc").class_names
    except FamError:
        names = ()
    watched = [lists, tree, *(folder for _, folder in folders)]
    return _contents(source, tree.parent, names if len(names) == CLASSES else (), samples, watched)


def _tree_and_boxes(
    source: Source, into: str, trees: tuple[str, ...], holding: str | None, what: str, is_class: Callable[[str], bool]
) -> tuple[Path, Path, dict[str, FloatArray]]:
    """The tree of images by class, extracted if need be, the list of boxes, and these by name.

    The tree is the first of some that holds a file, by default the first that the list names.
    """
    archive, listed = (row.name for row in source.facts.archives)
    lists = source.benchmark_list(listed, "localization.txt", "metadata/val/localization.txt")
    boxes = boxes_by_name(lists) if lists else {}
    holding = holding or next(iter(boxes), None)
    tree = source.tree(archive, into, *trees, holding=holding) if holding else None
    lacking = [] if tree or source.archive(archive) else [f"{archive}, or {what}"]
    if lists is None:
        lacking.append(f"the boxes, {listed} ('fam data download {source.facts.name}' gets them)")
    if lacking or lists is None:
        raise source.missing(*lacking)

    def place(name: str) -> str | None:
        *_, folder, file = ("", *name.split("/"))
        return f"{into}/{folder}/{file}" if is_class(folder) and not file.startswith(".") else None

    if tree is None:
        source.extract(archive, place, into, source.facts.counts["train-fullsup"])
        tree = source.out / into
    return tree, lists, boxes


def _contents(
    source: Source, images: Path, class_names: tuple[str, ...], samples: list[Sample], watched: list[Path]
) -> Contents:
    sized = source.sized(samples, "sizes of train-fullsup", len(samples))
    return Contents(images, class_names, {"train-fullsup": sized}, watched)


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
