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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from famcli.data.metadata import read_json
from famcli.data.readers import OwnData, boxes_from, default_split, find_images, main_class, portable
from famcli.data.sample import (
    BENCHMARK_NAMES,
    MAX_PIXEL,
    NO_BOXES,
    SPLITS,
    Sample,
    bounded,
    find_split,
    in_order,
    split_name,
)
from famcli.data.truth import area_fault
from famcli_models.boxes import xyxy_to_xywh
from famcli_models.errors import DataError, short, shown
from famcli_models.files import open_regular

LABEL_KEY = "fam_category_id"
DIGITS = re.compile(r"0|-?[1-9][0-9]{0,17}")
Id = int | str  # of an image or a category: only which are equal matters


class CocoImage(NamedTuple):
    """An entry of ``images``."""

    id: Id
    name: str  # relative to the folder of the images
    size_hw: tuple[int, int] | None  # (h, w) if stated
    category: Any  # its id, if this program noted it


class CocoObject(NamedTuple):
    """An entry of ``annotations``."""

    image: Id
    category: Id
    box: list[float]  # half-open corners
    crowd: bool
    segmentation: Any  # as it stands


class CocoFile(NamedTuple):
    """A parsed dataset file; ``annotations`` are the entries as they stand, which :meth:`objects` checks."""

    path: Path
    categories: Mapping[Id, str]  # name by id, in the order of ids, numbers before texts
    images: Sequence[CocoImage]
    annotations: Sequence[Any]
    marks: Mapping[str, Any]  # what this program noted when it wrote the file

    @property
    def ids(self) -> dict[str, Id]:
        """Ids of images by name."""
        return {image.name: image.id for image in self.images}

    @classmethod
    def load(cls, path: Path) -> CocoFile:
        """Parse a file; an entry that cannot be used, or that another one contradicts, is named."""
        data = read_json(path)
        data = data if isinstance(data, dict) else {}
        annotations = data.get("annotations") or []
        if not all(isinstance(entries, list) for entries in (data.get("images"), data.get("categories"), annotations)):
            raise DataError(f"'{path}' is not a COCO dataset file; it needs lists of images, annotations, categories")
        info = data.get("info")
        noted = info.get("fam") if isinstance(info, dict) else None
        marks = noted if isinstance(noted, dict) else {}
        images = read_images(path, data["images"], lambda _: bool(marks))
        return cls(path, read_categories(path, data["categories"]), images, annotations, marks)

    def objects(self) -> Iterator[CocoObject]:
        """The annotations, each of an image and a category of the file; one that cannot be used is named."""
        images = {image.id for image in self.images}
        for number, entry in enumerate(self.annotations):
            where = f"'{self.path}', annotations[{number}]"
            if not isinstance(entry, dict):
                raise DataError(f"{where} is {shown(entry)}; image_id, category_id and bbox are needed")
            image, category = identifier(entry.get("image_id")), identifier(entry.get("category_id"))
            if image is None or image not in images:
                which = f"image {shown(entry.get('image_id'))}, which the file does not list"
                raise DataError(f"{where} belongs to {which}")
            if category is None or category not in self.categories:
                which = f"category_id {shown(entry.get('category_id'))}, which is not in categories"
                raise DataError(f"{where} has {which}")
            crowd: Any = entry.get("iscrowd")
            bbox: Any = entry.get("bbox")
            if crowd is not None and (not isinstance(crowd, int | float) or crowd not in (0, 1)):
                raise DataError(f"{where} has iscrowd {shown(crowd)}; 0 or 1 is needed")
            if not crowd and (fault := bbox_fault(bbox, empty=False)):  # boxes of crowds are left out
                raise DataError(f"{where} {fault}")
            box = [] if crowd else [bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]]
            yield CocoObject(image, category, box, bool(crowd), entry.get("segmentation"))


