"""Photographs to measure with, cut from those of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from famcli.demo import PHOTOS, photo_folder

SIZE = (500, 375)  # width and height of most ImageNet photographs


def make_photos(folder: Path, count: int, share: tuple[float, float], size: tuple[int, int] = SIZE) -> list[Path]:
    """JPEGs of a width and height, cut at random, each side between two shares of the photograph's."""
    rng = np.random.default_rng(0)
    sources = [Image.open(photo_folder() / photo.file).convert("RGB") for photo in PHOTOS]
    paths = []
    for i in range(count):
        source = sources[i % len(sources)]
        kept = rng.uniform(*share)
        w, h = round(source.width * kept), round(source.height * kept)
        x, y = rng.integers(0, source.width - w + 1), rng.integers(0, source.height - h + 1)
        path = folder / f"{i:05d}.jpg"
        source.crop((x, y, x + w, y + h)).resize(size).save(path, quality=90)
        paths.append(path)
    return paths
