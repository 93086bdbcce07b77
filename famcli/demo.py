"""The photographs of ``fam demo`` and of the smoke check of ``fam eval``: they come installed with scikit-image.

They are chosen by a rule, not by what the model makes of them: every photograph in scikit-image's wheel, in colour or
gray, that shows one person, animal or thing as its subject, and that ``skimage.data`` itself calls CC0 or public
domain. These are six. Textures, scans, drawings, and photographs of many things (coins, galaxies), of the ground of the
moon, through a microscope or of the inside of an eye have no such subject; the pair of a motorcycle is without terms.
"""

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
    class_name: str | None = None  # its class in ILSVRC, if there is one
    box: tuple[float, float, float, float] = (0, 0, 0, 0)  # the main object, measured by eye: half-open xyxy in pixels


SHEET_WIDTH = 1600  # of the contact sheet, in pixels
PHOTOS = (
    Photo("astronaut.png", "an astronaut", "public domain, NASA"),
    Photo("camera.png", "a man with a camera", "CC0, Lav Varshney"),
    Photo("chelsea.png", "a cat", "CC0, Stefan van der Walt", "Egyptian cat", (0, 0, 398, 300)),
    Photo("clock_motion.png", "a clock", "public domain, Stefan van der Walt", "wall clock", (140, 93, 283, 215)),
    Photo("coffee.png", "a cup of coffee", "CC0, Rachel Michetti", "espresso", (76, 18, 479, 390)),
    Photo("rocket.jpg", "a rocket on its launch pad", "public domain, SpaceX", "missile", (311, 127, 334, 407)),
)


def demo_dataset() -> Dataset:
    """The photographs with a class and a box, for a check that the program works: they are too few for a number."""
    folder, named = photo_folder(), [photo for photo in PHOTOS if photo.class_name is not None]
    samples = [
        Sample(photo.file, folder / photo.file, label, np.array([photo.box], np.float64))
        for label, photo in enumerate(named)
    ]
    class_names = tuple(str(photo.class_name) for photo in named)
    return Dataset("demo-photographs", folder, folder, class_names, held={TEST: samples})


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


def contact_sheet(pictures: list[Path], out: Path, columns: int = 3) -> Path:
    """Write pictures in rows, each picture whole and each row as wide as the sheet, so that nothing is left empty."""
    rows = []
    for start in range(0, len(pictures), columns):
        row = []
        for path in pictures[start : start + columns]:
            with Image.open(path) as picture:
                row.append(picture.convert("RGB"))
        right = np.cumsum([picture.width / picture.height for picture in row])  # edges, at a height of 1
        height = round(SHEET_WIDTH / right[-1])
        widths = np.diff((right * SHEET_WIDTH / right[-1]).round().astype(int), prepend=0).tolist()
        tiles = [picture.resize((width, height)) for picture, width in zip(row, widths, strict=True)]
        rows.append(np.hstack([np.asarray(tile) for tile in tiles]))
    write_atomic(out, lambda path: Image.fromarray(np.vstack(rows)).save(path, "JPEG", quality=90))
    return out
