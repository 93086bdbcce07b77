"""Rows over many thresholds: against the counts, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from famcli.data.sample import Sample
from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.metrics.box import BoxCounts, score_map, thresholds, truth_boxes
from famcli.evaluation.thresholds import Sweep
from famcli_models.boxes import box_iou

SIZES = [(40, 50), (100, 60), (224, 224), (33, 47)]


@pytest.fixture
def samples() -> list[Sample]:
    """Four images with one or two boxes."""
    boxes = ([[5, 5, 31, 31]], [[0, 0, 60, 100]], [[10, 20, 100, 120], [150, 150, 220, 224]], [[20, 10, 47, 30]])
    return [Sample(f"{i}.png", Path(f"{i}.png"), 0, np.array(b, np.float64)) for i, b in enumerate(boxes)]


@pytest.fixture
def maps() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random((6, 6)).astype(np.float32) for _ in range(4)]


def sweep(samples: list[Sample], version: int | None, interval: float = 0.01) -> Sweep:
    return Sweep(samples, SIZES, [None] * 4, version, interval, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_rows_are_the_counts(samples: list[Sample], maps: list[np.ndarray], version: int) -> None:
    """The value, its τ and the curve are those of the streaming count."""
    counts = BoxCounts(thresholds(0.01))
    for sample, size_hw, raw in zip(samples, SIZES, maps, strict=True):
        counts.add(score_map(raw), truth_boxes(sample.boxes, size_hw))
    expected = counts.accuracy(version)
    wanted = sweep(samples, version)
    row = wanted.entry("maps", wanted.count(maps), Bootstrap(4)).row
    assert row.metrics["max_box_acc" if version == 1 else "max_box_acc_v2"].value == pytest.approx(expected.value)
    assert row.at_delta is not None
    assert {d: found["value"] for d, found in row.at_delta.items()} == {
        f"{d:g}": v for d, v in expected.at_delta.items() if version == 2 or d == 0.5
    }
    assert row.curve == tuple(expected.curve[0.5])
    assert row.tau == (expected.tau[0.5] if version == 1 else None)


def test_intervals_choose_the_threshold_anew(samples: list[Sample], maps: list[np.ndarray]) -> None:
    """Each resample has a best threshold of its own, so the resampled value is never below that at one threshold."""
    wanted, bootstrap = sweep(samples, 1), Bootstrap(4)
    counts = wanted.count(maps)
    found = wanted.entry("maps", counts, bootstrap)
    at = int(counts.boxes.right[0, 1].argmax())
    right = np.array([np.unpackbits(packed[0], count=100)[at] for packed in counts.right])
    assert right.sum() == counts.boxes.right[0, 1, at]
    fixed = bootstrap.means(right[:, None])[:, 0]
    assert (found.resampled["max_box_acc"] >= fixed - 1e-12).all()


def test_rivals_by_hand(samples: list[Sample]) -> None:
    """The whole image is right where the truth covers half of it, in one image of four; the centre box in two."""
    centre, whole = (e.row for e in sweep(samples, 1).rivals(Bootstrap(4)))
    assert whole.metrics["max_box_acc"].value == 25
    assert centre.metrics["max_box_acc"].value == 50  # 0.513 and 0.509 with the first two, 0.207 and 0.406
    three = sweep(samples, 2).rivals(Bootstrap(4))[1].row
    assert three.at_delta is not None
    assert set(three.at_delta) == {"0.3", "0.5", "0.7"}


def test_boxes_of_records_have_the_benchmark_s_iou(samples: list[Sample], maps: list[np.ndarray]) -> None:
    """At the best τ exactly as many of the records' boxes are right as the number says."""
    for version in (1, 2):
        wanted = sweep(samples, version)
        row = wanted.entry("maps", wanted.count(maps), Bootstrap(4)).row
        right = [box_iou(box, truth).max() >= 0.5 for box, truth in wanted.boxes(maps, row)]
        assert row.at_delta is not None
        assert 100 * np.mean(right) == row.at_delta["0.5"]["value"]
