"""I²C: seeds, agreement within pairs, and the memory of classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models.methods.i2c import I2C, I2COutput, choose_seeds
from famcli_models.methods.method import Batch

Make = Callable[..., Any]
PAIRS = torch.tensor([3, 3, 1, 1])


def make(make_model: Make, **settings: Any) -> I2C:
    """A tiny one with a small head."""
    model: I2C = make_model(method="i2c", head_channels=8, **settings)
    return model


@pytest.mark.parametrize("choice", ["random", "raster"])
def test_seeds_are_above_the_threshold(choice: Any) -> None:
    """They are different cells where there are enough, repeated in turn where not, and absent of a flat map."""
    maps = torch.rand(3, 8, 8)
    maps[1] = 0
    maps[1, 2, 5], maps[1, 7, 1] = 1, 0.9
    maps[2] = 0
    cells, found = choose_seeds(maps, 5, 0.7, choice)
    assert found.tolist() == [True, True, False]
    assert (maps.flatten(1).gather(1, cells)[:2] > 0.7).all()
    assert len(set(cells[0].tolist())) == 5
    first, second, *rest = cells[1].tolist()
    assert {first, second} == {2 * 8 + 5, 7 * 8 + 1}
    assert rest == [first, second, first]
    expected = (maps[0].flatten() > 0.7).nonzero()[:5, 0]
    assert torch.equal(cells[0], expected) == (choice == "raster")


def test_equal_images_agree(make_model: Make) -> None:
    """Their distance is nearly 0, and that of different images is not."""
    model = make(make_model, seed_choice="raster").eval()
    image, other = torch.randn(2, 1, 3, 64, 64)
    with torch.no_grad():
        same, different = (
            model.loss(model(torch.cat(pair)), Batch(torch.tensor([2, 2]))).terms["sc"]
            for pair in ([image, image], [image, other])
        )
    assert same <= 1e-3
    assert different > 0.01


def test_memory(make_model: Make) -> None:
    """A class's first mean becomes its memory, later ones move it by exp(-0.002 t); t counts what was added."""
    model = make(make_model, seeds=1)
    X = torch.rand(4, 8, 4, 4)
    first, second = torch.rand(2, 4, model.channels, 1, 1).expand(-1, -1, -1, 4, 4)  # the same at any seed
    losses = [
        model.loss(I2COutput(X, torch.zeros(4, 5), compared), Batch(PAIRS)).terms["gc"] for compared in (first, second)
    ]
    f = [compared[..., 0, 0].view(2, 2, -1).mean(dim=1) for compared in (first, second)]
    assert losses[0] == 0  # nothing was remembered
    torch.testing.assert_close(losses[1], (f[0] - f[1]).norm(dim=1).mean(), rtol=1e-4, atol=1e-4)
    rate = math.exp(-0.002)
    torch.testing.assert_close(model.memory[[3, 1]], (1 - rate) * f[0] + rate * f[1])
    assert model.updates.tolist() == [0, 2, 0, 2, 0]
    model.updates.fill_(500)
    model.memory.zero_()
    model.loss(I2COutput(X, torch.zeros(4, 5), first), Batch(PAIRS))
    torch.testing.assert_close(model.memory[3], 0.3679 * f[0][0], rtol=1e-3, atol=1e-6)
    model.begin_training()
    assert not model.memory.any()
    assert not model.updates.any()


def test_two_of_different_classes_are_no_pair(make_model: Make) -> None:
    """They, and an image that is left over, count for the class alone and are not remembered."""
    model = make(make_model)
    losses = model.loss(model(torch.randn(3, 3, 64, 64)), Batch(torch.tensor([0, 1, 2])))
    assert torch.equal(losses.total, losses.terms["cla"])
    assert not model.updates.any()


def test_without_its_terms_it_is_cam(make_model: Make) -> None:
    """Both weights 0: the loss and every gradient are those of a CAM with that head."""
    i2c = make(make_model, lambda_sc=0.0, lambda_gc=0.0, head_dropout=0.0).train()
    cam = make_model(method="cam", head_channels=8).train()
    images, batch = torch.randn(4, 3, 64, 64), Batch(PAIRS)
    for model in (i2c, cam):
        model.loss(model(images), batch).total.backward()
    gradients = {name: p.grad for name, p in i2c.named_parameters()}
    for name, p in cam.named_parameters():
        torch.testing.assert_close(gradients.pop(name), p.grad)
    assert not gradients


def test_agreement_trains_the_backbone(make_model: Make) -> None:
    """The distances reach the backbone and not the head; the whole loss reaches every parameter."""
    model = make(make_model).train()
    out = model(torch.randn(4, 3, 64, 64))
    model.loss(out, Batch(PAIRS))
    losses = model.loss(out, Batch(PAIRS))
    (losses.terms["sc"] + losses.terms["gc"]).backward(retain_graph=True)
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"backbone"}
    losses.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_it_starts_from_a_cam_with_the_same_head(make_model: Make) -> None:
    """The convolutions and the classifier are the CAM's, and nothing of another training is remembered."""
    cam = make_model(method="cam", head_channels=8, seed=7)
    started = I2C.from_trained(I2C.config_class(backbone="test_efficientnet", num_classes=5), cam, cam.class_names)
    assert (started.config.head_channels, started.config.head_dropout) == (8, 0.5)
    state = started.state_dict()
    assert all(torch.equal(state.pop(name), tensor) for name, tensor in cam.state_dict().items())
    assert state.keys() == {"memory", "updates"}
    assert not any(tensor.any() for tensor in state.values())
