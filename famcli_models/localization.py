"""Foreground map to boxes: upsample, threshold, largest connected component (section 3.3).

A method that gives its box itself has one region, see :func:`localize_box`.

This is the only place where a map is resized. The rules, all of them:

* **M** is upsampled with bilinear interpolation (pixel centres aligned, as ``align_corners=False``)
  to the original image.
* A pixel is foreground when its value is *greater than* τ; a map that is τ everywhere is empty.
* Components are 8-connected and ordered by their number of pixels; ties go to the one met first
  when the image is read row by row.
* The box of a component is the half-open box of its pixels, in the frame of the map's image.

Images of more than 16 million pixels are gone through in strips of columns, so that they need no map of their size; the
boxes are the same, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from famcli_models.errors import ConfigError, ShapeError

CONNECTIVITY = 8
LARGE = 1 << 24  # pixels of an image that is gone through in strips
STRIP = 1 << 22  # pixels of a strip
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
    if _is_large(size_hw):
        return _localize_large(M, size_hw, tau, max_boxes, with_map)
    full = upsample(_finite(M), size_hw)
    found = _regions(full, tau, max_boxes)
    if not with_map:
        return Localization(found.regions)
    numbers = _numbers(found.order, int(found.labels.max(initial=0)))
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
    if _is_large(size_hw):
        pieces = [_Pieces(tau) for tau in taus]
        for left, strip in _strips(M, size_hw):
            for of_tau in pieces:
                of_tau.add(left, strip)
        found = [of_tau.regions(1) for of_tau in pieces]
    else:
        full = upsample(_finite(M), size_hw)
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
    h, w = size_hw
    x0, y0, x1, y1 = (np.clip(np.asarray(box, np.float64), 0, 1) * (w, h, w, h)).tolist()
    first, top = min(int(x0), w - 1), min(int(y0), h - 1)
    last, bottom = max(math.ceil(x1), first + 1), max(math.ceil(y1), top + 1)
    sums = np.zeros((2, 2))  # pixels and their values: of all in the box, and of those above τ
    region_map = np.zeros(size_hw, np.uint8) if with_map else None
    for left, strip in _strips(M, size_hw):
        values = strip[top:bottom, max(first - left, 0) : max(last - left, 0)]
        above = values > tau
        sums += [[values.size, values.sum(dtype=np.float64)], [above.sum(), values.sum(where=above, dtype=np.float64)]]
        if region_map is not None:
            region_map[top:bottom, max(first, left) : min(last, left + strip.shape[1])] = above
    if not sums[1, 0] and region_map is not None:
        region_map[top:bottom, first:last] = 1
    pixels, total = sums[1 if sums[1, 0] else 0].tolist()
    return Localization((Region((x0, y0, x1, y1), int(pixels), total / pixels),), region_map)


def _finite(M: npt.ArrayLike) -> npt.NDArray[np.float32]:
    array = np.asarray(M, dtype=np.float32)
    return array if np.isfinite(array).all() else np.nan_to_num(array, nan=0.0)


def _is_large(size_hw: tuple[int, int]) -> bool:
    return math.prod(size_hw) > LARGE


def _numbers(order: npt.NDArray[np.int64], components: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The place from 1 of each component's number in ``order``, 0 of the others; mostly in bytes."""
    numbers: npt.NDArray[np.unsignedinteger[Any]] = np.zeros(components + 1, np.min_scalar_type(len(order)))
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers


