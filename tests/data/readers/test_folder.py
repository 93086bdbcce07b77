"""A folder of images for each class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.data.readers import read_own
from famcli_models.errors import DataError

Pictures = Callable[..., Path]


def test_classes(tmp_path: Path, pictures: Pictures) -> None:
    """The first folder is the class, whatever lies deeper; labels follow the sorted names; hidden files are no data."""
    pictures(tmp_path, "dog/b.png", "cat/x/y/a.png", "dog/a.jpg", "dog/.hidden.png", ".git/a.png")
    (tmp_path / "dog/notes.txt").write_text("no image")
    own = read_own(tmp_path)
    assert (own.format, own.class_names, own.images) == ("folder", ("cat", "dog"), tmp_path)
    assert own.remarks == (f"'{tmp_path}': files of other types left out: 1 (.txt: 1)",)
    assert list(own.splits) == ["train-weaksup"]
    samples = own.splits["train-weaksup"]
    assert [(s.name, s.label) for s in samples] == [("cat/x/y/a.png", 0), ("dog/a.jpg", 1), ("dog/b.png", 1)]
    assert samples[0].path == tmp_path / "cat/x/y/a.png"
    assert all(s.boxes.shape == (0, 4) for s in samples)


def test_numbers_are_sorted_as_numbers(tmp_path: Path, pictures: Pictures) -> None:
    """Folders 0 to 10, as in ImageNetV2, keep their numbers as labels; sorted as text, 10 would be 2."""
    pictures(tmp_path, *(f"{i}/a.png" for i in range(11)))
    own = read_own(tmp_path)
    assert own.class_names == tuple(str(i) for i in range(11))
    assert {s.name: s.label for s in own.splits["train-weaksup"]}["10/a.png"] == 10


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train-weaksup"),
        ("valid", "train-fullsup"),
        ("val", "train-fullsup"),
        ("train-fullsup", "train-fullsup"),
    ],
)
def test_splits(tmp_path: Path, pictures: Pictures, folder: str, split: str) -> None:
    """Folders of splits around the classes are told by their names; classes are those of all splits."""
    pictures(tmp_path, f"{folder}/dog/1.png", "test/cat/2.png", "test/dog/3.png", "masks/dog/1.png", "top.png")
    own = read_own(tmp_path)
    assert own.class_names == ("cat", "dog")
    assert list(own.splits) == [split, "test"]
    assert [(s.name, s.label) for s in own.splits[split]] == [(f"{folder}/dog/1.png", 1)]
    assert [s.label for s in own.splits["test"]] == [0, 1]
    assert len(own.remarks) == 2
    assert "masks/ (1)" in own.remarks[0]
    assert "1 images in no folder" in own.remarks[1]


def test_a_class_called_test(tmp_path: Path, pictures: Pictures) -> None:
    """A folder named like a split that holds images itself is a class."""
    pictures(tmp_path, "test/1.png", "exam/2.png")
    assert read_own(tmp_path).class_names == ("exam", "test")


def test_linked_folders(tmp_path: Path, pictures: Pictures) -> None:
    """A class may be a link to a folder elsewhere; a link to a folder above is no class and no endless walk."""
    pictures(tmp_path / "far", "1.png", "deep/2.png")
    root = pictures(tmp_path / "near", "cat/3.png")
    (root / "dog").symlink_to(tmp_path / "far")
    (root / "loop").symlink_to(root)
    (root / "cat" / "back").symlink_to(root / "cat")
    (tmp_path / "far" / "round").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "far" / "deep" / "about").symlink_to(tmp_path / "far")
    own = read_own(root)
    assert own.class_names == ("cat", "dog")
    names = [s.name for s in own.splits["train-weaksup"]]
    assert names == ["cat/3.png", "dog/1.png", "dog/deep/2.png", "dog/round/2.png"]


def test_images_without_a_class(tmp_path: Path, pictures: Pictures) -> None:
    """A folder of images alone is answered with what is expected."""
    pictures(tmp_path, "1.png")
    with pytest.raises(DataError, match="expected .*/CLASS/IMAGE"):
        read_own(tmp_path)


def test_no_images(tmp_path: Path) -> None:
    """An empty folder says what was looked for."""
    with pytest.raises(DataError, match="no images in"):
        read_own(tmp_path)
