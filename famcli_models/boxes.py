"""Boxes as numbers, and the pixel convention, stated once.

A box is ``xyxy``: ``(x0, y0, x1, y1)`` in float pixels, half-open, so that ``x1 - x0`` is its width.
The first pixel of an image is the box ``(0, 0, 1, 1)`` and the whole image of ``size_hw = (h, w)`` is
``(0, 0, w, h)``. Unless a name says otherwise the frame is the original image with its EXIF
orientation applied. All functions are pure, take ``(N, 4)`` arrays and return ``float64``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from famcli_models.errors import ShapeError

FloatArray = npt.NDArray[np.float64]


def as_boxes(boxes: npt.ArrayLike) -> FloatArray:
    """Return ``boxes`` as a float64 array of shape ``(N, 4)``.

    Args:
        boxes: Anything array-like with a last dimension of 4; an empty list is ``(0, 4)``.

    Raises:
        ShapeError: The last dimension is not 4.
    """
    array: FloatArray = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.shape[-1] != 4 or array.ndim > 2:
        raise ShapeError(f"boxes have shape {array.shape}; expected (N, 4) or (4,)")
    return array.reshape(-1, 4)


def xyxy_to_xywh(boxes: npt.ArrayLike) -> FloatArray:
    """Corners to corner and size: ``(x0, y0, x1, y1)`` to ``(x0, y0, w, h)``; shape ``(N, 4)``."""
    b = as_boxes(boxes).copy()
    b[:, 2:] -= b[:, :2]
    return b


def xywh_to_xyxy(boxes: npt.ArrayLike) -> FloatArray:
    """Corner and size to corners: ``(x0, y0, w, h)`` to ``(x0, y0, x1, y1)``; shape ``(N, 4)``."""
    b = as_boxes(boxes).copy()
    b[:, 2:] += b[:, :2]
    return b


def box_area(boxes: npt.ArrayLike) -> FloatArray:
    """Areas in square pixels, shape ``(N,)``; a box turned inside out has area 0."""
    b = as_boxes(boxes)
    area: FloatArray = np.clip(b[:, 2] - b[:, 0], 0, None) * np.clip(b[:, 3] - b[:, 1], 0, None)
    return area


def box_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Intersection over union of every box of ``a`` with every box of ``b``.

    Args:
        a: ``(N, 4)`` xyxy boxes.
        b: ``(M, 4)`` xyxy boxes in the same frame.

    Returns:
        ``(N, M)`` values in [0, 1]; two boxes without area have 0.
    """
    p, q = as_boxes(a), as_boxes(b)
    top_left = np.maximum(p[:, None, :2], q[None, :, :2])
    bottom_right = np.minimum(p[:, None, 2:], q[None, :, 2:])
    side = np.clip(bottom_right - top_left, 0, None)  # (N, M, 2)
    inter = side[..., 0] * side[..., 1]
    union = box_area(p)[:, None] + box_area(q)[None, :] - inter
    iou: FloatArray = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return iou


def rescale_boxes(boxes: npt.ArrayLike, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> FloatArray:
    """Move boxes from a frame of size ``from_hw`` to the frame of the same picture at ``to_hw``.

    Args:
        boxes: ``(N, 4)`` xyxy in the frame of ``from_hw``.
        from_hw: ``(h, w)`` of the frame the boxes are in.
        to_hw: ``(h, w)`` of the frame wanted.
    """
    (fh, fw), (th, tw) = from_hw, to_hw
    scale: FloatArray = np.array([tw / fw, th / fh, tw / fw, th / fh])
    return as_boxes(boxes) * scale


def clip_boxes(boxes: npt.ArrayLike, size_hw: tuple[int, int]) -> FloatArray:
    """Cut boxes ``(N, 4)`` to the image of ``size_hw``; a box outside becomes one without area."""
    h, w = size_hw
    b = as_boxes(boxes).copy()
    b[:, 0::2] = np.clip(b[:, 0::2], 0, w)
    b[:, 1::2] = np.clip(b[:, 1::2], 0, h)
    return b
