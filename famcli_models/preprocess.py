"""RGB image to model input: resize to a square, cut and flip for training, normalise.

This is the only place that does so: inference, training and exported graphs all use it. At test time the whole image
is resized to ``size x size`` (bilinear, anti-aliased), so that a map's frame is the whole image. For training it is
resized to 256/224 of that, cropped at random and flipped (section 4.1). Nothing here needs torch before
:func:`normalize` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

RESIZE_RATIO = 256 / 224  # "randomly cropped to 224x224 pixels after being resized to 256x256 pixels"
UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


def resize(image: Image.Image, side: int, box: npt.NDArray[np.floating] | None = None) -> UInt8:
    """The whole RGB image, or its part in a box, xyxy in shares of its sides, as a square ``(side, side, 3)`` uint8."""
    part = None if box is None else tuple((box.clip(0, 1) * (*image.size, *image.size)).tolist())
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, part))


def resized_side(side: int) -> int:
    """Side of the resized image that crops of ``side`` pixels are cut from: 256 for 224."""
    return round(side * RESIZE_RATIO)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images ``(B, h, w, 3)`` uint8 to model input ``(B, 3, h, w)`` float32, in channels-last memory.

    Args:
        images: RGB, on any device; the result is there too.
        mean: Of RGB values in [0, 1].
        std: Likewise.
    """
    import torch

    center = torch.tensor(mean, device=images.device).view(3, 1, 1) * 255
    scale = torch.tensor(std, device=images.device).view(3, 1, 1) * 255
    return (images.permute(0, 3, 1, 2).to(torch.float32) - center) / scale


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """Training view: the whole image at 256/224 of the input size, a random crop of it, perhaps flipped.

    Attributes:
        size: Side of the crop, in pixels of the resized image.
        y: Top of the crop.
        x: Left of the crop.
        flipped: Left and right are swapped.
    """

    size: int
    y: int
    x: int
    flipped: bool

    @classmethod
    def draw(cls, size: int, rng: np.random.Generator) -> RandomCrop:
        """A crop at a random place, flipped half of the time; all randomness comes from ``rng``."""
        room = resized_side(size) - size
        y, x = rng.integers(0, room + 1, size=2).tolist()
        return cls(size, y, x, bool(rng.random() < 0.5))

    def crop_image(self, image: Image.Image) -> UInt8:
        """The view of an RGB image of any size: ``(size, size, 3)`` uint8."""
        return self._cut(resize(image, resized_side(self.size)))

    def crop_map(self, whole: npt.NDArray[np.floating], size_hw: tuple[int, int]) -> Float32:
        """The same view of a map of the whole image: ``(h, w)`` in [0, 1] to ``size_hw``, float32."""
        side = resized_side(self.size)
        large = cv2.resize(whole.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        view = np.ascontiguousarray(self._cut(large))
        return np.asarray(cv2.resize(view, size_hw[::-1], interpolation=cv2.INTER_AREA), np.float32)

    def crop_box(self, box: npt.NDArray[np.floating]) -> Float32:
        """The part in the view of a box of the whole image, half-open xyxy ``(4,)`` in shares of the one and the other.

        Of a box outside of the view an edge is left, without an area.
        """
        corner = np.array([self.x, self.y] * 2)
        x0, y0, x1, y1 = ((box * resized_side(self.size) - corner) / self.size).clip(0, 1).tolist()
        return np.array([1 - x1, y0, 1 - x0, y1] if self.flipped else [x0, y0, x1, y1], np.float32)

    def _cut(self, whole: npt.NDArray[Any]) -> npt.NDArray[Any]:
        view = whole[self.y : self.y + self.size, self.x : self.x + self.size]
        return view[:, ::-1] if self.flipped else view
