"""RCAM: its three changes to CAM by hand, and its map of other methods' checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from famcli_models import CAM, METHODS
from famcli_models.errors import ConfigError
from famcli_models.methods.cam import class_activation_maps
from famcli_models.methods.method import min_max
from famcli_models.methods.rcam import RCAM, scale_to_percentile, thresholded_average

Make = Callable[..., Any]


@pytest.mark.parametrize(("theta", "expected"), [(0, 3), (0.4, 3), (0.5, 4)])
def test_thresholded_average_by_hand(theta: float, expected: float) -> None:
    """Of 0, 0, 4 and 2 those above θ · 4 count: 4 and 2 at first, and 4 alone at one half, as 2 is not above 2."""
    X = torch.tensor([[[[0.0, 0], [4, 2]], [[0, 0], [0, 0]]]])
    assert thresholded_average(X, theta).tolist() == [[expected, 0]]  # a channel without activation gives 0


def test_without_threshold_it_is_the_mean_of_positive_cells() -> None:
    """At θ = 0 features that are positive everywhere give CAM's mean."""
    X = torch.rand(2, 3, 5, 4) + 0.1
    torch.testing.assert_close(thresholded_average(X, 0), X.mean(dim=(2, 3)))


def test_a_map_is_one_from_its_percentile_on() -> None:
    """Percentiles are NumPy's; at 100 the map stays as it is; a percentile below the least is taken for that."""
    M = min_max(torch.rand(3, 7, 5) ** 3)
    found = scale_to_percentile(M, 90, 0.01)
    for of, one in zip(found.numpy(), M.numpy(), strict=True):
        np.testing.assert_allclose(of, np.minimum(one / np.percentile(one, 90), 1), rtol=1e-5)
    assert torch.equal(scale_to_percentile(M, 100, 0.01), M)
    dot = torch.zeros(1, 10, 10)
    dot[0, 4:6, 4:6] = torch.tensor([[1.0, 0.5], [0.5, 0.1]])  # four of a hundred cells: the 90th percentile is 0
    torch.testing.assert_close(scale_to_percentile(dot, 90, 0.2), (dot / 0.2).clamp(max=1))


def test_negative_weights_count_for_the_class_alone(make_model: Make) -> None:
    """The map adds up channels with positive weights, the scores all; without negative ones only the scale is new."""
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([3, 1])
    model = make_model(method="rcam").eval()
    with torch.no_grad():
        out = model(images)
        weights = model.classifier.weight
        raw = torch.einsum("bchw,bc->bhw", out.X, weights[labels].clamp(min=0))
        torch.testing.assert_close(model.maps(out, labels), scale_to_percentile(min_max(raw), 90, 0.2))
        torch.testing.assert_close(out.logits, model.classifier(thresholded_average(out.X, 0.1)))
        weights.abs_()
        cams = class_activation_maps(out.X, weights[labels])
        torch.testing.assert_close(model.maps(out, labels), scale_to_percentile(cams, 90, 0.2))


OTHERS = ("rcam", "danet")
CAMS = [(name, "test_efficientnet") for name, kind in METHODS.items() if issubclass(kind, CAM) and name not in OTHERS]
SMOOTHED = [("acol", "vgg16"), ("i2c", "vgg16")]


@pytest.mark.parametrize(("method", "backbone"), CAMS + SMOOTHED)
def test_of_every_kind_of_cam(make_model: Make, method: str, backbone: str) -> None:
    """A CAM has this map however it was trained: of its own features, classifier and classes, and nothing is drawn."""
    model = make_model(method=method, backbone=backbone, head_channels=8).eval()
    before = torch.get_rng_state()
    found = RCAM.from_model(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert RCAM.from_model(found) is found
    assert (found.config.method, found.config.tau, found.config.averaging) == ("rcam", 0.35, "plain")
    assert all(getattr(found, name) is getattr(model, name) for name in ("backbone", "classifier"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found(images).logits, model(images).logits)
        assert found.maps(found(images)).amax((1, 2)).tolist() == [1, 1]


def test_several_maps_of_a_class_are_none(make_model: Make) -> None:
    """The classifier of DANet has several rows for a class, and of which the map would be is not known."""
    with pytest.raises(ConfigError, match="this DANet has no RCAM"):
        RCAM.from_model(make_model(method="danet", head_channels=8))


def test_of_a_fam(make_model: Make) -> None:
    """A FAM whose backbone and classifier are as pretrained has this map too; another is refused in one sentence."""
    fam = make_model(classifier="frozen").eval()
    with pytest.raises(ConfigError, match="this FAM has no RCAM, because .* 'fam train --method rcam --data"):
        RCAM.from_model(fam)
    fam.provenance["classifier"] = "pretrained"
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, cam = (kind.from_model(fam)(images) for kind in (RCAM, CAM))
        assert torch.equal(found.logits, cam.logits)
