"""COCO's average precision, counted by pycocotools itself.

COCOeval goes through every pair of an image and a category, 50 million on ILSVRC, of which nearly all are empty.
Here each category is evaluated on the images that have a truth box or a detection of it. The others do not count in
COCOeval either, so the result is the same to the bit.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from famcli_models.boxes import FloatArray, as_boxes, xyxy_to_xywh
from famcli_models.errors import DataError, ShapeError

_Annotations = list[dict[str, Any]]


def average_precision(
    truth_boxes: Sequence[npt.ArrayLike],
    truth_labels: Sequence[int],
    boxes: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    images: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """COCO's AP, AP50 and AP75, means over the classes that have a truth box, in percent.

    Each of n images has truth boxes ``(N, 4)``, half-open xyxy, all of one class. Of k detections there are boxes
    ``(k, 4)`` in the same frame, where a row with NaN is none, labels, scores, and the index of the image, which is
    their place if there is one for each image.
    """
    found = as_boxes(boxes)
    classes, confidence = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    owners = np.arange(len(truth_boxes)) if images is None else np.asarray(images, dtype=np.int64)
    lengths = {len(owners), len(found), len(classes), len(confidence)}
    if len(lengths) > 1 or len(truth_boxes) != len(truth_labels):
        counts = sorted({*lengths, len(truth_boxes), len(truth_labels)})
        raise ShapeError(f"truth, boxes, labels and scores are of different numbers of images or detections: {counts}")
    here = ~np.isnan(found).any(axis=1)
    bad = np.flatnonzero(here & ~np.isfinite(confidence))
    if bad.size:
        raise DataError(f"the box of image {owners[bad[0]]} has the score {confidence[bad[0]]}; it has to be finite")
    of_image = [as_boxes(one) for one in truth_boxes]
    each = [len(one) for one in of_image]
    places, known = np.repeat(np.arange(len(each)), each), np.repeat(truth_labels, each)
    truth = _by_class(places, np.concatenate([as_boxes([]), *of_image]), known)
    detections = _by_class(owners[here], found[here], classes[here], confidence[here])
    if not truth:
        raise DataError("no image has a truth box, so there is no average precision: give images with boxes")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks, and stdout is for results
        curves = [_precision(truth[label], detections.get(label, [])) for label in sorted(truth)]
    precision = np.stack(curves, axis=2)  # (T, R, K): the order in which COCOeval adds up
    thresholds = _params(COCOeval(iouType="bbox")).iouThrs
    at = {name: _mean(precision[thresholds == threshold]) for name, threshold in (("AP50", 0.5), ("AP75", 0.75))}
    return {"AP": _mean(precision), **at}


def _by_class(
    images: npt.NDArray[np.int64], boxes: FloatArray, labels: npt.NDArray[np.int64], scores: npt.ArrayLike = 1.0
) -> dict[int, _Annotations]:
    """COCO's annotations of boxes, by class."""
    found: dict[int, _Annotations] = {}
    columns = (images + 1, xyxy_to_xywh(boxes), labels, np.broadcast_to(scores, len(boxes)))
    for image, xywh, label, score in zip(*(column.tolist() for column in columns), strict=True):
        entry = {"image_id": image, "category_id": 1, "bbox": xywh, "area": xywh[2] * xywh[3], "iscrowd": 0}
        found.setdefault(label, []).append({**entry, "score": score})
    return found


def _params(evaluation: COCOeval) -> Any:
    """COCO's settings, less the sizes that are not asked for."""
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e5**2]], ["all"]
    return evaluation.params


def _precision(truth: _Annotations, detections: _Annotations) -> FloatArray:
    """``(T, R)`` precision at each IoU threshold and recall, of one class; -1 where COCO leaves it undefined."""
    images = [{"id": i} for i in sorted({entry["image_id"] for entry in [*truth, *detections]})]
    evaluation = COCOeval(_indexed(images, truth), _indexed(images, detections), iouType="bbox")
    _params(evaluation)
    evaluation.evaluate()
    evaluation.accumulate()
    # (T, R, K, A, M): one class, one range of areas, and the last of the limits 1, 10 and 100 of boxes an image
    precision: FloatArray = evaluation.eval["precision"][:, :, 0, 0, -1]
    return precision


def _indexed(images: list[dict[str, int]], annotations: _Annotations) -> COCO:
    for number, entry in enumerate(annotations, 1):  # COCOeval takes an id of 0 for "unmatched"
        entry["id"] = number
    coco = COCO()
    coco.dataset = {"images": images, "categories": [{"id": 1}], "annotations": annotations}
    coco.createIndex()
    return coco


def _mean(precision: FloatArray) -> float:
    defined = precision[precision > -1]
    return 100 * float(defined.mean()) if defined.size else 0.0
