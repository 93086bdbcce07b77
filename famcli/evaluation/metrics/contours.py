"""Boxes of the contours of a map at every cut-off, from two component trees instead of a search at each.

``cv2.findContours`` with ``RETR_TREE`` finds the outside of each component of the foreground, whose pixels touch at
sides or corners, and the border of each hole: a component of background away from the frame, whose pixels touch at
sides. Over all cut-offs these are the component trees of the map and of its negative. A tree takes few steps:

* along its row and its column a pixel leads up to a peak, and is in the peak's component at its own level;
* a peak leads to a higher neighbour and so on to a summit, whose boxes at all levels are those of its peaks;
* summits join at pixels that are not simple points of digital topology, of which a smooth map has some dozens.

Of equal neighbours one counts as higher, by raster order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from famcli_models.boxes import FloatArray

NO_BOX = (0, 0, 0, 0)

IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))  # (dy, dx) of neighbours, in a circle
_LEVELS = 256
_NOWHERE = np.iinfo(np.int16).max  # the corners of what does not exist at a level


class Contours(NamedTuple):
    """Boxes of the contours of C masks: x, y, x + w and y + h, the last two cut to the last column and row."""

    boxes: IntArray  # (K, 4) of all contours, mask by mask; NO_BOX of a mask without pixels
    starts: IntArray  # (C,) where those of each mask start
    largest: IntArray  # (C, 4) of the contour with the largest area, the first of equal ones in OpenCV's order


class _Tree(NamedTuple):
    """The component tree of a framed map in bytes; pixels have their place in raster order as a number."""

    levels: ByteArray  # (H, W)
    summits: npt.NDArray[np.int32]  # (H, W) number of the summit that each pixel leads to, of n
    peaks: IntArray  # pixels that are higher than those beside them, in their row or in their column
    joins: list[tuple[int, int, int]]  # level, and two summits: from there down the second is part of the first


def contours_at(image: ByteArray, cut: int) -> Contours:
    """The contours of the mask ``image > cut``, by OpenCV and in its order."""
    mask = cv2.threshold(image, cut, 255, cv2.THRESH_BINARY)[1]
    contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return _no_contours(1)
    boxes = np.array([cv2.boundingRect(contour) for contour in contours], np.int64)
    boxes[:, 2:] += boxes[:, :2]
    boxes = boxes.clip(max=_last(image))
    largest = int(np.argmax([cv2.contourArea(contour) for contour in contours]))
    return Contours(boxes, np.zeros(1, np.int64), boxes[[largest]])


def all_contours(scores: FloatArray, image: ByteArray, cuts: Sequence[int]) -> Contours:
    """The contours of each mask ``image > cut``; those of one mask may be in another order than OpenCV's.

    Args:
        scores: ``(h, w)``, none below 0.
        image: ``(h, w)`` the same in bytes, nowhere lower where a score is higher.
        cuts: ``(C,)`` below the highest byte, unless that is 0.
    """
    if not image.any():
        return _no_contours(len(cuts))
    heights, levels, at = np.pad(scores, 1, constant_values=-1), np.pad(image, 1), np.array(cuts)
    unsimple = _unsimple(heights)
    tree = _tree(heights, levels, unsimple, _RING, np.greater)
    mask, shape, boxes = _boxes(tree, at + 1, margin=0)
    area = _areas(tree)[shape, at[mask] + 1]
    tree = _tree(-heights, 255 - levels, unsimple, _RING[::2], np.greater_equal)
    mask_of_hole, _, holes = _boxes(tree, 255 - at, margin=1)

    # The largest contour is a shape's: that of a hole lies within its shape's, which comes first if they are equal.
    # With its holes a shape has more than its own area, and at most that of its box.
    at_most = np.where(np.isin(mask, mask_of_hole), 2 * (boxes[:, 2:] - boxes[:, :2] - 1).prod(axis=1), area)
    starts = np.searchsorted(mask, np.arange(len(at)))
    best = np.maximum.reduceat(area, starts)[mask]
    largest = boxes[np.maximum.reduceat(np.arange(len(area)) * (area == best), starts)]
    for i in np.flatnonzero(np.bincount(mask, at_most >= best) > 1).tolist():
        largest[i] = contours_at(image, cuts[i]).largest[0]

    masks, boxes = np.concatenate([mask, mask_of_hole]), np.concatenate([boxes, holes])
    order = np.argsort(masks, kind="stable")
    starts = np.searchsorted(masks[order], np.arange(len(at)))
    return Contours(boxes[order].clip(max=_last(image)), starts, largest.clip(max=_last(image)))


def _no_contours(masks: int) -> Contours:
    boxes = np.array([NO_BOX] * masks)
    return Contours(boxes, np.arange(masks), boxes)


def _last(image: ByteArray) -> tuple[int, ...]:
    """The last column and row, behind which no box ends, twice."""
    h, w = image.shape
    return (w - 1, h - 1) * 2


def _unsimple(heights: FloatArray) -> IntArray:
    """Pixels that are no simple points when pixels are added from the highest down.

    Any other changes the number of components neither of the foreground nor of the background.
    """
    inner, (H, W) = heights[1:-1, 1:-1], heights.shape
    lower = []
    for dy, dx in _RING:
        other = heights[1 + dy : H - 1 + dy, 1 + dx : W - 1 + dx]
        lower.append(other <= inner if (dy, dx) > (0, 0) else other < inner)
    connectivity = np.zeros(inner.shape, np.uint8)  # Yokoi's number: 1 of a simple point
    for k in range(0, 8, 2):
        connectivity += lower[k] & ~(lower[k + 1] & lower[(k + 2) % 8])
    return np.flatnonzero(np.pad(connectivity != 1, 1))


def _tree(
    heights: FloatArray,
    levels: ByteArray,
    unsimple: IntArray,
    ring: Sequence[tuple[int, int]],
    above: Callable[..., BoolArray],
) -> _Tree:
    """The tree of a map whose pixels touch those in ``ring``; ``above``: is a pixel higher than one before it."""
    flat, (H, W) = heights.ravel(), heights.shape
    steps = np.array([dy * W + dx for dy, dx in ring])

    def neighbours(pixels: IntArray) -> tuple[IntArray, BoolArray]:
        """The neighbours of pixels, ``(n, len(ring))``, and which of them are higher."""
        places = (pixels[:, None] + steps).clip(0, flat.size - 1)
        one, other = flat[pixels][:, None], flat[places]
        return places, np.where(steps > 0, above(other, one), ~above(one, other))

    rises, falls = _slopes(flat, 1, above)
    in_row, in_column = rises & falls, np.logical_and(*_slopes(flat, W, above))
    runs = np.cumsum(~(rises | falls), dtype=np.int32)  # a row is cut at its valleys: each run has one peak
    places, higher = neighbours(np.flatnonzero(in_row))
    each = np.arange(len(places))
    leads = np.where(higher.any(axis=1), runs[places[each, higher.argmax(axis=1)]], each)
    while not np.array_equal(leads, further := leads[leads]):
        leads = further
    of_run = np.unique(leads, return_inverse=True)[1].astype(np.int32)
    summits = of_run[runs]

    places, higher = neighbours(unsimple)
    met = np.where(higher, summits[places], -1)
    several = (higher & (met != met.max(axis=1, keepdims=True))).any(axis=1)
    pixels = unsimple[several]
    order = np.argsort(levels.flat[pixels], kind="stable")[::-1]
    joins, frame, into = [], int(summits[0]), list(range(of_run.max() + 1))
    for level, ends in zip(levels.flat[pixels[order]].tolist(), met[several][order].tolist(), strict=True):
        meeting = {_end(into, i) for i in ends if i >= 0}
        first = frame if frame in meeting else meeting.pop()
        for other in meeting - {first}:
            into[other] = first
            joins.append((level, first, other))
    return _Tree(levels, summits.reshape(H, W), np.flatnonzero(in_row | in_column), joins)


def _slopes(flat: FloatArray, step: int, above: Callable[..., BoolArray]) -> tuple[BoolArray, BoolArray]:
    """Which pixels are higher than the pixel ``step`` before them, and which than that behind."""
    rises, falls = np.ones(flat.size, np.bool_), np.ones(flat.size, np.bool_)
    above(flat[step:], flat[:-step], out=rises[step:])
    np.logical_not(rises[step:], out=falls[:-step])
    return rises, falls


def _end(into: list[int], summit: int) -> int:
    """The summit that one has been joined to, over any number of joins."""
    while into[summit] != summit:
        into[summit] = summit = into[into[summit]]
    return summit


def _boxes(tree: _Tree, at_levels: IntArray, margin: int) -> tuple[IntArray, IntArray, IntArray]:
    """The components of the pixels at or above each of some levels, but that of the frame.

    Returns:
        The place of its level ``(K,)``, its summit ``(K,)``, and its box ``(K, 4)``, half-open, with ``margin`` around
        it, in pixels of the map without frame.
    """
    n = int(tree.summits.max()) + 1
    y, x = np.divmod(tree.peaks, tree.levels.shape[1])
    places = tree.summits.flat[tree.peaks] * _LEVELS + tree.levels.flat[tree.peaks]
    corners = np.full((n * _LEVELS, 4), _NOWHERE, np.int16)
    for side, values in enumerate((x, y, -x, -y)):
        np.minimum.at(corners[:, side], places, values.astype(np.int16))
    corners = np.minimum.accumulate(corners.reshape(n, _LEVELS, 4)[:, ::-1], axis=1)[:, ::-1]
    for level, first, other in tree.joins:
        np.minimum(corners[first, : level + 1], corners[other, : level + 1], out=corners[first, : level + 1])
        corners[other, : level + 1] = _NOWHERE
    corners[tree.summits[0, 0]] = _NOWHERE
    corners = corners.swapaxes(0, 1)[at_levels]
    of_level, summit = np.nonzero(corners[..., 0] != _NOWHERE)
    low, high = (-1 - margin,) * 2, (margin,) * 2
    return of_level, summit, corners[of_level, summit] * np.array([1, 1, -1, -1]) + np.array(low + high)


def _areas(tree: _Tree) -> IntArray:
    """Twice the area ``(n, 256)`` of components at or above each level, holes cut out: of the polygon through centres.

    A square of four pixels that has all of them counts 2, and one with three counts 1.
    """
    n = int(tree.summits.max()) + 1
    (a, b), (c, d) = ((rows[:, :-1], rows[:, 1:]) for rows in (tree.levels[:-1], tree.levels[1:]))
    low, high, other_low, other_high = np.minimum(a, b), np.maximum(a, b), np.minimum(c, d), np.maximum(c, d)
    all_four = np.minimum(low, other_low)
    three = np.minimum(np.maximum(low, other_low), np.minimum(high, other_high))
    here, beside = tree.summits[:-1, :-1], tree.summits[:-1, 1:]
    areas, places = np.zeros(n * _LEVELS, np.int64), np.empty(a.shape, np.int64)
    for at_level, summit in ((all_four, here), (three, np.where(a >= three, here, beside))):
        np.add(summit * _LEVELS, at_level, out=places)
        areas += np.bincount(places.ravel(), minlength=len(areas))
    areas = areas.reshape(n, _LEVELS)[:, ::-1].cumsum(axis=1)[:, ::-1]
    for level, first, other in tree.joins:
        areas[first, : level + 1] += areas[other, : level + 1]
    return areas
