"""Targets for M from image labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.data.sample import Sample
from famcli.training.targets import fuse, make_targets, sharpen
from famcli_models.errors import ConfigError
from famcli_models.methods.fam import FAM


def test_fuse_finds_what_the_label_looks_like() -> None:
    """Cells that carry the class's feature and differ from the border come out on top, the border at the bottom."""
    X = torch.full((1, 2, 8, 8), 0.1)
    X[0, 0, 3:6, 2:5] = 5.0
    below = torch.rand(1, 4, 8, 8) * 0.01
    below[0, 0] += 1.0
    below[0, 0, 3:6, 2:5] = 0.0
    below[0, 1, 3:6, 2:5] = 1.0
    fused = fuse(X, below, torch.tensor([[1.0, 0.0]]))[0]
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[3:6, 2:5] = True
    assert fused.min() == 0
    assert fused.max() == 1
    assert fused[inside].min() > 0.6
    assert fused[~inside].max() < 0.4


def test_sharpen_follows_the_colours() -> None:
    """A vague map of a bright square is cut along the square's edges."""
    rng = np.random.default_rng(0)
    view = rng.integers(0, 30, (98, 98, 3), dtype=np.uint8)
    view[28:70, 28:70] += 200
    y, x = np.mgrid[-1:1:14j, -1:1:14j]
    target = sharpen(view, np.exp(-(x**2 + y**2) / 0.35).astype(np.float32))
    square = np.zeros((98, 98), bool)
    square[28:70, 28:70] = True
    assert target.dtype == np.float16
    assert set(np.unique(target).tolist()) == {0.0, 1.0}
    assert (np.logical_and(target > 0, square).sum() / np.logical_or(target > 0, square).sum()) > 0.9


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_sharpen_leaves_a_map_without_two_sides_alone(value: float) -> None:
    """With nothing to separate GrabCut is not run."""
    target = sharpen(np.zeros((64, 64, 3), np.uint8), np.full((14, 14), value, np.float32))
    assert (target == value).all()


def test_make_targets(make_model: Callable[..., FAM], tmp_path: Path, picture: Callable[..., np.ndarray]) -> None:
    """There is one map in [0, 1] for each image, the same ones each time."""
    model = make_model()
    model.provenance["classifier"] = "pretrained"
    samples = []
    for i in range(3):
        path = tmp_path / f"{i}.png"
        Image.fromarray(picture(seed=i)).save(path)
        samples.append(Sample(path.name, path, i, np.zeros((0, 4))))
    targets = make_targets(model, samples, "cpu", 1)
    assert len(targets) == 3
    assert all(t.shape == (98, 98) and 0 <= t.min() <= t.max() <= 1 for t in targets)
    again = make_targets(model, samples, "cpu", 2)
    assert all(np.array_equal(a, b) for a, b in zip(targets, again, strict=True))


def test_a_corrupt_image_ends_nothing(
    make_model: Callable[..., FAM], tmp_path: Path, picture: Callable[..., np.ndarray]
) -> None:
    """An image that cannot be read has a target that nothing will use."""
    model = make_model()
    model.provenance["classifier"] = "pretrained"
    (tmp_path / "0.png").write_bytes(b"")
    Image.fromarray(picture()).save(tmp_path / "1.png")
    samples = [Sample(f"{i}.png", tmp_path / f"{i}.png", i, np.zeros((0, 4))) for i in range(2)]
    targets = make_targets(model, samples, "cpu", 1)
    assert [target.shape for target in targets] == [(98, 98)] * 2
    assert all(np.isfinite(target).all() for target in targets)


def test_targets_need_a_pretrained_classifier(make_model: Callable[..., FAM]) -> None:
    """Without class activation maps there is nothing to start from."""
    with pytest.raises(ConfigError, match="class activation maps"):
        make_targets(make_model(), [], "cpu")


def test_a_cam_has_no_targets(make_model: Callable[..., FAM]) -> None:
    """Targets are for FAM's M; a CAM is told so before any work is done."""
    cam = make_model(method="cam")
    cam.provenance["classifier"] = "pretrained"
    with pytest.raises(ConfigError, match="set lambda_target=0"):
        make_targets(cam, [], "cpu")
