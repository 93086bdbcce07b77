"""Batch norms folded into convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from famcli_models.backbones import Backbone
from famcli_models.features import Features
from famcli_models.fusion import fold_norms


def trained(name: str) -> nn.Module:
    """A network whose batch norms have seen something."""
    network = Backbone(name).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit"])
def test_folding_changes_no_number(name: str) -> None:
    """The folded network computes what the network computes, and the network itself is left alone."""
    network = trained(name)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    images = torch.randn(2, 3, 160, 160)
    folded = fold_norms(network)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-3)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())


def test_most_norms_go() -> None:
    """In an ordinary network nearly every batch norm becomes part of its convolution."""

    def norms(network: nn.Module) -> int:
        return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())

    network = trained("test_resnet")
    assert norms(fold_norms(network)) <= norms(network) / 4


def test_a_wrong_guess_gives_the_original_back() -> None:
    """Where the norm registered after a convolution is not applied to it, nothing is folded."""

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> Features:
            return Features(self.conv(self.norm(x)))

    network = Crossed().eval()
    network.norm.running_mean += 1
    assert fold_norms(network) is network
    assert not network.training
