"""EIL: what is erased by hand, its two losses, and that it is a CAM outside training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models import BACKBONES
from famcli_models.losses import classification_loss
from famcli_models.methods.eil import Erasing
from famcli_models.methods.method import Batch

Make = Callable[..., Any]


def test_erasing_by_hand() -> None:
    """Cells whose mean is at or above γ times the largest are 0 in the second half; the first half is F."""
    means = torch.tensor([[1.0, 0.5], [0.7, 0.2]])
    F = torch.stack([means - 0.1, means + 0.1])[None]
    erasing = Erasing(0.7)
    plain, erased = erasing(F).chunk(2)
    assert torch.equal(plain, F)
    assert torch.equal(erased, F * torch.tensor([[0.0, 1], [0, 1]]))
    assert erasing.share.tolist() == [0.5]
    assert not Erasing(0)(F)[1].any()  # γ = 0 erases everything where a >= 0
    assert torch.equal(erasing.eval()(F), F)


def test_beyond_one_nothing_is_erased(make_model: Make) -> None:
    """With γ > 1 both branches agree and the loss is (1 + w) CE."""
    model = make_model(method="eil", gamma=1.5, erased_weight=0.5).train()
    labels = torch.tensor([0, 3])
    out = model(torch.randn(2, 3, 64, 64), labels)
    torch.testing.assert_close(out.erased_logits, out.logits)
    losses = model.loss(out, Batch(labels))
    torch.testing.assert_close(losses.total, 1.5 * classification_loss(out.logits, labels))


def test_gradient_reaches_the_tail_from_both_terms(make_model: Make) -> None:
    """Layers after the erasing learn from each of the two losses, and nothing flows through the mask."""
    model = make_model(method="eil").train()
    labels = torch.tensor([0, 3])
    found = []
    for term in ("cla", "erased_cla"):
        model.zero_grad()
        model.loss(model(torch.randn(2, 3, 64, 64), labels), Batch(labels)).terms[term].backward()
        found.append({name: bool(p.grad.any()) for name, p in model.named_parameters() if p.grad is not None})
    assert found[0] == found[1]
    assert all(found[0].values())
    assert len(found[0]) == len(list(model.parameters()))


def test_outside_training_it_is_cam(make_model: Make) -> None:
    """In evaluation mode scores and maps are those of a CAM with the same weights, bit for bit."""
    model, cam = (make_model(method=name).eval() for name in ("eil", "cam"))
    cam.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).logits, cam(images).logits)
        assert torch.equal(model.maps(model(images)), cam.maps(cam(images)))
        out = model.train()(images)
        assert torch.equal(out.logits.argmax(dim=1), cam(images).logits.argmax(dim=1))
        assert not torch.equal(out.erased_logits, out.logits)


def test_too_much_erased_is_reported(make_model: Make) -> None:
    """Outside 5 to 40% of the cells a warning names the setting to change."""
    model = make_model(method="eil")
    measures = {"spread": 0.2, "foreground": 0.3}
    assert model.warnings({**measures, "erased": 0.2}) == []
    assert "raise gamma" in model.warnings({**measures, "erased": 0.8})[0]
    assert "lower gamma" in model.warnings({**measures, "erased": 0.01})[0]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_place_in_each_backbone(make_model: Make, backbone: str) -> None:
    """Each backbone has its place, and what is erased there changes X."""
    model = make_model(method="eil", backbone=backbone).train()
    model.backbone.eval()
    model.erasing.train()
    with torch.no_grad():
        plain, erased = model.features(torch.rand(1, 3, 96, 96)).X
    assert not torch.equal(plain, erased)
