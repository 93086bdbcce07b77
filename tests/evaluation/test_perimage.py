"""Per-image results of models and of boxes from elsewhere, worked by hand where they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.data.dataset import open_dataset
from famcli.data.sample import Sample
from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.external import Found
from famcli.evaluation.models import Model
from famcli.evaluation.perimage import (
    NOWHERE,
    UNNAMED,
    BoxScores,
    EvaluationSettings,
    PerImage,
    count_right,
    rank,
    run_models,
    score_boxes,
)
from famcli.evaluation.protocols import ten_crops
from famcli.evaluation.rows import score_row
from famcli.evaluation.run import TAUS
from famcli.inference.torch_engine import TorchEngine
from famcli_models import Method
from famcli_models.boxes import box_iou
from famcli_models.errors import DataError, WeightsError
from famcli_models.localization import localize
from famcli_models.methods.cam import CAM
from famcli_models.preprocess import normalize

Make = Callable[..., Any]
# Inclusive boxes on images of 100 x 100 pixels. The centre box is (15, 15, 85, 85), 4,900 pixels.
ROWS = [
    ("a.png", 0, [(15, 15, 84, 84)], (100, 100)),  # the centre box itself: IoU 1; whole image 0.49
    ("b.png", 1, [(0, 0, 99, 99)], (100, 100)),  # the whole image: centre 0.49, whole 1
    ("c.png", 2, [(0, 0, 9, 9)], (100, 100)),  # a corner: centre 0, whole 0.01
    ("d.png", 3, [(0, 0, 9, 9), (0, 0, 99, 79)], (100, 100)),  # best of two: centre 4550/8350, whole 0.8
]


@pytest.fixture
def samples(make_dataset: Callable[..., Path]) -> list[Sample]:
    """Four images with boxes."""
    return open_dataset(make_dataset(ROWS)).samples("test", with_boxes=True)


def run(samples: Sequence[Sample], *networks: Method, **options: Any) -> PerImage:
    """Per-image results of models at the usual thresholds and their own."""
    models = [Model(TorchEngine(network, "cpu"), network.title) for network in networks]
    taus = sorted({*TAUS, *(network.config.tau for network in networks)})
    on_images = options.pop("on_images", lambda _: None)
    return run_models(models, samples, taus, EvaluationSettings(**options), on_images)


@pytest.fixture
def scores() -> BoxScores:
    """Three images at two thresholds."""
    ious = np.array([[0.5, 0.9], [0.4, 0.5], [NOWHERE, 0.2]])
    return BoxScores(np.array([0.2, 0.5]), ious, np.zeros((3, 2, 4)), np.ones((3, 2)), np.array([0, 3, 0]))


def test_scores_by_hand(scores: BoxScores) -> None:
    """At the second threshold two boxes are right; of their images one has the right class first, both among five."""
    assert {name: values.tolist() for name, values in scores.scores(1).items()} == {
        "gt_known": [1, 1, 0],
        "top1_loc": [1, 0, 0],
        "top1_cls": [1, 0, 1],
        "top5_loc": [1, 1, 0],
        "top5_cls": [1, 1, 1],
        "mean_iou": [0.9, 0.5, 0.2],
    }
    assert scores.scores(0)["mean_iou"].tolist() == [0.5, 0.4, 0]  # without a box it is 0, not -1


def test_strict_needs_more_than_a_half(scores: BoxScores) -> None:
    """An IoU of exactly 0.5 is right, and not right where the protocol is strict."""
    assert scores.right()[:, 0].tolist() == [True, False, False]
    strict = dataclasses.replace(scores, ranks=None, strict=True)
    assert strict.right().T.tolist() == [[False, False, False], [True, False, False]]
    assert "top1_loc" not in strict.scores(0)


def test_choices_of_a_threshold(scores: BoxScores) -> None:
    """The oracle takes the threshold with most right boxes, the lowest of equal ones; a given τ the nearest."""
    assert scores.best() == 1
    assert [scores.nearest(tau) for tau in (0.0, 0.3, 0.4, 0.9)] == [0, 0, 1, 1]
    assert dataclasses.replace(scores, ious=scores.ious[:, [1, 1]]).best() == 0


def test_rank_counts_ties_as_worse() -> None:
    """0 is best; equal scores and NaN count as worse, so that a constant classifier gets no credit."""
    nan = float("nan")
    of = [[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [nan, nan, nan], [1.0, 2.0, nan], [nan, 2.0, 1.0]]
    labels = [0, 1, 2, 1, 1, 0]
    assert [rank(np.array(p), label) for p, label in zip(of, labels, strict=True)] == [0, 2, 2, 2, 1, 2]


def test_centre_and_whole_by_hand(samples: list[Sample], model: Any) -> None:
    """Centre box: 1, 0.49, 0 and 65·70/(8000+4900-4550) = 0.545. Whole image: 0.49, 1, 0.01 and 0.8."""
    scores = run(samples, model, batch_size=3).with_fixed_boxes().scores
    assert list(scores) == ["FAM", "centre", "whole"]
    assert scores["centre"].ious[:, 0] == pytest.approx([1, 0.49, 0, 4550 / 8350])
    assert scores["whole"].ious[:, 0] == pytest.approx([0.49, 1, 0.01, 0.8])
    assert scores["centre"].ranks is None
    assert np.isnan(scores["whole"].taus).all()


def test_only_the_first_box_counts(samples: list[Sample], model: Any) -> None:
    """By first-box the fourth image's large second box is not there: the whole image has an IoU of 0.01 with it."""
    found = run(samples, model, protocol="first-box").with_fixed_boxes()
    assert found.scores["whole"].ious[:, 0] == pytest.approx([0.49, 1, 0.01, 0.01])


