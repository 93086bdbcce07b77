"""Curves and samples of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.data.sample import Sample
from famcli.training.monitor import Epoch
from famcli.training.pictures import (
    HEAD,
    IMAGES,
    TILE,
    MapSheet,
    choose,
    draw_curves,
    shown_epochs,
    write_picture,
)


def epochs(count: int, **fields: Any) -> list[Epoch]:
    measures = {"foreground": 0.4, "top1": 0.5}
    common = {"measures": measures, "images": 4, "seconds": 1.0, "waiting": 0.0, **fields}
    return [Epoch(number=i, terms={"total": 2 / i, "cla": 1 / i}, **common) for i in range(1, count + 1)]


def coloured(picture: np.ndarray) -> int:
    return int((np.ptp(picture.astype(int), axis=2) > 50).sum())


def test_curves_grow_with_the_history() -> None:
    """Each epoch and each kind of number adds to the curves; a term that is 0 everywhere does no harm."""
    one, many = draw_curves(epochs(1)), draw_curves(epochs(20))
    assert one.dtype == np.uint8
    assert one.shape == many.shape
    assert coloured(one) < coloured(many) < coloured(draw_curves(epochs(20, gt_known=70.0)))
    zero = [dataclasses.replace(epoch, terms={"total": 0.0, "cla": 0.0}) for epoch in epochs(3)]
    assert draw_curves(zero).shape == one.shape


def test_choose_spreads_over_classes(labelled: list[Sample]) -> None:
    """As many classes as possible, the same by the same seed, and all images where there are few."""
    samples = [dataclasses.replace(labelled[0], name=str(i), label=i // 10) for i in range(60)]
    chosen = choose(samples, 8, seed=0)
    assert sorted({sample.label for sample in chosen}) == list(range(6))
    assert [s.name for s in chosen] == [s.name for s in choose(samples, 8, seed=0)]
    assert [s.name for s in chosen] != [s.name for s in choose(samples, 8, seed=1)]
    assert sorted(s.name for s in choose(labelled, IMAGES, seed=0)) == sorted(s.name for s in labelled)


@pytest.mark.parametrize(("count", "shown"), [(1, [1]), (3, [1, 2, 3]), (8, list(range(1, 9)))])
def test_shown_epochs(count: int, shown: list[int]) -> None:
    """The first and the last epoch are always shown, and never more than eight."""
    assert shown_epochs(count) == shown
    assert (shown_epochs(1000)[0], shown_epochs(1000)[-1], len(shown_epochs(1000))) == (1, 1000, 8)


def test_the_sheet_shows_maps_and_changes_nothing(
    make_model: Callable[..., Any], labelled: list[Sample], tmp_path: Path
) -> None:
    """A map of ones colours its photograph, one of zeros leaves it; weights, statistics and random state stay."""
    labelled[3].path.write_bytes(b"")  # a black tile: the others keep their places
    model = make_model(frozen_norm=False).train()
    before, random = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    sheet = MapSheet(labelled, 64, 0, {})
    sheet.add(1, model, "cpu")
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert sheet.maps[1].shape == (8, 4, 4)
    again = MapSheet(labelled, 64, 0, {1: np.zeros((8, 4, 4), np.uint8), 2: np.full((8, 4, 4), 255, np.uint8)})
    picture = again.draw([1, 2])[HEAD:, :, :].astype(int)
    step = TILE + 4
    photo, zeros, ones = (picture[:, step * i : step * i + TILE] for i in range(3))
    assert np.array_equal(photo, zeros)
    assert np.abs(photo - ones).mean() > 5
    write_picture(tmp_path / "samples.jpg", again.draw([1, 2]))
    assert [path.name for path in tmp_path.glob("samples*")] == ["samples.jpg"]
    with Image.open(tmp_path / "samples.jpg") as written:
        assert (written.format, written.size) == ("JPEG", (3 * step, HEAD + 8 * step))
