"""Reader and writer of COCO dataset files.

Boxes are ``[x, y, width, height]`` in 0-based float pixels, exclusive of the far edge. Ids that are written start at 1,
because pycocotools takes an annotation with id 0 for unmatched. What COCO has no place for is kept where other programs
pass over it: an image's label in its ``fam_category_id``, the split and whether classes have names in ``info.fam``.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from famcli.data.readers import OwnData, boxes_from, default_split, find_images, main_class
from famcli.data.sample import BENCHMARK_NAMES, NO_BOXES, SPLITS, Sample, bounded, find_split, in_order, split_name
from famcli_models.boxes import xywh_to_xyxy, xyxy_to_xywh
from famcli_models.errors import DataError, shown

LABEL_KEY = "fam_category_id"


class CocoFile(NamedTuple):
    """A parsed dataset file; ``images`` and ``annotations`` are the entries as they stand."""

    path: Path
    ids: Mapping[str, int]  # by file name
    categories: Mapping[int, str]  # name by id, in the order of ids
    images: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    marks: Mapping[str, Any]  # what this program noted when it wrote the file

    @classmethod
    def load(cls, path: Path) -> CocoFile:
        """Parse a file."""
        try:
            data = json.loads(path.read_text(encoding="utf-8-sig"))
            ids = {str(image["file_name"]): int(image["id"]) for image in data["images"]}
            categories = {int(c["id"]): str(c["name"]) for c in data["categories"]}
            info = data.get("info")
            marks = info.get("fam") if isinstance(info, dict) else None
            annotations = list(data.get("annotations") or [])
        except (OSError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            why = f"({type(error).__name__}: {error}); it needs images and categories"
            raise DataError(f"'{path}' is not a COCO dataset file {why}") from error
        marks = marks if isinstance(marks, dict) else {}
        return cls(path, ids, dict(sorted(categories.items())), data["images"], annotations, marks)


def detect(source: Path) -> bool:
    """A JSON file with images and categories, or a folder that has some."""
    return bool(dataset_files(source))


def dataset_files(source: Path) -> list[Path]:
    """COCO dataset files in a folder, where they usually lie; of COCO's own files the ``instances``."""
    if source.is_file():
        return [source] if source.suffix.lower() == ".json" and _is_coco(source) else []
    found = sorted(p for pattern in ("*.json", "*/*.json") for p in source.glob(pattern) if _is_coco(p))
    instances = [p for p in found if p.name.startswith("instances")]
    return instances or found


def _is_coco(path: Path) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b'"images"') >= 0 and content.find(b'"categories"') >= 0
    except (OSError, ValueError):  # unreadable or empty
        return False


def read(source: Path, images: Path | None, split: str | None) -> OwnData:
    """Read a dataset file, or a folder with one for each split; images are looked for beside it if not given.

    An image's label is the category whose boxes cover most, in the order of ids; others' boxes and crowds are left out.
    """
    files = [CocoFile.load(path) for path in dataset_files(source) or [source]]
    if any(file.categories != files[0].categories for file in files):
        listed = ", ".join(file.path.name for file in files)
        raise DataError(f"'{source}': the files {listed} have different categories; give one")
    roots: dict[str, tuple[Path, list[Sample]]] = {}
    paths: dict[str, Path] = {}
    remarks: list[str] = []
    for file in files:
        root = images or image_folder(file)
        if root is None:
            remarks.append(f"no image of {file.path} was found near it: give their folder with --images")
        samples = _samples(file, root or file.path.parent, remarks)
        name = _split_of(file) or split or default_split(samples)
        if name in roots:
            both = f"'{paths[name]}' and '{file.path}' are both the split {name}"
            raise DataError(f"{both}; give one of them, or put it in a name")
        roots[name], paths[name] = (root or file.path.parent, samples), file.path
    folders = {folder.absolute() for folder, _ in roots.values()}
    if len(folders) == 1:
        root, splits = roots[name][0], {split: samples for split, (_, samples) in roots.items()}
    else:  # names of splits with folders of their own get these in front
        root = Path(os.path.commonpath(folders))
        splits = {
            split: [replace(s, name=(folder.absolute().relative_to(root) / s.name).as_posix()) for s in samples]
            for split, (folder, samples) in roots.items()
        }
    named = all(file.marks.get("named", True) for file in files)
    names = tuple(files[0].categories.values()) if named else ()
    return OwnData(names, {s: splits[s] for s in in_order(splits)}, root, "coco", tuple(remarks))


