"""Given classes: GT-known mode, names of one's own, and what ``--labels`` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.inference.labels import Classes, find_class, folder_label, read_labels
from famcli_models import FAM
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import DataError, UnknownNameError

CLASSES = ("tabby", "Egyptian cat", "cup")


@pytest.fixture(scope="module")
def ilsvrc() -> tuple[str, ...]:
    """The names of the 1,000 classes."""
    return FAM.from_pretrained(DEFAULT_MODEL).class_names


@pytest.mark.parametrize(("text", "index"), [("cup", 2), ("CUP", 2), ("egyptian CAT", 1), ("0", 0), ("2", 2)])
def test_classes_by_name_and_number(text: str, index: int) -> None:
    """A class is found by its name, up to case, or by its number; a name wins over a number."""
    assert find_class(text, CLASSES) == index
    assert find_class("1", ("1", "0")) == 0


@pytest.mark.parametrize(("text", "index"), [("cat", 1), ("Cat", 0), ("CAT", None), ("DOG", 2)])
def test_classes_that_differ_by_case(text: str, index: int | None) -> None:
    """A name as it is written wins; one that is like two classes up to case is neither."""
    assert find_class(text, ("Cat", "cat", "dog")) == index


def test_numbers_are_said() -> None:
    """Folders that are called 1, 2 may well be somebody's names: the classes that they were taken for are said."""
    assert (
        Classes.from_texts(["1", "cup"], CLASSES).remark()
        == "numbers: classes of the model by index (1 is Egyptian cat)"
    )
    assert Classes.from_texts(["cup"], CLASSES).remark() is None
    assert Classes.from_texts(["1"], ("1", "0")).remark() is None


@pytest.mark.parametrize("text", ["3", "-1", "1.0", "", "²", "٣٤", "01", "taby", "n99999999", "n02124075x"])
def test_unknown_classes(text: str) -> None:
    """What is neither a name, nor a WordNet id, nor a number in range is no class."""
    assert find_class(text, CLASSES) is None


@pytest.mark.parametrize(
    ("wordnet_id", "index"),
    [
        ("n01440764", 0),
        ("n02124075", 285),
        ("n02012849", 134),
        ("n03126707", 517),
        ("n03710637", 638),
        ("n03710721", 639),
    ],
)
def test_wordnet_ids_of_ilsvrc(ilsvrc: tuple[str, ...], wordnet_id: str, index: int) -> None:
    """The place among all 1,000 decides, so that both cranes and both maillots are found; other synsets are none."""
    assert find_class(wordnet_id, ilsvrc) == index
    assert find_class("n02121620", ilsvrc) is None  # cat


def test_wordnet_ids_of_other_classes(ilsvrc: tuple[str, ...]) -> None:
    """Elsewhere the class is a lemma of this synset alone: a name that several synsets share is not decided."""
    assert find_class("n02124075", CLASSES) == 1
    assert find_class("n02123045", ("cat", "TABBY CAT")) == 1  # tabby, tabby cat
    assert find_class("n02012849", ("crane", "cup")) is None
    assert find_class("n01440764", ("tench", "Tinca tinca")) is None  # two classes are its lemmas
    assert find_class("n02124075", ilsvrc[::-1]) == 1000 - 1 - 285


def test_names_of_ones_own() -> None:
    """If the model knows all names they are its classes; with one that it does not know all are one's own, sorted."""
    known = Classes.from_texts(["CUP", "n02124075", "0", "cup"], CLASSES)
    assert [known.find(label) for label in ("cup", "CUP", "n02124075", "0", 1, None)] == [2, 2, 1, 0, 1, None]
    assert (known.own, known.remark()) == ((), "numbers: classes of the model by index (0 is tabby)")
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
        (b"\xff\xfe\x00\x81", "cannot read labels"),
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
