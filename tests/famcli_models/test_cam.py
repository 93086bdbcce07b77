"""CAM and CAMOutput."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from famcli_models import CAM, FAM, CAMConfig, CAMOutput, FAMConfig
from famcli_models.checkpoint import CONFIG_FILE
from famcli_models.errors import ConfigError, ShapeError, WeightsError
from famcli_models.features import Features
from famcli_models.fusion import fold_norms
from famcli_models.methods.method import Batch, min_max

Make = Callable[..., Any]
NO_LOGITS = torch.zeros(0)  # where the class is given


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
    for label, expected in enumerate(([[0.5, 0.25], [0, 1]], [[1, 0.75], [0.5, 0]])):
        torch.testing.assert_close(cam.maps(CAMOutput(X, NO_LOGITS), torch.tensor([label]))[0], torch.tensor(expected))


def test_logits_by_hand() -> None:
    """The means of the channels are 1, 11/4 and 5/4, so the logits are 7/2 + 100 and -11/4 - 100."""
    cam, X = by_hand()
    out = cam(X)
    assert isinstance(out, CAMOutput)
    torch.testing.assert_close(out.logits, torch.tensor([[103.5, -102.75]]))
    torch.testing.assert_close(cam.maps(out), cam.maps(out, torch.tensor([0])))  # of the most probable class


def test_each_image_has_its_own_class_and_scale() -> None:
    """In a batch every map is that of its image's label, from 0 to 1."""
    cam, X = by_hand()
    both = cam.maps(CAMOutput(torch.cat([X, 10 * X]), NO_LOGITS), torch.tensor([1, 0]))
    torch.testing.assert_close(both[0], cam.maps(CAMOutput(X, NO_LOGITS), torch.tensor([1]))[0])
    torch.testing.assert_close(both[1], cam.maps(CAMOutput(X, NO_LOGITS), torch.tensor([0]))[0])


def test_a_flat_map_is_zero() -> None:
    """Features that are the same everywhere give 0 everywhere, and no division by 0."""
    cam, X = by_hand()
    assert not cam.maps(cam(torch.ones_like(X))).any()


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
        raw = all_maps(X, cam.classifier.weight)
        torch.testing.assert_close(raw.mean(dim=(2, 3)) + cam.classifier.bias, cam.head(features).logits)
        scaled = (raw - raw.amin((2, 3), keepdim=True)) / (raw.amax((2, 3)) - raw.amin((2, 3)))[..., None, None]
        for label in range(5):
            torch.testing.assert_close(cam.maps(CAMOutput(X, NO_LOGITS), torch.tensor([label])), scaled[:, label])


