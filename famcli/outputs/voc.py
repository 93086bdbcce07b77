"""Predictions as Pascal VOC: an XML file for each image, with 1-based inclusive corners.

VOC has no place for a score; it stands in ``attributes``, where CVAT and Datumaro put what VOC does not know.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import PurePosixPath

from famcli.outputs import Records, Run
from famcli.outputs.annotations import Stems, categories, number, read_annotations, xml_text
from famcli.outputs.prediction import Record


def folder(records: Records, run: Run) -> Iterator[tuple[str, str]]:
    """``Annotations`` in the folders of the images, their list in ``ImageSets/Main``, and the classes."""
    names = dict.fromkeys(map(_one_line, categories(records, run).values()))
    yield "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(f"{name}:::\n" for name in names)
    called = Stems(run.listing.names)
    listed = []
    for record in records():
        if "error" not in record:
            stem = called[record["file_name"]].lstrip("/")
            listed.append(_one_line(stem) + "\n")
            yield f"Annotations/{stem}.xml", _xml(record, run)
    yield "ImageSets/Main/default.txt", "".join(listed)


def _xml(record: Record, run: Run) -> str:
    root = ET.Element("annotation")
    path = PurePosixPath(record["file_name"])
    _add(root, "folder", "" if path.parent == PurePosixPath() else str(path.parent))
    _add(root, "filename", path.name)
    size = ET.SubElement(root, "size")
    for key in ("width", "height"):
        _add(size, key, str(record[key]))
    _add(size, "depth", "3")
    _add(root, "segmented", "0")
    for annotation in read_annotations(record, run):
        item = ET.SubElement(root, "object")
        for key, value in (("name", annotation.name), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            _add(item, key, value)
        box = ET.SubElement(item, "bndbox")
        x0, y0, x1, y1 = annotation.xyxy
        for key, edge in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(box, key, number(edge))
        attribute = ET.SubElement(ET.SubElement(item, "attributes"), "attribute")
        _add(attribute, "name", "score")
        _add(attribute, "value", str(annotation.score))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _one_line(text: str) -> str:
    """Text for a file of lines."""
    return xml_text(text).replace("\n", "\\n")


def _add(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = xml_text(text)
