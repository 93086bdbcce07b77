"""Predictions as tasks of Label Studio, and the labelling interface that they belong to.

Label Studio takes places in percent of the image. It serves photographs from the folder that the run's lies in, by a
name that begins with the run's: it does not serve the files right in its document root.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from famcli.data.readers.coco import joined
from famcli.outputs import Records, Run
from famcli.outputs.annotations import Annotation, categories, read_annotations, xml_text
from famcli.outputs.prediction import Record

CONTROL, IMAGE = "label", "image"  # names of the two in the labelling interface


def folder(records: Records, run: Run) -> Iterator[tuple[str, str | Iterator[str]]]:
    """``label_config.xml`` and ``tasks.json``."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=IMAGE, value="$image")
    kind = "PolygonLabels" if run.polygons else "RectangleLabels"
    control = ET.SubElement(view, kind, name=CONTROL, toName=IMAGE)
    for name in dict.fromkeys(categories(records, run).values()):
        ET.SubElement(control, "Label", value=xml_text(name))
    ET.indent(view)
    yield "label_config.xml", ET.tostring(view, encoding="unicode") + "\n"
    yield "tasks.json", _tasks(records, run)


def _tasks(records: Records, run: Run) -> Iterator[str]:
    yield "["
    yield from joined(_task(record, run) for record in records() if "error" not in record)
    yield "]\n"


def _task(record: Record, run: Run) -> dict[str, Any]:
    """One image: where Label Studio serves it, and what was found."""
    place = f"{Path(run.listing.root).absolute().name}/{record['file_name'].lstrip('/')}"
    url = "/data/local-files/?d=" + quote(place, errors="surrogateescape")
    found = list(read_annotations(record, run))
    size_wh = record["width"], record["height"]
    results = [_result(i, annotation, size_wh, run.polygons) for i, annotation in enumerate(found, 1)]
    score = max((annotation.score for annotation in found), default=0.0)
    prediction = {"model_version": run.info["version"], "score": score, "result": results}
    return {"data": {"image": url}, "predictions": [prediction]}


def _result(i: int, annotation: Annotation, size_wh: tuple[int, int], polygons: bool) -> dict[str, Any]:
    """A rectangle or a polygon."""
    kind = "polygonlabels" if polygons else "rectanglelabels"
    value: dict[str, Any] = {kind: [xml_text(annotation.name)]}
    if polygons:
        value["points"] = (annotation.outline() * 100 / size_wh).tolist()
        value["closed"] = True
    else:
        (x0, y0), (x1, y1) = (np.reshape(annotation.xyxy, (2, 2)) * 100 / size_wh).tolist()
        value |= {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
    return {
        "id": str(i),
        "type": kind,
        "from_name": CONTROL,
        "to_name": IMAGE,
        "original_width": size_wh[0],
        "original_height": size_wh[1],
        "image_rotation": 0,
        "score": annotation.score,
        "value": value,
    }
