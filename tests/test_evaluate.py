"""Localization numbers, worked by hand where they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from famcli.data.metadata import read_samples
from famcli.evaluate import Row, _rank, evaluate
from famcli_models.errors import DataError
from famcli_models.fam import FAM

# Inclusive boxes on images of 100 x 100 pixels. The centre box is (15, 15, 85, 85), 4,900 pixels.
ROWS = [
    ("a.png", 0, [(15, 15, 84, 84)], (100, 100)),  # the centre box itself: IoU 1; whole image 0.49
    ("b.png", 1, [(0, 0, 99, 99)], (100, 100)),  # the whole image: centre 0.49, whole 1
    ("c.png", 2, [(0, 0, 9, 9)], (100, 100)),  # a corner: centre 0, whole 0.01
    ("d.png", 3, [(0, 0, 9, 9), (0, 0, 99, 79)], (100, 100)),  # best of two: centre 4550/8350, whole 0.8
]


@pytest.fixture
def samples(make_dataset: Callable[..., Path]) -> list[Any]:
    """Four images with boxes."""
    return read_samples(make_dataset(ROWS), "test", with_boxes=True)


def by_method(rows: list[Row]) -> dict[str, Row]:
    return {row.method.split(",")[0]: row for row in rows}


def test_centre_and_whole_by_hand(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """Centre box: 1, 0.49, 0 and 65·70/(8000+4900-4550) = 0.545: half are right. Whole: 0.49, 1, 0.01 and 0.8."""
    rows = by_method(evaluate(make_model(), samples, "cpu", batch_size=3))
    centre, whole = rows["centre box"], rows["whole image"]
    assert centre.gt_known == whole.gt_known == 50
    assert centre.mean_iou == pytest.approx(100 * (1 + 0.49 + 0 + 4550 / 8350) / 4, abs=0.01)
    assert whole.mean_iou == pytest.approx(100 * (0.49 + 1 + 0.01 + 0.8) / 4, abs=0.01)
    assert (centre.empty, whole.empty) == (0, 0)
    assert centre.top1_loc is centre.top1_cls is whole.top5_loc is whole.tau is None


def test_a_map_of_ones_is_the_whole_image(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """With τ = 0 the model's box is the whole image, and its numbers are those of that row."""
    rows = by_method(evaluate(make_model(tau=0.0), samples, "cpu"))
    assert rows["FAM"].gt_known == rows["whole image"].gt_known
    assert rows["FAM"].mean_iou == pytest.approx(rows["whole image"].mean_iou, abs=0.02)
    assert (rows["FAM"].tau, rows["FAM"].tau_from, rows["FAM"].empty) == (0, "fixed", 0)


def test_an_empty_map_is_wrong_and_counted(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """With nothing above τ no image is localized, all are without a box, and the classes are as before."""
    fam = by_method(evaluate(make_model(tau=0.999), samples, "cpu"))["FAM"]
    assert (fam.gt_known, fam.top1_loc, fam.top5_loc, fam.mean_iou, fam.empty) == (0, 0, 0, 0, 100)
    assert fam.top5_cls == 100  # five classes


@pytest.mark.parametrize("seed", range(4))
def test_localization_needs_both(make_model: Callable[..., FAM], samples: list[Any], seed: int) -> None:
    """Top-1 Loc is at most Top-1 Cls and GT-known; Top-5 is at least Top-1; all lie in 0..100."""
    fam = by_method(evaluate(make_model(seed=seed, tau=0.3), samples, "cpu"))["FAM"]
    assert fam.top1_loc is not None
    assert fam.top5_loc is not None
    assert fam.top1_cls is not None
    assert fam.top5_cls is not None
    assert fam.top1_loc <= min(fam.top1_cls, fam.gt_known)
    assert fam.top1_loc <= fam.top5_loc <= min(fam.top5_cls, fam.gt_known)
    numbers = [v for v in dataclasses.astuple(fam) if isinstance(v, float)]
    assert all(0 <= v <= 100 for v in numbers)


def test_a_right_classifier_by_hand(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """A classifier that always says class 2 is right for one image of four; Top-1 Loc asks for its box too."""
    model = make_model(tau=0.0)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0, 5.0, 2.0, 3.0]))
    fam = by_method(evaluate(model, samples, "cpu"))["FAM"]
    assert fam.top1_cls == 25
    assert fam.top1_loc == 0  # the image of class 2 has a small box, and the whole image misses it
    assert fam.top5_cls == 100
    assert fam.top5_loc == fam.gt_known == 50


def test_rank_counts_ties_against_the_model() -> None:
    """0 is best; equal scores count as worse, so that a constant classifier gets no credit."""
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    assert _rank(logits, torch.tensor([0, 0])).tolist() == [0, 2]
    assert _rank(logits, torch.tensor([1, 2])).tolist() == [2, 2]


def test_cam_needs_the_backbone_s_own_classifier(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """CAM is compared only where the classifier is pretrained and frozen: elsewhere it is not CAM's."""
    assert "CAM" not in by_method(evaluate(make_model(), samples, "cpu"))
    model = make_model(classifier="frozen")
    model.provenance["classifier"] = "pretrained"
    rows = by_method(evaluate(model, samples, "cpu"))
    cam = rows["CAM"]
    assert cam.tau_from == "oracle"
    assert cam.tau is not None
    assert 0 < cam.tau < 1
    assert cam.top1_loc is not None
    assert cam.top1_cls is not None
    assert cam.top1_loc <= min(cam.top1_cls, cam.gt_known)


def test_batch_size_and_workers_do_not_matter(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """The numbers are the same in batches of one and of four, and each image is counted once."""
    calls = []
    one = evaluate(make_model(), samples, "cpu", batch_size=1, workers=1, on_image=lambda: calls.append(1))
    assert one == evaluate(make_model(), samples, "cpu", batch_size=4, workers=2)
    assert len(calls) == 4


@pytest.mark.parametrize("label", [5, 1000, -1])
def test_labels_out_of_range(make_model: Callable[..., FAM], samples: list[Any], label: int) -> None:
    """A label that is no class of the model is a data error before anything is run."""
    samples[1] = dataclasses.replace(samples[1], label=label)
    with pytest.raises(DataError, match="classes"):
        evaluate(make_model(), samples, "cpu")


def test_unreadable_image(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """Numbers over some of the images are not the dataset's: a bad image ends the evaluation, by name."""
    samples[2].path.write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png: the file is empty"):
        evaluate(make_model(), samples, "cpu")
