"""MaxBoxAcc and MaxBoxAccV2, as wsolevaluation counts them, without its repetitions.

The rules are those of ``wsoleval-v1`` and ``wsoleval-v2`` in :mod:`famcli.evaluation.protocols`, to the bit. The
benchmark finds contours at each of 1,000 thresholds, twice. A map of bytes has at most 255 different masks, whose
contours come from a component tree (:mod:`famcli.evaluation.metrics.contours`) and serve both versions.

Here, and nowhere else, corners are inclusive and the IoU adds one to each side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from famcli.evaluation.metrics.contours import ByteArray, IntArray, all_contours, contours_at
from famcli_models.boxes import FloatArray, as_boxes
from famcli_models.errors import ConfigError, ShapeError

SIDE = 224  # pixels of the frame that everything is compared in
DELTAS = (0.3, 0.5, 0.7)
INTERVAL = 0.001  # of wsolevaluation's main program; that of its evaluation.py alone is 0.01
V1_DELTA = 0.5


def thresholds(interval: float = INTERVAL) -> FloatArray:
    """The thresholds τ: ``arange(0, 1, interval)``.

    Raises:
        ConfigError: The interval is not in (0, 1], or so small that no memory would hold the thresholds.
    """
    if not 1e-5 <= interval <= 1:
        raise ConfigError(
            f"the interval of the thresholds is {interval:g}; it must lie in [0.00001, 1], usual is 0.001"
        )
    return np.arange(0, 1, interval)


def score_map(raw: npt.ArrayLike) -> FloatArray:
    """A network's map as the benchmark scores it: resized, then stretched to [0, 1].

    Args:
        raw: ``(h, w)`` at any resolution, any numbers.

    Returns:
        ``(224, 224)``; zeros if the resized map is constant or not finite everywhere.

    Raises:
        ShapeError: It is not a non-empty two-dimensional array.
    """
    array = np.ascontiguousarray(raw, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ShapeError(f"a score map has shape (h, w), not {array.shape}")
    resized = np.asarray(cv2.resize(array, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), dtype=np.float64)
    if not np.isfinite(resized).all() or resized.min() == resized.max():
        return np.zeros_like(resized)
    resized -= resized.min()
    resized /= resized.max()
    return resized


def box_map(box: npt.ArrayLike) -> FloatArray:
    """The map ``(224, 224)`` of a box ``(4,)``, half-open xyxy in shares of the frame: 1 in its pixels, 0 elsewhere.

    So the benchmark's rules give the box at every threshold. Corners are rounded; there is a pixel at least.
    """
    x0, y0, x1, y1 = (np.clip(np.asarray(box, np.float64), 0, 1) * SIDE).round().astype(int).tolist()
    x0, y0 = min(x0, SIDE - 1), min(y0, SIDE - 1)
    filled = np.zeros((SIDE, SIDE))
    filled[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    return filled


def truth_boxes(boxes: npt.ArrayLike, size_hw: tuple[int, int], frame_hw: tuple[int, int] = (SIDE, SIDE)) -> IntArray:
    """Boxes of an image ``(N, 4)``, half-open xyxy in original pixels, in the benchmark's frame of ``frame_hw``.

    Returns:
        ``(N, 4)`` inclusive corners, scaled and cut to whole numbers. A box less than a pixel wide, which the
        benchmark does not have, keeps its left or top corner.
    """
    corners = as_boxes(boxes).copy()
    corners[:, 2:] -= 1
    (h, w), (frame_h, frame_w) = size_hw, frame_hw
    # First times, then by: in the other order some corners are cut to the number below.
    cut = (corners * np.array([frame_w, frame_h] * 2, np.float64) / np.array([w, h] * 2, np.float64)).astype(np.int64)
    cut[:, 2:] = np.maximum(cut[:, 2:], cut[:, :2])
    return cut


def inclusive_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """The benchmark's IoU of inclusive whole-number corners, ``(N, 4)`` and ``(M, 4)``, as ``(N, M)``."""
    p = np.asarray(a, dtype=np.int64).reshape(-1, 1, 4)
    q = np.asarray(b, dtype=np.int64).reshape(1, -1, 4)
    sides = np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]) + 1
    both = sides.clip(0).prod(axis=-1)
    either = (p[..., 2:] - p[..., :2] + 1).prod(axis=-1) + (q[..., 2:] - q[..., :2] + 1).prod(axis=-1) - both
    iou: FloatArray = both / np.maximum(either, 1)
    return iou


def in_bytes(scores: FloatArray) -> ByteArray:
    """A map in [0, 1] as the benchmark thresholds it."""
    return (scores * 255).astype(np.uint8)