def _strips(M: npt.ArrayLike, size_hw: tuple[int, int]) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """The upsampled map in strips of columns, each with the number of its first; in one if it is not large."""
    array, (height, width) = _finite(M), size_hw
    if not _is_large(size_hw):
        yield 0, upsample(array, size_hw)
        return
    wide = upsample(array, (len(array), width))  # both directions are interpolated one after the other anyway
    columns = max(1, STRIP // height)
    for left in range(0, width, columns):
        strip = wide[:, left : left + columns]
        yield left, upsample(strip, (height, strip.shape[1]))


def _localize_large(
    M: npt.ArrayLike, size_hw: tuple[int, int], tau: float, max_boxes: int, with_map: bool
) -> Localization:
    pieces = _Pieces(tau)
    for left, strip in _strips(M, size_hw):
        pieces.add(left, strip)
    regions = pieces.regions(max_boxes)
    if not with_map:
        return Localization(regions)
    numbers, before = _numbers(pieces.order(max_boxes), len(pieces.parent) - 1)[pieces.roots()], 0
    region_map = np.zeros_like(numbers, shape=size_hw)
    for left, strip in _strips(M, size_hw):
        count, labels = cv2.connectedComponents((strip > tau).view(np.uint8), connectivity=CONNECTIVITY)
        here = np.concatenate([numbers[:1], numbers[before + 1 : before + count]])
        region_map[:, left : left + strip.shape[1]] = here[labels]
        before += count - 1
    return Localization(regions, region_map)


@dataclass(slots=True)
class _Pieces:
    """Components of the strips of a map, and which of them are one across the borders of strips; numbered from 1."""

    tau: float
    parent: list[int] = field(default_factory=lambda: [0])  # of each piece one that it is connected with, or itself
    found: list[npt.NDArray[np.float64]] = field(default_factory=list)  # x0, y0, -x1, -y1, pixels and sum, by strip
    edge: npt.NDArray[np.int64] | None = None  # (h,) numbers along the last column

    def add(self, left: int, strip: npt.NDArray[np.float32]) -> None:
        """Add the strip that follows."""
        binary = (strip > self.tau).view(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=CONNECTIVITY, ltype=cv2.CV_32S)
        before, sums = len(self.parent) - 1, np.bincount(np.ravel(labels), strip.ravel(), count)
        self.parent += range(before + 1, before + count)
        x, y, w, h, area = stats[1:count].T
        self.found.append(np.stack([left + x, y, -(left + x + w), -(y + h), area, sums[1:]], 1).astype(np.float64))
        first, last = (np.where(labels[:, at] > 0, labels[:, at] + before, 0).astype(np.int64) for at in (0, -1))
        if self.edge is not None:
            height = len(first)
            for down in (-1, 0, 1):  # pixels that touch, also at a corner
                a, b = self.edge[max(-down, 0) : height - max(down, 0)], first[max(down, 0) : height - max(-down, 0)]
                for one, other in np.unique(np.stack([a, b], 1)[(a > 0) & (b > 0)], axis=0).tolist():
                    self.parent[self._root(one)] = self._root(other)
        self.edge = last

    def _root(self, piece: int) -> int:
        while self.parent[piece] != piece:
            piece = self.parent[piece]
        return piece

    def roots(self) -> npt.NDArray[np.int64]:
        """The number of each piece's component: that of one of its pieces."""
        return np.array([self._root(piece) for piece in range(len(self.parent))])

    def _whole(self) -> npt.NDArray[np.float64]:
        """What ``found`` has of pieces, of the component of each number."""
        pieces, roots = np.concatenate(self.found), self.roots()[1:]
        whole = np.zeros((len(self.parent), 6))
        whole[:, :4] = np.inf
        np.minimum.at(whole[:, :4], roots, pieces[:, :4])
        np.add.at(whole[:, 4:], roots, pieces[:, 4:])
        return whole

    def order(self, most: int) -> npt.NDArray[np.int64]:
        """Numbers of the largest components; of equals the topmost, then the leftmost, is first."""
        x0, y0, _, _, area, _ = self._whole().T
        order = np.lexsort((x0, y0, -area))
        return np.asarray(order[area[order] > 0][:most])

    def regions(self, most: int) -> tuple[Region, ...]:
        """The largest components."""
        rows = self._whole()[self.order(most)].tolist()
        return tuple(Region((x0, y0, -x1, -y1), int(area), total / area) for x0, y0, x1, y1, area, total in rows)


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
