"""PxAP and pIoU: values worked by hand, then the transcribed rules."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from famcli.evaluation.metrics.box import thresholds
from famcli.evaluation.metrics.mask import IGNORED, MaskAccuracy, MaskCounts, truth_mask
from famcli_models.errors import DataError, ShapeError


def accuracy(scores: object, truth: object, interval: float = 0.1) -> MaskAccuracy:
    counts = MaskCounts(thresholds(interval))
    counts.add(np.array(scores, np.float64), np.array(truth, np.uint8))
    return counts.accuracy()


def test_a_perfect_map() -> None:
    """A map that is the mask has PxAP and pIoU 100, and what is ignored does not matter."""
    truth = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, IGNORED, IGNORED], [0, 0, 0, 0]]
    for ignored in (0.0, 0.7, 1.0):
        scores = np.array(truth, np.float64)
        scores[2, 2:] = ignored
        result = accuracy(scores, truth)
        assert (result.pxap, result.piou, result.tau) == (100.0, 100.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_map(value: float) -> None:
    """A constant map calls everything an object: precision is the share of object pixels, 3 of 12."""
    truth = np.zeros((4, 4), np.uint8)
    truth[0, :3], truth[3] = 1, IGNORED
    result = accuracy(np.full((4, 4), value), truth)
    assert (result.pxap, result.piou) == (25.0, 25.0)


def test_by_hand() -> None:
    """Object pixels score 1, 0.55, 0.55, 0.15; background 0.55, 0.15 and 0 twice.

    From the top: at 1 precision 1/1, recall 1/4; at 0.5 3/4 and 3/4; at 0.1 4/6 and 1; at 0 4/8 and 1. The first
    bin of all, [2, 3), has no pixel, so the area is 1·1/4 + 3/4·2/4 + 4/6·1/4. IoU is 1/4, 3/5, 4/6, 4/8.
    """
    result = accuracy([[1, 0.55, 0.55, 0.15], [0.55, 0.15, 0, 0]], [[1, 1, 1, 1], [0, 0, 0, 0]])
    assert result.pxap == pytest.approx(100 * (1 / 4 + 3 / 8 + 1 / 6))
    assert result.piou == pytest.approx(100 * 4 / 6)
    assert result.tau == pytest.approx(0.1)


def test_images_are_pooled() -> None:
    """All pixels go into one histogram: the area is not the mean of the images' areas."""
    counts, parts = MaskCounts(thresholds(0.1)), [MaskCounts(thresholds(0.1)) for _ in range(2)]
    images = [([[1.0, 0.0]], [[1, 0]]), ([[0.3, 0.8]], [[1, 0]])]
    for (scores, truth), part in zip(images, parts, strict=True):
        for c in (counts, part):
            c.add(np.array(scores), np.array(truth, np.uint8))
    parts[0].merge(parts[1])
    assert parts[0].accuracy() == counts.accuracy()
    assert counts.accuracy().pxap == pytest.approx(100 * (1 / 2 + 2 / 3 * 1 / 2))


def test_truth_mask() -> None:
    """Instances are joined; the region to ignore is ignored where no object is; all at 224 by nearest neighbour."""
    left, right, ignore = np.zeros((2, 4)), np.zeros((2, 4)), np.zeros((2, 4))
    left[:, 0], right[0, 3], ignore[0] = 255, 255, 255
    truth = truth_mask([left, right], ignore)
    assert truth.shape == (224, 224)
    assert truth[::112, ::56].tolist() == [[1, IGNORED, IGNORED, 1], [1, 0, 0, 0]]
    assert set(np.unique(truth_mask([left]))) == {0, 1}


def test_errors() -> None:
    """Masks without objects, of another size, or of no size are errors."""
    with pytest.raises(DataError, match="no pixel of the masks belongs to an object"):
        accuracy([[0.5, 1.0]], [[0, IGNORED]])
    with pytest.raises(ShapeError, match="both must be of one frame"):
        accuracy([[0.5, 1.0]], [[0], [1]])
    with pytest.raises(ShapeError, match="at least one mask"):
        truth_mask([])
    with pytest.raises(ShapeError, match="a mask has shape"):
        truth_mask([np.zeros(3)])


sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
scores_of = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.floats(0, 1))
images = sizes.flatmap(
    lambda hw: st.tuples(
        arrays(np.float64, hw, elements=scores_of), arrays(np.uint8, hw, elements=st.sampled_from([0, 1, IGNORED]))
    )
)


@settings(max_examples=200, deadline=None)
@given(st.lists(images, min_size=1, max_size=4), st.sampled_from([0.001, 0.01, 0.1, 0.3]))
def test_equals_the_rules(wsoleval_rules: ModuleType, pairs: list, interval: float) -> None:
    """PxAP agrees with the literal rules in every bit."""
    assume(any((truth == 1).any() for _, truth in pairs))
    counts = MaskCounts(thresholds(interval))
    for scores, truth in pairs:
        counts.add(scores, truth)
    assert counts.accuracy().pxap == wsoleval_rules.pxap(pairs, interval)
