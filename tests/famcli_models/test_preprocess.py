"""Pictures to network input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from famcli_models.preprocess import RandomCrop, resize


def test_squash_takes_the_whole_picture() -> None:
    """The test view is square and holds every part of the picture: the map's frame is the image."""
    array = np.zeros((20, 60, 3), dtype=np.uint8)
    array[:, 30:] = 255
    view = resize(Image.fromarray(array), 30)
    assert view.shape == (30, 30, 3)
    assert view.dtype == np.uint8
    assert view[:, :13].max() == 0
    assert view[:, 17:].min() == 255


def test_squash_is_antialiased() -> None:
    """Shrinking a fine checkerboard gives gray, not one of its colours."""
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    view = resize(Image.fromarray(board.astype(np.uint8)).convert("RGB"), 16)
    assert np.abs(view.astype(int) - 127).max() < 20


@pytest.mark.parametrize("mirrored", [False, True])
def test_crop_is_a_window_of_the_resized_picture(mirrored: bool) -> None:
    """A training view is a window of the picture at 256/224 of the size, mirrored or not."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (100, 80, 3), dtype=np.uint8))
    whole = resize(image, 64)
    view = RandomCrop(56, 3, 8, mirrored).crop_image(image)
    window = whole[3:59, 8:64]
    np.testing.assert_array_equal(view, window[:, ::-1] if mirrored else window)


@pytest.mark.parametrize("mirrored", [False, True])
def test_crop_of_a_map_is_the_crop_of_the_picture(mirrored: bool) -> None:
    """A map of the whole picture is cut where the picture is: a bright spot stays on its pixel."""
    array = np.zeros((64, 64, 3), dtype=np.uint8)
    array[16:32, 40:48] = 255
    crop = RandomCrop(56, 5, 2, mirrored)
    view = crop.crop_image(Image.fromarray(array))[..., 0] / 255
    np.testing.assert_allclose(crop.crop_map(array[..., 0] / 255, (56, 56)), view, atol=0.01)
    assert crop.crop_map(array[..., 0] / 255, (14, 14)).mean() == pytest.approx(view.mean(), abs=0.01)


def test_random_crops_are_drawn_from_their_generator() -> None:
    """The same generator state draws the same crop; others draw other places and both mirrorings, in the picture."""
    crops = [RandomCrop.draw(56, np.random.default_rng(seed)) for seed in range(200)]
    assert crops == [RandomCrop.draw(56, np.random.default_rng(seed)) for seed in range(200)]
    assert {c.mirrored for c in crops} == {False, True}
    assert {c.x for c in crops} == {c.y for c in crops} == set(range(9))


def test_normalize_by_hand() -> None:
    """With mean and deviation 1/2, 0 becomes -1 and 255 becomes 1; channels come first."""
    view = np.zeros((2, 3, 3), dtype=np.uint8)
    view[..., 1] = 255
    batch = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))([view, view])
    assert batch.shape == (2, 3, 2, 3)
    assert batch.dtype == torch.float32
    assert batch[:, 0].eq(-1).all()
    assert batch[:, 1].eq(1).all()


def test_normalize_goes_by_channel() -> None:
    """(x / 255 - mean) / std with each channel's own numbers."""
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    view = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    expected = ((view / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(Normalize(mean, std)([view])[0].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("error")
def test_normalize_takes_mirrored_views() -> None:
    """A mirrored view has negative strides, which torch does not take as they are."""
    view = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)[:, ::-1]
    batch = Normalize((0.0,) * 3, (1 / 255,) * 3)([view])  # type: ignore[arg-type]
    assert batch[0, 0, 0].tolist() == pytest.approx([6, 3, 0], abs=1e-4)


def test_batches_are_channels_last() -> None:
    """The memory layout is the one that the network is fastest with."""
    batch = Normalize((0.5,) * 3, (0.5,) * 3)([np.zeros((8, 8, 3), dtype=np.uint8)] * 2)  # type: ignore[arg-type]
    assert batch.is_contiguous(memory_format=torch.channels_last)
