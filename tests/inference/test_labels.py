"""Given classes: GT-known mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.inference.labels import find_class, read_labels
from famcli_models.errors import DataError, UnknownNameError

CLASSES = ("tabby", "Egyptian cat", "cup")


@pytest.mark.parametrize(("text", "index"), [("cup", 2), ("CUP", 2), ("egyptian CAT", 1), ("0", 0), ("2", 2)])
def test_classes_by_name_and_number(text: str, index: int) -> None:
    """A class is found by its name, up to case, or by its number; a name wins over a number."""
    assert find_class(text, CLASSES) == index
    assert find_class("1", ("1", "0")) == 0


@pytest.mark.parametrize("text", ["3", "-1", "1.0", "", "²", "٣٤", "taby"])
def test_unknown_classes(text: str) -> None:
    """What is neither a name nor a number in range is refused with the range, and a near name is offered."""
    near = "did you mean: tabby.*" if text == "taby" else ""
    with pytest.raises(UnknownNameError, match=f"{near}give a number from 0 to 2"):
        find_class(text, CLASSES)


def test_one_class_for_all() -> None:
    """A single class holds for every image."""
    assert read_labels("cup", ["a.jpg", "b/c.jpg"], CLASSES) == {"a.jpg": 2, "b/c.jpg": 2}


def test_folder_names() -> None:
    """`folder` takes the name of the folder that each image lies in; one that is no class is named."""
    names = ["x/tabby/1.jpg", "cup/2.jpg", "1/3.jpg", "4.jpg"]
    assert list(read_labels("folder", names, CLASSES, Path("Cup")).values()) == [0, 2, 1, 2]
    with pytest.raises(UnknownNameError, match="'dogs'"):
        read_labels("folder", ["dogs/1.jpg"], CLASSES)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a.jpg,cup\n\nb, c.jpg , 0\n", {"a.jpg": 2, "b, c.jpg": 0}),
        ("\ufeffa.jpg,cup\n", {"a.jpg": 2}),  # the mark that a spreadsheet saves
        ('"x, y.jpg",cup\nx, z.jpg,tabby\n', {"x, y.jpg": 2, "x, z.jpg": 0}),
    ],
)
def test_file(tmp_path: Path, text: str, labels: dict[str, int]) -> None:
    """A file names a class for each image; commas in names, quoted or not, spaces and empty lines are fine."""
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    assert read_labels(str(path), ["a.jpg", "z.jpg"], CLASSES) == labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.jpg,cup\nb.jpg\n", "line 2: expected 'image,class'"),
        (b"a.jpg,dog\n", "line 1.*'dog'"),
        (b"\xff\xfe\x00\x81", "cannot read labels"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no list of labels is refused with its path and the line."""
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{message}") as refused:
        read_labels(str(path), ["a.jpg"], CLASSES)
    assert "labels.csv" in str(refused.value)
