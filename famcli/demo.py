"""The photographs of ``fam demo`` and of the smoke check of ``fam eval``: they come installed with scikit-image."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from famcli.data.dataset import Dataset
from famcli.data.sample import TEST, Sample
from famcli_models.errors import DataError
from famcli_models.files import write_atomic


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph inside scikit-image's wheel."""

    file: str  # its name
    shows: str  # what is on it
    terms: str  # its licence and author
    label: int | None = None  # index of its class in ILSVRC, if there is one
    box: tuple[float, float, float, float] = (0, 0, 0, 0)  # the main object, measured by eye: half-open xyxy in pixels


TILE = 400  # height of a picture in the contact sheet, in pixels
PHOTOS = (
    Photo("chelsea.png", "a cat", "CC0, Stefan van der Walt", 285, (0, 0, 398, 300)),  # Egyptian cat
    Photo("coffee.png", "a cup of coffee", "CC0, Rachel Michetti", 967, (76, 18, 479, 390)),  # espresso
    Photo("rocket.jpg", "a rocket on its launch pad", "CC0, SpaceX", 657, (311, 127, 334, 407)),  # missile
    Photo("astronaut.png", "an astronaut", "public domain, NASA"),
)


def demo_dataset() -> Dataset:
    """The photographs with a class and a box, for a check that the program works: they are too few for a number."""
    folder = photo_folder()
    samples = [
        Sample(photo.file, folder / photo.file, photo.label, np.array([photo.box], np.float64))
        for photo in PHOTOS
        if photo.label is not None
    ]
    return Dataset("demo-photographs", folder, folder, held={TEST: samples})


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
    """Write pictures side by side, some in a row, all scaled to one height, on white."""
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
