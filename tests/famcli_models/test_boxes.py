"""Boxes: round trips, overlap, and degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from famcli_models.boxes import as_boxes, box_area, box_iou, clip_boxes, rescale_boxes, xywh_to_xyxy, xyxy_to_xywh
from famcli_models.errors import ShapeError

coordinate = st.floats(-1e5, 1e5, allow_nan=False)
length = st.floats(2**-4, 1e5)
sides = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@st.composite
def boxes(draw: st.DrawFn, most: int = 4) -> np.ndarray:
    """Up to ``most`` xyxy boxes with an area."""
    rows = draw(st.lists(st.tuples(coordinate, coordinate, length, length), min_size=1, max_size=most))
    return np.array([(x, y, x + w, y + h) for x, y, w, h in rows])


@given(boxes())
def test_xywh_round_trip(b: np.ndarray) -> None:
    """Corners to corner and size and back is the same box, and the other way round."""
    xywh = xyxy_to_xywh(b)
    np.testing.assert_allclose(xywh_to_xyxy(xywh), b, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(xyxy_to_xywh(xywh_to_xyxy(xywh)), xywh, rtol=1e-9, atol=1e-9)


@given(boxes(), sides, sides)
def test_rescale_there_and_back(b: np.ndarray, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> None:
    """Moving boxes to another frame and back changes nothing."""
    np.testing.assert_allclose(rescale_boxes(rescale_boxes(b, from_hw, to_hw), to_hw, from_hw), b, rtol=1e-9, atol=1e-9)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_bounded(a: np.ndarray, b: np.ndarray) -> None:
    """IoU does not depend on the order and lies in [0, 1]; a box with an area overlaps itself fully."""
    iou = box_iou(a, b)
    assert iou.shape == (len(a), len(b))
    np.testing.assert_array_equal(iou, box_iou(b, a).T)
    assert (iou >= 0).all()
    assert (iou <= 1 + 1e-12).all()
    np.testing.assert_allclose(np.diagonal(box_iou(b, b)), 1, rtol=1e-12)


@given(boxes(), sides)
def test_clipped_boxes_lie_in_the_image(b: np.ndarray, size_hw: tuple[int, int]) -> None:
    """After clipping, no corner is outside the image and no side is negative."""
    h, w = size_hw
    c = clip_boxes(b, size_hw)
    assert ((c >= 0) & (c <= [w, h, w, h])).all()
    assert (c[:, 2:] >= c[:, :2]).all()


def test_sizes_and_frames_by_hand() -> None:
    """The half-open box (1, 2, 4, 6) is 3 wide and 4 high; from 10 x 20 to 20 x 10, x is halved and y doubled."""
    np.testing.assert_array_equal(xyxy_to_xywh([1, 2, 4, 6]), [[1, 2, 3, 4]])
    np.testing.assert_array_equal(box_area([1, 2, 4, 6]), [12])
    np.testing.assert_array_equal(rescale_boxes([4, 1, 8, 3], (10, 20), (20, 10)), [[2, 2, 4, 6]])
    np.testing.assert_array_equal(clip_boxes([20, 2, 30, 4], (10, 10)), [[10, 2, 10, 4]])  # a line on the edge


OVERLAPS = [
    ((0, 0, 4, 2), (2, 0, 6, 2), 1 / 3),  # 2x2 = 4 of 8 + 8 - 4 = 12 pixels
    ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),  # two points at the same place: no area, no overlap, no division by zero
    ((0, 0, 4, 0), (0, 0, 4, 4), 0.0),  # a horizontal line in a box
    ((0, 0, 0, 4), (0, 0, 4, 4), 0.0),  # a vertical line in a box
    ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),  # neighbours that share an edge: half-open boxes do not touch
    ((0, 0, 2, 2), (2, 2, 4, 4), 0.0),  # neighbours that share a corner
    ((3, 3, 1, 1), (0, 0, 4, 4), 0.0),  # turned inside out
    ((3, 3, 1, 1), (3, 3, 1, 1), 0.0),  # turned inside out, with itself
    ((0, 0, 1, 1), (0, 0, 1000, 1000), 1e-6),  # one pixel in a large image
    ((-2, -2, 2, 2), (0, 0, 2, 2), 0.25),  # partly outside the image: boxes are not clipped silently
]


@pytest.mark.parametrize(("a", "b", "iou"), OVERLAPS)
def test_iou_by_hand(a: tuple[int, ...], b: tuple[int, ...], iou: float) -> None:
    """Boxes without area overlap nothing, and none of them warns or gives NaN."""
    assert box_iou(a, b)[0, 0] == pytest.approx(iou)


def test_no_boxes() -> None:
    """An empty list is zero boxes everywhere."""
    assert as_boxes([]).shape == (0, 4)
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert xyxy_to_xywh([]).shape == xywh_to_xyxy([]).shape == (0, 4)
    assert rescale_boxes([], (1, 1), (2, 2)).shape == (0, 4)
    assert clip_boxes([], (3, 3)).shape == (0, 4)
    assert box_area([]).shape == (0,)


@pytest.mark.parametrize("bad", [[1, 2, 3], [[1, 2, 3, 4, 5]], [[[1, 2, 3, 4]]]])
def test_wrong_shapes_are_refused(bad: list[object]) -> None:
    """What is not (N, 4) or (4,) is refused with its shape."""
    with pytest.raises(ShapeError, match="expected"):
        as_boxes(bad)


def test_inputs_are_not_changed() -> None:
    """Every function gives a new array."""
    b = np.array([[1.0, 2.0, 30.0, 40.0]])
    before = b.copy()
    for function in (
        xyxy_to_xywh,
        xywh_to_xyxy,
        lambda v: clip_boxes(v, (5, 5)),
        lambda v: rescale_boxes(v, (1, 1), (2, 2)),
    ):
        function(b)
        np.testing.assert_array_equal(b, before)
