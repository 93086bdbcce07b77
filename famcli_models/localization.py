"""Foreground map to boxes: upsample, threshold, largest connected component (section 3.3).

This is the only place where a map is resized. The rules, all of them:

* **M** is upsampled with bilinear interpolation (pixel centres aligned, as ``align_corners=False``)
  to the original image.
* A pixel is foreground when its value is *greater than* τ; a map that is τ everywhere is empty.
* Components are 8-connected and ordered by their number of pixels; ties go to the one met first
  when the image is read row by row.
* The box of a component is the half-open box of its pixels, in the frame of the map's image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from famcli_models.errors import ConfigError, ShapeError

CONNECTIVITY = 8


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
    regions, labels, order = _regions(full, tau, max_boxes)
    if not with_map:
        return Localization(regions)
    numbers = np.zeros(int(labels.max()) + 1, np.min_scalar_type(len(order)))  # of each component; mostly a byte
    numbers[order] = np.arange(1, len(order) + 1)
    return Localization(regions, numbers[labels])


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
    found = [_regions(full, tau, 1)[0] for tau in taus]
    return [regions[0] if regions else None for regions in found]


def _full(M: npt.ArrayLike, size_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    return upsample(np.nan_to_num(np.asarray(M, dtype=np.float32), nan=0.0), size_hw)


def _regions(
    full: npt.NDArray[np.float32], tau: float, max_boxes: int
) -> tuple[tuple[Region, ...], npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Largest regions of an upsampled map, the number of each pixel's component, and those of the regions."""
    binary = np.asarray(full > tau, dtype=np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=CONNECTIVITY)
    order = _largest(np.asarray(labels), stats[1:count, cv2.CC_STAT_AREA], max_boxes)
    regions = []
    for label in order.tolist():
        x, y, w, h, area = (int(v) for v in stats[label])
        window = np.s_[y : y + h, x : x + w]
        foreground = float(full[window][labels[window] == label].mean())
        regions.append(Region((float(x), float(y), float(x + w), float(y + h)), area, foreground))
    return tuple(regions), np.asarray(labels), order


def _largest(labels: npt.NDArray[Any], areas: npt.NDArray[Any], most: int) -> npt.NDArray[np.int64]:
    """Labels of the largest components; label 0 is the background."""
    if len(set(areas.tolist())) == len(areas):
        return 1 + np.argsort(-areas)[:most]
    # OpenCV numbers components by blocks of pixels: only the first pixels tell which comes first.
    first = np.unique(labels, return_index=True)[1][-len(areas) :]
    return 1 + np.lexsort((first, -areas))[:most]
