"""MaxBoxAcc and MaxBoxAccV2: golden values worked by hand, then the transcribed rules."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from famcli.evaluation.metrics.box import (
    DELTAS,
    BoxCounts,
    best_ious,
    in_bytes,
    inclusive_iou,
    masks_of,
    score_map,
    thresholds,
    truth_boxes,
)
from famcli.evaluation.metrics.contours import NO_BOX, all_contours, contours_at
from famcli_models.errors import ConfigError, ShapeError

FIFTHS = np.arange(0, 1, 0.2)


def boxes_of(scores: list[list[float]], taus: np.ndarray = FIFTHS) -> tuple[list, list]:
    """V1's box and V2's boxes at each threshold."""
    array = np.array(scores, dtype=np.float64)
    image = in_bytes(array)
    cuts, of_tau = masks_of(image, taus)
    found = all_contours(array, image, cuts)
    every = [sorted(map(tuple, of.tolist())) for of in np.split(found.boxes, found.starts[1:])]
    return [tuple(found.largest[i].tolist()) for i in of_tau], [every[i] for i in of_tau]


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ([1, 2, 5, 6], [3, 1, 4, 5], 8 / 27),  # columns 3-4 and rows 2-5 are shared; the union has 25 + 10 - 8
        (NO_BOX, NO_BOX, 1.0),  # a pixel in inclusive corners: all of itself
        (NO_BOX, [1, 1, 3, 3], 0.0),
    ],
)
def test_iou_by_hand(a: list[int], b: list[int], iou: float) -> None:
    """Corners are inclusive, and every box meets every other."""
    assert inclusive_iou([a] * 3, [b] * 5).tolist() == [[iou] * 5] * 3


@pytest.mark.parametrize(
    ("box", "size_hw", "frame_hw", "cut"),
    [
        ([1, 2, 5, 4], (20, 10), (10, 35), [3, 1, 14, 1]),  # inclusive (1, 2, 4, 3) is (3.5, 1, 14, 1.5), cut
        ([1, 2, 2, 3], (3, 3), (3, 3), [1, 2, 1, 2]),
        ([0, 0, 500, 375], (375, 500), (224, 224), [0, 0, 223, 223]),  # int(499 · 224 / 500), int(374 · 224 / 375)
        ([0.9, 0.9, 1.2, 1.2], (10, 10), (224, 224), [20, 20, 20, 20]),  # thinner than a pixel: not inside out
    ],
)
def test_truth_by_hand(box: list[float], size_hw: Any, frame_hw: Any, cut: list[int]) -> None:
    """Inclusive corners are scaled and cut to whole numbers."""
    assert truth_boxes([box], size_hw, frame_hw).tolist() == [cut]


@pytest.mark.parametrize(("corner", "width"), [(61, 112), (183, 336), (122, 448)])
def test_truth_is_multiplied_first(corner: int, width: int) -> None:
    """61 · 224 / 112 is 122; 61 / 112 · 224 falls short of it by a bit, and would be cut to 121."""
    cut = truth_boxes([[corner, 0, width, 9]], (9, width))
    assert cut[0, 0] == corner * 224 // width
    assert int(corner / width * 224) == cut[0, 0] - 1


def test_one_hill() -> None:
    """Right and bottom are x + w and y + h, but never beyond the last pixel, which is inclusive."""
    one, _ = boxes_of(
        [
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.4, 0.4, 0.4, 0.6],
            [0.0, 0.4, 1.0, 0.8, 0.6],
            [0.0, 0.4, 0.4, 0.4, 0.6],
        ]
    )
    # τ = 0.4 cuts at 102 = 0.4 · 255, so the ring of 0.4 is background: strictly greater.
    assert one == [(1, 1, 4, 3), (1, 1, 4, 3), (2, 1, 4, 3), (2, 2, 4, 3), (2, 2, 3, 3)]


def test_many_hills() -> None:
    """The largest is that of the largest polygon through pixel centres; of equal ones, that of OpenCV's order."""
    one, _ = boxes_of(
        [
            [0.4, 0.0, 0.2, 0.2, 0.2],
            [0.4, 0.4, 0.0, 0.4, 0.0],
            [0.0, 0.0, 0.0, 0.4, 0.0],
            [1.0, 0.6, 0.8, 0.2, 0.2],
        ]
    )
    assert one == [(0, 0, 4, 3), (0, 0, 2, 2), (0, 3, 3, 3), (2, 3, 3, 3), (0, 3, 1, 3)]


