"""GC-Net: the ellipse and its box, the losses, and which network learns when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models import CAM
from famcli_models.errors import ConfigError
from famcli_models.methods.gcnet import GCNet, GCNetConfig, area_loss, background_loss, ellipse_box, ellipse_mask
from famcli_models.methods.method import Batch

Make = Callable[..., Any]
IMAGES, LABELS = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])


def at(x: float, y: float, w: float, h: float, theta: float = 0.5) -> torch.Tensor:
    return torch.tensor([[x, y, w, h, theta]], dtype=torch.float64)


def test_the_mask_has_its_edge_on_the_ellipse() -> None:
    """It is 0.9683 at the centre, 0.5 on the edge, 0.0106 at twice the axes, and has a gradient in all five numbers."""
    mask = ellipse_mask(at(0.5, 0.5, 0.4, 0.2), 10.0, (10001, 11))[0, :, 5].tolist()  # down the middle
    assert [mask[5000], mask[6000], mask[7000]] == pytest.approx([0.9683, 0.5, 0.0106], abs=2e-3)
    tilted = at(0.41, 0.45, 0.4, 0.2, 0.6).requires_grad_()
    ellipse_mask(tilted, 10.0, (14, 14))[0, :5].sum().backward()
    assert tilted.grad is not None
    assert tilted.grad.ne(0).all()


def test_the_box_is_tight() -> None:
    """By the closed form, which is what thresholding a fine mask gives; a circle does not turn."""
    turned = at(0.5, 0.5, 0.6, 0.2, 0.75)  # half axes 0.3 and 0.1, at 45 degrees
    x0, y0, x1, y1 = ellipse_box(turned)[0].tolist()
    assert (x1 - x0) / 2 == pytest.approx((y1 - y0) / 2) == pytest.approx(0.2236, abs=1e-4)
    rows, columns = torch.nonzero(ellipse_mask(turned, 10.0, (800, 800))[0] > 0.5, as_tuple=True)
    found = [columns.min() / 800, rows.min() / 800, (columns.max() + 1) / 800, (rows.max() + 1) / 800]
    torch.testing.assert_close(torch.tensor(found), ellipse_box(turned)[0].float(), atol=2e-3, rtol=0)
    circle, again = at(0.5, 0.5, 0.3, 0.3), at(0.5, 0.5, 0.3, 0.3, 0.8)
    torch.testing.assert_close(ellipse_box(circle), ellipse_box(again))
    torch.testing.assert_close(ellipse_mask(circle, 10.0, (14, 14)), ellipse_mask(again, 10.0, (14, 14)))


def test_the_losses() -> None:
    """A uniform prediction of the background costs nothing, a certain one ln L; the area alone shrinks the ellipse."""
    assert float(background_loss(torch.zeros(2, 7))) == pytest.approx(0, abs=1e-6)
    assert float(background_loss(1e3 * torch.eye(7))) == pytest.approx(math.log(7))
    numbers = torch.zeros(1, 5, requires_grad=True)
    optimizer = torch.optim.SGD([numbers], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        area_loss(numbers.sigmoid()).backward()
        optimizer.step()
    assert (numbers[0, 2:4].sigmoid() < 0.3).all()
    assert (numbers[0, [0, 1, 4]] == 0).all()


@pytest.mark.parametrize("step", [0, 9])
def test_first_the_classifier_learns_and_then_the_detector(make_model: Make, step: int) -> None:
    """A step of either stage gives a gradient to all of its network and to nothing of the other's."""
    model = make_model(method="gcnet", classifier_share=0.5, frozen_norm=False).train()
    before = {name: tensor.clone() for name, tensor in model.backbone.named_buffers()}
    model.begin_step(step, 10)
    model.loss(model(IMAGES, LABELS), Batch(LABELS)).total.backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    still = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    stages = {"backbone", "classifier"}, {"localizer", "detector", "sharpness"}
    assert (moved, still) == (stages if step == 0 else stages[::-1])
    changed = [name for name, tensor in model.backbone.named_buffers() if not torch.equal(tensor, before[name])]
    assert bool(changed) == (step == 0)


def test_both_trunks_start_from_a_trained_classifier(make_model: Make) -> None:
    """From a CAM run of the same classes; of other classes the classifier must be trained first."""
    cam: CAM = make_model(method="cam", seed=3)
    config = GCNetConfig(backbone="test_efficientnet", num_classes=5, size=64, classifier_share=0.0)
    model = GCNet.from_trained(config, cam, cam.class_names).eval()
    features = model.features(IMAGES)
    torch.testing.assert_close(features.X, cam.eval().features(IMAGES).X)
    torch.testing.assert_close(features.tapped[-1], features.X)
    torch.testing.assert_close(model(IMAGES).logits, cam(IMAGES).logits)
    with pytest.raises(ConfigError, match="classifier_share=0"):
        GCNet.from_trained(config, cam, ("a", "b", "c", "d", "e"))
