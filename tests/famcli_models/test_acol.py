"""ACoL: erasing, and the map of two heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models.features import Features
from famcli_models.methods.acol import ACoL
from famcli_models.methods.cam import CAM, class_activation_maps
from famcli_models.methods.method import Batch

Make = Callable[..., Any]


@pytest.fixture
def acol(make_model: Make) -> ACoL:
    """A tiny one with small heads."""
    model: ACoL = make_model(method="acol", head_channels=8)
    return model


def test_without_erasing_two_equal_heads_are_one_cam(make_model: Make) -> None:
    """With δ above 1 and B a copy of A the logits are equal and the map is A's CAM."""
    acol = make_model(method="acol", head_channels=8, erase=1.5).eval()
    acol.convolutions_b.load_state_dict(acol.convolutions.state_dict())
    acol.classifier_b.load_state_dict(acol.classifier.state_dict())
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([3, -1])
    with torch.no_grad():
        out = acol(images, labels)
        assert torch.equal(out.logits, out.logits_b)
        assert not out.erased.any()
        assert torch.equal(acol.maps(out, labels), CAM.maps(acol, out, labels))


def test_what_the_map_of_the_class_shows_is_erased(acol: ACoL) -> None:
    """A map that is one cell erases that cell, in all channels; another class's map erases its own."""
    acol.convolutions = acol.convolutions_b = torch.nn.Identity()
    X = torch.zeros(1, acol.channels, 4, 4)
    X[0, 0, 1, 2], X[0, 1, 3, 3] = 5, 7  # the maps of classes 0 and 1
    with torch.no_grad():
        acol.classifier = torch.nn.Linear(acol.channels, 5)
        acol.classifier_b = torch.nn.Linear(acol.channels, 5)
        acol.classifier.weight.copy_(torch.eye(5, acol.channels))
        for label, (row, column) in enumerate([(1, 2), (3, 3)]):
            out = acol.head(Features(X + 1), torch.tensor([label]))
            kept = out.X_b[0] > 0
            assert not kept[:, row, column].any()
            assert kept.sum() == acol.channels * 15
            assert out.erased.tolist() == [pytest.approx(1 / 16)]


def test_the_second_head_teaches_the_first_nothing(acol: ACoL) -> None:
    """B's loss reaches B and the backbone and not head A; the whole loss reaches every parameter."""
    out = acol.train()(torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3]))
    terms = acol.loss(out, Batch(torch.tensor([0, 1, 2, 3]))).terms
    terms["cla_b"].backward(retain_graph=True)
    reached = {name.split(".")[0] for name, p in acol.named_parameters() if p.grad is not None}
    assert reached == {"backbone", "convolutions_b", "classifier_b"}
    terms["cla"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in acol.parameters())


def test_the_map_is_the_larger_of_both(acol: ACoL) -> None:
    """Cell by cell, of the class that is asked for; the erased share is that of A's map at δ or more."""
    labels = torch.tensor([2, 0])
    with torch.no_grad():
        out = acol.eval()(torch.randn(2, 3, 64, 64), labels)
        A = class_activation_maps(out.X, acol.classifier.weight[labels])
        B = class_activation_maps(out.X_b, acol.classifier_b.weight[labels])
        M = acol.maps(out, labels)
    assert torch.equal(M, torch.where(A > B, A, B))
    assert (M > A).any()
    torch.testing.assert_close(out.erased, (A >= 0.6).float().mean(dim=(1, 2)))