def all_maps(X: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.conv2d(X, weight[:, :, None, None])


def test_other_shapes_are_refused(make_model: Make) -> None:
    """What is no batch of RGB images is refused with its shape."""
    with pytest.raises(ShapeError, match=r"\(B, 3, h, w\)"):
        make_model(method="cam")(torch.zeros(1, 4, 64, 64))


def test_gradients_reach_every_parameter(make_model: Make) -> None:
    """One training step moves backbone and classifier."""
    cam = make_model(seed=1, method="cam").train()
    cam.loss(cam(torch.randn(4, 3, 64, 64)), Batch(torch.tensor([0, 1, 2, 3]))).total.backward()
    assert [name for name, p in cam.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_it_has_no_attention(make_model: Make) -> None:
    """A CAM is a backbone and a classifier."""
    assert {name.split(".")[0] for name in make_model(method="cam").state_dict()} == {"backbone", "classifier"}


def test_tracing_and_autocast(make_model: Make) -> None:
    """A traced CAM gives the same for another batch; under bf16 autocast it stays near float32."""
    cam = make_model(method="cam").eval()
    images = torch.randn(2, 3, 64, 64)
    traced = torch.jit.trace(cam, torch.randn(1, 3, 64, 64), check_trace=False)
    with torch.no_grad():
        expected = cam(images)
        torch.testing.assert_close(traced(images)[0], expected.X)
        with torch.autocast("cpu", torch.bfloat16):
            assert (cam(images).logits.float() - expected.logits).abs().max() < 0.1


def test_folded_norms_change_nothing(make_model: Make) -> None:
    """What makes inference faster gives the same maps."""
    cam = make_model(method="cam").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        folded = cam.head(fold_norms(cam.backbone)(images))
        torch.testing.assert_close(cam.maps(folded), cam.maps(cam(images)), rtol=0, atol=1e-3)


# ---- CAM.from_model ----------------------------------------------------------------------------------------------


@pytest.fixture
def kept(make_model: Make) -> FAM:
    """A FAM that left the backbone's own classifier as it was."""
    fam = make_model(classifier="frozen").eval()
    fam.provenance["classifier"] = "pretrained"
    return fam


def test_of_a_fam(kept: FAM) -> None:
    """The CAM of a FAM reads the FAM's own features with the FAM's own classifier, at Zhou's threshold."""
    cam = CAM.from_model(kept)
    assert cam.backbone is kept.backbone
    assert cam.classifier is kept.classifier
    assert (cam.config.method, cam.config.tau, cam.config.size) == ("cam", 0.2, kept.config.size)
    assert (cam.class_names, cam.provenance, cam.training) == (kept.class_names, kept.provenance, False)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([3, 1])
    with torch.no_grad():
        X = kept.features(images).X
        found = cam.maps(CAMOutput(X, NO_LOGITS), labels).numpy()
        for i, label in enumerate(labels.tolist()):
            raw = np.einsum("chw,c->hw", X[i].numpy(), kept.classifier.weight[label].numpy())
            np.testing.assert_allclose(found[i], (raw - raw.min()) / (raw.max() - raw.min()), atol=1e-5)


def test_of_a_fam_draws_no_random_numbers(kept: FAM) -> None:
    """It may be asked for in the middle of a training run."""
    before = torch.get_rng_state()
    CAM.from_model(kept)
    assert torch.equal(torch.get_rng_state(), before)


def test_of_a_cam_is_itself(make_model: Make) -> None:
    """Whoever wants a CAM need not ask what they have."""
    cam = make_model(method="cam")
    assert CAM.from_model(cam) is cam


@pytest.mark.parametrize(
    ("provenance", "classifier"), [({}, "frozen"), ({"classifier": "pretrained"}, "trained"), ({}, "trained")]
)
def test_a_trained_classifier_has_no_cam(make_model: Make, provenance: dict[str, str], classifier: str) -> None:
    """A classifier that learnt from o says nothing of averages of X; the message names the way to a CAM."""
    fam = make_model(classifier=classifier)
    fam.provenance.update(provenance)
    with pytest.raises(ConfigError, match="fam train --method cam --data"):
        CAM.from_model(fam)


# ---- Checkpoints -----------------------------------------------------------------------------------------


def test_round_trip(make_model: Make, tmp_path: Path) -> None:
    """A saved CAM comes back with every value, name and choice, and as a CAM."""
    cam = make_model(method="cam", tau=0.3).eval()
    cam.provenance["data"] = ["tiny"]
    cam.save_pretrained(tmp_path / "cam")
    again = CAM.from_pretrained(tmp_path / "cam")
    assert type(again) is CAM
    assert (again.config, again.class_names, again.provenance) == (cam.config, cam.class_names, cam.provenance)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.maps(again(images)), cam.maps(cam(images)))
        assert torch.equal(again(images).logits, cam(images).logits)
    assert not again.training


def test_the_cam_of_a_fam_can_be_saved(kept: FAM, tmp_path: Path) -> None:
    """It is a checkpoint like any other."""
    CAM.from_model(kept).save_pretrained(tmp_path / "cam")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        saved, made = CAM.from_pretrained(tmp_path / "cam"), CAM.from_model(kept)
        assert torch.equal(saved.maps(saved(images)), made.maps(made(images)))


def test_the_classes_keep_apart(make_model: Make, checkpoint: Path, tmp_path: Path) -> None:
    """Neither class reads a checkpoint of the other, and each message names the function that reads both."""
    make_model(method="cam").save_pretrained(tmp_path / "cam")
    with pytest.raises(WeightsError, match=r"a checkpoint of 'cam', not of 'fam'; .*load_model reads it"):
        FAM.from_pretrained(tmp_path / "cam")
    with pytest.raises(WeightsError, match=r"a checkpoint of 'fam', not of 'cam'; .*load_model reads it"):
        CAM.from_pretrained(checkpoint)


def test_the_config_must_be_of_the_method() -> None:
    """A class is not built from a config of the other."""
    with pytest.raises(ConfigError, match="a FAM is made from a FAMConfig, not CAMConfig"):
        FAM(CAMConfig(backbone="test_efficientnet"))
    with pytest.raises(ConfigError, match="a CAM is made from a CAMConfig, not FAMConfig"):
        CAM(FAMConfig(backbone="test_efficientnet"))


def test_a_cam_config_with_fam_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A config that was edited by hand does not turn a FAM into a CAM."""
    FAM.from_pretrained(checkpoint).save_pretrained(tmp_path / "edited")
    path = tmp_path / "edited" / CONFIG_FILE
    config = json.loads(path.read_text())
    config["model"]["method"] = "cam"
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="unknown field"):
        CAM.from_pretrained(tmp_path / "edited")


def test_a_trained_backbone_has_no_cam(make_model: Callable[..., Any]) -> None:
    """A frozen classifier reads the features it was pretrained on, not those of a backbone that was trained."""
    model = make_model(classifier="frozen")
    model.provenance |= {"classifier": "pretrained", "backbone_training": "frozen"}
    assert isinstance(CAM.from_model(model), CAM)
    model.provenance["backbone_training"] = "trained"
    with pytest.raises(ConfigError, match="not both as they were pretrained"):
        CAM.from_model(model)


def test_a_flat_map_is_nothing() -> None:
    """Values that differ by rounding alone become 0, also when they are scaled again."""
    flat = torch.full((1, 4, 4), 0.3)
    flat[0, 0, 0] += 6e-8
    assert min_max(flat).max() == 0
    assert min_max(min_max(flat)).max() == 0
    assert min_max(torch.arange(16.0).view(1, 4, 4)).max() == 1
