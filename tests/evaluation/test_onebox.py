"""Outcomes of networks and of boxes from elsewhere, worked by hand where they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli.data.dataset import open_dataset
from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.boxrules import BOX_RULES
from famcli.evaluation.external import Found
from famcli.evaluation.inference import Look, Networks
from famcli.evaluation.onebox import UNNAMED, Evaluation, best_tau, count_right, evaluate, evaluate_found
from famcli.evaluation.rows import entry, kinds
from famcli_models.boxes import box_iou
from famcli_models.errors import DataError
from famcli_models.localization import localize
from famcli_models.methods.cam import CAM
from famcli_models.methods.fam import FAM

# Inclusive boxes on images of 100 x 100 pixels. The centre box is (15, 15, 85, 85), 4,900 pixels.
ROWS = [
    ("a.png", 0, [(15, 15, 84, 84)], (100, 100)),  # the centre box itself: IoU 1; whole image 0.49
    ("b.png", 1, [(0, 0, 99, 99)], (100, 100)),  # the whole image: centre 0.49, whole 1
    ("c.png", 2, [(0, 0, 9, 9)], (100, 100)),  # a corner: centre 0, whole 0.01
    ("d.png", 3, [(0, 0, 9, 9), (0, 0, 99, 79)], (100, 100)),  # best of two: centre 4550/8350, whole 0.8
]
CPU = Look(device="cpu")


@pytest.fixture
def samples(make_dataset: Callable[..., Path]) -> list[Any]:
    """Four images with boxes."""
    return open_dataset(make_dataset(ROWS)).samples("test", with_boxes=True)


def measure(model: FAM, samples: list[Any], look: Look = CPU) -> Evaluation:
    return evaluate(Networks(model, None), samples, look)


def test_centre_and_whole_by_hand(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """Centre box: 1, 0.49, 0 and 65·70/(8000+4900-4550) = 0.545. Whole image: 0.49, 1, 0.01 and 0.8."""
    outcomes = measure(make_model(), samples, dataclasses.replace(CPU, batch_size=3)).outcomes
    assert outcomes["centre"].ious[:, 0] == pytest.approx([1, 0.49, 0, 4550 / 8350])
    assert outcomes["whole"].ious[:, 0] == pytest.approx([0.49, 1, 0.01, 0.8])
    assert outcomes["centre"].ranks is None
    assert np.isnan(outcomes["whole"].taus).all()


def test_only_the_first_box_counts(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """By first-box the fourth image's large second box is not there: the whole image has an IoU of 0.01 with it."""
    found = measure(make_model(), samples, dataclasses.replace(CPU, rules=BOX_RULES["first-box"]))
    assert found.outcomes["whole"].ious[:, 0] == pytest.approx([0.49, 1, 0.01, 0.01])
    assert [len(truth) for truth in found.truths] == [1, 1, 1, 1]


