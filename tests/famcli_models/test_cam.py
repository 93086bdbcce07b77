"""CAM and CAMOutput."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from famcli_models import CAM, FAM, CAMConfig, CAMOutput
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.methods.method import min_max

Make = Callable[..., Any]
NO_LOGITS = torch.zeros(1, 2)  # where the class is given


class Pixels(nn.Module):
    """The image itself as features."""

    channels = 3

    def forward(self, images: Tensor) -> Features:
        return Features(images)


def by_hand() -> tuple[CAM, Tensor]:
    """Two classes on three channels of 2 x 2 pixels; the biases are there to be ignored."""
    cam = CAM(CAMConfig(num_classes=2), backbone=Pixels())
    with torch.no_grad():
        cam.classifier.weight.copy_(torch.tensor([[1.0, 0, 2], [0, -1, 0]]))
        cam.classifier.bias.copy_(torch.tensor([100.0, -100.0]))
    X = torch.tensor([[[[4.0, 0], [0, 0]], [[1, 2], [3, 5]], [[0, 1], [0, 4]]]])
    return cam, X


def test_maps_by_hand() -> None:
    """Class 0 sums the first channel and twice the third: 4, 2, 0, 8; class 1 turns the second: -1, -2, -3, -5."""
    cam, X = by_hand()
    expected = torch.tensor([[[0.5, 0.25], [0, 1]], [[1, 0.75], [0.5, 0]]])
    for label in range(2):
        found = cam.maps(CAMOutput(X, NO_LOGITS), torch.tensor([label]))
        torch.testing.assert_close(found[0], expected[label])
    both = cam.maps(CAMOutput(torch.cat([X, 10 * X]), NO_LOGITS), torch.tensor([1, 0]))
    torch.testing.assert_close(both, expected.flip(0))  # in a batch each image has its own class and scale


def test_logits_by_hand() -> None:
    """The means of the channels are 1, 11/4 and 5/4, so the logits are 7/2 + 100 and -11/4 - 100."""
    cam, X = by_hand()
    out = cam(X)
    assert isinstance(out, CAMOutput)
    torch.testing.assert_close(out.logits, torch.tensor([[103.5, -102.75]]))
    torch.testing.assert_close(cam.maps(out), cam.maps(out, torch.tensor([0])))  # of the most probable class


def test_a_flat_map_is_zero() -> None:
    """Features that are the same everywhere, or differ by rounding alone, give 0, also when scaled again."""
    cam, X = by_hand()
    assert not cam.maps(cam(torch.ones_like(X))).any()
    flat = torch.full((1, 4, 4), 0.3)
    flat[0, 0, 0] += 6e-8
    assert min_max(flat).max() == 0
    assert min_max(min_max(flat)).max() == 0
    assert min_max(torch.arange(16.0).view(1, 4, 4)).max() == 1


def test_logits_are_the_classifier_of_the_mean(make_model: Make) -> None:
    """Global average pooling and the linear classifier, and nothing between."""
    cam = make_model(method="cam").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        X, out = cam.features(images).X, cam(images)
        torch.testing.assert_close(out.logits, cam.classifier(X.flatten(2).mean(dim=2)))
    maps = cam.maps(out)
    assert maps.shape == (2, 4, 4)
    assert (maps.amin((1, 2)).tolist(), maps.amax((1, 2)).tolist()) == ([0, 0], [1, 1])


def test_the_mean_of_the_unscaled_map_is_the_logit(make_model: Make) -> None:
    """Why a class's map says where the class is: its mean, with the bias, is the class's score (Zhou, equation 2)."""
    cam = make_model(method="cam").eval()
    with torch.no_grad():
        features = cam.features(torch.randn(1, 3, 64, 64))
        X = features.X
        raw = nn.functional.conv2d(X, cam.classifier.weight[:, :, None, None])
        torch.testing.assert_close(raw.mean(dim=(2, 3)) + cam.classifier.bias, cam.head(features).logits)
        scaled = (raw - raw.amin((2, 3), keepdim=True)) / (raw.amax((2, 3)) - raw.amin((2, 3)))[..., None, None]
        for label in range(5):
            torch.testing.assert_close(cam.maps(CAMOutput(X, NO_LOGITS), torch.tensor([label])), scaled[:, label])


# ---- CAM.from_model --------------------------------------------------------------------------------------


def kept(make_model: Make, **options: Any) -> FAM:
    """A FAM that left the backbone's own classifier as it was."""
    fam = make_model(classifier="frozen", **options).eval()
    fam.provenance["classifier"] = "pretrained"
    return fam


def test_of_a_fam(make_model: Make, tmp_path: Path) -> None:
    """The CAM of a FAM reads the FAM's own features with the FAM's own classifier, at Zhou's threshold."""
    fam = kept(make_model)
    before = torch.get_rng_state()
    cam = CAM.from_model(fam)
    assert torch.equal(torch.get_rng_state(), before)  # it may be asked for in the middle of a training run
    assert CAM.from_model(cam) is cam
    assert cam.backbone is fam.backbone
    assert cam.classifier is fam.classifier
    assert {name.split(".")[0] for name in cam.state_dict()} == {"backbone", "classifier"}
    assert (cam.config.method, cam.config.tau, cam.config.size) == ("cam", 0.2, fam.config.size)
    assert (cam.class_names, cam.provenance, cam.training) == (fam.class_names, fam.provenance, False)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([3, 1])
    cam.save_pretrained(tmp_path)
    with torch.no_grad():
        X = fam.features(images).X
        found = cam.maps(CAMOutput(X, NO_LOGITS), labels)
        for i, label in enumerate(labels.tolist()):
            raw = np.einsum("chw,c->hw", X[i].numpy(), fam.classifier.weight[label].numpy())
            np.testing.assert_allclose(found[i].numpy(), (raw - raw.min()) / (raw.max() - raw.min()), atol=1e-5)
        saved = CAM.from_pretrained(tmp_path)
        assert torch.equal(saved.maps(saved(images), labels), found)


def test_of_a_fine_fam(make_model: Make) -> None:
    """The CAM of a FAM with a finer map shares its network and reads X; a CAM of its own keeps no other maps."""
    fam = kept(make_model, fine_channels=8)
    cam = CAM.from_model(fam)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = fam.features(images)
        maps = cam.maps(cam.head(features))
        assert maps.shape == (2, 4, 4)
        assert torch.equal(maps, cam.maps(cam.head(Features(features.X))))
        assert make_model(method="cam").eval().features(images).earlier == ()


@pytest.mark.parametrize(
    ("classifier", "provenance", "good"),
    [
        ("frozen", {"classifier": "pretrained", "backbone_training": "frozen"}, True),
        ("frozen", {"classifier": "pretrained", "backbone_training": "trained"}, False),
        ("frozen", {}, False),
        ("trained", {"classifier": "pretrained"}, False),
        ("trained", {}, False),
    ],
)
def test_what_was_trained_has_no_cam(make_model: Make, classifier: str, provenance: dict[str, str], good: bool) -> None:
    """A classifier that learnt from o, or a backbone that left its classifier, has none; the message names the way."""
    fam = make_model(classifier=classifier)
    fam.provenance.update(provenance)
    if good:
        assert isinstance(CAM.from_model(fam), CAM)
    else:
        with pytest.raises(ConfigError, match="not both as they were pretrained; .*fam train --method cam --data"):
            CAM.from_model(fam)