def masks_of(image: ByteArray, taus: FloatArray) -> tuple[list[int], IntArray]:
    """The different masks that ascending thresholds, relative to the maximum, make of a map in bytes.

    For each mask a value that its pixels are greater than, ascending; for each threshold the index of its mask.
    """
    cuts = (taus * np.float64(image.max())).astype(np.int64)
    values = np.flatnonzero(np.bincount(image.ravel(), minlength=256))
    at_most = np.searchsorted(values, cuts, side="right")  # values that are background; the same ones, the same mask
    _, first, of_tau = np.unique(at_most, return_index=True, return_inverse=True)
    return cuts[first].tolist(), of_tau.reshape(-1)


def best_ious(scores: FloatArray, truth: IntArray, taus: FloatArray) -> FloatArray:
    """Best IoU ``(2, T)`` at each threshold of a map in [0, 1] with any of the boxes ``(N, 4)``, inclusive corners.

    The first row is of the largest contour (V1), the second of all contours (V2).
    """
    image = in_bytes(scores)
    cuts, of_tau = masks_of(image, taus)
    boxes, starts, largest = all_contours(scores, image, cuts)
    one, every = (inclusive_iou(of, truth).max(axis=1) for of in (largest, boxes))
    best: FloatArray = np.stack([one, np.maximum.reduceat(every, starts)])[:, of_tau]
    return best


def box_at(scores: FloatArray, truth: IntArray, tau: float, version: int) -> tuple[int, ...]:
    """The box of a map that counts at one threshold: of the largest contour (V1), or the best of all (V2)."""
    image = in_bytes(scores)
    boxes, _, largest = contours_at(image, masks_of(image, np.array([tau]))[0][0])
    best = largest[0] if version == 1 else boxes[inclusive_iou(boxes, truth).max(axis=1).argmax()]
    return tuple(best.tolist())


@dataclass
class BoxCounts:
    """Right images by version, δ and τ: all that is kept of the images, so memory does not grow with them.

    Attributes:
        taus: ``(T,)`` thresholds, ascending.
        right: ``(2, 3, T)`` numbers of images: V1 and V2, the three :data:`DELTAS`.
        images: Number of images.
        empty: Number of images whose map is zero everywhere, so that no threshold gives a contour.
        as_is: Number of images whose map was a file in the benchmark's own form, and neither resized nor stretched.
    """

    taus: FloatArray
    right: IntArray = field(init=False)
    images: int = 0
    empty: int = 0
    as_is: int = 0

    def __post_init__(self) -> None:
        """Start at zero."""
        self.right = np.zeros((2, len(DELTAS), len(self.taus)), np.int64)

    def add(self, scores: FloatArray, truth: IntArray) -> npt.NDArray[np.bool_]:
        """Count one image.

        Args:
            scores: ``(h, w)`` map in [0, 1], of :func:`score_map`.
            truth: ``(N, 4)`` inclusive corners in the same frame, N > 0, of :func:`truth_boxes`.

        Returns:
            ``(2, 3, T)``: whether it is right, by version, δ and τ.
        """
        right: npt.NDArray[np.bool_] = best_ious(scores, truth, self.taus)[:, None, :] >= np.array(DELTAS)[:, None]
        self.right += right
        self.images += 1
        self.empty += int(scores.max() * 255 < 1)  # zero everywhere as bytes
        return right

    def merge(self, other: BoxCounts) -> None:
        """Add the counts of other images; the order does not matter, they are whole numbers."""
        self.right += other.right
        self.images += other.images
        self.empty += other.empty
        self.as_is += other.as_is

    def accuracy(self, version: int) -> BoxAccuracy:
        """The result so far for version 1 or 2.

        Raises:
            ConfigError: No image was counted.
        """
        if not self.images:
            raise ConfigError("no image was counted, so there is no accuracy: give at least one map and its boxes")
        curves = self.right[version - 1] * 100.0 / float(self.images)
        at_best = [float(curve.max()) for curve in curves]
        return BoxAccuracy(
            value=at_best[DELTAS.index(V1_DELTA)] if version == 1 else float(np.average(at_best)),
            at_delta=dict(zip(DELTAS, at_best, strict=True)),
            tau=dict(zip(DELTAS, self.taus[curves.argmax(axis=1)].tolist(), strict=True)),
            curve=dict(zip(DELTAS, curves.tolist(), strict=True)),
        )


@dataclass(frozen=True, slots=True)
class BoxAccuracy:
    """MaxBoxAcc or MaxBoxAccV2, in percent.

    Attributes:
        value: The number itself: the best accuracy at δ = 0.5, or the mean of the three best.
        at_delta: Best accuracy over τ, by δ.
        tau: The τ where it is reached, the lowest of equal ones, by δ.
        curve: Accuracy at each of the thresholds, by δ.
    """

    value: float
    at_delta: dict[float, float]
    tau: dict[float, float]
    curve: dict[float, list[float]]
