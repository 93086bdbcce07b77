"""The protocols that compare one box of each image with its truth, as numbers: frame, boxes and what is right.

Their words are in :mod:`famcli.evaluation.protocols`; those over many thresholds are in
:mod:`famcli.evaluation.metrics.box`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from famcli_models.boxes import FloatArray, as_boxes, clip_boxes, rescale_boxes
from famcli_models.preprocess import resize, resized_side


@dataclass(frozen=True, slots=True)
class BoxRules:
    """How boxes are compared.

    Attributes:
        cropped: In the centre crop of the resized image, and not in the original image.
        strict: Right when the IoU is greater than 0.5, and not from 0.5 on.
        first_only: Of several boxes of an image only the first counts.
    """

    cropped: bool = False
    strict: bool = False
    first_only: bool = False

    def view(self, image: Image.Image, side: int) -> np.ndarray:
        """The test image: an RGB picture to ``(side, side, 3)`` uint8."""
        if not self.cropped:
            return resize(image, side)
        edge = _margin(side)
        return resize(image, resized_side(side))[edge : edge + side, edge : edge + side]

    def frame_hw(self, size_hw: tuple[int, int], side: int) -> tuple[int, int]:
        """Size ``(h, w)`` of the frame that boxes are compared in, for an image of ``size_hw``."""
        return (side, side) if self.cropped else size_hw

    def to_frame(self, boxes: npt.ArrayLike, size_hw: tuple[int, int], side: int) -> FloatArray:
        """Boxes ``(N, 4)`` of the original image in the frame; clipped to a crop."""
        if not self.cropped:
            return as_boxes(boxes)
        whole = resized_side(side)
        return clip_boxes(rescale_boxes(boxes, size_hw, (whole, whole)) - _margin(side), (side, side))

    def to_photo(self, boxes: npt.ArrayLike, size_hw: tuple[int, int], side: int) -> FloatArray:
        """Boxes ``(N, 4)`` of the frame in the pixels of the original image."""
        if not self.cropped:
            return as_boxes(boxes)
        whole = resized_side(side)
        return rescale_boxes(as_boxes(boxes) + _margin(side), (whole, whole), size_hw)

    def truth(self, boxes: FloatArray, size_hw: tuple[int, int], side: int) -> FloatArray:
        """The boxes ``(N, 4)`` of an image that count, in the frame."""
        return self.to_frame(boxes[:1] if self.first_only else boxes, size_hw, side)


BOX_RULES: Mapping[str, BoxRules] = {
    "fam": BoxRules(),
    "psol": BoxRules(cropped=True, strict=True),
    "first-box": BoxRules(first_only=True),
}


def ten_crops(image: Image.Image, side: int) -> list[np.ndarray]:
    """The corners and the centre of the resized picture, each as it is and mirrored: ten ``(side, side, 3)`` uint8."""
    whole = resize(image, resized_side(side))
    room, edge = whole.shape[0] - side, _margin(side)
    corners = [(0, 0), (0, room), (room, 0), (room, room), (edge, edge)]
    crops = [whole[y : y + side, x : x + side] for y, x in corners]
    return [*crops, *(np.ascontiguousarray(crop[:, ::-1]) for crop in crops)]


def _margin(side: int) -> int:
    """Pixels of the resized image left of, and above, the centre crop: 16 for 224."""
    return round((resized_side(side) - side) / 2)
