"""Files of each image: the photograph with heat map, boxes and label, the map as an array, and the mask."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image

from famcli.data.images import read_picture
from famcli.data.search import MASK_SUFFIX, OVERLAY_SUFFIX, PARTS_SUFFIX
from famcli.outputs.prediction import Prediction, shown_name
from famcli_models.boxes import rescale_boxes
from famcli_models.errors import ConfigError, DataError
from famcli_models.localization import upsample

HEAT = 0.45  # opacity of the heat map where M is 1
PART_HEAT = 0.7  # and of a part's, which has the photograph beside it
BOX_COLOUR = (255, 220, 0)  # RGB
SIDE, TILE_SIDE = 1600, 480  # photographs, and those beside their parts, are shrunk to this, in pixels
Files = Iterator[tuple[str, bytes]]


def overlays(prediction: Prediction) -> Files:
    """JPEGs of the photograph with what was found drawn on it, and with its parts beside it if there are any."""
    photo = read_photo(prediction)
    yield OVERLAY_SUFFIX, _encode(".jpg", draw(photo, prediction)[..., ::-1])
    if prediction.parts is not None:
        tile = shrunk(Image.fromarray(photo), TILE_SIDE)
        yield PARTS_SUFFIX, _encode(".jpg", draw_parts(np.asarray(tile), prediction)[..., ::-1])


def maps(prediction: Prediction) -> Files:
    """The map ``(H, W)`` float32 at feature resolution, and the part maps ``(K, h, w)`` if there are any."""
    yield ".npy", _npy(prediction.M)
    if prediction.parts is not None:
        yield ".parts.npy", _npy(prediction.parts.A)


def masks(prediction: Prediction) -> Files:
    """255 on the pixels of the regions, in the original image's size."""
    if prediction.mask is not None:
        yield MASK_SUFFIX, _encode(".png", prediction.mask.astype(np.uint8) * 255)


def shrunk(image: Image.Image, side: int = SIDE) -> Image.Image:
    """A picture for drawing on: the image itself, or a copy whose longer side is ``side``."""
    if max(image.size) <= side:
        return image
    small = image.copy()
    small.thumbnail((side, side))
    return small


def read_photo(prediction: Prediction) -> np.ndarray:
    """The photograph of a prediction, to draw on: ``(h, w, 3)`` uint8."""
    if prediction.source is None:
        raise ConfigError("the prediction does not say where its photograph is")
    try:
        return np.asarray(shrunk(read_picture(prediction.source, at_least=SIDE).image))
    except DataError as error:
        raise DataError(f"{prediction.name}: {error}") from error


def draw(image: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Heat map, boxes and label on a copy of the image ``(h, w, 3)`` uint8 RGB, which may be of any size."""
    size_hw = image.shape[0], image.shape[1]
    canvas = heated(image, upsample(prediction.M, size_hw), HEAT)
    line = max(2, round(min(size_hw) / 160))
    boxes = rescale_boxes([r.xyxy for r in prediction.regions], prediction.size_hw, size_hw)
    for score, (x0, y0, x1, y1) in zip(prediction.scores, boxes.round().astype(int).tolist(), strict=True):
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), BOX_COLOUR, line)
        best = prediction.classes[0]
        name = shown_name(best.name, best.probability, prediction.known)
        _label(canvas, f"{name} {score:.2f}", (x0, y0), line)
    if not prediction.regions:
        _label(canvas, "nothing found", (0, 0), line)
    return canvas


def draw_parts(image: np.ndarray, prediction: Prediction, columns: int | None = None) -> np.ndarray:
    """The photograph and each of its parts beside it, with the part's weight.

    A part is shown as A_k × M, what eq. (7) sees of it: outside the foreground A_k is a constant that says nothing.
    Tiles have the size of the image ``(h, w, 3)`` uint8 RGB, and lie on white in about as many columns as rows.
    """
    parts = prediction.parts
    if parts is None:
        raise ConfigError("the prediction is without its parts")
    size_hw = image.shape[0], image.shape[1]
    line = max(2, round(min(size_hw) / 160))
    M = upsample(prediction.M, size_hw)
    tiles = [image]
    for k, (weight, A) in enumerate(zip(parts.weights, parts.A, strict=True), 1):
        tile = heated(image, upsample(A, size_hw) * M, PART_HEAT)
        _label(tile, f"part {k}: {weight:.2f}", (0, 0), line)
        tiles.append(tile)
    wide = columns or math.ceil(math.sqrt(len(tiles)))
    tiles += [np.full_like(image, 255)] * (-len(tiles) % wide)
    return np.vstack([np.hstack(tiles[i : i + wide]) for i in range(0, len(tiles), wide)])


def heated(image: np.ndarray, heat: np.ndarray, most: float) -> np.ndarray:
    """A picture below a map ``(h, w)`` in [0, 1], which has the opacity ``most`` where it is 1."""
    # Turbo is readable to the colour-blind and monotonic in lightness over its middle.
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    opacity = (most * heat)[..., None]
    return np.ascontiguousarray((image * (1 - opacity) + colours * opacity).astype(np.uint8))


def _label(canvas: np.ndarray, text: str, corner: tuple[int, int], line: int) -> None:
    """Dark text on a box-coloured tab, inside the picture wherever the corner is."""
    if int(cv2.__version__.partition(".")[0]) < 5:
        text = text.encode("ascii", "replace").decode()  # the fonts of OpenCV 4 are ASCII
    font = cv2.FONT_HERSHEY_SIMPLEX, max(0.5, min(canvas.shape[:2]) / 560), max(1, line // 2)
    (width, height), base = cv2.getTextSize(text, *font)
    x = max(0, min(corner[0], canvas.shape[1] - width - 2 * line))
    y = max(height + base + line, corner[1])
    cv2.rectangle(canvas, (x, y - height - base - line), (x + width + 2 * line, y), BOX_COLOUR, -1)
    cv2.putText(canvas, text, (x + line, y - base), font[0], font[1], (20, 20, 20), font[2], cv2.LINE_AA)


def _encode(kind: str, image: np.ndarray) -> bytes:
    good, data = cv2.imencode(kind, image)
    if not good:
        raise OSError(f"cannot encode a {kind}")
    return data.tobytes()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
