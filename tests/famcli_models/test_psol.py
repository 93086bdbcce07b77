"""PSOL: its numbers and their map, what learns, and the boxes of the first stage on their way to the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import Result

from famcli_models import load_model
from famcli_models.methods.method import Batch
from famcli_models.methods.psol import PSOL, USUAL_BOX, cover, to_corners
from famcli_models.preprocess import RandomCrop

Make = Callable[..., Any]
IMAGES, LABELS = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])
BOXES = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], [0.5, 0.5, 0.75, 1], [0.2, 0.2, 0.4, 0.4]])


def test_the_map_of_a_box() -> None:
    """Each cell has the share of it that the box covers; corners are cut to the image."""
    corners = to_corners(torch.tensor([[0.25, 0.5, 0.375, 0.75]]))
    torch.testing.assert_close(corners, torch.tensor([[0.25, 0.5, 0.625, 1.0]]))
    expected = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0.5, 0], [0, 1, 0.5, 0]])
    torch.testing.assert_close(cover(corners, (4, 4))[0], expected)


def test_a_step(make_model: Make) -> None:
    """It starts at a usual box; the loss is CE + 50 MSE, and each network learns from its own term alone."""
    model: PSOL = make_model(method="psol").train()
    out = model(IMAGES, LABELS)
    torch.testing.assert_close(out.xywh, torch.tensor([USUAL_BOX]).expand(4, 4), atol=0.05, rtol=0)
    total, terms = model.loss(out, Batch(LABELS, boxes=BOXES))
    wanted = torch.cat([BOXES[:, :2], BOXES[:, 2:] - BOXES[:, :2]], dim=1)
    torch.testing.assert_close(total, terms["cla"] + 50 * (out.xywh - wanted).square().mean())
    terms["box"].backward(retain_graph=True)
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"localizer", "regressor"}
    total.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_constant_boxes_are_learnt(make_model: Make) -> None:
    """The mean squared error falls below 1e-3 in a few hundred steps."""
    model: PSOL = make_model(method="psol").train()
    with torch.no_grad():
        features = model.features(IMAGES)
    boxes = torch.tensor([[0.5, 0.1, 0.9, 0.3]]).expand(4, 4)
    optimizer = torch.optim.AdamW(model.regressor.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = model.loss(model.head(features), Batch(LABELS, boxes=boxes))
        loss.total.backward()
        optimizer.step()
    assert loss.terms["box"].item() < 1e-3
    torch.testing.assert_close(model.boxes(model.head(features)), boxes, atol=0.05, rtol=0)


def test_boxes_are_cut_with_the_view() -> None:
    """A box goes with its pixels, flipped twice it is itself, and outside of the view an edge of it is left."""
    size, side = 224, 256
    image = np.zeros((side, side), np.float32)
    image[64:128, 32:192] = 1
    box = np.array([32, 64, 192, 128], np.float32) / side
    for flipped in (False, True):
        crop = RandomCrop(size, y=10, x=20, flipped=flipped)
        rows, columns = np.nonzero(crop.crop_map(image, (size, size)) > 0.5)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(crop.crop_box(box) * size, found)
    plain, mirrored = (RandomCrop(size, 10, 20, flipped).crop_box(box) for flipped in (False, True))
    np.testing.assert_allclose([1 - mirrored[2], mirrored[1], 1 - mirrored[0], mirrored[3]], plain, atol=1e-6)
    outside = RandomCrop(size, 32, 32, flipped=False).crop_box(np.array([0, 0.2, 0.1, 0.9], np.float32))
    assert (outside[0], outside[2]) == (0, 0)


def test_a_class_has_the_boxes_of_its_own_direction(make_model: Make, labelled: list[Any]) -> None:
    """The first stage asks for the images of one group at a time, and gives each image its box."""
    model: PSOL = make_model(method="psol", num_classes=2).eval()
    asked = []

    class Images:
        labels = torch.tensor([0, 1] * 10)

        def features(self, numbers: Sequence[int], side: int) -> Iterator[torch.Tensor]:
            asked.append((numbers, side))
            for number in numbers:
                X = torch.zeros(3, 28, 28)
                X[0] = 1
                X[:2, 4 : 8 + number // 2 * 2, 14:20] = torch.tensor([0.0, 1.0])[:, None, None]
                yield X

    found = model.first_stage(Images())
    assert asked == [(list(range(0, 20, 2)), 448), (list(range(1, 20, 2)), 448)]
    expected = [[14 / 28, 4 / 28, 20 / 28, (8 + n // 2 * 2) / 28] for n in range(20)]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.slow
def test_a_run_learns_from_the_boxes_and_resumes_exactly(
    fam: Callable[..., Result], make_splits: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped goes on with the same boxes, and ends with the weights of one that was not."""
    data, targets = make_splits(train_weaksup=[0, 1, 2, 3, 4, 5], test=[6, 7]), []
    plain = PSOL.loss

    def loss(self: PSOL, output: Any, batch: Batch) -> Any:
        targets.append(batch.boxes)
        if len(targets) == 7:
            raise KeyboardInterrupt
        return plain(self, output, batch)

    monkeypatch.setattr(PSOL, "loss", loss)
    settings = ("backbone_weights=none", "size=64", "epochs=2", "batch_size=3", "save_minutes=0")
    sets = [word for setting in (*settings, "train.backbone=trained") for word in ("--set", setting)]
    arguments = ("--data", data, "--method", "psol", "--backbone", "test_efficientnet", *sets, "--workers", 0, "-q")
    fam("train", *arguments, "--out", tmp_path / "whole", "--device", "cpu")
    assert fam("train", *arguments, "--out", tmp_path / "cut", "--device", "cpu").exit_code == 130
    fam("train", "--resume", tmp_path / "cut", "--workers", 0, "--device", "cpu", "-q")
    for first, again in zip(targets[:4], [*targets[4:6], *targets[7:]], strict=True):
        torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert type(load_model(tmp_path / "cut")) is PSOL
