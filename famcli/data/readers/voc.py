"""Reader of Pascal VOC: an XML file for each image, with 1-based inclusive corners."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from famcli.data.images import EXTENSIONS
from famcli.data.metadata import read_lines
from famcli.data.readers import OwnData, Row, boxes_from, files_below, own_data, portable
from famcli.data.sample import bounded, find_split
from famcli.data.truth import area_fault
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError, shown
from famcli_models.files import read_regular

ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
MAX_XML_BYTES = 16 * 2**20  # thousands of objects fit into one
CORNERS = ("xmin", "ymin", "xmax", "ymax")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?")


class Annotation(NamedTuple):
    """What one XML file says."""

    file_name: str  # of the image, without a folder; empty if there is none
    size_hw: tuple[int, int] | None  # if stated
    classes: tuple[str, ...]  # of each object
    boxes: FloatArray  # (N, 4) half-open xyxy in original pixels


def detect(source: Path) -> bool:
    """A folder with ``Annotations``, or with an XML file in it or in one of its folders."""
    if not source.is_dir():
        return False
    near = any(any(source.glob(pattern)) for pattern in ("*.xml", "*/*.xml"))
    return near or bool(files_below(source / ANNOTATIONS, ".xml"))


def read(source: Path, images: Path | None, split: str | None) -> OwnData:
    """Read XML files, in ``Annotations`` or beside the images, which are in ``JPEGImages`` or beside them if not given.

    Lists of splits are taken from ``ImageSets/Main``, or else from folders named as splits.
    """
    top = source / ANNOTATIONS if (source / ANNOTATIONS).is_dir() else source
    root = images or (source / IMAGES if (source / IMAGES).is_dir() else source)
    lists = _lists(source)
    rows: list[Row] = []
    bare = 0
    for name in files_below(top, ".xml"):
        path, stem = top / name, name[: -len(".xml")]
        if lists and stem not in lists:
            continue
        annotation = read_xml(path)
        if not annotation.classes:
            bare += 1
            continue
        where = lists.get(stem) or (find_split(stem.partition("/")[0]) if "/" in stem else None)
        image = _image_name(path, top, root, annotation.file_name)
        rows.append(Row(image, where, annotation.classes, annotation.boxes, annotation.size_hw))
    missing = next((stem for stem in lists if not os.path.isfile(top / f"{stem}.xml")), None)
    if missing is not None:
        raise DataError(f"'{source}': {LISTS} names '{missing}', but there is no {top / missing}.xml")
    if not rows:
        raise DataError(f"'{source}': no XML file there names an object")
    remarks = [f"'{source}': {bare} XML files without an object give no label and were left out"] if bare else []
    return own_data("voc", rows, root, split, f"'{source}'", remarks)


def read_xml(path: Path) -> Annotation:
    """Parse one file."""
    return parse_xml(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of an XML file, which are not too many."""
    try:
        return read_regular(path, MAX_XML_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def parse_xml(content: bytes, where: str) -> Annotation:
    """Parse a file's content, named by where it is; document types and entities, which fill the memory, are refused."""
    # A zero byte means UTF-16, in which the words would not be found.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        raise DataError(f"{where}: declares a document type or entities, or is not UTF-8, which no annotation needs")
    try:
        root = ET.fromstring(content)  # noqa: S314  (entities were refused above)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"cannot read {where}: {error}") from error
    if root.tag != "annotation":
        raise DataError(f"{where}: the outermost element is <{root.tag}>, not <annotation>")
    classes, rows = [], []
    for number, item in enumerate(root.iterfind("object"), 1):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{where}, object {number}: no <name>")
        x0, y0, x1, y1 = (_number(item, f"bndbox/{corner}", f"{where}, object {number}") for corner in CORNERS)
        if fault := area_fault(x0 - 1, y0 - 1, x1, y1):
            raise DataError(f"{where}, object {number}: bndbox is {x0:g},{y0:g},{x1:g},{y1:g}, {fault}")
        classes.append(name)
        rows.append((x0 - 1, y0 - 1, x1, y1))
    # Windows tools write C:\photos\1.jpg
    file_name = PurePosixPath(portable((root.findtext("filename") or "").strip())).name
    return Annotation(file_name, _size(root, where), tuple(classes), boxes_from(rows))


def _number(item: ET.Element, key: str, where: str) -> float:
    text = (item.findtext(key) or "").strip()
    if not NUMBER.fullmatch(text):
        raise DataError(f"{where}: {key} is '{shown(text)[1:-1]}', not a number")
    try:
        return bounded(text)
    except ValueError as error:
        raise DataError(f"{where}: {key}: {error}") from error


def _size(root: ET.Element, where: str) -> tuple[int, int] | None:
    texts = [(root.findtext(f"size/{key}") or "").strip() for key in ("height", "width")]
    if not all(text.isdecimal() for text in texts):
        return None
    try:
        height, width = (int(bounded(text)) for text in texts)
    except ValueError as error:
        raise DataError(f"{where}: size: {error}") from error
    return (height, width) if height * width else None


def _lists(source: Path) -> dict[str, str]:
    """Split by image stem, from ``ImageSets/Main/train.txt`` and the like; lists of single classes are passed over."""
    lists: dict[str, str] = {}
    for path in sorted((source / LISTS).glob("*.txt")):
        split = find_split(path.stem)
        for number, line in read_lines(path) if split else ():
            if lists.setdefault(line.strip(), str(split)) != split:
                raise DataError(f"{path}, line {number}: '{line.strip()}' is in the split {lists[line.strip()]} too")
    return lists


def _image_name(path: Path, top: Path, root: Path, file_name: str) -> str:
    """The image of an XML file, relative to ``root``: the name it states, or its own with an image's extension."""
    folder = path.relative_to(top).parent
    names = [*([file_name] if file_name else []), *(path.stem + suffix for suffix in sorted(EXTENSIONS))]
    places = dict.fromkeys((folder, Path()))
    for name in names:
        for place in places:
            if os.path.isfile(root / place / name):  # False, and no error, for a name that is too long
                return (place / name).as_posix()
    alike = (p.name for p in (root / folder).glob(f"{path.stem}.*") if p.suffix.lower() in EXTENSIONS)
    return (folder / next(alike, names[0])).as_posix()
