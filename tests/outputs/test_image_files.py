"""Files of each image: pictures, maps and masks."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from famcli.outputs.image_files import BOX_COLOUR, draw, draw_parts, maps, masks, overlays
from famcli.outputs.prediction import ClassScore, PartMaps, Prediction
from famcli_models.errors import ConfigError
from famcli_models.localization import Region

LEFT = np.repeat([[1.0, 1.0, 0.0, 0.0]], 4, 0).astype(np.float32)  # foreground on the left half


def prediction(size_hw: tuple[int, int], *boxes: tuple[float, ...], M: float = 0.0, name: str = "cup") -> Prediction:
    regions = tuple(Region(b, 1, 0.9) for b in boxes)  # type: ignore[arg-type]
    return Prediction("x.jpg", size_hw, (ClassScore(0, name, 0.5),), regions, np.full((4, 4), M, dtype=np.float32))


def with_parts(*parts: float) -> Prediction:
    """Constant parts of equal weight."""
    A = np.stack([np.full((2, 2), part, np.float32) for part in parts])
    return Prediction("x", (20, 40), (), (), LEFT, parts=PartMaps((1 / len(parts),) * len(parts), A))


@pytest.mark.parametrize("shrink", [1, 2])
def test_box_is_drawn_where_it_is(shrink: int) -> None:
    """The rectangle lies on the box's pixels, also on a photograph shown at half its size."""
    image = np.zeros((400 // shrink, 600 // shrink, 3), dtype=np.uint8)
    canvas = draw(image, prediction((400, 600), (100, 150, 500, 300)))
    ys, xs = np.where((canvas == BOX_COLOUR).all(axis=-1))
    assert (xs.min(), xs.max(), ys.max()) == pytest.approx((100 / shrink, 500 / shrink, 300 / shrink), abs=2)
    assert canvas.shape == image.shape
    assert not image.any()  # drawing is done on a copy


def test_heat_follows_the_map() -> None:
    """Where M is 0 the photograph is untouched; where it is 1 it is coloured."""
    image = np.full((300, 300, 3), 100, dtype=np.uint8)
    cold, hot = draw(image, prediction((300, 300))), draw(image, prediction((300, 300), M=1.0))
    np.testing.assert_array_equal(cold[200:], image[200:])
    assert np.abs(hot[200:].astype(int) - 100).max() > 20


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (7, 5), (2000, 30)])
@pytest.mark.parametrize("found", [True, False])
def test_pictures_of_any_size(size_hw: tuple[int, int], found: bool) -> None:
    """Tiny and thin pictures are drawn without an error, with a box and a name that the font does not have, or none."""
    h, w = size_hw
    boxes = [(0.0, 0.0, float(w), float(h))] if found else []
    image = np.zeros((h, w, 3), dtype=np.uint8)
    assert draw(image, prediction(size_hw, *boxes, M=0.5, name="猫 é")).shape == (h, w, 3)


@pytest.mark.skipif(int(cv2.__version__.partition(".")[0]) < 5, reason="the fonts of OpenCV 4 are ASCII")
def test_names_in_any_script_are_drawn() -> None:
    """Names of classes that are not ASCII are readable, not question marks."""
    image, box = np.zeros((300, 400, 3), dtype=np.uint8), (50.0, 100.0, 300.0, 250.0)
    drawn = [draw(image, prediction((300, 400), box, name=name)) for name in ("жук", "蝶蝶蝶", "???")]
    assert not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[1], drawn[2])


def test_an_empty_map_is_said() -> None:
    """A picture in which nothing was found says so instead of showing nothing."""
    canvas = draw(np.zeros((300, 400, 3), dtype=np.uint8), prediction((300, 400)))
    assert (canvas == BOX_COLOUR).all(axis=-1).any()


def test_picture_of_parts() -> None:
    """The photograph is the first tile; parts change the picture within the foreground alone; the rest is white."""
    photo = np.full((80, 160, 3), 120, np.uint8)
    drawn = draw_parts(photo, with_parts(1, 0))
    assert drawn.shape == (160, 320, 3)
    assert (drawn[:80, :160] == 120).all()
    first, second = drawn[40:80, 160:], drawn[120:, :160]  # below the labels
    assert (first[:, :40] != 120).any(axis=-1).all()
    assert (first[:, -40:] == 120).all()
    assert (second == 120).all()
    assert (drawn[80:, 160:] == 255).all()
    assert draw_parts(photo, with_parts(1, 0), columns=3).shape == (80, 480, 3)
    with pytest.raises(ConfigError, match="without its parts"):
        draw_parts(photo, prediction((20, 40)))


def test_files(tmp_path: Path) -> None:
    """Each kind gives its files, those of the parts too, and a mask only where it was asked for."""
    Image.new("RGB", (4000, 2000)).save(tmp_path / "x.png")
    found = replace(with_parts(1, 0, 1), source=tmp_path / "x.png")
    pictures = {name: cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape for name, data in overlays(found)}
    assert pictures == {".overlay.jpg": (800, 1600, 3), ".parts.overlay.jpg": (480, 960, 3)}
    arrays = {name: np.load(io.BytesIO(data)) for name, data in maps(found)}
    assert np.array_equal(arrays[".npy"], LEFT)
    assert arrays[".parts.npy"].shape == (3, 2, 2)
    assert list(masks(found)) == []
    region_map = np.array([[2, 0]])
    ((name, data),) = masks(Prediction("x", (1, 2), (), (), LEFT, region_map=region_map))
    assert name == ".mask.png"
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).tolist() == [[255, 0]]
