"""Make the picture of the first page: what ``fam demo`` shows, in a smaller file.

    python scripts/demo_sheet.py            # docs/assets/demo.jpg
    python scripts/demo_sheet.py --check    # is it that of the packaged weights, and are the photographs named?

The photographs are CC0 or in the public domain.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from famcli.demo import PHOTOS

DOCS = Path(__file__).parent.parent / "docs"
SHEET, PAGE = DOCS / "assets" / "demo.jpg", DOCS / "index.md"
WIDTH, QUALITY = 1200, 80  # pixels, and of the JPEG
TOLERANCE = 3  # levels of 255, in the mean: more than a decoder's rounding, less than another label


def sheet() -> Image.Image:
    """The picture of ``fam demo``."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "famcli", "demo", "--quiet", "--out", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with Image.open(Path(folder) / "demo.jpg") as large:
            return large.resize((WIDTH, round(large.height * WIDTH / large.width)), Image.Resampling.LANCZOS)


def problems(made: Image.Image) -> list[str]:
    """What is not as it should be."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    credits_ = [f"{photo.shows} ({photo.terms})" for photo in PHOTOS]
    found = [f"{PAGE} does not say: {credit}" for credit in credits_ if credit not in page]
    with Image.open(SHEET) as stored:
        if stored.size != made.size or np.abs(np.subtract(stored, made, dtype=np.int16)).mean() > TOLERANCE:
            found.append(f"{SHEET} is out of date: run python scripts/demo_sheet.py")
    return found


def main() -> int:
    """Write or compare."""
    made = sheet()
    if "--check" not in sys.argv[1:]:
        made.save(SHEET, quality=QUALITY, optimize=True, progressive=True)
        print(f"wrote {SHEET}, {SHEET.stat().st_size / 1000:.0f} kB")
    found = problems(made)
    for problem in found:
        print(problem, file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
