"""What is wrong with a box, in one word, so that a report can count and show each kind of miss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from famcli_models.boxes import as_boxes, box_area, box_iou
from famcli_models.errors import ShapeError

RIGHT_IOU = 0.5
TOUCHES = 0.25  # less than this share of either box in common is another place, and not another size

KINDS: Mapping[str, str] = {
    "right": "The IoU is right, and so is the class where classes apply.",
    "wrong class": "The IoU is right, but another class is thought more probable.",
    "part": "The box covers too little: more of it lies within the object than of the object within it.",
    "too much": "The box covers too much: more of the object lies within it than of it within the object.",
    "wrong instance": "The box is elsewhere: the two have nothing, or less than a quarter of each, in common.",
    "empty": "There is no box.",
}


def kind(box: npt.ArrayLike | None, truth: npt.ArrayLike, rank: int | None, strict: bool = False) -> str:
    """The kind of one image's outcome.

    The IoU is looked at first, then the class. Of several truth boxes the one of highest IoU counts, the first of
    equal ones.

    Args:
        box: ``(4,)`` half-open xyxy; ``None`` or NaN where there is no box.
        truth: ``(N, 4)`` truth boxes in the same frame, N > 0.
        rank: Place of the right class, 0 for the best; ``None`` where classes do not apply.
        strict: An IoU of 0.5 itself is not right.

    Returns:
        A name of :data:`KINDS`.

    Raises:
        ShapeError: The box is not four numbers, or there is no truth box.
    """
    if box is None or np.isnan(np.asarray(box, dtype=np.float64)).any():
        return "empty"
    found, boxes = as_boxes(box), as_boxes(truth)
    if len(found) != 1 or not len(boxes):
        msg = f"expected one box and at least one truth box, not {len(found)} and {len(boxes)}"
        raise ShapeError(msg)
    ious = box_iou(found, boxes)[0]
    best = int(ious.argmax())
    if ious[best] > RIGHT_IOU or (ious[best] == RIGHT_IOU and not strict):
        return "right" if rank in {None, 0} else "wrong class"
    sides = np.minimum(found[0, 2:], boxes[best, 2:]) - np.maximum(found[0, :2], boxes[best, :2])
    both = float(sides.clip(0).prod())
    if both == 0:
        return "wrong instance"
    of_box, of_truth = both / float(box_area(found)[0]), both / float(box_area(boxes)[best])
    if of_box < TOUCHES and of_truth < TOUCHES:
        return "wrong instance"
    return "part" if of_box >= of_truth else "too much"
