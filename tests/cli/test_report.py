"""`fam report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from famcli.results.images import BoxResult, ImageResult
from famcli.results.io import IMAGES_NAME, write_images, write_results
from famcli.results.schema import Number, Results, Row

Fam = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder of four photos."""
    photos = tmp_path / "photos"
    photos.mkdir()
    records = []
    for i in range(4):
        Image.fromarray(np.full((20, 30, 3), 60 * i, np.uint8)).save(photos / f"{i}.png")
        found = {"FAM": BoxResult((1.0, 2.0, 20.0, 15.0), i / 4, 0.5, "part")}
        where = str(photos / f"{i}.png")
        records.append(
            ImageResult(
                name=f"{i}.png",
                path=where,
                label=0,
                width=30,
                height=20,
                truth=((0.0, 0.0, 9.0, 9.0),),
                classes=(),
                rank=None,
                found=found,
                maps={},
            )
        )
    row = Row(method="FAM", title="FAM", metrics={"gt_known": Number(50.0)}, tau=0.5, tau_from="fixed")
    results = Results(
        kind="evaluation",
        created="2026-01-02T03:04:05Z",
        data={"name": "drawn", "split": "test", "images": 4},
        source={"kind": "predictions", "name": "boxes.json"},
        protocol={"name": "fam"},
        same_classes=False,
        rows=(row,),
    )
    write_results(tmp_path / "results", results)
    write_images(tmp_path / "results" / IMAGES_NAME, records)
    return tmp_path / "results"


def test_report(fam: Fam, folder: Path) -> None:
    """The report lies in the results folder, stdout is its path, and stderr says how much it shows."""
    result = fam("report", folder)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{folder / 'report.html'}\n"
    assert result.stderr.startswith("4 of 4 images, ")
    assert "boxes.json on drawn/test" in (folder / "report.html").read_text(encoding="utf-8")


def test_out_and_quiet(fam: Fam, folder: Path, tmp_path: Path) -> None:
    """--out names the file, which is replaced if it is there; --quiet leaves its path alone."""
    out = tmp_path / "a" / "b.html"
    out.parent.mkdir()
    out.write_text("older")
    result = fam("report", folder / "results.json", "--out", out, "--gallery", 2, "--no-parts", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert not (folder / "report.html").exists()


def test_missing_photos_are_said(fam: Fam, folder: Path, tmp_path: Path) -> None:
    """A photo that is gone is named on stderr, even with --quiet, and the report is there."""
    (tmp_path / "photos" / "2.png").unlink()
    result = fam("report", folder, "--quiet")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"fam: {tmp_path / 'photos' / '2.png'}: no such file",
        "fam: 1 of 4 photos cannot be read and are blank in the report",
    ]
    assert (folder / "report.html").is_file()


def test_no_photo_at_all(fam: Fam, folder: Path, tmp_path: Path) -> None:
    """Without any photo there is no report, an older one stays, and the message says what to do: --images."""
    (tmp_path / "photos").rename(tmp_path / "moved")
    (folder / "report.html").write_text("older")
    before = sorted(folder.iterdir())
    result = fam("report", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not one photo can be read, first " in result.stderr
    assert result.stderr.endswith("say where they are with --images DIR\n")
    assert (folder / "report.html").read_text() == "older"
    assert sorted(folder.iterdir()) == before
    moved = fam("report", folder, "--images", tmp_path / "moved")
    assert (moved.exit_code, moved.stderr[:16]) == (0, "4 of 4 images, 0")


def test_no_results(fam: Fam, tmp_path: Path, folder: Path) -> None:
    """A folder without results, or without records, is one line that names fam eval."""
    result = fam("report", tmp_path)
    assert result.exit_code == 1
    assert "results.json' does not exist; write it with fam eval --out" in result.stderr
    (folder / IMAGES_NAME).unlink()
    result = fam("report", folder)
    assert result.exit_code == 1
    assert "images.jsonl' does not exist; write it with fam eval --out" in result.stderr


def test_wrong_usage(fam: Fam, folder: Path) -> None:
    """A model for parts that are left out, or a gallery of nothing, is wrong usage."""
    assert fam("report", folder, "--no-parts", "--model", "x").exit_code == 2
    assert fam("report", folder, "--gallery", 0).exit_code == 2
    assert fam("report").exit_code == 2


def test_records_of_another_run(fam: Fam, folder: Path) -> None:
    """Records that are not of these results are one sentence."""
    results = folder / "results.json"
    results.write_text(results.read_text().replace('"images": 4', '"images": 5'))
    result = fam("report", folder)
    assert result.exit_code == 1
    assert "4 images in images.jsonl, 5 in results.json: run fam eval with --out again" in result.stderr


@pytest.mark.parametrize("name", ["results.json", "results.md", IMAGES_NAME])
def test_the_results_are_never_written_over(fam: Fam, folder: Path, name: str) -> None:
    """A report is not written over what it is made of, however the path is spelt."""
    before = (folder / name).read_bytes()
    result = fam("report", folder, "--out", folder / ".." / folder.name / name)
    assert result.exit_code == 1
    assert "is part of the results; choose another --out" in result.stderr
    assert (folder / name).read_bytes() == before


def test_a_folder_is_no_target(fam: Fam, folder: Path, tmp_path: Path) -> None:
    """A target that is a folder is refused by its own name before photos are read."""
    result = fam("report", folder, "--out", tmp_path)
    assert result.exit_code == 1
    assert f"'{tmp_path}' is not a file" in result.stderr


def test_several_folders(
    fam: Fam, make_evaluation: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are one page in the current folder; other images are refused, and what is for one model is wrong usage."""
    monkeypatch.chdir(tmp_path)
    folders = [make_evaluation(name, [0.9, 0.3], name) for name in ("FAM", "CAM")]
    result = fam("report", *folders, "--baseline", "CAM")
    assert (result.exit_code, result.stdout) == (0, "compare.html\n"), result.stderr
    assert result.stderr.startswith("2 of 2 images, ")
    assert "FAM minus CAM" in Path("compare.html").read_text(encoding="utf-8")
    named = fam("report", folders[0], "--group", f"Ours={folders[1]}", "--out", "named.html")
    assert (named.exit_code, "FAM minus Ours" in Path("named.html").read_text(encoding="utf-8")) == (0, True)
    other = make_evaluation("other", [0.9, 0.3], label=7)
    refused = fam("report", *folders, other, "--out", "other.html")
    assert (refused.exit_code, "the label of '0.png' is 0 in one and 7" in refused.stderr) == (1, True)
    assert not Path("other.html").exists()
    assert "is part of the results" in fam("report", *folders, "--out", folders[1] / "results.json").stderr
    assert fam("report", *folders, "--model", "x").exit_code == 2
    assert fam("report", folders[0], "--baseline", "CAM").exit_code == 2
