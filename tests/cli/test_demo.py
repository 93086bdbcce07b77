"""`fam demo`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from famcli.demo import PHOTOS, SHEET_WIDTH, contact_sheet, photo_folder
from famcli_models.errors import DataError


def test_demo(fam: Callable[..., Result], checkpoint: Path, tmp_path: Path) -> None:
    """Six photographs give a COCO file, six overlays and one picture, and stdout is that picture's path."""
    out = tmp_path / "demo"
    result = fam("demo", "--out", out, "--model", checkpoint, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out / 'demo.jpg'}\n"
    names = [photo.file for photo in PHOTOS]
    data = json.loads((out / "boxes.json").read_text(encoding="utf-8"))
    assert [i["file_name"] for i in data["images"]] == names
    assert sorted(p.name for p in (out / "overlays").iterdir()) == [f"{n}.overlay.jpg" for n in names]
    with Image.open(out / "demo.jpg") as sheet:
        assert sheet.width == SHEET_WIDTH
    assert sorted(p.name for p in out.iterdir()) == ["boxes.json", "demo.jpg", "overlays"]
    for photo in PHOTOS:
        assert re.search(rf"^{re.escape(photo.file)}  .* \d\.\d\d  box \d+,\d+,\d+,\d+$", result.stderr, re.MULTILINE)
        assert f"{photo.shows} ({photo.terms})" in result.stderr
    assert "\nnow yours: fam predict " in result.stderr
    again = fam("demo", "--out", out, "--model", checkpoint, "--device", "cpu", "--quiet")
    assert (again.exit_code, again.stderr, len(list((out / "overlays").iterdir()))) == (0, "", 6)


def test_photographs_follow_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six photographs in alphabetical order are installed, and scikit-image states the terms and the author of each."""
    skimage_data = pytest.importorskip("skimage.data")
    assert len(PHOTOS) == 6
    assert sorted(PHOTOS, key=lambda photo: photo.file) == list(PHOTOS)
    for photo in PHOTOS:
        assert (photo_folder() / photo.file).is_file()
        documentation = getattr(skimage_data, photo.file.partition(".")[0].removesuffix("_motion")).__doc__
        terms, author = photo.terms.split(", ")
        assert terms in {"CC0", "public domain"}
        assert terms in documentation
        assert author in documentation
    monkeypatch.setattr("famcli.demo.find_spec", lambda _: None)
    with pytest.raises(DataError, match="pip install scikit-image"):
        photo_folder()


def test_the_sheet_has_no_empty_area(tmp_path: Path) -> None:
    """Pictures of any shape stand whole in rows that are all as wide as the sheet, the last one too."""
    paths = []
    for i, size in enumerate([(100, 50), (50, 50), (80, 40)]):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", size, (0, 80 * i, 200)).save(paths[-1])
    with Image.open(contact_sheet(paths, tmp_path / "sheet.jpg", columns=2)) as opened:
        sheet = np.asarray(opened).astype(int)
    assert sheet.shape == (1600 // 3 + 1600 // 2, 1600, 3)  # widths of 2 + 1 and of 2 heights
    for i, area in enumerate([sheet[:530, :1060], sheet[:530, 1070:], sheet[540:]]):
        assert abs(area - (0, 80 * i, 200)).max() < 40