def _split_of(file: CocoFile) -> str | None:
    """The split that a file notes, or that its name, or its folder's, tells."""
    noted = file.marks.get("split")
    stem = file.path.stem.lower()
    if isinstance(noted, str):
        return split_name(noted)
    words = [*(s for s in SPLITS if s in stem), *re.split(r"[^a-z]+", stem), file.path.absolute().parent.name]
    return next((found for word in words if (found := find_split(word))), None)


def image_folder(file: CocoFile) -> Path | None:
    """The folder that the file names are relative to, if an image is found near the file."""
    home, above = file.path.parent, file.path.parent.parent
    folders = [home, home / "images", above, above / "images"]
    word = next((w for w in re.split(r"[_.]", file.path.stem)[::-1] if find_split(re.sub(r"\d+$", "", w))), "")
    folders += [folder / word for folder in folders] if word else []
    return find_images([str(i["file_name"]) for i in file.images], folders)


def _samples(file: CocoFile, root: Path, remarks: list[str]) -> list[Sample]:
    boxes, crowds = _boxes(file)
    labels = {category: i for i, category in enumerate(file.categories)}
    samples: list[Sample] = []
    known: set[int] = set()
    bare = others = 0
    for number, entry in enumerate(file.images):
        where = f"{file.path}, images[{number}]"
        name, image = str(entry["file_name"]), int(entry["id"])
        if image in known:
            raise DataError(f"{where}: the image id {image} occurs twice")
        known.add(image)
        found = boxes.pop(image, [])
        category = _category(entry, found, file, where)
        if category is None:
            bare += 1
            continue
        kept = [box for c, box in found if c == category]
        others += len(found) - len(kept)
        xyxy = boxes_from(kept) if kept else NO_BOXES
        samples.append(Sample(name, root / name, labels[category], xyxy, _size(entry, where)))
    if boxes:
        image = next(iter(boxes))
        raise DataError(f"{file.path}: an annotation belongs to image {image}, which the file does not list")
    for count, what in (
        (crowds, "annotations of crowds (iscrowd) were left out"),
        (others, "boxes of other categories than the image's main one were left out"),
        (bare, "images without any annotation have no label and were left out"),
    ):
        if count:
            remarks.append(f"{file.path}: {count} {what}")
    if not samples:
        raise DataError(f"{file.path}: no image has a label: no annotations")
    return samples


def _boxes(file: CocoFile) -> tuple[dict[int, list[tuple[int, list[float]]]], int]:
    """Category and half-open corners of each image's boxes, and the number of crowds, which are left out."""
    boxes: dict[int, list[tuple[int, list[float]]]] = {}
    crowds = 0
    for number, entry in enumerate(file.annotations):
        where = f"{file.path}, annotations[{number}]"
        try:
            image, category, xywh = int(entry["image_id"]), int(entry["category_id"]), entry["bbox"]
            crowd = bool(entry.get("iscrowd", 0))
            values = [bounded(v) for v in xywh]
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            needs = f"needs image_id, category_id and bbox [x, y, width, height] ({type(error).__name__}: {error})"
            raise DataError(f"{where}: {needs}") from error
        if len(values) != 4:
            raise DataError(f"{where}: bbox is {shown(xywh)}, not four numbers [x, y, width, height]")
        if category not in file.categories:
            raise DataError(f"{where}: category_id {category} is not in categories")
        if crowd:
            crowds += 1
        else:
            boxes.setdefault(image, []).append((category, xywh_to_xyxy(values)[0].tolist()))
    return boxes, crowds


