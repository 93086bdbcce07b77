"""ADL: the layer by hand, where it stands, and that it is a CAM outside training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models.methods.adl import ADL, GAMMA, PLACES, AttentionDropout

Make = Callable[..., Any]
MEANS = torch.tensor([1.0, 0.5, 0.85, 0.2])


def feature() -> torch.Tensor:
    """One image of two channels whose means over channels are MEANS."""
    return torch.stack([MEANS - 0.1, MEANS + 0.1]).view(1, 2, 2, 2)


def test_drop_mask_by_hand() -> None:
    """With γ = 0.8 the cells of 1 and 0.85 are at or above 0.8 of the maximum, image by image, and are hidden."""
    F = torch.cat([feature(), 10 * feature().flip(3)])
    found = AttentionDropout(0.8, drop_rate=1)(F)
    kept = torch.tensor([[0.0, 1], [0, 1]])
    assert torch.equal(found, F * torch.stack([kept, kept.flip(1)])[:, None])


def test_importance_map_by_hand() -> None:
    """The other path multiplies by σ of the mean, and its gradient flows through σ too."""
    F = feature().requires_grad_()
    found = AttentionDropout(0.8, drop_rate=0)(F)
    sigma = torch.tensor([0.731, 0.622, 0.701, 0.550]).view(1, 1, 2, 2)
    torch.testing.assert_close(found.detach(), F.detach() * sigma, atol=1e-3, rtol=0)
    found[:, 0].sum().backward()
    assert F.grad is not None
    assert F.grad[:, 1].all()  # the other channel is a part of the mean


def test_one_draw_a_batch() -> None:
    """Over 1,000 batches the mask is chosen 750 ± 45 times, for all images of a batch or for none."""
    layer, F = AttentionDropout(0.8, 0.75), feature().expand(3, 2, 2, 2)
    hidden = torch.stack([(layer(F) == 0).flatten(1).any(dim=1) for _ in range(1000)])
    assert torch.equal(hidden.all(dim=1), hidden.any(dim=1))
    assert abs(int(hidden[:, 0].sum()) - 750) < 45


def test_a_feature_without_activation_stays_zero() -> None:
    """Where the largest mean is 0 every cell is hidden, and nothing is divided by it."""
    assert not AttentionDropout(0.8, 1)(torch.zeros(1, 2, 2, 2)).any()


def test_outside_training_it_is_cam(make_model: Make) -> None:
    """In evaluation mode the layers are the identity, bit for bit, and the weights are CAM's by number and name."""
    model, cam = (make_model(method=name, head_channels=8).eval() for name in ("adl", "cam"))
    cam.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).logits, cam(images).logits)
        assert torch.equal(model.maps(model(images)), cam.maps(cam(images)))
        assert not torch.equal(model.train()(images).logits, cam.train()(images).logits)


@pytest.mark.parametrize("backbone", PLACES.by_backbone)
def test_layers_of_each_backbone(make_model: Make, backbone: str) -> None:
    """Each backbone has its layers, with the published γ, and one more behind the convolutions of a head."""
    with torch.device("meta"):
        model = make_model(method="adl", backbone=backbone, head_channels=8)
    assert isinstance(model, ADL)
    layers = [module for module in model.modules() if isinstance(module, AttentionDropout)]
    assert len(layers) == len(PLACES.by_backbone[backbone]) + 1
    assert {layer.gamma for layer in layers} == {GAMMA[backbone]}
