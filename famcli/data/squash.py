"""The square view of a picture; without torch, which a report does not need."""

from __future__ import annotations

import numpy as np
from PIL import Image

RESIZE_RATIO = 256 / 224  # "randomly cropped to 224x224 pixels after being resized to 256x256 pixels"


def squash(image: Image.Image, size: int) -> np.ndarray:
    """Test-time view: RGB picture to ``(size, size, 3)`` uint8."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
