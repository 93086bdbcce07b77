"""Outcomes and the scores counted from them, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from famcli.evaluation.perimage import NOWHERE, Outcomes


@pytest.fixture
def outcomes() -> Outcomes:
    """Three images at two thresholds."""
    ious = np.array([[0.5, 0.9], [0.4, 0.5], [NOWHERE, 0.2]])
    ranks = np.array([0, 3, 0])
    return Outcomes("FAM", np.array([0.2, 0.5]), ious, np.zeros((3, 2, 4), np.float32), np.ones((3, 2)), ranks)


def test_scores_by_hand(outcomes: Outcomes) -> None:
    """At the second threshold two boxes are right; of their images one has the right class first, both among five."""
    scores = {name: values.tolist() for name, values in outcomes.scores(1).items()}
    assert scores == {
        "gt_known": [1, 1, 0],
        "top1_loc": [1, 0, 0],
        "top1_cls": [1, 0, 1],
        "top5_loc": [1, 1, 0],
        "top5_cls": [1, 1, 1],
        "mean_iou": [0.9, 0.5, 0.2],
    }
    assert outcomes.scores(0)["mean_iou"].tolist() == [0.5, 0.4, 0]  # without a box it is 0, not -1


def test_strict_needs_more_than_a_half(outcomes: Outcomes) -> None:
    """An IoU of exactly 0.5 is right, and not right where the protocol is strict."""
    assert outcomes.right()[:, 0].tolist() == [True, False, False]
    strict = Outcomes("FAM", outcomes.taus, outcomes.ious, outcomes.boxes, outcomes.foreground, None, strict=True)
    assert strict.right()[:, 0].tolist() == [False, False, False]
    assert strict.right()[:, 1].tolist() == [True, False, False]
    assert "top1_loc" not in strict.scores(0)


def test_choices(outcomes: Outcomes) -> None:
    """The oracle takes the threshold with most right boxes; a given τ the nearest."""
    assert outcomes.best() == 1
    assert [outcomes.nearest(tau) for tau in (0.0, 0.3, 0.4, 0.9)] == [0, 0, 1, 1]


def test_equal_thresholds_give_the_lower(outcomes: Outcomes) -> None:
    """Of thresholds that are equally good the lowest is the oracle's."""
    same = Outcomes("CAM", outcomes.taus, outcomes.ious[:, [1, 1]], outcomes.boxes, outcomes.foreground)
    assert same.best() == 0