def test_psol_compares_in_the_crop(samples: list[Sample], make_model: Make) -> None:
    """Input 64: resized to 73 and cut by 4; the truth (0, 0, 100, 100) becomes the whole 64-pixel crop."""
    found = run(samples, make_model(tau=0.0), protocol="psol").with_fixed_boxes()
    assert found.truths[1].tolist() == [[0, 0, 64, 64]]
    # Box (0, 0, 10, 10): 7.3 pixels from the corner, of which the margin of 4 is cut away.
    assert found.truths[2] == pytest.approx(np.array([[0, 0, 3.3, 3.3]]))
    assert found.scores["whole"].ious[1, 0] == 1
    assert found.scores["whole"].strict
    assert np.nanmax(found.scores["FAM"].boxes) <= 64


def test_extreme_thresholds(samples: list[Sample], make_model: Make) -> None:
    """At τ = 0 the box is the whole image; with nothing above τ there is none, and the classes are as before."""
    low = run(samples, make_model(tau=0.0)).with_fixed_boxes().scores
    assert low["FAM"].taus[0] == 0
    assert low["FAM"].ious[:, 0] == pytest.approx(low["whole"].ious[:, 0], abs=0.02)
    high = run(samples, make_model(tau=0.999)).scores["FAM"]
    assert (high.ious[:, -1] == NOWHERE).all()
    assert np.isnan(high.boxes[:, -1]).all()
    assert (high.foreground[:, -1] == 0).all()
    assert high.scores(-1)["mean_iou"].tolist() == [0, 0, 0, 0]
    assert high.scores(-1)["top5_cls"].mean() == 1  # five classes


def test_every_threshold_is_what_localize_gives(samples: list[Sample], model: Any) -> None:
    """Boxes and foreground at each τ are those of localize on the kept map: what fam predict writes."""
    found = run(samples, model)
    fam = found.scores["FAM"]
    for i, sample in enumerate(samples):
        for t, tau in enumerate(fam.taus.tolist()):
            regions = localize(found.maps["FAM"][i], (100, 100), tau).regions
            if not regions:
                assert fam.ious[i, t] == NOWHERE
                continue
            assert fam.boxes[i, t].tolist() == list(regions[0].xyxy)
            assert fam.foreground[i, t] == pytest.approx(regions[0].foreground)
            assert fam.ious[i, t] == box_iou(regions[0].xyxy, sample.boxes).max()


def test_a_right_classifier_by_hand(samples: list[Sample], make_model: Make) -> None:
    """A classifier that always says class 2 is right for one image of four; Top-1 Loc asks for its box too."""
    model = make_model(tau=0.0)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0, 5.0, 2.0, 3.0]))
    found = run(samples, model)
    fam = found.scores["FAM"]
    scores = {name: values.mean() for name, values in fam.scores(0).items()}
    assert scores["top1_cls"] == 0.25
    assert scores["top1_loc"] == 0  # the image of class 2 has a small box, and the whole image misses it
    assert scores["top5_loc"] == scores["gt_known"] == 0.5
    assert fam.ranks is not None
    assert fam.ranks.tolist() == [4, 3, 0, 2]
    assert found.classes[0][0][0] == 2
    assert found.confidence[0] == found.classes[0][0][1]


