"""Kinds of misses, one by one, with areas worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from famcli.results.images import ERROR_TYPES, error_type
from famcli_models.errors import ShapeError

OBJECT = (0.0, 0.0, 100.0, 100.0)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (OBJECT, "right"),
        ((0, 0, 100, 50), "right"),  # IoU exactly 0.5
        ((0, 0, 100, 49.9), "part"),  # all of the box lies within the object
        ((0, 0, 200, 101), "too much"),  # all of the object lies within the box
        ((50, 50, 150, 150), "part"),  # a quarter of each: not yet elsewhere, and the box is as much within
        ((51, 51, 151, 151), "wrong instance"),  # 49² of 100² in common, less than a quarter of each
        ((90, 0, 95, 100), "part"),  # a thin slice, all of it within
        ((90, 90, 99, 400), "wrong instance"),  # 90 of 2,790 and 90 of 10,000 pixels in common
        ((90, 0, 390, 100), "wrong instance"),  # 10 of 300 and 10 of 100
        ((60, 0, 360, 100), "too much"),  # 40 of 300 within, 40 of 100 covered
        ((100, 0, 200, 100), "wrong instance"),  # they touch, and have nothing in common
        ((500, 500, 510, 510), "wrong instance"),
        ((50, 50, 50, 60), "wrong instance"),  # no area
        (None, "empty"),
        ((float("nan"),) * 4, "empty"),
    ],
)
def test_boxes_by_hand(box: tuple[float, ...] | None, expected: str) -> None:
    """Each way to miss an object of 100 x 100 pixels has its word."""
    assert error_type(box, [OBJECT], None) == expected


def test_the_class_comes_second() -> None:
    """A right box of the wrong class is that; a wrong box is a wrong box, whatever the class."""
    assert error_type(OBJECT, [OBJECT], 0) == "right"
    assert error_type(OBJECT, [OBJECT], 3) == "wrong class"
    assert error_type((0, 0, 10, 10), [OBJECT], 3) == "part"
    assert error_type(None, [OBJECT], 0) == "empty"


def test_strict_wants_more_than_half() -> None:
    """An IoU of 0.5 itself is right or not by the protocol's rule."""
    assert error_type((0, 0, 100, 50), [OBJECT], None, strict=True) == "part"
    assert error_type((0, 0, 100, 50.1), [OBJECT], None, strict=True) == "right"


def test_the_nearest_truth_box_counts() -> None:
    """Of several objects the one of highest IoU is compared, the first of equal ones."""
    assert error_type((200, 0, 300, 100), [OBJECT, (200, 0, 300, 100)], None) == "right"
    # Half within each of two: with the first, the smaller one, it is too much.
    small, large = (0.0, 0.0, 20.0, 10.0), (20.0, 0.0, 40.0, 10.0)
    assert error_type((0, 0, 40, 11), [small, large], None) == "too much"
    assert error_type((300, 0, 310, 10), [OBJECT, (305, 0, 500, 10)], None) == "part"


def test_truth_is_needed() -> None:
    """Without a truth box there is nothing to miss."""
    with pytest.raises(ShapeError, match="at least one truth box"):
        error_type(OBJECT, [], None)
    with pytest.raises(ShapeError, match="one box"):
        error_type([OBJECT, OBJECT], [OBJECT], None)


corners = st.tuples(*[st.integers(0, 40)] * 4).map(
    lambda c: (float(min(c[0], c[2])), float(min(c[1], c[3])), max(c[0], c[2]) + 1.0, max(c[1], c[3]) + 1.0)
)


@given(corners, st.lists(corners, min_size=1, max_size=3))
def test_every_box_has_a_kind(box: tuple[float, ...], truth: list[tuple[float, ...]]) -> None:
    """Whatever the boxes, the kind is one of the table, and swapping box and object swaps part and too much."""
    found = error_type(box, truth, None)
    assert found in ERROR_TYPES
    other = error_type(truth[0], [box], None)
    if len(truth) == 1 and found == "too much":
        assert other == "part"
