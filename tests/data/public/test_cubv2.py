"""CUBV2 from its parts to a prepared dataset, by the commands."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from famcli.data.dataset import open_dataset
from famcli.data.public.catalog import CATALOG

Fam = Callable[..., Result]
V2 = ("001.Black_footed_Albatross/1.jpg", "002.Laysan_Albatross/2.jpg")


@pytest.fixture
def cubv2_lists(server: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """CUBV2's boxes on a server."""
    lists = f"{V2[0]},1,2,20,20\n{V2[1]},0,0,39,29".encode()
    url: str = server.add("localization.txt", lists)
    images, boxes = CATALOG["cubv2"].archives
    new = (images, dataclasses.replace(boxes, url=url))
    monkeypatch.setitem(CATALOG, "cubv2", dataclasses.replace(CATALOG["cubv2"], archives=new))
    return url


@pytest.mark.parametrize("prefix", ["", "CUBV2/"])
def test_cubv2(fam: Fam, cubv2_lists: str, home: Path, tmp_path: Path, jpeg: Any, prefix: str) -> None:
    """CUBV2's boxes come by themselves, its images by hand from the page that is named; then all is there."""
    result = fam("data", "download", "cubv2")
    assert result.exit_code == 1
    assert "drive.google.com" in result.stderr
    assert "CUBV2.tar" in result.stderr
    for i, name in enumerate(V2):
        jpeg(tmp_path / "v2" / prefix / name, seed=i)
    downloads = home / "cubv2" / "downloads"
    with tarfile.open(downloads / "CUBV2.tar", "w") as tar:
        tar.add(tmp_path / "v2", ".")
    result = fam("data", "download", "cubv2")
    assert result.exit_code == 0, result.stderr
    assert "not pinned" in result.stderr
    samples = open_dataset("cubv2").samples("train-fullsup", with_boxes=True)
    assert [(s.name, s.label, s.boxes.tolist()) for s in samples] == [
        (V2[0], 0, [[1, 2, 21, 21]]),
        (V2[1], 1, [[0, 0, 40, 30]]),
    ]
    assert open_dataset("cubv2").class_names == ("Black footed Albatross", "Laysan Albatross")
    assert "nothing has changed" in fam("data", "prepare", "cubv2").stderr


def test_cubv2_among_cub(fam: Fam, cub_tree: Path, home: Path, jpeg: Any) -> None:
    """CUBV2 extracted into CUB's folder, as wsolevaluation does, is told apart by its list; cub then reads it."""
    images = cub_tree / "CUB_200_2011" / "images"
    jpeg(images / V2[0])
    lists = cub_tree / "metadata" / "CUB" / "val" / "localization.txt"
    lists.parent.mkdir(parents=True)
    lists.write_text(f"{V2[0]},1,2,20,20\n")
    assert fam("data", "prepare", "cubv2", "--from", cub_tree).exit_code == 0
    assert fam("data", "prepare", "cub", "--from", cub_tree).exit_code == 0
    assert [s.name for s in open_dataset("cub").samples("train-fullsup", with_boxes=True)] == [V2[0]]


def test_cubv2_missing(fam: Fam, home: Path, tmp_path: Path) -> None:
    """Both parts that are missing are named."""
    result = fam("data", "prepare", "cubv2", "--from", tmp_path)
    assert result.exit_code == 1
    assert "CUBV2.tar" in result.stderr
    assert "localization.txt" in result.stderr


@pytest.mark.parametrize("line", ["a/b.jpg,1,2,3,4", "001.A/b.jpg,1,2,x,4", "001.A/b.jpg,1"])
def test_cubv2_bad_list(fam: Fam, home: Path, tmp_path: Path, jpeg: Any, line: str) -> None:
    """A list of boxes that is not one is named."""
    jpeg(tmp_path / "a" / "b.jpg")
    (tmp_path / "localization.txt").write_text(line)
    result = fam("data", "prepare", "cubv2", "--from", tmp_path)
    assert result.exit_code == 1
    assert "localization.txt" in result.stderr
