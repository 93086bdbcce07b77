"""One image of the report as data: a list of facts, and a line of bytes that is read only when it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from famcli.report.parts import Parts
from famcli.report.pictures import Shot, Size, as_base64, map_bytes
from famcli.results.images import ERROR_TYPES, ImageResult
from famcli.results.schema import Row


def facts(record: ImageResult, rows: Sequence[Row]) -> list[Any]:
    """What filters, captions and boxes need.

    Returns:
        Name, label, width, height, true boxes, ``[class, probability]`` pairs, rank, and for each row ``None`` or
        box, IoU, kind by its place in ``ERROR_TYPES``, and score.
    """
    kinds = list(ERROR_TYPES)
    found: list[list[Any] | None] = []
    for row in rows:
        one = record.found.get(row.title)
        if one is None:
            found.append(None)
            continue
        box = None if one.box is None else _rounded(one.box)
        score = None if one.score is None else round(one.score, 3)
        iou = None if one.iou is None else round(one.iou, 4)
        found.append([box, iou, kinds.index(one.kind), score])
    return [
        record.name,
        record.label,
        record.width,
        record.height,
        [_rounded(box) for box in record.truth],
        [[index, round(probability, 3)] for index, probability in record.classes],
        record.rank,
        found,
    ]


def methods(rows: Sequence[Row]) -> list[str]:
    """Methods that may have maps, in the order of a line."""
    return list(dict.fromkeys(row.method for row in rows))


def line(record: ImageResult, shot: Shot, size: Size, names: Sequence[str]) -> str:
    """The thumbnail, then each method's map as ``h,w,bytes``; bytes are in base64, what is absent is ``-``."""
    words = [as_base64(shot.thumbnail) or "-"]
    for name in names:
        values = record.maps.get(name)
        if values is None:
            words.append("-")
        else:
            (h, w), content = map_bytes(values, size.map_side)
            words.append(f"{h},{w},{as_base64(content)}")
    return " ".join(words)


def parts_data(parts: Parts) -> dict[str, Any]:
    """Part maps as the page takes them."""
    _, h, w = parts.maps.shape
    return {"size": [h, w], "weights": list(parts.weights), "maps": [as_base64(part.tobytes()) for part in parts.maps]}


def _rounded(box: Sequence[float]) -> list[float]:
    """Corners to a tenth of a pixel; whole numbers without a point, which is half of the page's data."""
    return [int(value) if value == int(value) else round(value, 1) for value in map(float, box)]