def test_a_baseline_shares_features(samples: list[Sample], make_model: Make) -> None:
    """The CAM of a FAM gives the same with and without the FAM beside it, and takes the map of the label."""
    model = make_model(classifier="frozen")
    model.provenance["classifier"] = "pretrained"
    cam = CAM.from_model(model)
    beside, alone = run(samples, model, cam), run(samples, cam)
    assert (list(beside.scores), list(alone.scores)) == (["FAM", "CAM"], ["CAM"])
    np.testing.assert_array_equal(beside.scores["CAM"].ious, alone.scores["CAM"].ious)
    np.testing.assert_array_equal(beside.scores["CAM"].ranks, alone.scores["CAM"].ranks)
    moved = run([dataclasses.replace(s, label=4) for s in samples], cam)
    assert not np.array_equal(moved.maps["CAM"], alone.maps["CAM"])


def test_a_baseline_with_a_backbone_of_its_own(samples: list[Sample], make_model: Make) -> None:
    """A baseline of other weights and another input size has the numbers that it has alone."""
    cam = make_model(seed=3, method="cam", size=48)
    beside, alone = run(samples, make_model(), cam), run(samples, cam)
    np.testing.assert_array_equal(beside.scores["CAM"].ious, alone.scores["CAM"].ious)
    assert beside.maps["CAM"][0].shape == (3, 3)


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5])
def test_count_right_is_gt_known(samples: list[Sample], make_model: Make, tau: float) -> None:
    """The number that chooses an epoch of training is that of the evaluation at the model's own τ."""
    model = make_model(tau=tau)
    fam = run(samples, model).scores["FAM"]
    assert count_right(model, samples, "cpu") == fam.right()[:, fam.nearest(tau)].sum()


def test_count_right_leaves_the_weights_alone(samples: list[Sample], make_model: Make) -> None:
    """Training goes on with the same weights in the same memory format."""
    model = make_model().to(memory_format=torch.channels_last)
    before = {name: (value.stride(), value.clone()) for name, value in model.state_dict().items()}
    count_right(model, samples, "cpu")
    for name, value in model.state_dict().items():
        assert value.stride() == before[name][0]
        assert torch.equal(value, before[name][1])


def test_batch_size_and_workers_do_not_matter(samples: list[Sample], make_model: Make) -> None:
    """The results are the same in batches of one and of four, and each image is reported once."""
    calls: list[int] = []
    one, four = (
        run(samples, make_model(), batch_size=batch, workers=workers, on_images=calls.append)
        for batch, workers in ((1, 1), (4, 2))
    )
    np.testing.assert_array_equal(one.scores["FAM"].ious, four.scores["FAM"].ious)
    assert calls == [1] * 8


def test_ten_crops_change_classes_alone(samples: list[Sample], model: Any) -> None:
    """With ten crops the maps and boxes are those of the one view; probabilities are the mean over the crops."""
    one, ten = run(samples, model), run(samples, model, crops=10)
    np.testing.assert_array_equal(one.scores["FAM"].ious, ten.scores["FAM"].ious)
    crops = ten_crops(Image.open(samples[1].path).convert("RGB"), model.config.size)
    with torch.inference_mode():
        images = normalize(torch.from_numpy(np.stack(crops)), model.config.mean, model.config.std)
        mean = model(images).logits.softmax(dim=1).mean(dim=0)
    assert dict(ten.classes[1]) == pytest.approx(dict(enumerate(mean.tolist())), abs=1e-5)


def test_maps_alone(samples: list[Sample], model: Any) -> None:
    """Without thresholds there are maps and classes and no boxes; images need no box then."""
    bare = [dataclasses.replace(s, boxes=np.zeros((0, 4))) for s in samples]
    found = run_models([Model(TorchEngine(model, "cpu"), "FAM")], bare, (), EvaluationSettings())
    np.testing.assert_array_equal(found.maps["FAM"], run(samples, model).maps["FAM"])
    assert found.scores["FAM"].boxes.shape == (4, 0, 4)


