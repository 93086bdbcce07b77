"""Pictures to network input.

At test time a picture is squashed to ``size x size`` (bilinear, anti-aliased), so the map's frame is the
whole image; for training it is resized to 256/224 of that, cropped at random and flipped (section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from famcli.data.squash import RESIZE_RATIO, squash


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """Training view: the whole picture at 256/224 of the input size, a random crop of it, perhaps mirrored.

    Attributes:
        size: Side of the crop, in pixels of the resized picture.
        y: Top of the crop.
        x: Left of the crop.
        mirrored: Left and right are swapped.
    """

    size: int
    y: int
    x: int
    mirrored: bool

    @classmethod
    def draw(cls, size: int, rng: np.random.Generator) -> RandomCrop:
        """A crop at a random place, mirrored half of the time; all randomness comes from ``rng``."""
        room = round(size * RESIZE_RATIO) - size
        y, x = rng.integers(0, room + 1, size=2).tolist()
        return cls(size, y, x, bool(rng.random() < 0.5))

    def _cut(self, whole: np.ndarray) -> np.ndarray:
        view = whole[self.y : self.y + self.size, self.x : self.x + self.size]
        return view[:, ::-1] if self.mirrored else view

    def of_picture(self, image: Image.Image) -> np.ndarray:
        """The view of an RGB picture of any size: ``(size, size, 3)`` uint8."""
        return self._cut(squash(image, round(self.size * RESIZE_RATIO)))

    def of_map(self, whole: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """The same view of a map of the whole picture: ``(h, w)`` in [0, 1] to ``size_hw``, float32."""
        side = round(self.size * RESIZE_RATIO)
        large = cv2.resize(whole.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        view = np.ascontiguousarray(self._cut(large))
        return np.asarray(cv2.resize(view, size_hw[::-1], interpolation=cv2.INTER_AREA))


@dataclass(frozen=True, slots=True)
class Normalize:
    """uint8 views to a normalised batch.

    Attributes:
        mean: RGB mean for values in [0, 1].
        std: RGB standard deviation for values in [0, 1].
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, views: Tensor | Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
        """Views ``(h, w, 3)`` uint8 to ``(B, 3, h, w)`` float32 in channels-last memory."""
        stacked = views if isinstance(views, Tensor) else torch.from_numpy(np.stack(views))
        batch = stacked.to(device).permute(0, 3, 1, 2)  # bytes travel, not floats
        mean = torch.tensor(self.mean, device=device).view(3, 1, 1)
        std = torch.tensor(self.std, device=device).view(3, 1, 1)
        return (batch.float() - mean * 255) / (std * 255)
