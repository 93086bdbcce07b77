"""Rows of a result, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from famcli.data.sample import Sample
from famcli.evaluation.bootstrap import Bootstrap, wilson
from famcli.evaluation.perimage import BoxScores, PerImage
from famcli.evaluation.protocols import BoxRules
from famcli.evaluation.rows import (
    ScoredRow,
    _check,
    box_precision,
    class_rows,
    detection_scores,
    differences,
    image_results,
    score_row,
    score_sizes,
)
from famcli.results.schema import Number, SizeScore

N = 8
TRUTH = np.array([[0.0, 0, 8, 8]])


def per_image(**scores: BoxScores) -> PerImage:
    """Images of 10x10 with a truth of 8x8 and some scores."""
    n = len(next(iter(scores.values())).ious)
    samples = [Sample(f"{i}.png", Path(f"{i}.png"), 1, TRUTH) for i in range(n)]
    return PerImage(samples, [(10, 10)] * n, [TRUTH] * n, scores, {}, [()] * n, np.ones(n), BoxRules(), 224)


def boxes(ious: list[list[float]], taus: list[float], ranks: list[int] | None = None) -> BoxScores:
    shape = np.shape(ious)
    places = None if ranks is None else np.array(ranks)
    return BoxScores(np.array(taus), np.array(ious), np.zeros((*shape, 4)), np.ones(shape, np.float32), places)


def row(right: list[int], ranks: list[int] | None = None, tau_from: str = "fixed", **more: str) -> ScoredRow:
    """The row of one threshold; a right box has an IoU of 0.8, a wrong one of 0.2."""
    found = per_image(FAM=boxes([[0.8 if r else 0.2] for r in right], [0.5], ranks))
    return score_row(found, "FAM", more.get("title", "FAM"), 0, tau_from, Bootstrap(len(right)))


def test_a_row_by_hand() -> None:
    """Six of eight boxes right, four classes, three of both; the histogram has its images in bins 2 and 8."""
    found = row([1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 9, 9, 9, 0, 9]).row
    values = {name: number.value for name, number in found.metrics.items()}
    assert values == pytest.approx(
        {"gt_known": 75, "top1_loc": 37.5, "top1_cls": 50, "top5_loc": 37.5, "top5_cls": 50, "mean_iou": 65}
    )
    assert (found.tau, found.tau_from, found.empty) == (0.5, "fixed", 0)
    assert found.iou_histogram == (0, 0, 2, 0, 0, 0, 0, 0, 6, 0)
    number = found.metrics["gt_known"]
    assert number.low is not None
    assert number.high is not None
    assert number.low < 75 < number.high


def test_intervals_are_those_of_the_bootstrap() -> None:
    """The interval of GT-known is the percentile interval of the resampled means."""
    right = [1, 0, 1, 1, 0, 1, 0, 0]
    bootstrap = Bootstrap(N)
    expected = bootstrap.number(0.5, bootstrap.means(np.array(right)[:, None])[:, 0])
    assert row(right).row.metrics["gt_known"] == expected


def test_an_oracle_chooses_anew_in_each_resample() -> None:
    """Two thresholds that are right on different halves: in each resample the better one counts."""
    ious = [[0.8, 0.2]] * 4 + [[0.2, 0.8]] * 4
    two, bootstrap = per_image(CAM=boxes(ious, [0.2, 0.4])), Bootstrap(N)
    oracle = score_row(two, "CAM", "CAM, oracle τ", two.scores["CAM"].best(), "oracle", bootstrap)
    best = bootstrap.means((np.array(ious) >= 0.5).astype(float)).max(axis=1)
    np.testing.assert_array_equal(oracle.resampled["gt_known"], best)
    assert best.min() >= 0.5
    fixed = score_row(two, "CAM", "CAM", 0, "fixed", bootstrap)
    assert fixed.resampled["gt_known"].min() < 0.5
    assert oracle.row.curve == fixed.row.curve == (50, 50)


def test_differences_are_paired() -> None:
    """A method that is right wherever another is, and on one image more, is never worse in any resample."""
    better, worse = row([1, 1, 1, 1, 1, 0, 0, 0]), row([1, 1, 1, 1, 0, 0, 0, 0], title="other")
    by_metric = {d.metric: d for d in differences([better, worse, better], Bootstrap(N)) if d.minus == "other"}
    assert (by_metric["gt_known"].number.value, by_metric["gt_known"].number.low) == (12.5, 0)
    assert all(d.number == Number(0, 0, 0) for d in differences([better, better], Bootstrap(N)))


def test_classes_by_hand() -> None:
    """Each class has its own scores, and its name where there is one."""
    first = row([1, 1, 0, 0, 1, 0, 0, 0], [0, 9, 0, 0, 0, 0, 0, 0])
    rows = class_rows(first, np.array([0, 0, 0, 0, 7, 7, 7, 7]), ["cat"])
    assert [(r.label, r.name, r.images) for r in rows] == [(0, "cat", 4), (7, "7", 4)]
    assert (rows[0].gt_known, rows[0].top1_loc, rows[0].top1_cls) == (50, 25, 75)
    assert rows[1].mean_iou == pytest.approx(35)


def test_sizes_by_hand() -> None:
    """A bin has its lower end; the largest true box counts, and for the ratio of areas only images with a box.

    In frames of 10x20 the truths cover 5, 10, 24.5, 24.5 and 75 %, the last beside a smaller one.
    """
    truths = [[[0, 0, 2, 5]], [[0, 0, 2, 10]], [[0, 0, 7, 7]], [[0, 0, 7, 7]], [[0, 0, 1, 1], [0, 0, 15, 10]]]
    boxes = np.array([[0, 0, 20, 10], [0, 0, 4, 10], [0, 0, 7, 7], [np.nan] * 4, [0, 0, 15, 2]], np.float64)
    right = np.array([False, True, True, False, True])
    small, low, middle, high, large = score_sizes([np.array(t, float) for t in truths], [(10, 20)] * 5, boxes, right)
    assert small == SizeScore(1, wilson(right[:1]), 20)
    assert low == SizeScore(3, wilson(right[1:4]), 1.5)
    assert middle == high == SizeScore(0, None, None)
    assert large == SizeScore(1, wilson(right[4:]), 0.2)


def test_sizes_of_objects_outside_of_the_frame() -> None:
    """A true box of which a crop left nothing is small, has no ratio of areas, and warns of nothing."""
    with np.errstate(all="raise"):
        small, *_ = score_sizes([np.zeros((1, 4))], [(10, 10)], np.array([[0.0, 0, 5, 5]]), np.array([False]))
    assert small == SizeScore(1, wilson(np.array([False])), None)


@pytest.mark.parametrize("lower", ["gt_known", "top1_cls"])
def test_a_broken_invariant_stops_the_evaluation(lower: str) -> None:
    """Top-1 Loc above GT-known or Top-1 Cls cannot be; a program that finds it stops."""
    good = {"gt_known": Number(50), "top1_loc": Number(40), "top1_cls": Number(40)}
    _check(good)
    with pytest.raises(AssertionError, match="Top-1 Loc"):
        _check({**good, lower: Number(39)})


def test_images_by_hand() -> None:
    """Found and of the right class, found and of a wrong one, not found: scores are foreground times probability.

    One of three truths is found with its class: of COCO's 101 recalls 0, 0.01 ... 1 the first 34 are reached.
    """
    fam = BoxScores(
        *(np.array([0.5]), np.array([[1.0], [1.0], [-1.0]])),
        np.array([[0, 0, 8, 8], [0, 0, 8, 8], [np.nan] * 4], np.float32)[:, None],
        *(np.array([[0.8], [0.6], [0.0]], np.float32), np.array([0, 1, 0])),
    )
    found = per_image(FAM=fam)
    found.classes[:] = [((1, 0.5), (0, 0.2)), ((0, 0.9), (1, 0.1)), ((1, 0.7),)]
    found.confidence[:] = [0.5, 0.9, 0.7]
    assert detection_scores(found, "FAM", 0) == pytest.approx([0.4, 0.54, 0])
    precision = box_precision(found, "FAM", 0, [sample.label for sample in found.samples])
    assert precision == pytest.approx(dict.fromkeys(("AP", "AP50", "AP75"), 100 * 34 / 101))
    scored = score_row(found, "FAM", "FAM", 0, "fixed", Bootstrap(3), coco=precision)
    assert scored.row.kinds == {"right": 1, "wrong class": 1, "empty": 1}
    images = list(image_results(found, [scored]))
    assert [image.found["FAM"].kind for image in images] == ["right", "wrong class", "empty"]
    assert [image.found["FAM"].box for image in images] == [(0, 0, 8, 8), (0, 0, 8, 8), None]
    assert (images[1].rank, images[1].classes[0], images[1].truth) == (1, (0, 0.9), ((0, 0, 8, 8),))
