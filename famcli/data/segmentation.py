"""COCO's segmentations to pixels: polygons, and run lengths in columns, as a list or packed into text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from famcli_models.errors import DataError, shown

REACH = 1.0  # a polygon may leave the image by this many times its longer side: farther out it is not of this image
FIRST, LAST = 48, 48 + 63  # characters of packed run lengths: six bits each


def decode(segmentation: Any, size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels of one annotation.

    Polygons are filled by pycocotools. Run lengths are unpacked here, because pycocotools leaves pixels that they do
    not reach undefined, and warns of NumPy 2.

    Args:
        segmentation: The value of an annotation's key ``segmentation``.
        size_hw: ``(h, w)`` of the image.

    Returns:
        ``(h, w)``.

    Raises:
        DataError: It is of another size, or makes no sense; the message is the reason alone.
    """
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size_hw)
    if isinstance(segmentation, list) and segmentation:
        return _from_polygons(segmentation, size_hw)
    msg = f"the segmentation is {shown(segmentation)}; polygons or run lengths are needed"
    raise DataError(msg)


def _from_polygons(polygons: Sequence[Any], size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    from pycocotools import mask

    h, w = size_hw
    far = (1 + REACH) * max(size_hw)
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in polygon
        )
        if not numbers or len(polygon) < 6 or len(polygon) % 2 or not all(abs(v) <= far for v in polygon):
            msg = f"the polygon {shown(polygon)} is not a list x, y, x, y, ... of three points or more in the image"
            raise DataError(msg)
    # An outline of four numbers would be taken for a box by pycocotools; there are six or more.
    runs = mask.merge(mask.frPyObjects([[float(v) for v in polygon] for polygon in polygons], h, w))
    return _from_runs({"size": [h, w], "counts": runs["counts"].decode("ascii")}, size_hw)


def _from_runs(segmentation: dict[str, Any], size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        msg = f"the run lengths are of size {shown(size)} (height, width), the image's is {list(size_hw)}"
        raise DataError(msg)
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    h, w = size_hw
    if (
        not isinstance(runs, list)
        or not all(isinstance(run, int) and 0 <= run <= h * w for run in runs)
        or sum(runs) != h * w
    ):
        msg = f"the run lengths {shown(counts)} do not add up to the {h * w:,} pixels of the image"
        raise DataError(msg)
    inside = np.arange(len(runs)) % 2 == 1  # background comes first
    return np.repeat(inside, runs).reshape(w, h).T


def _unpacked(text: str) -> list[int] | None:
    """Run lengths of COCO's packed form; ``None`` if it is damaged.

    Five bits a character, the lowest first, and one bit that says whether more follow; the sign is that of the
    highest. From the fourth on, what is written is the difference to the last run but one.
    """
    values: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - FIRST
        if not 0 <= code <= LAST - FIRST or shift > 60:
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        values.append(value)
        value = shift = 0
    if shift:
        return None
    for i in range(3, len(values)):
        values[i] += values[i - 2]
    return values