def test_psol_compares_in_the_crop(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """Input 64: resized to 73 and cut by 4; the truth (0, 0, 100, 100) becomes the whole 64-pixel crop."""
    found = measure(make_model(tau=0.0), samples, dataclasses.replace(CPU, rules=BOX_RULES["psol"]))
    assert found.truths[1].tolist() == [[0, 0, 64, 64]]
    # Box (0, 0, 10, 10): 7.3 pixels from the corner, of which the margin of 4 is cut away.
    assert found.truths[2] == pytest.approx(np.array([[0, 0, 3.3, 3.3]]))
    assert found.outcomes["whole"].ious[1, 0] == 1
    assert found.outcomes["whole"].strict
    assert np.nanmax(found.outcomes["FAM"].boxes) <= 64


def test_a_map_of_ones_is_the_whole_image(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """With τ = 0 the model's box is the whole image."""
    outcomes = measure(make_model(tau=0.0), samples).outcomes
    at = outcomes["FAM"].nearest(0.0)
    assert outcomes["FAM"].taus[at] == 0
    assert outcomes["FAM"].ious[:, at] == pytest.approx(outcomes["whole"].ious[:, 0], abs=0.02)


def test_an_empty_map_has_no_box(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """With nothing above τ there is no box, its IoU is marked, and the classes are as before."""
    fam = measure(make_model(tau=0.999), samples).outcomes["FAM"]
    at = fam.nearest(0.999)
    assert (fam.ious[:, at] == -1).all()
    assert np.isnan(fam.boxes[:, at]).all()
    assert (fam.foreground[:, at] == 0).all()
    scores = fam.scores(at)
    assert scores["mean_iou"].tolist() == [0, 0, 0, 0]
    assert scores["top5_cls"].mean() == 1  # five classes


def test_every_threshold_is_what_localize_gives(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """Boxes and foreground at each τ are those of localize on the kept map: what fam predict writes."""
    found = measure(make_model(), samples)
    fam = found.outcomes["FAM"]
    for i, sample in enumerate(samples):
        for t, tau in enumerate(fam.taus.tolist()):
            regions = localize(found.maps["FAM"][i], (100, 100), tau).regions
            if not regions:
                assert fam.ious[i, t] == -1
                continue
            assert fam.boxes[i, t].tolist() == list(regions[0].xyxy)
            assert fam.foreground[i, t] == pytest.approx(regions[0].foreground)
            assert fam.ious[i, t] == box_iou(regions[0].xyxy, sample.boxes).max()


def test_a_right_classifier_by_hand(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """A classifier that always says class 2 is right for one image of four; Top-1 Loc asks for its box too."""
    model = make_model(tau=0.0)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0, 5.0, 2.0, 3.0]))
    found = measure(model, samples)
    fam = found.outcomes["FAM"]
    scores = {name: values.mean() for name, values in fam.scores(fam.nearest(0.0)).items()}
    assert scores["top1_cls"] == 0.25
    assert scores["top1_loc"] == 0  # the image of class 2 has a small box, and the whole image misses it
    assert scores["top5_loc"] == scores["gt_known"] == 0.5
    assert fam.ranks is not None
    assert fam.ranks.tolist() == [4, 3, 0, 2]
    assert found.classes[0][0][0] == 2


def test_cam_beside_fam_shares_its_features(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """The CAM of a FAM gives the same with and without the FAM beside it, and takes the map of the label."""
    model = make_model(classifier="frozen")
    model.provenance["classifier"] = "pretrained"
    cam = CAM.from_model(model)
    both, alone = Networks(model, cam), Networks(None, cam)
    assert both.sharing
    assert not alone.sharing
    beside, by_itself = evaluate(both, samples, CPU), evaluate(alone, samples, CPU)
    assert list(beside.outcomes) == ["FAM", "CAM", "centre", "whole"]
    assert list(by_itself.outcomes) == ["CAM", "centre", "whole"]
    np.testing.assert_array_equal(beside.outcomes["CAM"].ious, by_itself.outcomes["CAM"].ious)
    np.testing.assert_array_equal(beside.outcomes["CAM"].ranks, by_itself.outcomes["CAM"].ranks)
    moved = [dataclasses.replace(s, label=4) for s in samples]
    assert not np.array_equal(evaluate(alone, moved, CPU).maps["CAM"], by_itself.maps["CAM"])


def test_a_cam_with_a_backbone_of_its_own(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """A CAM of other weights and another input size is looked at by itself: its numbers are those it has alone."""
    from famcli_models.methods.cam import CAMConfig

    config = CAMConfig(backbone="test_efficientnet", num_classes=5, size=48, tau=0.2)
    torch.manual_seed(3)
    cam = CAM(config).eval()
    beside = evaluate(Networks(make_model(), cam), samples, CPU)
    alone = evaluate(Networks(None, cam), samples, CPU)
    np.testing.assert_array_equal(beside.outcomes["CAM"].ious, alone.outcomes["CAM"].ious)
    assert beside.maps["CAM"].shape == (4, 3, 3)


def test_best_tau_is_the_oracle_s(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """The τ chosen on a split is the lowest of those with most right boxes on it."""
    model = make_model(classifier="frozen")
    model.provenance["classifier"] = "pretrained"
    cam = Networks(None, CAM.from_model(model))
    right = evaluate(cam, samples, CPU).outcomes["CAM"].right().sum(axis=0)
    taus = evaluate(cam, samples, CPU).outcomes["CAM"].taus
    assert best_tau(cam, samples, CPU) == taus[right.argmax()]


def test_count_right_is_gt_known(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """The number that training is judged by is that of the evaluation at the model's own τ."""
    for tau in (0.0, 0.3, 0.5):
        model = make_model(tau=tau)
        fam = measure(model, samples).outcomes["FAM"]
        assert count_right(model, samples, "cpu") == fam.right()[:, fam.nearest(tau)].sum()


def test_batch_size_and_workers_do_not_matter(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """The outcomes are the same in batches of one and of four, and each image is reported once."""
    calls: list[int] = []
    looks = [Look(device="cpu", batch_size=1, workers=1), Look(device="cpu", batch_size=4, workers=2)]
    one, four = (evaluate(Networks(make_model(), None), samples, look, calls.append) for look in looks)
    np.testing.assert_array_equal(one.outcomes["FAM"].ious, four.outcomes["FAM"].ious)
    assert calls == [1] * 8


def test_ten_crops_change_classes_alone(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """With ten crops the maps and boxes are those of the one view; probabilities are the mean over the crops."""
    from PIL import Image

    from famcli.evaluation.boxrules import ten_crops
    from famcli_models.preprocess import normalize

    model = make_model()
    one, ten = measure(model, samples), measure(model, samples, dataclasses.replace(CPU, ten_crops=True))
    np.testing.assert_array_equal(one.outcomes["FAM"].ious, ten.outcomes["FAM"].ious)
    crops = ten_crops(Image.open(samples[1].path).convert("RGB"), model.config.size)
    with torch.inference_mode():
        images = normalize(torch.from_numpy(np.stack(crops)), model.config.mean, model.config.std)
        mean = model(images).logits.softmax(dim=1).mean(dim=0)
    assert dict(ten.classes[1]) == pytest.approx(dict(enumerate(mean.tolist())), abs=1e-5)


@pytest.mark.parametrize("label", [5, 1000, -1])
def test_labels_out_of_range(make_model: Callable[..., FAM], samples: list[Any], label: int) -> None:
    """A label that is no class of the model is a data error before anything is run."""
    samples[1] = dataclasses.replace(samples[1], label=label)
    with pytest.raises(DataError, match="classes"):
        measure(make_model(), samples)


def test_unreadable_image(make_model: Callable[..., FAM], samples: list[Any]) -> None:
    """A bad image ends the evaluation by name; where somebody is told, it is left out and the others are scored."""
    samples[2].path.write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png: the file is empty"):
        measure(make_model(), samples)
    told: dict[str, str] = {}
    found = measure(make_model(), samples, dataclasses.replace(CPU, on_unreadable=told.__setitem__))
    assert [s.name for s in found.samples] == ["a.png", "b.png", "d.png"]
    assert list(told) == ["c.png"]
    assert len(found.outcomes["FAM"].ious) == len(found.maps["FAM"]) == len(found.classes) == 3


def found(*rows: tuple[list[float], int, float]) -> Found:
    boxes = np.array([box for box, _, _ in rows], np.float64).reshape(-1, 4)
    return Found(boxes, np.array([label for _, label, _ in rows], np.int64), np.array([score for *_, score in rows]))


def test_predictions_by_hand(samples: list[Any]) -> None:
    """Of each image the box of the highest score counts, and classes are in the order of their best scores."""
    given = [
        found(([15, 15, 85, 85], 1, 0.2), ([0, 0, 5, 5], 0, 0.9)),  # the best box is wrong, its class right
        found(([0, 0, 100, 100], 0, 0.9), ([0, 0, 1, 1], 0, 0.8), ([0, 0, 1, 1], 1, 0.7)),  # right box, class second
        found(),  # nothing was found
        found(([0, 0, 100, 80], 4, 0.5)),  # the right class was not named
    ]
    evaluation = evaluate_found(given, samples, [(100, 100)] * 4, BOX_RULES["fam"], 224, same_classes=True)
    outcomes = evaluation.outcomes["predictions"]
    assert outcomes.ious[:, 0] == pytest.approx([0, 1, -1, 1], abs=0.01)
    assert outcomes.ranks is not None
    assert outcomes.ranks.tolist()[:2] == [0, 1]
    assert outcomes.ranks[2:].tolist() == [UNNAMED, UNNAMED]
    assert outcomes.foreground[:, 0] == pytest.approx([0.9, 0.9, 0, 0.5])
    assert evaluation.classes[1] == ((0, 0.9), (1, 0.7))
    assert "top5_loc" in outcomes.scores(0)


def test_predictions_of_one_class_an_image(samples: list[Any]) -> None:
    """Where no image has more than one class, the best five were not measured; scores of any range are taken."""
    given = [found(([15, 15, 85, 85], 0, -7.5)), found(([0, 0, 100, 100], -2, 30.0)), found(), found()]
    evaluation = evaluate_found(given, samples, [(100, 100)] * 4, BOX_RULES["fam"], 224, same_classes=True)
    outcomes = evaluation.outcomes["predictions"]
    assert set(outcomes.scores(0)) == {"gt_known", "top1_loc", "top1_cls", "mean_iou"}
    assert outcomes.foreground[:2, 0].tolist() == [-7.5, 30]
    assert evaluation.classes == [(), (), (), ()]  # neither is a probability


def test_half_overlap_is_right_everywhere(samples: list[Any]) -> None:
    """A box of a tenth of a pixel whose IoU is exactly 0.5 is right in the number and in the kind of the image."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, w, h = (rng.integers(1, 400, 4) / 10).tolist()
        sample = dataclasses.replace(samples[0], boxes=np.array([[x, y, x + w, y + h]]))
        given = [found(([x, y, x + w, y + h / 2], 0, 0.5))]
        evaluation = evaluate_found(given, [sample], [(100, 100)], BOX_RULES["fam"], 224, same_classes=True)
        row = entry("predictions", evaluation.outcomes["predictions"], 0, "", Bootstrap(1))
        assert (kinds(row, evaluation) == ["right"]) == (row.row.metrics["gt_known"].value == 100)


def test_predictions_of_other_classes(samples: list[Any]) -> None:
    """Where the labels are not those of the predictions, boxes alone are scored."""
    given = [found(([15, 15, 85, 85], -1, 0.2))] * 4
    evaluation = evaluate_found(given, samples, [(100, 100)] * 4, BOX_RULES["fam"], 224, same_classes=False)
    assert evaluation.outcomes["predictions"].ranks is None
    assert evaluation.classes == [()] * 4
