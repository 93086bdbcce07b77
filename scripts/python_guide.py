"""Run the code of docs/guides/python.md, and write what it prints and draws.

    python scripts/python_guide.py            # outputs of the page, and docs/assets/python-*.png
    python scripts/python_guide.py --check    # are the outputs those of the packaged weights?

The photographs come with scikit-image and stay there: pictures show their edges.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from part_maps import edges
from PIL import Image

from famcli import Prediction
from famcli.demo import photo_folder

DOCS = Path(__file__).parent.parent / "docs"
PAGE, ASSETS = DOCS / "guides" / "python.md", DOCS / "assets"
PHOTOS = {"cat.jpg": "chelsea.png", "cup.jpg": "coffee.png", "rocket.jpg": "rocket.jpg"}
STEP = re.compile(
    r"(?<=^```python\n)(?P<code>.*?)(?P<between>^```\n\n```text\n)(?P<output>.*?)(?=^```)", re.MULTILINE | re.DOTALL
)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
TOLERANCE = 0.03  # of numbers below 1, which differ from machine to machine in the last bits of a convolution
PIXELS = 2  # and of larger ones, corners of boxes


def run(page: str, folder: Path) -> str:
    """The page with the outputs of its code, which runs in a folder with the photographs."""
    for name, file in PHOTOS.items():
        with Image.open(photo_folder() / file) as photo:
            photo.convert("RGB").save(folder / name, quality=95)

    def with_output(step: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(step["code"], str(PAGE), "exec"), {})  # noqa: S102
        return f"{step['code']}{step['between']}{printed.getvalue().rstrip()}\n"

    draw = Prediction.overlay

    def draw_on_edges(prediction: Prediction) -> Image.Image:
        with Image.open(str(prediction.source)) as photo:
            return draw(replace(prediction, source=edges(np.asarray(photo))))

    before = Path.cwd()
    try:
        os.chdir(folder)
        with patch.object(Prediction, "overlay", draw_on_edges):
            return STEP.sub(with_output, page)
    finally:
        os.chdir(before)


def same(old: str, new: str) -> bool:
    """The texts are alike, and so are their numbers, up to what machines differ by."""
    before, after = (np.array([float(number) for number in NUMBER.findall(text)]) for text in (old, new))
    if NUMBER.sub("", old) != NUMBER.sub("", new) or len(before) != len(after):
        return False
    return bool((np.abs(before - after) <= np.where(before < 1, TOLERANCE, PIXELS)).all())


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is stale instead of writing it")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        new = run(page, Path(scratch))
        pictures = sorted(Path(scratch).glob("*.png"))
        assets = [ASSETS / f"python-{picture.name}" for picture in pictures]
        if check:
            if not same(page, new) or not all(asset.is_file() for asset in assets):
                print(f"{PAGE} or its pictures are out of date: run python scripts/python_guide.py", file=sys.stderr)
                return 1
            return 0
        for picture, asset in zip(pictures, assets, strict=True):
            with Image.open(picture) as drawn:
                drawn.quantize(64).save(asset, optimize=True)
    PAGE.write_text(new, encoding="utf-8")
    print(f"wrote {PAGE} and {len(assets)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
