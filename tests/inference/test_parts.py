"""Part maps of an image: their likeness, their mean over views, and their picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from famcli.inference.predictor import Predictor, Settings
from famcli.outputs.image_files import draw_parts
from famcli.outputs.prediction import PartMaps, Prediction
from famcli_models.errors import ConfigError
from famcli_models.methods.method import mean_maps


def of(*maps: list[list[float]]) -> PartMaps:
    """Parts of equal weight."""
    return PartMaps((1 / len(maps),) * len(maps), np.array(maps, np.float32))


def test_cosine_by_hand() -> None:
    """Equal maps have 1, maps without a common cell 0, and three maps the mean of their three pairs."""
    left, right = [[1.0, 0.0]], [[0.0, 1.0]]
    assert of(left, [[0.25, 0.0]]).cosine() == pytest.approx(1)
    assert of(left, right).cosine() == pytest.approx(0)
    assert of(left, right, [[1.0, 1.0]]).cosine() == pytest.approx((0 + 2 * np.sqrt(0.5)) / 3)


def test_cosine_where_there_is_none() -> None:
    """One part has no pair; a map of zeros is like nothing and is no NaN."""
    assert of([[0.5, 0.5]]).cosine() is None
    assert of([[0.0, 0.0]], [[1.0, 0.0]]).cosine() == 0


def test_mean_of_views() -> None:
    """Maps of a smaller view are enlarged to the largest before the mean."""
    small, large = torch.full((1, 2, 2, 2), 0.2), torch.full((1, 2, 4, 4), 0.6)
    assert torch.allclose(mean_maps([small, large]), torch.full((1, 2, 4, 4), 0.4))


def test_parts_are_the_models(model: Any, picture: Callable[..., np.ndarray]) -> None:
    """The parts of a prediction are A and t of one forward pass; without the setting there are none."""
    image = picture()
    predictor = Predictor(model, "cpu", Settings(parts=True))
    found = predictor(image).parts
    assert found is not None
    with torch.inference_mode():
        out = model(model.preprocess(image))
    assert np.allclose(found.A, out.A[0].numpy(), atol=1e-5)
    assert np.allclose(found.weights, out.t[0].numpy(), atol=1e-5)
    assert sum(found.weights) == pytest.approx(1, abs=1e-5)
    assert Predictor(model, "cpu")(image).parts is None


def test_mirrored_views_are_turned_back(model: Any, picture: Callable[..., np.ndarray]) -> None:
    """With flip the parts of a picture and of its mirror image are mirror images too."""
    predictor = Predictor(model, "cpu", Settings(parts=True, flip=True))
    image = picture(64, 64)
    one, other = predictor(image).parts, predictor(np.ascontiguousarray(image[:, ::-1])).parts
    assert one is not None
    assert other is not None
    assert np.allclose(one.A, other.A[:, :, ::-1], atol=1e-4)
    assert np.allclose(one.weights, other.weights, atol=1e-5)


def test_a_cam_has_no_parts(make_model: Callable[..., Any]) -> None:
    """Parts of a CAM are refused when the predictor is made."""
    with pytest.raises(ConfigError, match="'cam' has no parts"):
        Predictor(make_model(method="cam"), "cpu", Settings(parts=True))


def prediction(parts: PartMaps | None) -> Prediction:
    """Foreground on the left half, at twice the resolution of the parts."""
    return Prediction("x", (20, 40), (), (), np.repeat([[1.0, 1.0, 0.0, 0.0]], 4, 0).astype(np.float32), parts=parts)


def test_picture_of_parts() -> None:
    """The photograph is the first tile; parts change the picture within the foreground alone; the rest is white."""
    photo = np.full((80, 160, 3), 120, np.uint8)
    parts = of([[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]])
    drawn = draw_parts(photo, prediction(parts))
    assert drawn.shape == (160, 320, 3)
    assert (drawn[:80, :160] == 120).all()
    first, second = drawn[40:80, 160:], drawn[120:, :160]  # below the labels
    assert (first[:, :40] != 120).any(axis=-1).all()
    assert (first[:, -40:] == 120).all()
    assert (second == 120).all()
    assert (drawn[80:, 160:] == 255).all()
    assert draw_parts(photo, prediction(parts), columns=3).shape == (80, 480, 3)


def test_picture_without_parts() -> None:
    """A prediction without parts has no such picture."""
    with pytest.raises(ConfigError, match="without its parts"):
        draw_parts(np.zeros((8, 8, 3), np.uint8), prediction(None))