def identifier(value: object) -> Id | None:
    """An id as it is compared: a whole number, as such or in digits, or another text; ``None`` if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value:
        return int(value) if DIGITS.fullmatch(value) else value
    return value if isinstance(value, int) else None


def bbox_fault(bbox: Any, *, empty: bool = True) -> str:
    """What is wrong with a ``bbox``, in words behind the entry; nothing if it is a box, which may be ``empty``."""
    good = isinstance(bbox, list) and len(bbox) == 4
    if not good or not all(type(side) in {int, float} and abs(side) <= MAX_PIXEL for side in bbox):
        return f"has the bbox {shown(bbox)}; four finite numbers [x, y, width, height] are needed"
    fault = area_fault(0, 0, bbox[2], bbox[3])
    return f"has the bbox {shown(bbox)}, {fault}" if min(bbox[2:]) < 0 or (fault and not empty) else ""


def _stated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """``(h, w)`` that an entry of ``images`` states, if it does."""
    if entry.get("height") is None and entry.get("width") is None:
        return None
    height, width = (bounded(entry.get(side)) for side in ("height", "width"))
    if min(height, width) < 0 or height % 1 or width % 1:
        raise ValueError(f"it is {width:g}x{height:g}")
    return (int(height), int(width)) if height and width else None  # some programs write 0 for what they do not know


def _named(entry: Any, key: str, where: str) -> tuple[Id, str]:
    """The id and the name of an entry."""
    number, name = (identifier(entry.get("id")), entry.get(key)) if isinstance(entry, dict) else (None, None)
    if number is None or not isinstance(name, str) or not name:
        raise DataError(f"{where} is {shown(entry)}; an id, a whole number or a text, and a {key} are needed")
    try:
        name.encode("utf-8", "surrogateescape")  # odd bytes of file names, and no other halves of characters
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has the {key} {shown(name)}, which is no text that can be written") from error
    return number, name


def read_categories(path: Path, entries: Sequence[Any]) -> dict[Id, str]:
    """Names of categories by id, in the order of ids, numbers before texts."""
    categories: dict[Id, str] = {}
    for number, entry in enumerate(entries):
        where = f"'{path}', categories[{number}]"
        category, name = _named(entry, "name", where)
        if category in categories:
            both = f"'{short(categories[category])}' and '{short(name)}'"
            raise DataError(f"{where} has the category id {shown(category)} a second time: it is of {both}")
        categories[category] = name
    return dict(sorted(categories.items(), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def read_images(path: Path, entries: Sequence[Any], is_literal: Callable[[str], bool]) -> list[CocoImage]:
    """Images of a file, each once; names that are not to be taken literally may be those of a Windows program."""
    images: list[CocoImage] = []
    known: dict[Id, str] = {}
    places: dict[str, Id] = {}
    for number, entry in enumerate(entries):
        where = f"'{path}', images[{number}]"
        image, name = _named(entry, "file_name", where)
        name = name if is_literal(name) else portable(name)
        if image in known:
            both = f"'{short(known[image])}' and '{short(name)}'"
            raise DataError(f"{where} has the image id {shown(image)} a second time: it is of {both}")
        if name in places:
            ids = f"{shown(places[name])} and {shown(image)}"
            raise DataError(f"{where} is '{short(name)}' a second time: the file has the ids {ids}")
        known[image], places[name] = name, image
        try:
            size_hw = _stated_size(entry)
        except ValueError as error:
            raise DataError(f"{where} has a width or height that is no whole number: {error}") from error
        images.append(CocoImage(image, name, size_hw, entry.get(LABEL_KEY)))
    return images


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
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
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
    return find_images([image.name for image in file.images], folders)


def _samples(file: CocoFile, root: Path, remarks: list[str]) -> list[Sample]:
    found: dict[Id, list[CocoObject]] = {}
    crowds = bare = others = 0
    for item in file.objects():
        crowds += item.crowd
        if not item.crowd:
            found.setdefault(item.image, []).append(item)
    labels = {category: label for label, category in enumerate(file.categories)}
    samples: list[Sample] = []
    for number, image in enumerate(file.images):
        objects, category = found.get(image.id, []), image.category
        if category is None and not objects:
            bare += 1
            continue
        if category is None:
            in_id_order = sorted(objects, key=lambda item: labels[item.category])  # of equal areas the first id wins
            category = main_class([o.category for o in in_id_order], boxes_from([o.box for o in in_id_order]))
        elif (category := identifier(category)) not in labels:
            noted = f"{LABEL_KEY} {shown(image.category)}, which is not in categories"
            raise DataError(f"'{file.path}', images[{number}] has {noted}")
        kept = [item.box for item in objects if item.category == category]
        others += len(objects) - len(kept)
        xyxy = boxes_from(kept) if kept else NO_BOXES
        samples.append(Sample(image.name, root / image.name, labels[category], xyxy, image.size_hw))
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
    categories: Iterable[tuple[Id, str]],
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
        yield separator + json.dumps(value, ensure_ascii=False, allow_nan=False)
        separator = ",\n"


def image_entry(
    number: Id, name: str, size_hw: tuple[int, int] | None, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An entry of ``images``; a size that is not known is left out."""
    size = {} if size_hw is None else {"width": size_hw[1], "height": size_hw[0]}
    return {"id": number, "file_name": name, **size, **(more or {})}


def annotation_entry(number: int, image: Id, category: Id, xywh: Sequence[float], **more: Any) -> dict[str, Any]:
    """An entry of ``annotations``; the empty segmentation is what annotation tools take for "a rectangle"."""
    place = {"id": number, "image_id": image, "category_id": category, "bbox": list(xywh)}
    return {**place, "area": xywh[2] * xywh[3], "iscrowd": 0, "segmentation": [], **more}
