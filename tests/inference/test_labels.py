"""Given classes: GT-known mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.inference.labels import find_class, read_labels
from famcli_models.errors import DataError, FamError, UnknownNameError

CLASSES = ("tabby", "Egyptian cat", "cup")


@pytest.mark.parametrize(("text", "index"), [("cup", 2), ("CUP", 2), ("egyptian CAT", 1), ("0", 0), ("2", 2)])
def test_classes_by_name_and_number(text: str, index: int) -> None:
    """A class is found by its name, up to case, or by its number."""
    assert find_class(text, CLASSES) == index


def test_a_name_wins_over_a_number() -> None:
    """Classes that are called by numbers keep their names."""
    assert find_class("1", ("1", "0")) == 0


@pytest.mark.parametrize("text", ["3", "-1", "1.0", "", "²", "٣٤", "dog"])
def test_unknown_classes(text: str) -> None:
    """What is neither a name nor a number in range is refused with the range."""
    with pytest.raises(UnknownNameError, match="give a number from 0 to 2"):
        find_class(text, CLASSES)


def test_unknown_classes_offer_near_ones() -> None:
    """A misspelt class is answered with the near one."""
    with pytest.raises(UnknownNameError, match="did you mean: tabby"):
        find_class("taby", CLASSES)


def test_one_class_for_all() -> None:
    """A single class holds for every image."""
    assert read_labels("cup", ["a.jpg", "b/c.jpg"], CLASSES) == {"a.jpg": 2, "b/c.jpg": 2}


def test_folder_names() -> None:
    """`folder` takes the name of the folder that each image lies in."""
    names = ["x/tabby/1.jpg", "cup/2.jpg", "1/3.jpg"]
    assert read_labels("folder", names, CLASSES) == {names[0]: 0, names[1]: 2, names[2]: 1}


def test_unknown_folder() -> None:
    """A folder that is no class is named."""
    with pytest.raises(UnknownNameError, match="'dogs'"):
        read_labels("folder", ["dogs/1.jpg"], CLASSES)


def test_file(tmp_path: Path) -> None:
    """A file names a class for each image; commas in names, spaces and empty lines are fine."""
    path = tmp_path / "labels.csv"
    path.write_text("a.jpg,cup\n\nb, c.jpg , 0\n", encoding="utf-8")
    assert read_labels(str(path), ["a.jpg", "z.jpg"], CLASSES) == {"a.jpg": 2, "b, c.jpg": 0}


def test_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    """A file that a spreadsheet saved begins with an invisible mark, which is no part of the first name."""
    path = tmp_path / "labels.csv"
    path.write_text("a.jpg,cup\n", encoding="utf-8-sig")
    assert read_labels(str(path), ["a.jpg"], CLASSES) == {"a.jpg": 2}


def test_bad_line(tmp_path: Path) -> None:
    """A line without a comma is named by number."""
    path = tmp_path / "labels.csv"
    path.write_text("a.jpg,cup\nb.jpg\n")
    with pytest.raises(DataError, match="line 2: expected 'image,class'"):
        read_labels(str(path), ["a.jpg"], CLASSES)


def test_unknown_class_in_a_file(tmp_path: Path) -> None:
    """A class in the file that the model does not have is named."""
    path = tmp_path / "labels.csv"
    path.write_text("a.jpg,dog\n")
    with pytest.raises(FamError, match="line 1.*'dog'"):
        read_labels(str(path), ["a.jpg"], CLASSES)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """A binary file is refused with its path."""
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="labels.csv"):
        read_labels(str(path), ["a.jpg"], CLASSES)


def test_quoted_names(tmp_path: Path) -> None:
    """A name with a comma may be quoted as CSV does, or not."""
    path = tmp_path / "labels.csv"
    path.write_text('"x, y.jpg",dog\nx, z.jpg,cat\n')
    assert read_labels(str(path), ["x, y.jpg", "x, z.jpg"], ["cat", "dog"]) == {"x, y.jpg": 1, "x, z.jpg": 0}
