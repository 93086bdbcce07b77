"""Per-image results of an evaluation, as lines of ``images.jsonl`` hold them, and what is wrong with a box in one word.

The page "Results" of the documentation says what each key means.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, GetPydanticSchema
from pydantic_core import core_schema
from typing_extensions import TypedDict

from famcli.data.sample import MAX_PIXEL
from famcli.results.schema import Label, Real, Share, Text, one_of
from famcli_models.boxes import as_boxes, box_area, box_iou
from famcli_models.errors import ShapeError

MAX_MAP = 512  # values on a side
MAX_SHOWN_CLASSES = 5
RIGHT_IOU = 0.5

_TOUCHES = 0.25  # less than this share of either box in common is another place, and not another size

ERROR_TYPES: Mapping[str, str] = {
    "right": "The IoU is right, and so is the class where classes apply.",
    "wrong class": "The IoU is right, but another class is thought more probable.",
    "part": "The box covers too little: more of it lies within the object than of the object within it.",
    "too much": "The box covers too much: more of the object lies within it than of it within the object.",
    "wrong instance": "The box is elsewhere: the two have nothing, or less than a quarter of each, in common.",
    "empty": "There is no box.",
}


def _ordered(box: Box) -> Box:
    x0, y0, x1, y1 = box
    if x0 > x1 or y0 > y1:
        raise ValueError("a box x0, y0, x1, y1 with x0 <= x1 and y0 <= y1")
    return box


class _EncodedMap(TypedDict):
    size: tuple[_Side, _Side]
    data: Text


def _decoded(encoded: _EncodedMap) -> npt.NDArray[np.uint8]:
    h, w = encoded["size"]
    try:
        content = base64.b64decode(encoded["data"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a map with data in base64") from error
    if len(content) != h * w:
        raise ValueError(f"a map with data of {h * w} bytes")
    return np.frombuffer(content, np.uint8).reshape(h, w)


_Side = Annotated[int, Field(strict=True, ge=1, le=MAX_MAP)]
_Pixels = Annotated[int, Field(strict=True, ge=1, le=MAX_PIXEL)]
_Corner = Annotated[float, Field(strict=True, ge=-MAX_PIXEL, le=MAX_PIXEL)]
Box = Annotated[tuple[_Corner, _Corner, _Corner, _Corner], AfterValidator(_ordered)]
ByteMap = Annotated[
    npt.NDArray[np.uint8],
    GetPydanticSchema(lambda _, handler: core_schema.no_info_after_validator_function(_decoded, handler(_EncodedMap))),
]


@dataclass(frozen=True, slots=True)
class BoxResult:
    """What one way of making boxes found on an image; box and IoU are ``None`` where there is no box."""

    box: Box | None  # half-open xyxy in original pixels
    iou: Share | None  # best IoU with a truth box
    score: Real | None  # of the box as a detection, if it has one
    kind: Annotated[Text, one_of(*ERROR_TYPES)]  # its error type


def _complete(found: BoxResult) -> BoxResult:
    if len({found.box is None, found.iou is None, found.kind == "empty"}) > 1:
        raise ValueError("either a box with an iou, or neither of them and of the kind 'empty'")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """One scored image. Its maps do not count when images are compared."""

    name: Text  # what the data set calls it
    path: Text  # where the photo was, absolute
    label: Label
    width: _Pixels  # of the original image, EXIF orientation applied
    height: _Pixels
    truth: tuple[Box, ...]
    classes: Annotated[tuple[tuple[Label, Share], ...], Field(max_length=MAX_SHOWN_CLASSES)]  # the most probable first
    rank: Label | None  # place of the right class, 0 for the best; None where classes do not apply
    found: Mapping[Text, Annotated[BoxResult, AfterValidator(_complete)]]  # by title of a row of the result
    maps: Mapping[Text, ByteMap] = field(compare=False)  # by method, at the network's own resolution; see byte_map


def byte_map(M: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """A map ``(h, w)`` of finite values, at most 512 on a side, cut to [0, 1], in bytes, 255 for 1."""
    array = np.asarray(M, dtype=np.float64)
    if array.ndim != 2 or not 1 <= min(array.shape) <= max(array.shape) <= MAX_MAP or not np.isfinite(array).all():
        raise ShapeError(f"a map of shape {array.shape} cannot be stored; expected 1 to {MAX_MAP} finite values a side")
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


def error_type(box: npt.ArrayLike | None, truth: npt.ArrayLike, rank: int | None, strict: bool = False) -> str:
    """What is wrong with a box ``(4,)``, none or NaN, given its truth ``(N, 4)``: a name of :data:`ERROR_TYPES`.

    The IoU is compared first, then the class, which is right at ``rank`` 0 and has none where classes do not apply. Of
    several truth boxes that of the highest IoU counts. If ``strict``, an IoU of 0.5 itself is not right.
    """
    if box is None or np.isnan(np.asarray(box, dtype=np.float64)).any():
        return "empty"
    found, boxes = as_boxes(box), as_boxes(truth)
    if len(found) != 1 or not len(boxes):
        raise ShapeError(f"expected one box and at least one truth box, not {len(found)} and {len(boxes)}")
    ious = box_iou(found, boxes)[0]
    best = int(ious.argmax())
    if ious[best] > RIGHT_IOU or (ious[best] == RIGHT_IOU and not strict):
        return "right" if rank in {None, 0} else "wrong class"
    sides = np.minimum(found[0, 2:], boxes[best, 2:]) - np.maximum(found[0, :2], boxes[best, :2])
    both = float(sides.clip(0).prod())
    if both == 0:
        return "wrong instance"
    of_box, of_truth = both / float(box_area(found)[0]), both / float(box_area(boxes)[best])
    if of_box < _TOUCHES and of_truth < _TOUCHES:
        return "wrong instance"
    return "part" if of_box >= of_truth else "too much"