def test_holes_have_contours() -> None:
    """Under RETR_TREE a ring has two contours: its outside, and its hole's, one pixel wider than the hole."""
    ring = np.zeros((6, 6))
    ring[0:5, 0:5] = 1.0
    ring[2, 2] = 0.0
    one, every = boxes_of(ring.tolist(), np.array([0.0]))
    assert one == [(0, 0, 5, 5)]
    assert every == [[(0, 0, 5, 5), (1, 1, 4, 4)]]


def test_thin_shapes_have_no_area() -> None:
    """A line of five pixels has contourArea 0 and loses to 2 x 2 pixels, whose polygon has area 1."""
    line_and_square = [[1, 1, 1, 1, 1, 0], *[[0] * 6] * 3, *[[0, 0, 0, 1, 1, 0]] * 2]
    one, every = boxes_of(line_and_square, np.array([0.0]))
    assert one == [(3, 4, 5, 5)]  # x + w = 5; y + h = 6, cut to the last row
    assert every == [[(0, 0, 5, 1), (3, 4, 5, 5)]]


@pytest.mark.parametrize(
    "scores",
    [
        [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]],  # four pixels of area 0
        [[1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 1, 1], [0] * 6, [0] * 6],  # two squares of area 1
        [[0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 1, 0, 1, 1], [0] * 5],  # a ring with a spur: hole and outside tie
    ],
)
def test_ties_go_to_the_first_contour(wsoleval_rules: ModuleType, scores: list[list[float]]) -> None:
    """Of contours with equal area the first in OpenCV's order is taken, as max() does on the whole picture."""
    one, _ = boxes_of(scores, np.array([0.0]))
    assert one == [tuple(wsoleval_rules.boxes_at(np.array(scores, np.float64), 0.0, every_contour=False)[0])]


def test_a_ring_with_a_spur_by_hand() -> None:
    """The spur has no area, so outside and hole tie at 2; the outside is the hole's parent and comes first."""
    scores = [[0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0] * 5, [0] * 5]
    assert boxes_of(scores, np.array([0.0])) == ([(0, 0, 4, 3)], [[(0, 0, 3, 3), (0, 0, 4, 3)]])


def test_edges() -> None:
    """At the right and the bottom edge the stored corner is the last pixel, and the IoU takes it as included."""
    corner = np.zeros((4, 4))
    corner[2:, 2:] = 1.0
    one, _ = boxes_of(corner.tolist(), np.array([0.0]))
    assert one == [(2, 2, 3, 3)]
    assert inclusive_iou(one, [[2, 2, 3, 3]]).tolist() == [[1.0]]
    middle = np.zeros((4, 4))
    middle[1, 1] = 1.0
    one, _ = boxes_of(middle.tolist(), np.array([0.0]))
    assert one == [(1, 1, 2, 2)]  # one pixel counts as 2 x 2
    assert inclusive_iou(one, [[1, 1, 1, 1]]).tolist() == [[0.25]]


def test_no_contour() -> None:
    """A map of zeros has the box 0, 0, 0, 0 at every threshold, in both versions."""
    one, every = boxes_of([[0.0] * 3] * 3)
    assert one == [NO_BOX] * 5
    assert every == [[NO_BOX]] * 5
    assert best_ious(np.zeros((4, 4)), np.array([[0, 0, 1, 1]]), FIFTHS).tolist() == [[0.25] * 5] * 2


def test_several_boxes() -> None:
    """Any ground-truth box may match: 2 x 2 pixels are stored as 3 x 3, so 9/16 with 4 x 4 and 1 with 3 x 3."""
    scores = np.zeros((6, 6))
    scores[0:2, 0:2] = 1.0
    far = [4, 4, 5, 5]
    assert best_ious(scores, np.array([far, [0, 0, 3, 3]]), np.array([0.0])).tolist() == [[9 / 16]] * 2
    assert best_ious(scores, np.array([[0, 0, 2, 2], far]), np.array([0.0])).tolist() == [[1.0]] * 2


@pytest.mark.parametrize("raw", [np.full((4, 4), 7.0), [[0.0, np.nan], [1.0, 0.5]], [[0.0, np.inf], [1.0, 0.5]]])
def test_constant_and_nan_are_zeros(raw: object) -> None:
    """A map that says nothing, or nonsense, becomes zeros."""
    np.testing.assert_array_equal(score_map(raw), np.zeros((224, 224)))


