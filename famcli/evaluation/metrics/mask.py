"""PxAP and pIoU: maps against masks, pixel by pixel, over all images at once.

The histogram is that of wsolevaluation's mask evaluator: scores of the pixels inside and outside of the object, in
bins from each threshold to the next, pixels to be ignored left out. PxAP is the area under the curve of precision
over recall. pIoU is the peak over τ of the intersection over union of all images' pixels, as later papers report it
from the same histogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from famcli.evaluation.metrics.box import SIDE
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError, ShapeError

IGNORED = 255
Mask = npt.NDArray[np.uint8]


def truth_mask(instances: Sequence[npt.ArrayLike], ignore: npt.ArrayLike | None = None) -> Mask:
    """The truth of one image in the benchmark's frame.

    Args:
        instances: Masks ``(h, w)`` of one image's objects; what is greater than 0.5 belongs to an object.
        ignore: Mask of the region to ignore, where it is not an object.

    Returns:
        ``(224, 224)``: 1 object, 0 background, 255 ignored.

    Raises:
        ShapeError: There is no instance, or one is not a non-empty two-dimensional array.
    """
    if not instances:
        raise ShapeError("an image needs at least one mask; leave out images without")
    truth = np.any([_resized(mask) for mask in instances], axis=0).astype(np.uint8)
    if ignore is not None:
        truth[_resized(ignore) & (truth == 0)] = IGNORED
    return truth


def _resized(mask: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    array = np.ascontiguousarray(mask, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise ShapeError(f"a mask has shape (h, w), not {array.shape}")
    return np.asarray(cv2.resize(array, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)) > 0.5


@dataclass
class MaskCounts:
    """Pixels by score, inside and outside of the objects; memory does not grow with the number of images.

    Attributes:
        taus: ``(T,)`` thresholds, ``arange(0, 1, interval)``.
        inside: ``(T + 2,)`` numbers of pixels of objects with a score from one threshold to the next; the last two
            bins are [1, 2) and [2, 3).
        outside: Likewise of the background.
        images: Number of images.
    """

    taus: FloatArray
    inside: npt.NDArray[np.int64] = field(init=False)
    outside: npt.NDArray[np.int64] = field(init=False)
    images: int = 0

    def __post_init__(self) -> None:
        """Start at zero."""
        self.inside = np.zeros(len(self.taus) + 2, np.int64)
        self.outside = np.zeros(len(self.taus) + 2, np.int64)

    def add(self, scores: FloatArray, truth: Mask) -> None:
        """Count one image: its map ``(h, w)`` in [0, 1], and its truth as :func:`truth_mask` gives it.

        Raises:
            ShapeError: The two differ in shape.
        """
        if scores.shape != truth.shape:
            raise ShapeError(f"the map is {scores.shape}, its mask {truth.shape}; both must be of one frame")
        edges = np.append(self.taus, 1.0)
        bins = np.searchsorted(edges, scores, side="right") - 1
        self.inside += np.bincount(bins[truth == 1], minlength=len(self.inside))
        self.outside += np.bincount(bins[truth == 0], minlength=len(self.outside))
        self.images += 1

    def merge(self, other: MaskCounts) -> None:
        """Add the counts of other images."""
        self.inside += other.inside
        self.outside += other.outside
        self.images += other.images

    def accuracy(self) -> MaskAccuracy:
        """The result so far.

        Raises:
            DataError: No pixel belongs to an object.
        """
        tp = self.inside[::-1].astype(np.float64).cumsum()
        fp = self.outside[::-1].astype(np.float64).cumsum()
        objects = tp[-1]
        if objects <= 0:
            raise DataError(
                "no pixel of the masks belongs to an object, so there is no PxAP: are they the right masks?"
            )
        some = (tp + fp) != 0
        precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=some)
        recall = tp / objects
        area = float((precision[1:] * np.diff(recall))[some[1:]].sum() * 100)
        iou = tp / (objects + fp)
        edges = np.append(self.taus, [1.0, 2.0])[::-1]
        peak = int(iou.argmax())
        return MaskAccuracy(area, float(iou[peak]) * 100, float(edges[peak]))


@dataclass(frozen=True, slots=True)
class MaskAccuracy:
    """PxAP and pIoU, in percent.

    Attributes:
        pxap: Area under precision over recall.
        piou: Peak of the IoU over τ; pixels with a score of at least τ are the object.
        tau: The τ of the peak, the highest of equal ones.
    """

    pxap: float
    piou: float
    tau: float
