"""BAS: its loss by hand, which parts learn from which term, and its map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models.losses import classification_loss
from famcli_models.methods.bas import BASOutput
from famcli_models.methods.method import Batch, min_max

Make = Callable[..., Any]
LABELS = torch.tensor([0, 3])


def test_loss_by_hand(make_model: Make) -> None:
    """A quarter of the first image's score is left outside, of the second more than all, which counts as nothing."""
    model = make_model(method="bas", area=0.5, masked_weight=0.25)
    S, masked = torch.rand(2, 5), torch.rand(2, 5)
    S[0, 0], S[1, 3] = 2.0, 1.0
    S_e = torch.zeros(2, 5)
    S_e[0, 0], S_e[1, 3] = 0.5, 1.5
    m = torch.stack([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.3)])
    losses = model.loss(BASOutput(torch.zeros(2, 5, 4, 4), S, masked, S_e, m), Batch(LABELS))
    torch.testing.assert_close(losses.terms["outside"], torch.tensor(0.25 / 2))
    torch.testing.assert_close(losses.terms["area"], torch.tensor(0.2))
    expected = classification_loss(S, LABELS) + 0.25 * classification_loss(masked, LABELS) + 0.125 + 0.5 * 0.2
    torch.testing.assert_close(losses.total, expected)


def test_an_image_without_a_score_gives_no_gradient(make_model: Make) -> None:
    """Where S[y] is 0 there is nothing to suppress, and nothing is divided by it."""
    model, S_e = make_model(method="bas"), torch.zeros(2, 5, requires_grad=True)
    zeros = torch.zeros(2, 5)
    losses = model.loss(BASOutput(zeros, zeros, zeros, S_e, torch.zeros(2, 1, 4, 4)), Batch(LABELS))
    losses.terms["outside"].backward()
    assert S_e.grad is not None
    assert not S_e.grad.any()


def test_what_is_outside_teaches_the_mask_alone(make_model: Make) -> None:
    """The third term reaches what the mask is made of, and neither the layers behind F nor the classifier."""
    model = make_model(method="bas", seed=1).train()  # a seed with which no class's score is cut off at 0

    def reached(term: Callable[[BASOutput], torch.Tensor]) -> set[str]:
        model.zero_grad()
        term(model(torch.randn(4, 3, 64, 64), torch.arange(4))).backward()
        return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    mask = reached(lambda out: out.m.mean())
    assert reached(lambda out: model.loss(out, Batch(torch.arange(4))).terms["outside"]) == mask
    assert mask < reached(lambda out: model.loss(out, Batch(torch.arange(4))).total)


def test_what_is_erased(make_model: Make) -> None:
    """Masks of 0 leave all of the score outside, masks of 1 what a network says of a feature that is 0."""
    model = make_model(method="bas").train()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out = model(images, LABELS)
        nothing, everything = torch.zeros_like(out.m), torch.ones_like(out.m)
        torch.testing.assert_close(model.erased_scores(images, nothing), out.logits)
        assert not torch.allclose(model.erased_scores(images, everything), out.logits)
        assert torch.equal(model(images, LABELS).logits, out.logits)  # what was erased once is not erased again


def test_the_map_is_the_mean_mask_of_the_best_classes(make_model: Make) -> None:
    """Masks of as many of the most probable classes as the config says are averaged, whatever class is wanted."""
    model = make_model(method="bas", classes=2).eval()
    with torch.no_grad():
        out = model(torch.randn(2, 3, 64, 64))
        best = out.logits.argsort(dim=1, descending=True)[:, :2]
        expected = torch.stack([masks[chosen].mean(dim=0) for masks, chosen in zip(out.masks, best, strict=True)])
        torch.testing.assert_close(model.maps(out), min_max(expected))
        assert torch.equal(model.maps(out, LABELS), model.maps(out))
        torch.testing.assert_close(make_model(method="bas").maps(out), min_max(out.masks.mean(dim=1)))


@pytest.mark.parametrize(
    ("backbone", "channels", "side"),
    [("vgg16", 512, 28), ("resnet50", 1024, 14), ("inceptionv3", 768, 12), ("mobilenetv1", 512, 14)],
)
def test_layer_of_each_backbone(make_model: Make, backbone: str, channels: int, side: int) -> None:
    """Masks are made from the layer of the authors' code, at its size."""
    with torch.device("meta"):
        model = make_model(method="bas", backbone=backbone).eval()
        out = model(torch.zeros(1, 3, 224, 224))
    assert (model.mask.in_channels, out.masks.shape) == (channels, (1, 5, side, side))
