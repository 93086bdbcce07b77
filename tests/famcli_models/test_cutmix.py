"""CutMix: the rectangle and its share by hand, and the labels that go with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models.methods.cutmix import mix_rectangle

Make = Callable[..., Any]
OTHERS = torch.tensor([1, 0])


def test_the_ends() -> None:
    """λ = 1 leaves the batch; λ = 0 in the middle gives the other images; both leave the batch given as it was."""
    images = torch.randn(2, 3, 8, 8)
    kept = images.clone()
    mixed, share = mix_rectangle(images, OTHERS, 1.0, (4, 4))
    assert torch.equal(mixed, images)
    assert share == 1
    mixed, share = mix_rectangle(images, OTHERS, 0.0, (4, 4))
    assert torch.equal(mixed, images.flip(0))
    assert share == 0
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    ("centre", "rows", "columns", "share"),
    [((4, 8), (2, 6), (4, 12), 0.75), ((0, 8), (0, 2), (4, 12), 0.875), ((7, 15), (5, 8), (11, 16), 1 - 15 / 128)],
)
def test_a_rectangle_by_hand(
    centre: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int], share: float
) -> None:
    """λ = 0.75 of 8 x 16 is a rectangle of 4 x 8; where it is clipped, less than a quarter is pasted and counted."""
    images = torch.stack([torch.zeros(3, 8, 16), torch.ones(3, 8, 16)])
    mixed, kept = mix_rectangle(images, OTHERS, 0.75, centre)
    expected = torch.zeros(8, 16)
    expected[rows[0] : rows[1], columns[0] : columns[1]] = 1
    assert torch.equal(mixed[0], expected.expand(3, -1, -1))
    assert torch.equal(mixed[1], 1 - mixed[0])
    assert kept == pytest.approx(share)


def test_labels_are_shares_of_pixels(make_model: Make) -> None:
    """Each label has the share of the image that is its own, whatever was drawn."""
    model, drawn = make_model(method="cutmix").train(), set()
    colours = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16)  # image i has the value i
    for _ in range(20):
        images, labels = model.augment(colours, torch.arange(4))
        counted = torch.stack([(images[:, 0] == i).float().mean(dim=(1, 2)) for i in range(4)], dim=1)
        torch.testing.assert_close(labels[:, :4], counted)
        assert not labels[:, 4].any()
        drawn.add(round(float(labels[0].max()), 3))
    assert len(drawn) > 5


def test_batches_are_mixed_as_often_as_was_asked_for(make_model: Make) -> None:
    """With a probability of 0 none is, and labels are certain; with 0.3 about three in ten are."""
    images, labels = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16), torch.arange(4)
    found, shares = make_model(method="cutmix", mix=0.0).augment(images, labels)
    assert torch.equal(found, images)
    assert torch.equal(shares, torch.eye(5)[:4])
    model = make_model(method="cutmix", mix=0.3, beta=100.0)
    mixed = sum(not torch.equal(model.augment(images, labels)[0], images) for _ in range(300))
    assert 60 < mixed < 120
