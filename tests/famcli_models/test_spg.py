"""SPG: targets of the masks, and branches that guide training alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models.errors import ConfigError
from famcli_models.methods.method import Batch
from famcli_models.methods.spg import SPG, mask_loss, mask_target

Make = Callable[..., Any]
LABELS = torch.tensor([0, 1, 2, 3])


def make(make_model: Make, **settings: Any) -> SPG:
    """A tiny one with a small head."""
    model: SPG = make_model(method="spg", head_channels=8, **settings)
    return model


def test_targets() -> None:
    """Above h foreground, below l background, ignored between; where too few pixels exceed h it is 0.7 of the maximum.

    Each image has its own h, and l goes before it.
    """
    a = torch.full((5, 224, 224), 0.3)
    a[0, :, :112], a[0, :, 112:] = 0.8, 0.02
    a[2, 0, :29] = 0.8  # one pixel too few
    a[3, 0, :30] = 0.8
    a[4] = 0.04
    target, counts = mask_target(a, 0.7, 0.05)
    assert torch.equal(target[0], (a[0] == 0.8).float())
    assert counts[0].all()
    assert target[1].all()  # h is 0.21
    assert torch.equal(target[2], (a[2] == 0.8).float())  # h is 0.56
    assert torch.equal(target[3], (a[3] == 0.8).float())
    assert torch.equal(counts[3], a[3] == 0.8)
    assert not target[4].any()
    assert counts[4].all()
    # 30 pixels of 224 x 224 are 7.5 of 112 x 112.
    a = torch.full((2, 112, 112), 0.3)
    a[0, 0, :7], a[1, 0, :8] = 0.8, 0.8
    a[:, 1, 0] = 0.57
    assert mask_target(a, 0.7, 0.05)[0].sum(dim=(1, 2)).tolist() == [8, 8]


def test_no_pixel_counts() -> None:
    """The loss is 0, and not the mean of nothing."""
    logits = torch.randn(1, 4, 4)
    assert mask_loss(logits, torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)) == 0


def test_without_guidance_it_is_cam(make_model: Make) -> None:
    """Weight 0: the gradients are those of a CAM with that head, and the branches get none but 0."""
    spg = make(make_model, guidance=0.0, head_dropout=0.0).train()
    cam = make_model(method="cam", head_channels=8).train()
    images = torch.randn(4, 3, 64, 64)
    for model in (spg, cam):
        model.loss(model(images, LABELS), Batch(LABELS)).total.backward()
    gradients = {name: p.grad for name, p in spg.named_parameters()}
    for name, p in cam.named_parameters():
        torch.testing.assert_close(gradients.pop(name), p.grad)
    assert {name.split(".")[0] for name in gradients} == {"early", "late", "shared", "last"}
    assert not any(gradient.any() for gradient in gradients.values())


def test_each_mask_trains_its_own_branch(make_model: Make) -> None:
    """No gradient passes through a target, and the loss of no mask reaches the class maps' own classifier."""
    model = make(make_model, seed=1).train()
    losses = model.loss(model(torch.randn(4, 3, 64, 64), LABELS), Batch(LABELS))
    backbone, head = {"backbone"}, {"convolutions", "backbone"}
    for term, reached in (
        ("b2", {"late", "shared"} | backbone),
        ("b1", {"early", "shared"} | backbone),
        ("c", {"last"} | head),
    ):
        model.zero_grad()
        losses.terms[term].backward(retain_graph=True)
        assert {
            name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()
        } == reached
    model.zero_grad()
    losses.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_the_branches_do_not_change_the_map(make_model: Make) -> None:
    """In evaluation mode they are not run, and dropout is off."""
    model = make(make_model).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out = model(images)
        for branch in (model.early, model.late, model.shared, model.last):
            for p in branch.parameters():
                p.fill_(torch.nan)
        again = model(images)
    assert out.masks.numel() == again.masks.numel() == 0
    assert torch.equal(model.maps(out), model.maps(again))
    assert torch.equal(out.logits, again.logits)


@pytest.mark.parametrize("settings", [{"high": [0.7, 0.5]}, {"low": [0.1, 0.2, 1.5]}, {"low": [0.8, 0, 0]}])
def test_odd_thresholds_are_refused(make_model: Make, settings: dict[str, Any]) -> None:
    """There are three of each, in [0, 1], and l is not above h."""
    with pytest.raises(ConfigError, match="three numbers in|below high"):
        make(make_model, **settings)
