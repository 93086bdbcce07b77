"""HaS: which squares are hidden, of which images, and that training without hiding is CAM's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models import FAM
from famcli_models.errors import ConfigError
from famcli_models.methods.has import HaS, HaSConfig, hide_squares

Make = Callable[..., Any]


def test_without_hiding_it_is_cam(make_model: Make) -> None:
    """With a probability of 0 a batch is untouched, bit for bit, and scores and gradients are those of CAM."""
    model, cam = (make_model(method=name, **more).train() for name, more in (("has", {"hide": 0.0}), ("cam", {})))
    images, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    found, same = model.augment(images, labels)
    assert torch.equal(found, images)
    assert torch.equal(same, labels)
    for one in (model, cam):
        torch.nn.functional.cross_entropy(one(images).logits, labels).backward()
    grads = zip(model.parameters(), cam.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in grads)


def test_everything_is_hidden_at_one() -> None:
    """With a probability of 1 nothing is left but 0, the mean colour, unless the side is 0; the batch given is kept."""
    images = torch.randn(2, 3, 64, 64)
    kept = images.clone()
    assert not hide_squares(images, (16,), 1).any()
    assert torch.equal(hide_squares(images, (0,), 1), images)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(("side", "square"), [(224, 112), (112, 56)])
def test_squares_are_whole(side: int, square: int) -> None:
    """A side of 112 cuts an image of 224 into quadrants, each untouched or hidden; others in proportion."""
    images = torch.randn(40, 3, side, side)
    hidden = hide_squares(images, (112,), 0.5)
    quadrants, before = (m.unfold(2, square, square).unfold(3, square, square) for m in (hidden, images))
    gone = (quadrants == 0).flatten(4).all(dim=4).all(dim=1)  # (40, 2, 2)
    untouched = (quadrants == before).flatten(4).all(dim=4).all(dim=1)
    assert torch.equal(gone, ~untouched)
    assert len({tuple(image.flatten().tolist()) for image in gone}) > 5  # each image has its own draw


def test_the_last_squares_may_be_cut_off() -> None:
    """Squares start at the top left: of 100 pixels the last square of 44 has 12."""
    hidden = hide_squares(torch.ones(64, 1, 224, 100), (44,), 0.5)[:, 0, 0]
    changes = (hidden[:, 1:] != hidden[:, :-1]).any(dim=0).nonzero().flatten() + 1
    assert changes.tolist() == [44, 88]


def test_as_much_is_hidden_as_was_asked_for() -> None:
    """Over 1,000 images the share that is hidden is the probability, within 0.03."""
    share = (hide_squares(torch.ones(1000, 1, 32, 32), (56,), 0.3) == 0).float().mean()
    assert abs(float(share) - 0.3) < 0.03


def test_nothing_is_hidden_in_evaluation(make_model: Make) -> None:
    """The model itself never hides: what it says of an image is what a CAM with its weights says."""
    model, cam = (make_model(method=name).eval() for name in ("has", "cam"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.maps(model(images)), cam.maps(cam(images)))


def test_settings_are_checked(model: FAM) -> None:
    """Sides are whole numbers of pixels, at least one; and a FAM has no map of a way to train CAM."""
    for grid in ((), (-1,), (1.5,), "16"):
        with pytest.raises(ConfigError, match="grid is .*; it must be a list of sides in pixels"):
            HaSConfig(grid=grid)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a FAM has no map of HaS; leave out --method has"):
        HaS.from_model(model)
