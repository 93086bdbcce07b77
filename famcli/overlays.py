"""Pictures of predictions: the heat map, the boxes and the label drawn on the photograph."""

from __future__ import annotations

import cv2
import numpy as np

from famcli.predict import Prediction
from famcli_models.boxes import rescale_boxes
from famcli_models.localization import upsample

HEAT = 0.45  # opacity of the heat map where M is 1
BOX_COLOUR = (255, 220, 0)  # RGB


def draw(image: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Draw one prediction.

    Args:
        image: ``(h, w, 3)`` uint8 RGB of any size; boxes and map are scaled to it.
        prediction: The prediction for that image.

    Returns:
        A new ``(h, w, 3)`` uint8 RGB array.
    """
    size_hw = image.shape[0], image.shape[1]
    M = upsample(prediction.M, size_hw)
    # Turbo is readable to the colour-blind and monotonic in lightness over its middle.
    heat = cv2.applyColorMap((M * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    opacity = (HEAT * M)[..., None]
    canvas = np.ascontiguousarray((image * (1 - opacity) + heat * opacity).astype(np.uint8))
    line = max(2, round(min(size_hw) / 160))
    boxes = rescale_boxes([r.xyxy for r in prediction.regions], prediction.size_hw, size_hw)
    for region, (x0, y0, x1, y1) in zip(prediction.regions, boxes.round().astype(int).tolist(), strict=True):
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), BOX_COLOUR, line)
        best = prediction.classes[0]
        _label(canvas, f"{best.name} {prediction.score(region, best):.2f}", (x0, y0), line)
    if not prediction.regions:
        _label(canvas, "nothing found", (0, 0), line)
    return canvas


def _label(canvas: np.ndarray, text: str, corner: tuple[int, int], line: int) -> None:
    """Dark text on a box-coloured tab, inside the picture wherever the corner is."""
    text = text.encode("ascii", "replace").decode()  # OpenCV's fonts are ASCII
    scale = line / 4
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, line // 2))
    x = max(0, min(corner[0], canvas.shape[1] - width - 2 * line))
    y = max(height + base + line, corner[1])
    cv2.rectangle(canvas, (x, y - height - base - line), (x + width + 2 * line, y), BOX_COLOUR, -1)
    at = (x + line, y - base)
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), max(1, line // 2), cv2.LINE_AA)
