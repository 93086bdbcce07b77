"""Foreground map to boxes: upsample, threshold, largest connected component (section 3.3).

A method that gives its box itself has one region, see :func:`localize_box`.

This is the only place where a map is resized. The rules, all of them:

* **M** is upsampled with bilinear interpolation (pixel centres aligned, as ``align_corners=False``)
  to the original image.
* A pixel is foreground when its value is *greater than* τ; a map that is τ everywhere is empty.
* Components are 8-connected and ordered by their number of pixels; ties go to the one met first
  when the image is read row by row.
* The box of a component is the half-open box of its pixels, in the frame of the map's image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from famcli_models.errors import ConfigError, ShapeError

CONNECTIVITY = 8
CONSTANT = 1e-6  # a map whose values differ by less is 0 everywhere rather than its rounding errors


@dataclass(frozen=True, slots=True)
class Region:
    """One connected foreground region.

    Attributes:
        xyxy: Half-open box in pixels of the original image.
        area: Number of foreground pixels in the region.
        foreground: Mean of the upsampled **M** over the region's pixels, in (τ, 1].
    """

    xyxy: tuple[float, float, float, float]
    area: int
    foreground: float


@dataclass(frozen=True, slots=True)
class Localization:
    """What was found in one map.

    Attributes:
        regions: Largest first, at most as many as asked for; empty when no pixel passes τ.
        region_map: ``(h, w)`` unsigned integers in the original image's frame: i + 1 on the pixels of ``regions[i]``, 0
            elsewhere; ``None`` unless asked for.
    """

    regions: tuple[Region, ...]
    region_map: npt.NDArray[np.unsignedinteger[Any]] | None = None


def upsample(M: npt.ArrayLike, size_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Bilinear upsampling of one map to an image's size.

    Args:
        M: ``(h, w)`` map in [0, 1] at feature resolution.
        size_hw: ``(H, W)`` of the image.

    Returns:
        ``(H, W)`` float32.

    Raises:
        ShapeError: ``M`` is not a non-empty two-dimensional array, or the size is not two positive numbers.
    """
    array = np.ascontiguousarray(M, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise ShapeError(f"a foreground map has shape (h, w), not {array.shape}")
    if np.shape(size_hw) != (2,) or min(size_hw) < 1:
        raise ShapeError(f"a size is (h, w) in pixels, each at least 1, not {size_hw}")
    height, width = size_hw
    return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def localize(
    M: npt.ArrayLike,
    size_hw: tuple[int, int],
    tau: float = 0.5,
    max_boxes: int = 1,
    with_map: bool = False,
) -> Localization:
    """Boxes of the largest foreground regions of one map.

    Args:
        M: ``(h, w)`` foreground map in [0, 1].
        size_hw: ``(H, W)`` of the original image; the boxes are in its pixels.
        tau: Threshold τ in [0, 1).
        max_boxes: At most this many regions, largest first.
        with_map: Also say which pixels are those regions'.

    Raises:
        ConfigError: ``tau`` or ``max_boxes`` is out of range.
        ShapeError: ``M`` is not two-dimensional.
    """
    if not 0 <= tau < 1:
        raise ConfigError(f"threshold {tau} is not in [0, 1)")
    if max_boxes < 1:
        raise ConfigError(f"max_boxes is {max_boxes}; it must be at least 1")
    full = _full(M, size_hw)
    found = _regions(full, tau, max_boxes)
    if not with_map:
        return Localization(found.regions)
    most, components = len(found.order), int(found.labels.max(initial=0))
    numbers: npt.NDArray[np.unsignedinteger[Any]] = np.zeros(components + 1, np.min_scalar_type(most))  # mostly a byte
    numbers[found.order] = np.arange(1, most + 1)
    region_map = np.zeros_like(numbers, shape=full.shape)
    region_map[found.window] = numbers[found.labels]
    return Localization(found.regions, region_map)


def localize_at(M: npt.ArrayLike, size_hw: tuple[int, int], taus: Sequence[float]) -> list[Region | None]:
    """The largest foreground region at each of several thresholds; **M** is upsampled once.

    Args:
        M: ``(h, w)`` foreground map in [0, 1].
        size_hw: ``(H, W)`` of the original image; the boxes are in its pixels.
        taus: Thresholds.

    Returns:
        For each threshold what :func:`localize` finds first, or ``None`` where no pixel passes it.

    Raises:
        ShapeError: ``M`` is not two-dimensional.
    """
    full = _full(M, size_hw)
    found = [_regions(full, tau, 1).regions for tau in taus]
    return [regions[0] if regions else None for regions in found]


def localize_box(
    M: npt.ArrayLike, size_hw: tuple[int, int], box: npt.ArrayLike, tau: float = 0.5, with_map: bool = False
) -> Localization:
    """The one region of a method that gives a box beside its map.

    Its pixels are those in the box whose value is above τ, or all in the box if there is none.

    Args:
        M: ``(h, w)`` map in [0, 1].
        size_hw: ``(H, W)`` of the original image; the region is in its pixels.
        box: ``(4,)`` half-open xyxy in shares of the image's sides; it is clipped to the image.
        tau: Threshold τ, of the pixels alone.
        with_map: Also say which pixels are the region's.

    Raises:
        ShapeError: ``M`` is not two-dimensional.
    """
    full, (h, w) = _full(M, size_hw), size_hw
    x0, y0, x1, y1 = (np.clip(np.asarray(box, np.float64), 0, 1) * (w, h, w, h)).tolist()
    left, top = min(int(x0), w - 1), min(int(y0), h - 1)
    window = np.s_[top : max(math.ceil(y1), top + 1), left : max(math.ceil(x1), left + 1)]
    inside = full[window] > tau
    if not inside.any():
        inside[:] = True
    region = Region((x0, y0, x1, y1), int(inside.sum()), float(full[window][inside].mean()))
    if not with_map:
        return Localization((region,))
    region_map = np.zeros(full.shape, np.uint8)
    region_map[window] = inside
    return Localization((region,), region_map)


def _full(M: npt.ArrayLike, size_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    array = np.asarray(M, dtype=np.float32)
    return upsample(array if np.isfinite(array).all() else np.nan_to_num(array, nan=0.0), size_hw)


class _Regions(NamedTuple):
    """Largest regions of an upsampled map, and what of it is theirs."""

    regions: tuple[Region, ...]
    window: tuple[slice, slice]  # of the map, that holds all of its foreground
    labels: npt.NDArray[Any]  # the number of each pixel's component in the window; 0 is the background
    order: npt.NDArray[np.int64]  # the numbers of the regions


def _regions(full: npt.NDArray[np.float32], tau: float, max_boxes: int) -> _Regions:
    # Components are found in the bounding box of the foreground, and numbered in 16 bits where that is enough for
    # all that there can be: on maps of 608 photographs it takes 0.4 of the time.
    binary = (full > tau).view(np.uint8)
    left, top, width, height = cv2.boundingRect(binary)
    window = np.s_[top : top + height, left : left + width]
    if not width:
        return _Regions((), window, binary[window], np.zeros(0, np.int64))
    kind = cv2.CV_16U if ((width + 1) // 2) * ((height + 1) // 2) < 2**16 else cv2.CV_32S
    count, labels, stats, _ = cv2.connectedComponentsWithStats(binary[window], connectivity=CONNECTIVITY, ltype=kind)
    order = _largest(np.asarray(labels), stats[1:count, cv2.CC_STAT_AREA], max_boxes)
    regions = []
    for label in order.tolist():
        x, y, w, h, area = stats[label].tolist()
        inside = full[window][y : y + h, x : x + w][labels[y : y + h, x : x + w] == label]
        xyxy = float(left + x), float(top + y), float(left + x + w), float(top + y + h)
        regions.append(Region(xyxy, area, float(inside.mean())))
    return _Regions(tuple(regions), window, np.asarray(labels), order)


def _largest(labels: npt.NDArray[Any], areas: npt.NDArray[Any], most: int) -> npt.NDArray[np.int64]:
    """Labels of the largest components; label 0 is the background."""
    if len(set(areas.tolist())) == len(areas):
        return 1 + np.argsort(-areas)[:most]
    # OpenCV numbers components by blocks of pixels: only the first pixels tell which comes first.
    first = np.unique(labels, return_index=True)[1][-len(areas) :]
    return 1 + np.lexsort((first, -areas))[:most]
