"""Predictions as "CVAT for images 1.1": one XML file, with the score as an attribute that each label declares."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from famcli.outputs import Records, Run
from famcli.outputs.annotations import Annotation, categories, number, read_annotations, xml_text


def annotations_xml(records: Records, run: Run) -> Iterator[str]:
    """The labels, then an element an image with its boxes or polygons; CVAT finds the image by its name."""
    yield '<?xml version="1.0"?>\n<annotations>\n<version>1.1</version>\n'
    meta = ET.Element("meta")
    labels = ET.SubElement(ET.SubElement(meta, "task"), "labels")
    for name in dict.fromkeys(categories(records, run).values()):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = xml_text(name)
        attribute = ET.SubElement(ET.SubElement(label, "attributes"), "attribute")
        for key, value in (("name", "score"), ("mutable", "False"), ("input_type", "text"), ("default_value", "")):
            ET.SubElement(attribute, key).text = value
    yield _text(meta)
    read = (record for record in records() if "error" not in record)
    for i, record in enumerate(read):
        image = ET.Element("image", id=str(i), name=xml_text(record["file_name"]))
        image.attrib |= {key: str(record[key]) for key in ("width", "height")}
        for annotation in read_annotations(record, run):
            image.append(_shape(annotation, run.polygons))
        yield _text(image)
    yield "</annotations>\n"


def _shape(annotation: Annotation, polygons: bool) -> ET.Element:
    """A box or a polygon, with its score."""
    if polygons:
        points = ";".join(f"{x},{y}" for x, y in annotation.outline().tolist())
        shape = ET.Element("polygon", points=points)
    else:
        shape = ET.Element("box", dict(zip(("xtl", "ytl", "xbr", "ybr"), map(number, annotation.xyxy), strict=True)))
    shape.attrib |= {"label": xml_text(annotation.name), "source": "auto", "occluded": "0", "z_order": "0"}
    ET.SubElement(shape, "attribute", name="score").text = str(annotation.score)
    return shape


def _text(element: ET.Element) -> str:
    ET.indent(element)
    return ET.tostring(element, encoding="unicode") + "\n"
