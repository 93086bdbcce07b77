"""COCO's average precision, beside pycocotools in one piece."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from famcli.evaluation.metrics.coco import average_precision
from famcli_models.boxes import xyxy_to_xywh
from famcli_models.errors import DataError, ShapeError

NONE = [np.nan] * 4
HERE, ELSEWHERE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def plain(truth: list[Any], truth_labels: Any, boxes: Any, labels: Any, scores: Any) -> dict[str, float]:
    """One COCOeval over everything, through COCO's own loader of results."""
    n = len(truth)
    annotations = [
        {"image_id": i, "category_id": int(truth_labels[i]) + 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
        for i in range(n)
        for b in xyxy_to_xywh(truth[i]).tolist()
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(n)],
        "categories": [{"id": k} for k in range(1, 8)],
        "annotations": [{"id": j, **a} for j, a in enumerate(annotations, 1)],
    }
    results = [
        {"image_id": i, "category_id": int(labels[i]) + 1, "bbox": xywh, "score": float(scores[i])}
        for i, xywh in enumerate(xyxy_to_xywh(boxes).tolist())
        if not np.isnan(xywh).any()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("AP", "AP50", "AP75"), (100 * evaluation.stats[:3]).tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_the_same_as_one_evaluation(seed: int) -> None:
    """Category by category gives COCOeval's numbers to the bit: several truths, ties, empty images, absent classes."""
    draw = np.random.default_rng(seed)
    n = 120
    truth = []
    for _ in range(n):
        corner = draw.random((draw.integers(1, 4), 2)) * 300
        truth.append(np.hstack([corner, corner + 5 + draw.random(corner.shape) * 200]))
    truth_labels = draw.integers(0, 5, n)  # classes 5 and 6 have no truth
    boxes = np.array([of_image[0] for of_image in truth]) + draw.normal(0, 8, (n, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    boxes[draw.random(n) < 0.1] = np.nan
    labels = np.where(draw.random(n) < 0.7, truth_labels, draw.integers(0, 7, n))
    scores = draw.random(n).round(1)  # with ties
    arguments = truth, truth_labels.tolist(), boxes, labels, scores
    ours = average_precision(*arguments)
    assert ours == plain(*arguments)
    assert 0 < ours["AP"] < ours["AP50"] < 100


@pytest.mark.parametrize(
    ("truth_labels", "boxes", "labels", "scores", "expected"),
    [
        ([0, 3], [HERE, ELSEWHERE], [0, 3], [0.2, 0.9], 100),  # every box found, none too many
        # Recall has 101 places, of which 0 to 0.5 are 51; up to there precision is 1, or 1/2 if the surer one is wrong.
        ([0, 0], [ELSEWHERE, HERE], [0, 0], [0.1, 0.9], 100 * 51 / 101),
        ([0, 0], [HERE, HERE], [0, 1], [0.5, 0.9], 100 * 51 / 101),  # of another class; one without truth has no AP
        ([0, 0], [NONE, HERE], [0, 0], [np.nan, 0.5], 100 * 51 / 101),  # no box is a miss, whatever its score
        ([0, 0], [HERE, NONE], [1, 0], [0.5, 0.0], 0),
    ],
)
def test_by_hand(truth_labels: Any, boxes: Any, labels: Any, scores: Any, expected: float) -> None:
    """Two images, of which the second's truth is elsewhere where its class is another."""
    truth = [[HERE], [ELSEWHERE if truth_labels[1] else HERE]]
    assert average_precision(truth, truth_labels, boxes, labels, scores)["AP"] == pytest.approx(expected)


def test_one_false_positive_by_hand() -> None:
    """The surer of two detections is wrong, so precision is 1/2 up to recall 1/2, and 0 beyond."""
    found = average_precision([[HERE], [HERE]], [0, 0], [ELSEWHERE, HERE], [0, 0], [0.9, 0.1])
    assert found["AP"] == pytest.approx(100 * 51 / 101 / 2)


def test_iou_of_six_tenths_counts_at_some_thresholds() -> None:
    """An IoU of 0.62 passes 0.5, 0.55 and 0.6 of the ten thresholds, and not 0.75."""
    found = average_precision([[[0, 0, 100, 100]]], [0], [[0, 0, 100, 62]], [0], [0.5])
    assert found == pytest.approx({"AP": 30, "AP50": 100, "AP75": 0})


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """What pycocotools has to say does not get into the results."""
    average_precision([[HERE]], [0], [HERE], [0], [0.5])
    assert "".join(capsys.readouterr()) == ""


def test_what_is_refused() -> None:
    """A box with a NaN score, no truth at all, and a score too few."""
    with pytest.raises(DataError, match="image 1 has the score nan"):
        average_precision([[HERE], [HERE]], [0, 0], [HERE, HERE], [0, 0], [0.5, np.nan])
    with pytest.raises(DataError, match="no image has a truth box"):
        average_precision([[]], [0], [HERE], [0], [0.5])
    with pytest.raises(ShapeError, match="different numbers of images"):
        average_precision([[HERE], [HERE]], [0, 0], [HERE, HERE], [0, 0], [0.5])
