"""Draw the parts that the default model finds in the photographs of ``fam demo``, and write their numbers.

    python scripts/part_maps.py            # docs/assets/parts-*.jpg and the numbers of docs/concepts/parts.md
    python scripts/part_maps.py --check    # are the numbers those of the packaged weights?

The photographs come with scikit-image and stay there: the pictures show their edges, drawn here. ``--photographs DIR``
writes pictures with the photographs themselves to another folder, and nothing else. Convolutions differ in the last
bits from machine to machine, so numbers are compared with a tolerance, and pictures by their presence.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from famcli.demo import PHOTOS, photo_folder
from famcli.inference.predictor import Prediction, Predictor, Settings
from famcli.outputs.image_files import draw_parts
from famcli_models import FAM, packaged
from famcli_models.checkpoint import DEFAULT_MODEL, WEIGHTS_FILE
from famcli_models.files import sha256_file

DOCS = Path(__file__).parent.parent / "docs"
PAGE, ASSETS = DOCS / "concepts" / "parts.md", DOCS / "assets"
BEGIN, END = (
    "<!-- Written by scripts/part_maps.py. Change the script, not this part of the page. -->",
    "<!-- End of what it wrote. -->",
)
TILE = (240, 180)  # most pixels of a picture, width and height
TOLERANCE = 0.03
QUALITY = 80  # of a JPEG
NUMBER = re.compile(r"(?<![\w.])\d\.\d+")


def asset(file: str, folder: Path = ASSETS) -> Path:
    """The picture of a photograph."""
    return folder / f"parts-{Path(file).stem}.jpg"


def predictions() -> dict[str, Prediction]:
    """What the default model finds, by file name of the photograph."""
    predictor = Predictor(FAM.from_pretrained(DEFAULT_MODEL), "cpu", Settings(parts=True))
    return {photo.file: predictor(photo_folder() / photo.file) for photo in PHOTOS}


def edges(image: np.ndarray) -> np.ndarray:
    """Dark lines on white where a photograph ``(h, w, 3)`` has edges."""
    gray = cv2.bilateralFilter(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 7, 40, 5)
    lines = np.where(cv2.Canny(gray, 60, 150) > 0, 60, 255).astype(np.uint8)
    return np.repeat(lines[..., None], 3, axis=2)


def draw(file: str, found: Prediction, photographs: Path | None) -> None:
    """Write the picture of one photograph: its edges, or itself if a folder is given, and its parts in a row."""
    with Image.open(photo_folder() / file) as opened:
        photo = opened.convert("RGB")
    photo.thumbnail(TILE)
    image = np.asarray(photo)
    parts = draw_parts(image if photographs else edges(image), found, columns=1 + found.parts.A.shape[0])
    folder = photographs or ASSETS
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(parts).save(asset(file, folder), quality=QUALITY)


def numbers(found: dict[str, Prediction]) -> str:
    """The pictures, and a table of weights and likeness."""
    digest = sha256_file(packaged()[DEFAULT_MODEL] / WEIGHTS_FILE)
    lines = [f"`{DEFAULT_MODEL}`, weights `{digest[:12]}`:", ""]
    for photo in PHOTOS:
        lines += [f"![Parts of {photo.shows}](../assets/{asset(photo.file).name})", ""]
    parts = {file: prediction.parts for file, prediction in found.items()}
    cosines = {file: part.cosine() for file, part in parts.items()}
    K = max(part.A.shape[0] for part in parts.values())
    head = ["photograph", "found", *(f"t of part {k}" for k in range(1, K + 1)), "mean cosine of A"]
    lines += [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (K + 1)]
    for photo in PHOTOS:
        cells = [f"{weight:.2f}" for weight in parts[photo.file].weights]
        cosine = cosines[photo.file]
        cells.append("" if cosine is None else f"{cosine:.2f}")
        lines.append(f"| {photo.shows} | {found[photo.file].classes[0].name} | {' | '.join(cells)} |")
    known = [cosine for cosine in cosines.values() if cosine is not None]
    if known:
        lines += ["", f"Over the {len(known)} photographs the mean cosine is {sum(known) / len(known):.2f}."]
    return "\n".join(lines)


def written(page: str) -> str:
    """What the script wrote into a page."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def same(old: str, new: str) -> bool:
    """The texts are alike, and so are their numbers, up to what machines differ by."""
    before, after = ([float(number) for number in NUMBER.findall(text)] for text in (old, new))
    words = NUMBER.sub("", old) == NUMBER.sub("", new)
    return words and len(before) == len(after) and bool(np.allclose(before, after, rtol=0, atol=TOLERANCE))


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true", help="exit 1 if the page is stale instead of writing it")
    either.add_argument("--photographs", type=Path, metavar="DIR", help="write parts on the photographs to a folder")
    options = parser.parse_args()
    found = predictions()
    page, text = PAGE.read_text(encoding="utf-8"), numbers(found)
    if options.check:
        missing = [asset(photo.file).name for photo in PHOTOS if not asset(photo.file).is_file()]
        if missing or not same(written(page), text):
            print(f"{PAGE} or its pictures are out of date: run python scripts/part_maps.py", file=sys.stderr)
            return 1
        return 0
    for file, prediction in found.items():
        draw(file, prediction, options.photographs)
    if options.photographs:
        return 0
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    print(f"wrote {PAGE} and {len(found)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
