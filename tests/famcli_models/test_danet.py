"""DANet: likeness of maps, the tree of CUB, and the sum of its levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models.errors import ConfigError
from famcli_models.methods.danet import CUB_FAMILIES, CUB_ORDERS, DANet, class_maps, likeness
from famcli_models.methods.method import Batch

Make = Callable[..., Any]
LABELS = torch.tensor([0, 1, 2, 3])


def make(make_model: Make, **settings: Any) -> DANet:
    """A tiny one with small heads and two maps a class."""
    small = {"head_channels": 8, "parent_channels": 8, "root_channels": 8, "maps_per_class": 2}
    model: DANet = make_model(method="danet", **{**small, **settings})
    return model


def birds(make_model: Make, **settings: Any) -> DANet:
    """One with three levels."""
    return make(make_model, num_classes=200, hierarchy="cub", **settings)


def test_likeness() -> None:
    """Equal maps 1, maps without a common cell 0, a map and its negative 1; of an image, and then the mean."""
    m = torch.rand(2, 1, 4, 4)
    cells = torch.eye(16).view(1, 16, 4, 4)
    assert likeness(m.expand(-1, 3, -1, -1)).item() == pytest.approx(1)
    assert likeness(cells[:, [0, 5, 9]]).item() == 0
    assert likeness(torch.cat([m, -m], dim=1)).item() == pytest.approx(1)
    both = torch.cat([cells[:, [0, 0, 1]], cells[:, [0, 1, 2]]])
    assert likeness(both).item() == pytest.approx(1 / 6)  # a third in one image
    assert likeness(m).item() == 0


def test_the_tree() -> None:
    """200 species in 37 families in 11 orders, and each family is of one order."""
    assert len(CUB_FAMILIES) == len(CUB_ORDERS) == 200
    assert set(CUB_FAMILIES) == set(range(37))
    assert set(CUB_ORDERS) == set(range(11))
    assert len(set(zip(CUB_FAMILIES, CUB_ORDERS, strict=True))) == 37
    assert (CUB_FAMILIES[0], CUB_FAMILIES[198], CUB_FAMILIES[199]) == (0, 36, 27)
    assert (CUB_ORDERS[0], CUB_ORDERS[22], CUB_ORDERS[199]) == (0, 5, 3)


def test_one_map_of_one_level_is_cam(make_model: Make) -> None:
    """With K 1 and α 0 the loss and every gradient are those of a CAM with that head."""
    danet, cam = (
        make(make_model, maps_per_class=1, alpha=0.0).train(),
        make_model(method="cam", head_channels=8).train(),
    )
    cam.load_state_dict(danet.state_dict())
    images = torch.randn(4, 3, 64, 64)
    for model in (danet, cam):
        model.loss(model(images), Batch(LABELS)).total.backward()
    for (name, p), (other, q) in zip(danet.named_parameters(), cam.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(p.grad, q.grad)


def test_the_mean_of_a_class_map_is_its_score(make_model: Make) -> None:
    """Of K maps, their bias included."""
    model = make(make_model).eval()
    with torch.no_grad():
        out = model(torch.randn(4, 3, 64, 64))
        maps = class_maps(out.X, model.classifier, LABELS, 2)
    assert maps.shape == (4, 2, 4, 4)
    torch.testing.assert_close(maps.mean(dim=(1, 2, 3)), out.logits.gather(1, LABELS[:, None])[:, 0])
    assert out.logits_root.numel() == 0


def test_every_level_learns(make_model: Make) -> None:
    """The whole loss reaches every parameter; each step draws other maps."""
    model = birds(make_model, seed=1).train()
    labels = torch.tensor([0, 22, 100, 199])
    out = model(torch.randn(4, 3, 64, 64))
    losses = [model.loss(out, Batch(labels)) for _ in range(4)]
    assert len({loss.terms["cos"].item() for loss in losses}) > 1
    assert set(losses[0].terms) == {"cla", "cos", "parent", "root"} == set(model.term_weights())
    losses[0].total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_species_share_the_map_of_their_order(make_model: Make) -> None:
    """Where the root alone has a map, species of one order have the same, and those of others have others."""
    model = birds(make_model).eval()
    first, same, other = 22, 24, 0  # of family 10 and order 5, twice, and of order 0
    with torch.no_grad():
        for level in (model, model.parent):
            level.classifier.weight.zero_()
            level.classifier.bias.zero_()
        out = model(torch.randn(1, 3, 64, 64))
        maps = [model.maps(out, torch.tensor([y])) for y in (first, same, other)]
    assert maps[0].shape[-2:] == out.X_root.shape[-2:]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


def test_the_tree_is_for_its_classes_alone(make_model: Make) -> None:
    """Another number of classes is refused with what to set."""
    with pytest.raises(ConfigError, match="of 200 classes, and there are 5: set hierarchy=none"):
        make(make_model, hierarchy="cub")


def test_a_trained_one_goes_on_with_other_classes(make_model: Make) -> None:
    """All K rows of the classes that both have are taken over."""
    model = make(make_model, seed=3)
    config = DANet.config_class(backbone="test_efficientnet", num_classes=2)
    started = DANet.from_trained(config, model, ["new", model.class_names[3]])
    ours, theirs = started.classifier.weight.view(2, 2, -1), model.classifier.weight.view(2, 5, -1)
    assert torch.equal(ours[:, 1], theirs[:, 3])
    assert not torch.equal(ours[:, 0], theirs[:, 0])