def _category(entry: Mapping[str, Any], boxes: list[tuple[int, list[float]]], file: CocoFile, where: str) -> int | None:
    noted = entry.get(LABEL_KEY)
    if noted is None:
        if not boxes:
            return None
        in_id_order = sorted(boxes, key=lambda pair: pair[0])  # of equal areas the first id wins
        return int(main_class([str(c) for c, _ in in_id_order], boxes_from([b for _, b in in_id_order])))
    if not isinstance(noted, int) or noted not in file.categories:
        raise DataError(f"{where}: {LABEL_KEY} {noted!r} is not in categories")
    return noted


def _size(entry: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    if entry.get("width") is None or entry.get("height") is None:
        return None
    try:
        return int(bounded(entry["height"])), int(bounded(entry["width"]))
    except ValueError as error:
        raise DataError(f"{where}: width and height must be whole numbers: {error}") from error


def file_name(split: str) -> str:
    """Name of the dataset file of a split."""
    return f"instances_{BENCHMARK_NAMES.get(split, split)}.json"


def split_json(samples: Sequence[Sample], class_names: Sequence[str], num_classes: int, split: str) -> Iterator[str]:
    """A dataset file of one split, piece by piece; without class names the labels stand for them."""
    names = list(class_names) or [str(label) for label in range(num_classes)]
    description = "image labels and boxes, written by fam data convert"
    info = {"description": description, "fam": {"split": split, "named": bool(class_names)}}

    def annotations() -> Iterator[dict[str, Any]]:
        number = 0
        for image, sample in enumerate(samples, 1):
            for row in xyxy_to_xywh(sample.boxes).tolist():
                number += 1
                xywh = [int(v) if v == int(v) else v for v in row]  # whole numbers without a decimal point
                yield annotation_entry(number, image, sample.label + 1, xywh)

    images = (image_entry(i, s.name, s.size_hw, {LABEL_KEY: s.label + 1}) for i, s in enumerate(samples, 1))
    return document(info, images, annotations(), enumerate(names, 1))


def document(
    info: Mapping[str, Any],
    images: Iterable[Mapping[str, Any]],
    annotations: Iterable[Mapping[str, Any]],
    categories: Iterable[tuple[int, str]],
) -> Iterator[str]:
    """A dataset file piece by piece, so that memory does not grow with the number of images."""
    yield f'{{"info": {json.dumps(dict(info), ensure_ascii=False)},\n"licenses": [],\n"images": ['
    yield from joined(images)
    yield '],\n"annotations": ['
    yield from joined(annotations)
    yield '],\n"categories": ['
    yield from joined({"id": i, "name": name, "supercategory": ""} for i, name in categories)
    yield "]}\n"


def joined(objects: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The inside of a JSON list, a line an object."""
    separator = "\n"
    for value in objects:
        yield separator + json.dumps(value, ensure_ascii=False)
        separator = ",\n"


def image_entry(
    number: int, name: str, size_hw: tuple[int, int] | None, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An entry of ``images``; a size that is not known is left out."""
    size = {} if size_hw is None else {"width": size_hw[1], "height": size_hw[0]}
    return {"id": number, "file_name": name, **size, **(more or {})}


def annotation_entry(number: int, image: int, category: int, xywh: Sequence[float], **more: Any) -> dict[str, Any]:
    """An entry of ``annotations``; the empty segmentation is what annotation tools take for "a rectangle"."""
    place = {"id": number, "image_id": image, "category_id": category, "bbox": list(xywh)}
    return {**place, "area": xywh[2] * xywh[3], "iscrowd": 0, "segmentation": [], **more}
