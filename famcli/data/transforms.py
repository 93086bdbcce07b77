"""Pictures to network input.

At test time a picture is squashed to ``size x size`` (bilinear, anti-aliased), so the map's frame is the
whole image; for training it is resized to 256/224 of that, cropped at random and flipped (section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

RESIZE_RATIO = 256 / 224  # "randomly cropped to 224x224 pixels after being resized to 256x256 pixels"


def squash(image: Image.Image, size: int) -> np.ndarray:
    """Test-time view: RGB picture to ``(size, size, 3)`` uint8."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """Training view: resize, crop at a random place, flip half of the time.

    Attributes:
        size: Side of the crop in pixels.
    """

    size: int

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """RGB picture to ``(size, size, 3)`` uint8; all randomness comes from ``rng``."""
        side = round(self.size * RESIZE_RATIO)
        whole = squash(image, side)
        y, x = rng.integers(0, side - self.size + 1, size=2)
        view = whole[y : y + self.size, x : x + self.size]
        return view[:, ::-1] if rng.random() < 0.5 else view


@dataclass(frozen=True, slots=True)
class Normalize:
    """uint8 views to a normalised batch.

    Attributes:
        mean: RGB mean for values in [0, 1].
        std: RGB standard deviation for values in [0, 1].
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, views: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
        """Views ``(h, w, 3)`` uint8 to ``(B, 3, h, w)`` float32 in channels-last memory."""
        batch = torch.from_numpy(np.stack(views)).to(device).permute(0, 3, 1, 2)  # bytes travel, not floats
        mean = torch.tensor(self.mean, device=device).view(3, 1, 1)
        std = torch.tensor(self.std, device=device).view(3, 1, 1)
        return (batch.float() - mean * 255) / (std * 255)
