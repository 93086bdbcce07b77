"""Batch norms folded into convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from famcli_models.backbones import Backbone
from famcli_models.features import Features
from famcli_models.fusion import fold_norms


def trained(network: nn.Module) -> nn.Module:
    """A network whose batch norms have seen something."""
    with torch.no_grad():
        for module in network.eval().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize(
    ("name", "earlier", "left"),
    [
        ("test_efficientnet", False, 1),
        ("test_efficientnet", True, 1),
        ("test_resnet", False, 1 / 4),
        ("test_vit", False, 1),
    ],
)
def test_folding_changes_no_number(name: str, earlier: bool, left: float) -> None:
    """The folded network gives all maps of the network with few of its norms, and the network itself is left alone."""
    network = trained(Backbone(name, earlier=2 * earlier))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    images = torch.randn(2, 3, 160, 160)
    folded = fold_norms(network)
    assert (folded is not network) == (norms(network) > 0)
    assert norms(folded) <= norms(network) * left
    with torch.no_grad():
        for found, expected in zip(folded(images).maps, network(images).maps, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())


def test_a_folded_model_has_the_same_maps(make_model: Callable[..., Any]) -> None:
    """What makes inference faster gives the same maps, min-max scaled too."""
    cam = make_model(method="cam").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        folded = cam.head(fold_norms(cam.backbone)(images))
        torch.testing.assert_close(cam.maps(folded), cam.maps(cam(images)), rtol=0, atol=1e-3)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_wrong_guess_gives_the_original_back(earlier: bool) -> None:
    """Where the norm after a convolution is not applied to it, for X or an earlier map, nothing is folded."""

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Features:
            spoilt = self.conv(self.norm(x))
            return Features(x, (spoilt,)) if earlier else Features(spoilt)

    network = Crossed().eval()
    network.norm.running_mean += 1
    assert fold_norms(network) is network
    assert not network.training