def test_score_map() -> None:
    """A map is stretched after it was resized, so it reaches 0 and 1; again changes no bit. It has two dimensions."""
    scores = score_map(np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32))
    assert (scores.min(), scores.max()) == (0.0, 1.0)
    assert (score_map(scores) == scores).all()
    for raw in (np.zeros(4), np.zeros((2, 2, 2)), np.zeros((0, 3))):
        with pytest.raises(ShapeError, match="a score map has shape"):
            score_map(raw)


def test_thresholds() -> None:
    """arange(0, 1, interval): 1,000 thresholds at 0.001; an interval that is none is an error."""
    assert len(thresholds(0.001)) == 1000
    assert thresholds(0.5).tolist() == [0.0, 0.5]
    for interval in (0, -1, 2, 1e-9, float("nan")):
        with pytest.raises(ConfigError, match="interval"):
            thresholds(interval)


def test_masks_are_grouped() -> None:
    """Byte values 0, 100 and 255 make two masks, whatever the thresholds: more than 0, and more than 100."""
    image = np.array([[0, 100], [100, 255]], np.uint8)
    cuts, of_tau = masks_of(image, thresholds(0.001))
    assert len(cuts) == 2
    assert of_tau.tolist() == [int(t * 255) >= 100 for t in thresholds(0.001)]


def test_one_threshold_for_all_images() -> None:
    """The best τ is the dataset's: two images that are right at different τ make 50 %, not 100 %."""
    low, high = np.zeros((10, 10)), np.zeros((10, 10))
    low[0:8, 0:8], low[0:2, 0:2] = 0.5, 1.0
    high[:] = low
    counts = BoxCounts(np.array([0.0, 0.8]))
    counts.add(low, np.array([[0, 0, 8, 8]]))
    counts.add(high, np.array([[0, 0, 2, 2]]))
    result = counts.accuracy(1)
    assert (result.value, result.tau[0.5], result.curve[0.5]) == (50.0, 0.0, [50.0, 50.0])


def test_v2_has_a_threshold_for_each_delta() -> None:
    """MaxBoxAccV2 is the mean of three best accuracies, each at its own τ."""
    scores = np.zeros((12, 12))
    scores[0:8, 0:8], scores[0:5, 0:5] = 0.5, 1.0
    counts = BoxCounts(np.array([0.0, 0.8]))
    counts.add(scores, np.array([[0, 0, 5, 5]]))  # 36 pixels: IoU 36/81 = 0.44 at τ = 0, 1 at τ = 0.8
    counts.add(scores, np.array([[0, 0, 11, 11]]))  # 144: 81/144 = 0.5625 at τ = 0, 36/144 = 0.25 at τ = 0.8
    result = counts.accuracy(2)
    assert result.curve == {0.3: [100.0, 50.0], 0.5: [50.0, 50.0], 0.7: [0.0, 50.0]}
    assert result.at_delta == {0.3: 100.0, 0.5: 50.0, 0.7: 50.0}
    assert result.tau == {0.3: 0.0, 0.5: 0.0, 0.7: 0.8}
    assert result.value == pytest.approx(200 / 3)


def test_nothing_counted() -> None:
    """No image, no number."""
    with pytest.raises(ConfigError, match="no image was counted"):
        BoxCounts(FIFTHS).accuracy(1)


# The rules, transcribed: maps of few values have ties, holes and thin shapes in plenty.
sides = st.integers(1, 9)
few = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
blocky = st.tuples(sides, sides).flatmap(lambda hw: arrays(np.float64, hw, elements=few))
rough = st.tuples(sides, sides).flatmap(lambda hw: arrays(np.float64, hw, elements=st.floats(0, 1, width=32)))
binary = st.tuples(st.integers(5, 14), st.integers(5, 14)).flatmap(
    lambda hw: arrays(np.float64, hw, elements=st.sampled_from([0.0, 1.0]))
)


