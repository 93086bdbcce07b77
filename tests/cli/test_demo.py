"""`fam demo`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from famcli.demo import PHOTOS, contact_sheet, photo_folder
from famcli_models.errors import DataError


def test_demo(fam: Callable[..., Result], checkpoint: Path, tmp_path: Path) -> None:
    """Four photographs give a COCO file, four overlays and one picture, and stdout is that picture's path."""
    out = tmp_path / "demo"
    result = fam("demo", "--out", out, "--model", checkpoint, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out / 'demo.jpg'}\n"
    names = sorted(photo.file for photo in PHOTOS)
    data = json.loads((out / "boxes.json").read_text(encoding="utf-8"))
    assert [i["file_name"] for i in data["images"]] == names
    assert sorted(p.name for p in (out / "overlays").iterdir()) == [f"{n}.overlay.jpg" for n in names]
    with Image.open(out / "demo.jpg") as sheet:
        assert sheet.width > 800
        assert sheet.height == 800
    assert sorted(p.name for p in out.iterdir()) == ["boxes.json", "demo.jpg", "overlays"]
    for photo in PHOTOS:
        assert f"{photo.file}: {photo.shows} ({photo.terms})" in result.stderr
    again = fam("demo", "--out", out, "--model", checkpoint, "--device", "cpu", "--quiet")
    assert (again.exit_code, again.stderr, len(list((out / "overlays").iterdir()))) == (0, "", 4)


def test_photographs_are_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The photographs are of an installed dependency, or the demo says of which; the sheet has any shapes."""
    for photo in PHOTOS:
        with Image.open(photo_folder() / photo.file) as image:
            assert min(image.size) >= 200
    monkeypatch.setattr("famcli.demo.find_spec", lambda _: None)
    with pytest.raises(DataError, match="pip install scikit-image"):
        photo_folder()
    paths = []
    for i, size in enumerate([(100, 50), (30, 60), (80, 80)]):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", size, (200, 0, 0)).save(paths[-1])
    with Image.open(contact_sheet(paths, tmp_path / "sheet.jpg")) as sheet:
        assert sheet.size == (1000, 800)
        assert sheet.getpixel((990, 790)) == (255, 255, 255)
