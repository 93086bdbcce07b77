"""An extracted CUB, whole or not, to a prepared dataset, by the commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from famcli.data.dataset import open_dataset
from famcli.data.images import read_picture
from famcli.data.public.catalog import CATALOG

Fam = Callable[..., Result]


def test_a_changed_tree_is_prepared_anew(fam: Fam, cub_tree: Path, home: Path) -> None:
    """A list that changed in the source is noticed."""
    fam("data", "prepare", "cub", "--from", cub_tree)
    split = cub_tree / "CUB_200_2011" / "train_test_split.txt"
    split.write_text("1 0\n2 0\n3 0\n4 0\n")
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert "test 4 images" in result.stderr


@pytest.mark.parametrize("file", ["classes.txt", "bounding_boxes.txt", "images"])
def test_missing_parts(fam: Fam, cub_tree: Path, home: Path, file: str) -> None:
    """A tree that lacks a part says which, and where to get it."""
    path = cub_tree / "CUB_200_2011" / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert file in result.stderr
    assert CATALOG["cub"].archives[0].page in result.stderr
    assert not (home / "cub" / "dataset.json").exists()


def test_a_corrupt_image(fam: Fam, cub_tree: Path, home: Path) -> None:
    """A corrupt image is named and counted, and stays listed; a missing one is an error."""
    image = cub_tree / "CUB_200_2011" / "images" / "002.Laysan_Albatross" / "L_0002.jpg"
    image.write_bytes(b"not a picture")
    result = fam("data", "prepare", "cub", "--from", cub_tree, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["unreadable"] == 1
    assert "L_0002.jpg: not an image that can be read" in result.stderr
    assert len(open_dataset("cub").samples("test")) == 2
    image.unlink()
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert "is listed but not there" in result.stderr


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images(fam: Fam, cub_tree: Path, home: Path, orientation: int) -> None:
    """Publishers' boxes are of the stored pixels; sizes and boxes get the EXIF orientation, as everywhere in fam."""
    name = "001.Black_footed_Albatross/A_0002.jpg"
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[8:16, 24:40] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(cub_tree / "CUB_200_2011" / "images" / name, exif=exif, quality=100, subsampling=0)
    boxes = cub_tree / "CUB_200_2011" / "bounding_boxes.txt"
    boxes.write_text(boxes.read_text().replace("2 0.0 0.0 40.0 30.0", "2 24.0 8.0 15.0 7.0"))
    assert fam("data", "prepare", "cub", "--from", cub_tree).exit_code == 0
    sample = open_dataset("cub").samples("test", with_boxes=True)[0]
    picture = read_picture(sample.path)
    ys, xs = np.nonzero(np.asarray(picture.image)[..., 0] > 127)
    assert sample.boxes.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
    assert sample.size_hw == picture.size_hw


@pytest.mark.parametrize("line", ["1 1.0 2.0 3.0", "1 one 2 3 4", f"1 1 2 3 {'9' * 400}"])
def test_bad_lists(fam: Fam, cub_tree: Path, home: Path, line: str) -> None:
    """A damaged list is named."""
    lists = cub_tree / "CUB_200_2011" / "bounding_boxes.txt"
    lists.write_text(lists.read_text().replace(lists.read_text().splitlines()[1], line.replace("1 ", "2 ", 1)))
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert "bounding_boxes.txt" in result.stderr


def test_a_box_outside(fam: Fam, cub_tree: Path, home: Path) -> None:
    """A box with no pixel in the image is an error, not a score of nought."""
    lists = cub_tree / "CUB_200_2011" / "bounding_boxes.txt"
    lists.write_text("1 0 0 1 1\n2 500 500 5 5\n3 0 0 1 1\n4 0 0 1 1\n")
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert "box outside of the image" in result.stderr


def test_two_preparations(fam: Fam, cub_tree: Path, home: Path) -> None:
    """A second preparation of the same folder is refused while the first runs."""
    from filelock import FileLock

    (home / "cub").mkdir(parents=True)
    with FileLock(home / "cub" / ".fam-prepare.lock"):
        result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert "another process is preparing" in result.stderr
