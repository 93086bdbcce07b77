"""RGB images to model input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli_models.preprocess import RandomCrop, normalize, resize


def test_resize() -> None:
    """The test view is square and holds every part of the picture; a fine checkerboard shrinks to gray."""
    array = np.zeros((20, 60, 3), dtype=np.uint8)
    array[:, 30:] = 255
    view = resize(Image.fromarray(array), 30)
    assert (view.shape, view.dtype) == ((30, 30, 3), np.uint8)
    assert view[:, :13].max() == 0
    assert view[:, 17:].min() == 255
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    view = resize(Image.fromarray(board.astype(np.uint8)).convert("RGB"), 16)
    assert np.abs(view.astype(int) - 127).max() < 20


@pytest.mark.parametrize("flipped", [False, True])
def test_crop_is_a_window_of_the_resized_picture(flipped: bool) -> None:
    """A training view is a window of the picture at 256/224 of the size, flipped or not."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (100, 80, 3), dtype=np.uint8))
    whole = resize(image, 64)
    view = RandomCrop(56, 3, 8, flipped).crop_image(image)
    window = whole[3:59, 8:64]
    np.testing.assert_array_equal(view, window[:, ::-1] if flipped else window)


@pytest.mark.parametrize("flipped", [False, True])
def test_crop_of_a_map_is_the_crop_of_the_picture(flipped: bool) -> None:
    """A map of the whole picture is cut where the picture is: a bright spot stays on its pixel."""
    array = np.zeros((64, 64, 3), dtype=np.uint8)
    array[16:32, 40:48] = 255
    crop = RandomCrop(56, 5, 2, flipped)
    view = crop.crop_image(Image.fromarray(array))[..., 0] / 255
    np.testing.assert_allclose(crop.crop_map(array[..., 0] / 255, (56, 56)), view, atol=0.01)
    assert crop.crop_map(array[..., 0] / 255, (14, 14)).mean() == pytest.approx(view.mean(), abs=0.01)


def test_random_crops_are_drawn_from_their_generator() -> None:
    """The same generator state draws the same crop; others draw other places and both mirrorings, in the picture."""
    crops = [RandomCrop.draw(56, np.random.default_rng(seed)) for seed in range(200)]
    assert crops == [RandomCrop.draw(56, np.random.default_rng(seed)) for seed in range(200)]
    assert {c.flipped for c in crops} == {False, True}
    assert {c.x for c in crops} == {c.y for c in crops} == set(range(9))


def test_normalize() -> None:
    """(x / 255 - mean) / std with each channel's own numbers, channels first, in the network's fastest layout."""
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    found = normalize(torch.from_numpy(images), mean, std)
    np.testing.assert_allclose(found.numpy(), ((images / 255 - mean) / std).transpose(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    half = normalize(torch.tensor([[[[0] * 3, [255] * 3]]], dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3)
    assert half[0, :, 0].tolist() == [[-1, 1]] * 3


def test_a_model_preprocesses_an_image(model: Any) -> None:
    """``model.preprocess`` takes a Pillow image or an array and gives what the engine gives the network."""
    array = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    found = model.preprocess(array)
    assert found.shape == (1, 3, model.config.size, model.config.size)
    assert torch.equal(found, model.preprocess(Image.fromarray(array)))
    view = torch.from_numpy(resize(Image.fromarray(array), model.config.size)[None].copy())
    assert torch.equal(found, normalize(view, model.config.mean, model.config.std))
