"""Rows of a result, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from famcli.data.sample import Sample
from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.boxrules import BoxRules
from famcli.evaluation.onebox import Evaluation
from famcli.evaluation.perimage import Outcomes
from famcli.evaluation.rows import (
    _check,
    class_rows,
    detection_scores,
    differences,
    entry,
    kinds,
    with_detections,
    with_kinds,
)
from famcli.results.schema import Number

N = 8


def outcomes(right: list[int], ranks: list[int] | None = None, method: str = "FAM") -> Outcomes:
    """One threshold; a right box has an IoU of 0.8, a wrong one of 0.2."""
    ious = np.where(np.array(right), 0.8, 0.2)[:, None]
    boxes = np.zeros((len(right), 1, 4), np.float32)
    places = None if ranks is None else np.array(ranks)
    return Outcomes(method, np.array([0.5]), ious, boxes, np.ones((len(right), 1), np.float32), places)


def test_a_row_by_hand() -> None:
    """Six of eight boxes right, four classes, three of both; the histogram has its images in bins 2 and 8."""
    found = entry("FAM", outcomes([1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 9, 9, 9, 0, 9]), 0, "fixed", Bootstrap(N))
    values = {name: number.value for name, number in found.row.metrics.items()}
    assert values == pytest.approx(
        {"gt_known": 75, "top1_loc": 37.5, "top1_cls": 50, "top5_loc": 37.5, "top5_cls": 50, "mean_iou": 65}
    )
    assert (found.row.tau, found.row.tau_from, found.row.empty) == (0.5, "fixed", 0)
    assert found.row.iou_histogram == (0, 0, 2, 0, 0, 0, 0, 0, 6, 0)
    number = found.row.metrics["gt_known"]
    assert number.low is not None
    assert number.high is not None
    assert number.low < 75 < number.high


def test_intervals_are_those_of_the_bootstrap() -> None:
    """The interval of GT-known is the percentile interval of the resampled means."""
    chosen = outcomes([1, 0, 1, 1, 0, 1, 0, 0])
    bootstrap = Bootstrap(N)
    found = entry("FAM", chosen, 0, "fixed", bootstrap).row.metrics["gt_known"]
    assert found == bootstrap.of_mean(chosen.right()[:, 0])


def test_an_oracle_chooses_anew_in_each_resample() -> None:
    """Two thresholds that are right on different halves: in each resample the better one counts."""
    ious = np.array([[0.8, 0.2]] * 4 + [[0.2, 0.8]] * 4)
    two = Outcomes("CAM", np.array([0.2, 0.4]), ious, np.zeros((N, 2, 4), np.float32), np.ones((N, 2), np.float32))
    bootstrap = Bootstrap(N)
    found = entry("CAM, oracle τ", two, two.best(), "oracle", bootstrap)
    assert found.resampled["gt_known"].min() >= 0.5
    np.testing.assert_array_equal(found.resampled["gt_known"], bootstrap.means((ious >= 0.5).astype(float)).max(axis=1))
    fixed = entry("CAM", two, 0, "fixed", bootstrap)
    assert fixed.resampled["gt_known"].min() < 0.5
    assert found.row.curve == fixed.row.curve == (50, 50)


def test_differences_are_paired() -> None:
    """A method that is right wherever another is, and on one image more, is never worse in any resample."""
    bootstrap = Bootstrap(N)
    better = entry("FAM", outcomes([1, 1, 1, 1, 1, 0, 0, 0]), 0, "fixed", bootstrap)
    worse = entry("centre", outcomes([1, 1, 1, 1, 0, 0, 0, 0], method="centre"), 0, "", bootstrap)
    by_metric = {d.metric: d for d in differences([better, worse, better], bootstrap) if d.minus == "centre"}
    number = by_metric["gt_known"].number
    assert number.value == 12.5
    assert number.low == 0
    same = [d.number for d in differences([better, better], bootstrap)]
    assert all(n == Number(0, 0, 0) for n in same)


def test_classes_by_hand() -> None:
    """Each class has its own scores, and its name where there is one."""
    first = entry("FAM", outcomes([1, 1, 0, 0, 1, 0, 0, 0], [0, 9, 0, 0, 0, 0, 0, 0]), 0, "fixed", Bootstrap(N))
    rows = class_rows(first, np.array([0, 0, 0, 0, 7, 7, 7, 7]), ["cat"])
    assert [(r.label, r.name, r.images) for r in rows] == [(0, "cat", 4), (7, "7", 4)]
    assert (rows[0].gt_known, rows[0].top1_loc, rows[0].top1_cls) == (50, 25, 75)
    assert rows[1].mean_iou == pytest.approx(35)


def test_a_broken_invariant_stops_the_evaluation() -> None:
    """Top-1 Loc above GT-known or Top-1 Cls cannot be; a program that finds it stops."""
    good = {"gt_known": Number(50), "top1_loc": Number(40), "top1_cls": Number(40)}
    _check(good)
    for name in ("gt_known", "top1_cls"):
        with pytest.raises(AssertionError, match="Top-1 Loc"):
            _check({**good, name: Number(39)})


@pytest.fixture
def evaluation() -> Evaluation:
    """Three images of 10x10 with a truth of 8x8: found and of the right class, found and of a wrong one, not found."""
    truth = np.array([[0.0, 0, 8, 8]])
    samples = [Sample(f"{i}.png", Path(f"{i}.png"), 1, truth) for i in range(3)]
    boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 8], [np.nan] * 4], np.float32)[:, None]
    fam = Outcomes(
        *("FAM", np.array([0.5]), np.array([[1.0], [1.0], [-1.0]]), boxes),
        *(np.array([[0.8], [0.6], [0.0]], np.float32), np.array([0, 1, 0])),
    )
    classes = [((1, 0.5), (0, 0.2)), ((0, 0.9), (1, 0.1)), ((1, 0.7),)]
    return Evaluation(samples, [(10, 10)] * 3, [truth] * 3, {"FAM": fam}, {}, classes, BoxRules(), 224)


def test_scores_of_predictions_are_complete(evaluation: Evaluation) -> None:
    """The score of a box from elsewhere is taken as it is, and not weighed by itself."""
    given = dataclasses.replace(evaluation.outcomes["FAM"], method="predictions")
    found = entry("predictions", given, 0, "", Bootstrap(3))
    assert detection_scores(found, evaluation) == pytest.approx([0.8, 0.6, 0])


def test_detections_by_hand(evaluation: Evaluation) -> None:
    """Scores are foreground times probability; one of three truths is found with its class: AP 1/3 at any IoU."""
    found = with_detections(entry("FAM", evaluation.outcomes["FAM"], 0, "fixed", Bootstrap(3)), evaluation)
    assert detection_scores(found, evaluation) == pytest.approx([0.4, 0.54, 0])
    assert kinds(found, evaluation) == ["right", "wrong class", "empty"]
    assert with_kinds(found, evaluation).row.kinds == {"right": 1, "wrong class": 1, "empty": 1}
    assert found.row.coco is not None
    # 101 recalls of COCO: of 0, 0.01 ... 1 the first 34 are reached, at a precision of 1.
    assert found.row.coco == pytest.approx(dict.fromkeys(("AP", "AP50", "AP75"), 100 * 34 / 101))
