"""wsolevaluation metadata apart from the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.data.readers import read_own
from famcli_models.errors import DataError

Pictures = Callable[..., Path]


def write(folder: Path, name: str, label: int = 0, box: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "image_ids.txt").write_text(name)
    (folder / "class_labels.txt").write_text(f"{name},{label}")
    if box:
        (folder / "localization.txt").write_text(f"{name},{box}")


@pytest.fixture
def repository(tmp_path: Path, pictures: Pictures) -> Path:
    """The benchmark's own folders: metadata/CUB/<split> and dataset/CUB; files end without a line feed."""
    write(tmp_path / "metadata/CUB/train", "a/1.jpg")
    write(tmp_path / "metadata/CUB/val", "v/1.jpg", 1, "0,0,5,5")
    write(tmp_path / "metadata/CUB/test", "a/2.jpg", 1, "0,0,5,5")
    return tmp_path


def test_the_benchmarks_repository(repository: Path, pictures: Pictures) -> None:
    """Images are found in dataset/<NAME>; without class names there are none."""
    pictures(repository / "dataset/CUB", "a/1.jpg", "a/2.jpg", "v/1.jpg")
    own = read_own(repository / "metadata/CUB")
    assert (own.format, own.class_names, own.images, own.remarks) == ("wsol", (), repository / "dataset/CUB", ())
    assert list(own.splits) == ["train-weaksup", "train-fullsup", "test"]
    assert own.splits["test"][0].boxes.tolist() == [[0, 0, 6, 6]]
    assert own.splits["test"][0].path == repository / "dataset/CUB/a/2.jpg"


def test_images_elsewhere(repository: Path, pictures: Pictures) -> None:
    """--images says where they are; class names beside them or beside the metadata are taken."""
    pictures(repository / "photos", "a/1.jpg")
    (repository / "photos/classes.txt").write_text("cat\ndog\n")
    own = read_own(repository / "metadata/CUB", images=repository / "photos")
    assert (own.images, own.class_names) == (repository / "photos", ("cat", "dog"))


def test_images_that_are_not_found(repository: Path) -> None:
    """If no image is near, a remark says how to tell where they are."""
    assert any("--images" in remark for remark in read_own(repository / "metadata/CUB").remarks)


def test_one_split(repository: Path) -> None:
    """A single folder of a split can be given; its name, or what it holds, tells which."""
    assert list(read_own(repository / "metadata/CUB/val").splits) == ["train-fullsup"]
    (repository / "metadata/CUB/val").rename(repository / "some")
    assert list(read_own(repository / "some").splits) == ["test"]
    assert list(read_own(repository / "some", split="val").splits) == ["train-fullsup"]


def test_one_folder_too_high(repository: Path) -> None:
    """Several benchmarks in one folder: the message names one to give."""
    with pytest.raises(DataError, match=r"give .*metadata/CUB"):
        read_own(repository / "metadata", "wsol")