@st.composite
def scored_maps(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """A map in [0, 1] and one to three boxes in its frame."""
    scores = draw(st.one_of(blocky, rough, binary))
    h, w = scores.shape
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        x = sorted(draw(st.tuples(st.integers(0, w - 1), st.integers(0, w - 1))))
        y = sorted(draw(st.tuples(st.integers(0, h - 1), st.integers(0, h - 1))))
        boxes.append((x[0], y[0], x[1], y[1]))
    return scores, boxes


@settings(max_examples=150, deadline=None)
@given(st.lists(scored_maps(), min_size=1, max_size=4), st.sampled_from([0.01, 0.05, 0.3]))
def test_equals_the_rules(wsoleval_rules: ModuleType, images: list, interval: float) -> None:
    """Both versions agree with the literal rules in every bit, at every threshold and δ."""
    counts = BoxCounts(thresholds(interval))
    for scores, boxes in images:
        counts.add(scores, np.array(boxes))
    for version in (1, 2):
        expected = wsoleval_rules.accuracies(images, interval, every_contour=version == 2)
        result = counts.accuracy(version)
        assert list(result.curve.values()) == [curve.tolist() for curve in expected.values()]
        assert result.at_delta == dict(zip(DELTAS, [c.max() for c in expected.values()], strict=True))
        means = [c.max() for c in expected.values()]
        assert result.value == (means[1] if version == 1 else np.average(means))


@settings(max_examples=300, deadline=None)
@given(st.one_of(blocky, rough, binary), st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([0.05, 0.5]))
def test_the_same_boxes(wsoleval_rules: ModuleType, scores: np.ndarray, highest: float, interval: float) -> None:
    """At every threshold the trees give the boxes of all contours, and OpenCV's first of the largest."""
    scores, taus = scores * highest, thresholds(interval)
    one, every = boxes_of(scores, taus)
    for tau, largest, boxes in zip(taus, one, every, strict=True):
        assert boxes == sorted(tuple(box) for box in wsoleval_rules.boxes_at(scores, tau, every_contour=True))
        assert largest == tuple(wsoleval_rules.boxes_at(scores, tau, every_contour=False)[0])


@settings(max_examples=100, deadline=None)
@given(st.one_of(blocky, rough, binary), st.sampled_from([0, 25, 127, 254]))
def test_one_threshold_has_opencvs_order(wsoleval_rules: ModuleType, scores: np.ndarray, cut: int) -> None:
    """At one threshold the contours are in OpenCV's order."""
    found = contours_at(in_bytes(scores), cut)
    tau = (cut + 0.5) / max(int(in_bytes(scores).max()), 1)
    assert found.boxes.tolist() == wsoleval_rules.boxes_at(scores, tau, every_contour=True)
    assert found.largest.tolist() == wsoleval_rules.boxes_at(scores, tau, every_contour=False)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("side", [5, 14, 60])
def test_whole_maps_equal_the_rules(wsoleval_rules: ModuleType, seed: int, side: int) -> None:
    """From a network's map and boxes in original pixels to the last bit, at 224 pixels and 100 thresholds."""
    rng = np.random.default_rng(seed)
    images, counts = [], BoxCounts(thresholds(0.01))
    for dtype in (np.float32, np.float64, np.float16):
        raw = cv2.GaussianBlur(rng.normal(size=(side, side + seed)), (3, 3), 1).astype(dtype)
        size_hw = tuple(rng.integers(80, 600, 2).tolist())
        low = rng.integers(0, np.array(size_hw) // 2)
        high = rng.integers(low + 1, np.array(size_hw))
        box = (low[1], low[0], high[1] - 1, high[0] - 1)
        images.append((wsoleval_rules.normalised(raw), [wsoleval_rules.resized_box(box, size_hw[::-1], (224, 224))]))
        counts.add(score_map(raw), truth_boxes([[low[1], low[0], high[1], high[0]]], size_hw))
    for version in (1, 2):
        expected = wsoleval_rules.accuracies(images, 0.01, every_contour=version == 2)
        assert list(counts.accuracy(version).curve.values()) == [curve.tolist() for curve in expected.values()]


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.tuples(st.integers(0, 699), st.integers(0, 699), st.integers(0, 699), st.integers(0, 699)),
)
def test_truth_equals_the_rules(
    wsoleval_rules: ModuleType, size_hw: tuple[int, int], corners: tuple[int, int, int, int]
) -> None:
    """Ground truth is cut to the same whole numbers, whatever the size of the picture."""
    h, w = size_hw
    x, y = sorted(c % w for c in corners[::2]), sorted(c % h for c in corners[1::2])
    expected = wsoleval_rules.resized_box((x[0], y[0], x[1], y[1]), (w, h), (224, 224))
    assert truth_boxes([[x[0], y[0], x[1] + 1, y[1] + 1]], size_hw).tolist() == [list(expected)]
