"""Pictures of predictions."""

from __future__ import annotations

import numpy as np
import pytest

from famcli.inference.predictor import ClassScore, Prediction
from famcli.outputs.image_files import BOX_COLOUR, draw
from famcli_models.localization import Region


def prediction(size_hw: tuple[int, int], *boxes: tuple[float, ...], M: float = 0.0, name: str = "cup") -> Prediction:
    regions = tuple(Region(b, 1, 0.9) for b in boxes)  # type: ignore[arg-type]
    return Prediction("x.jpg", size_hw, (ClassScore(0, name, 0.5),), regions, np.full((4, 4), M, dtype=np.float32))


def coloured(canvas: np.ndarray) -> tuple[int, int, int, int]:
    """Half-open box of the pixels that have the colour of boxes."""
    ys, xs = np.where((canvas == BOX_COLOUR).all(axis=-1))
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def test_box_is_drawn_where_it_is() -> None:
    """The rectangle lies on the box's pixels."""
    canvas = draw(np.zeros((400, 600, 3), dtype=np.uint8), prediction((400, 600), (100, 150, 500, 300)))
    x0, _, x1, y1 = coloured(canvas)
    assert (x0, x1, y1) == pytest.approx((100, 500, 300), abs=2)
    assert canvas.shape == (400, 600, 3)
    assert canvas.dtype == np.uint8


def test_box_is_scaled_with_the_picture() -> None:
    """A photograph shown at half its size has its box at half its size."""
    canvas = draw(np.zeros((200, 300, 3), dtype=np.uint8), prediction((400, 600), (100, 150, 500, 300)))
    x0, _, x1, y1 = coloured(canvas)
    assert (x0, x1, y1) == pytest.approx((50, 250, 150), abs=2)


def test_the_picture_given_is_not_changed() -> None:
    """Drawing is done on a copy."""
    image = np.full((50, 60, 3), 100, dtype=np.uint8)
    draw(image, prediction((50, 60), (5, 5, 50, 40), M=0.7))
    assert (image == 100).all()


def test_heat_follows_the_map() -> None:
    """Where M is 0 the photograph is untouched; where it is 1 it is coloured."""
    image = np.full((300, 300, 3), 100, dtype=np.uint8)
    cold, hot = draw(image, prediction((300, 300))), draw(image, prediction((300, 300), M=1.0))
    np.testing.assert_array_equal(cold[200:], image[200:])
    assert np.abs(hot[200:].astype(int) - 100).max() > 20


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (7, 5), (2000, 30)])
@pytest.mark.parametrize("found", [True, False])
def test_pictures_of_any_size(size_hw: tuple[int, int], found: bool) -> None:
    """Tiny and thin pictures are drawn without an error, with a box and without."""
    h, w = size_hw
    boxes = [(0.0, 0.0, float(w), float(h))] if found else []
    assert draw(np.zeros((h, w, 3), dtype=np.uint8), prediction(size_hw, *boxes, M=0.5)).shape == (h, w, 3)


def test_an_empty_map_is_said() -> None:
    """A picture in which nothing was found says so instead of showing nothing."""
    canvas = draw(np.zeros((300, 400, 3), dtype=np.uint8), prediction((300, 400)))
    assert (canvas == BOX_COLOUR).all(axis=-1).any()


def test_labels_in_other_scripts() -> None:
    """A class name that the font does not have is no error."""
    draw(np.zeros((300, 400, 3), dtype=np.uint8), prediction((300, 400), (10, 10, 90, 90), name="猫 é"))
