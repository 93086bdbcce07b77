"""Given classes: GT-known mode, names of one's own, and what ``--labels`` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.inference.labels import Classes, folder_label, read_labels
from famcli_models.errors import DataError, UnknownNameError

CLASSES = ("tabby", "Egyptian cat", "cup")


@pytest.mark.parametrize(("text", "index"), [("CUP", 2), ("egyptian_CAT", 1), ("0", 0), ("2", 2), ("n02124075", 1)])
def test_classes_by_name_and_number(text: str, index: int) -> None:
    """A class is found by its name or WordNet id, or by its number; a name wins over a number."""
    assert Classes.from_texts([text], CLASSES).find(text) == index
    assert Classes.from_texts(["1"], ("1", "0")).find("1") == 0


@pytest.mark.parametrize("text", ["3", "-1", "1.0", "²", "٣٤", "01", "taby", "1" * 5000])
def test_names_that_are_no_classes(text: str) -> None:
    """What is neither a name, nor a WordNet id, nor a number in range is a name of one's own."""
    assert Classes.from_texts([text], CLASSES).own == (text,)


def test_numbers_are_said() -> None:
    """Folders that are called 1, 2 may well be somebody's names: the classes that they were taken for are said."""
    assert (
        Classes.from_texts(["1", "cup"], CLASSES).remark()
        == "1 of 1 classes matched by name; numbers: classes of the model by index (1 is Egyptian cat)"
    )
    assert Classes.from_texts(["cup"], CLASSES).remark() == "1 of 1 classes matched by name"
    assert Classes.from_texts([], CLASSES).remark() is None


def test_a_text_that_may_be_two_classes() -> None:
    """It is refused, but where others are names of one's own and it is one of them."""
    with pytest.raises(DataError, match="'CAT' may be any of these classes: Cat, cat"):
        Classes.from_texts(["CAT"], ("Cat", "cat"))
    assert Classes.from_texts(["CAT", "wing"], ("Cat", "cat")).own == ("CAT", "wing")


def test_names_of_ones_own() -> None:
    """If the model knows all names they are its classes; with one that it does not know all are one's own, sorted."""
    known = Classes.from_texts(["CUP", "n02124075", "0", "cup"], CLASSES)
    assert [known.find(label) for label in ("cup", "CUP", "n02124075", "0", 1, None)] == [2, 2, 1, 0, 1, None]
    how = "3 of 3 classes matched: 2 by name, 1 by WordNet id (n02124075 is Egyptian cat)"
    assert (known.own, known.remark()) == ((), f"{how}; numbers: classes of the model by index (0 is tabby)")
    mixed = Classes.from_texts(["wing", "cup", "taby", "wing"], CLASSES)
    assert (mixed.own, mixed.find("taby")) == (("cup", "taby", "wing"), 1)
    assert mixed.remark() == "names: 3 own classes (cup, taby, wing); no class of the model, but 'taby' is near tabby"
    with pytest.raises(UnknownNameError, match=r"'taby' \(did you mean: tabby\); the model's map is that of the class"):
        Classes.from_texts(["cup", "taby"], CLASSES, conditional=True)


def test_folder_names() -> None:
    """`folder` takes the name of the folder that each image lies in."""
    names = ["x/tabby/1.jpg", "cup/2.jpg", "1/3.jpg", "4.jpg"]
    assert [folder_label(name, Path("Cup")) for name in names] == ["tabby", "cup", "1", "Cup"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a.jpg,cup\n\nb, c.jpg , 0\n", {"a.jpg": "cup", "b, c.jpg": "0"}),
        ("a.jpg," + "9" * 5000, {"a.jpg": "9" * 5000}),
        ("\ufeffa.jpg,cup\n", {"a.jpg": "cup"}),  # the mark that a spreadsheet saves
        ('"x, y.jpg",cup\nx, z.jpg,tabby\n', {"x, y.jpg": "cup", "x, z.jpg": "tabby"}),
    ],
)
def test_file(tmp_path: Path, text: str, labels: dict[str, str]) -> None:
    """A file names a class for each image; commas in names, quoted or not, spaces and empty lines are fine."""
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    assert read_labels(path) == labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.jpg,cup\nb.jpg\n", "line 2: expected 'image,class'"),
        (b"a.jpg, \n", "line 1: expected 'image,class'"),
        (b"\xff\xfe\x00\x81", "line 1: expected 'image,class'"),  # UTF-16
        (b"a.jpg,c\xfcp\n", r"line 1: the class .* is no text"),
        (b"a.jpg,cup\nb.jpg,cup\na.jpg,dog\n", "line 3: 'a.jpg' has two classes, 'cup' and 'dog'"),
        (b'"' + b"x" * 200_000 + b'",cup', "is no list of names"),
        (None, "is neither 'folder' nor a file .* --label gives one"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A file that is not there or is no list of labels is refused with its path and the line: it is no label itself."""
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"{message}") as refused:
        read_labels(path)
    assert "labels.csv" in str(refused.value)