@pytest.mark.parametrize("label", [5, 1000, -1])
def test_labels_out_of_range(samples: list[Sample], model: Any, label: int) -> None:
    """A label that is no class of the model is a data error before anything is run."""
    samples[1] = dataclasses.replace(samples[1], label=label)
    with pytest.raises(DataError, match="classes"):
        run(samples, model)


def test_unreadable_image(samples: list[Sample], model: Any) -> None:
    """A bad image ends the evaluation by name; where some may be missing, the others are scored."""
    samples[2].path.write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png: the file is empty"):
        run(samples, model)
    found = run(samples, model, allow_missing=True)
    assert [s.name for s in found.samples] == ["a.png", "b.png", "d.png"]
    assert len(found.scores["FAM"].ious) == len(found.maps["FAM"]) == len(found.classes) == 3


def test_damaged_weights_are_no_result(samples: list[Sample], model: Any) -> None:
    """A model whose output is not finite ends the evaluation, and says which image and which command."""
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    with pytest.raises(WeightsError, match=r"what FAM says of 'a\.png' is not finite: .* fam verify"):
        run(samples, model)


def found(*rows: tuple[list[float], int, float]) -> Found:
    """Boxes with label and score, as read_predictions gives them."""
    best = sorted(rows, key=lambda row: -row[2])
    boxes = np.array([box for box, _, _ in best], np.float64).reshape(-1, 4)
    return Found(boxes, np.array([label for _, label, _ in best], np.int64), np.array([score for *_, score in best]))


def predicted(given: list[Found], samples: list[Sample], same_classes: bool = True) -> PerImage:
    settings = EvaluationSettings(same_classes=same_classes)
    return score_boxes(given, samples, [(100, 100)] * len(samples), settings, 224)


def test_predictions_by_hand(samples: list[Sample]) -> None:
    """Of each image the box of the highest score counts, and classes are in the order of their best scores."""
    given = [
        found(([15, 15, 85, 85], 1, 0.2), ([0, 0, 5, 5], 0, 0.9)),  # the best box is wrong, its class right
        found(([0, 0, 100, 100], 0, 0.9), ([0, 0, 1, 1], 0, 0.8), ([0, 0, 1, 1], 1, 0.7)),  # right box, class second
        found(),  # nothing was found
        found(([0, 0, 100, 80], 4, 0.5)),  # the right class was not named
    ]
    all_of = predicted(given, samples)
    scores = all_of.scores["predictions"]
    assert scores.ious[:, 0] == pytest.approx([0, 1, -1, 1], abs=0.01)
    assert scores.ranks is not None
    assert scores.ranks.tolist() == [0, 1, UNNAMED, UNNAMED]
    assert scores.foreground[:, 0] == pytest.approx([0.9, 0.9, 0, 0.5])
    assert all_of.classes[1] == ((0, 0.9), (1, 0.7))
    assert "top5_loc" in scores.scores(0)


def test_predictions_of_one_class_an_image(samples: list[Sample]) -> None:
    """Where no image has more than one class, the best five were not measured; scores of any range are taken."""
    given = [found(([15, 15, 85, 85], 0, -7.5)), found(([0, 0, 100, 100], -2, 30.0)), found(), found()]
    all_of = predicted(given, samples)
    assert set(all_of.scores["predictions"].scores(0)) == {"gt_known", "top1_loc", "top1_cls", "mean_iou"}
    assert all_of.scores["predictions"].foreground[:2, 0].tolist() == [-7.5, 30]
    boxes_alone = predicted(given, samples, same_classes=False)
    assert boxes_alone.scores["predictions"].ranks is None
    assert all_of.classes == boxes_alone.classes == [()] * 4  # none is the class of the data and a probability


def test_half_overlap_is_right_everywhere(samples: list[Sample]) -> None:
    """A box of a tenth of a pixel whose IoU is exactly 0.5 is right in the number and in the error type."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, w, h = (rng.integers(1, 400, 4) / 10).tolist()
        sample = dataclasses.replace(samples[0], boxes=np.array([[x, y, x + w, y + h]]))
        all_of = predicted([found(([x, y, x + w, y + h / 2], 0, 0.5))], [sample])
        row = score_row(all_of, "predictions", "predictions", 0, "", Bootstrap(1, resamples=2))
        assert (row.kinds == ["right"]) == (row.row.metrics["gt_known"].value == 100)
