"""The photographs of ``fam demo``: they come installed with scikit-image."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from famcli_models.errors import DataError
from famcli_models.files import write_atomic


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph inside scikit-image's wheel: its file, what it shows, and its terms."""

    file: str
    shows: str
    terms: str


TILE = 400  # height of a picture in the contact sheet, in pixels
PHOTOS = (
    Photo("chelsea.png", "a cat", "CC0, Stefan van der Walt"),
    Photo("coffee.png", "a cup of coffee", "CC0, Rachel Michetti"),
    Photo("rocket.jpg", "a rocket on its launch pad", "CC0, SpaceX"),
    Photo("astronaut.png", "an astronaut", "public domain, NASA"),
)


def photo_folder() -> Path:
    """The folder that holds :data:`PHOTOS`.

    Raises:
        DataError: scikit-image is not installed, or its photographs are not.
    """
    spec = find_spec("skimage")  # found, not imported: the import takes a second and is not needed
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    if folder is None or not all((folder / photo.file).is_file() for photo in PHOTOS):
        msg = "the demo's photographs come with scikit-image, which is not complete here: pip install scikit-image"
        raise DataError(msg)
    return folder


def contact_sheet(pictures: list[Path], out: Path, columns: int = 2) -> Path:
    """Write pictures side by side, all scaled to one height, on white.

    Args:
        pictures: Image files.
        out: The file to write.
        columns: Pictures in a row.
    """
    rows = []
    for start in range(0, len(pictures), columns):
        tiles = []
        for path in pictures[start : start + columns]:
            with Image.open(path) as picture:
                width = max(1, round(picture.width * TILE / picture.height))
                tiles.append(np.asarray(picture.convert("RGB").resize((width, TILE))))
        rows.append(np.hstack(tiles))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write_atomic(out, lambda path: Image.fromarray(np.vstack(padded)).save(path, "JPEG", quality=90))
    return out
