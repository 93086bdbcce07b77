"""Datasets by name and by path, written and read."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from famcli.data.dataset import SPLITS, Dataset, Sample, data_home, open_dataset, write_dataset
from famcli.data.sample import NO_BOXES
from famcli_models.errors import DataError, UnknownNameError

BOX = np.array([[1.0, 2, 11, 12]])


def sample(name: str, label: int = 0, boxes: np.ndarray = NO_BOXES) -> Sample:
    return Sample(name, Path("unused"), label, boxes, (20, 30))


def write(root: Path, images: Path | None = None, **more: object) -> Dataset:
    splits = {"train-weaksup": [sample("a.png"), sample("b.png", 1)], "test": [sample("c.png", 1, BOX)]}
    fields = {"name": root.name, "images": images or root, "class_names": ["cat", "dog"], "splits": splits, **more}
    write_dataset(root, **fields)
    return open_dataset(str(root))


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """$FAM_DATA comes first, then the user's cache folder."""
    monkeypatch.setenv("FAM_DATA", "~/sets")
    assert data_home() == Path.home() / "sets"
    monkeypatch.delenv("FAM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_home() == tmp_path / "fam" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_home() == Path.home() / ".cache" / "fam" / "data"


def test_written_and_read(tmp_path: Path) -> None:
    """What is written is read again: names, splits, labels, boxes, sizes, and facts."""
    dataset = write(tmp_path / "birds", facts={"terms": "none"})
    assert (dataset.name, dataset.class_names, dataset.fullsup) == ("birds", ("cat", "dog"), None)
    assert dataset.splits() == ["train-weaksup", "test"]
    assert dataset.facts["terms"] == "none"
    assert dataset.facts["counts"]["test"] == {"images": 1, "boxes": 1}
    (found,) = dataset.samples("test", with_boxes=True)
    assert (found.name, found.path, found.label, found.size_hw) == ("c.png", tmp_path / "birds/c.png", 1, (20, 30))
    np.testing.assert_array_equal(found.boxes, BOX)
    assert [s.name for s in dataset.samples("train")] == ["a.png", "b.png"]
    assert dataset.count() == 3
    assert dataset.count(["train"]) == 2


def test_images_stay_where_they_are(tmp_path: Path) -> None:
    """Images outside the dataset are named by their full path, those inside by a relative one that may move."""
    assert write(tmp_path / "far", tmp_path / "photos").samples("test")[0].path == tmp_path / "photos/c.png"
    write(tmp_path / "near", tmp_path / "near/photos")
    (tmp_path / "near").rename(tmp_path / "moved")
    assert open_dataset(tmp_path / "moved").samples("test")[0].path == tmp_path / "moved/photos/c.png"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """The same samples give the same bytes."""
    write(tmp_path / "a")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    write(tmp_path / "a")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_failed_write_leaves_no_dataset(tmp_path: Path) -> None:
    """dataset.json comes last: a folder that was not finished, or was whole before, is not taken for one."""

    def broken() -> Iterator[Sample]:
        yield sample("a.png")
        raise DataError("the disk is full")

    with pytest.raises(DataError, match="disk is full"):
        write(tmp_path / "a", splits={"test": broken()})
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    write(tmp_path / "a")
    with pytest.raises(DataError, match="disk is full"):
        write(tmp_path / "a", splits={"train-weaksup": [sample("z.png")], "test": broken()})
    assert not (tmp_path / "a/dataset.json").exists()


def test_writing_takes_samples_one_by_one(tmp_path: Path) -> None:
    """20,000 samples from a generator need no memory that grows with their number."""
    tracemalloc.start()
    write(tmp_path / "a", splits={"train-weaksup": (sample(f"{i:040}.png", i % 7) for i in range(20_000))})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_name_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prepared name comes before a folder of that name here, which ./NAME still reaches."""
    write(data_home() / "birds")
    (tmp_path / "birds" / "metadata" / "test").mkdir(parents=True)
    (tmp_path / "birds/metadata/test/image_ids.txt").write_text("x.png\n")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("birds").root == data_home() / "birds"
    assert open_dataset("./birds").splits() == ["test"]
    assert open_dataset("./birds").class_names == ()


@pytest.mark.parametrize(
    ("name", "command"), [("bird", "prepare bird --from"), ("", "prepare"), ("cub", "download cub")]
)
def test_unknown(name: str, command: str) -> None:
    """A name that is nothing is answered with known names and the command that gets data."""
    write(data_home() / "birds")
    with pytest.raises(UnknownNameError, match=f"birds.*fam data {command}"):
        open_dataset(name)


def test_what_is_not_there(tmp_path: Path) -> None:
    """A name longer than a file system holds is unknown, a path is no file, and a split is answered with the others."""
    with pytest.raises(UnknownNameError):
        open_dataset("x" * 300)
    with pytest.raises(DataError, match="there is no file or folder 'no/where'"):
        open_dataset("no/where")
    with pytest.raises(DataError, match=r"no split 'val' \(splits found: train-weaksup, test\)"):
        write(tmp_path / "a").samples("val")


def test_a_split_that_is_gone(tmp_path: Path) -> None:
    """A split that the last writing did not have is no split any more, though its files are still there."""
    write(tmp_path / "a")
    dataset = write(tmp_path / "a", splits={"test": [sample("c.png", 1, BOX)]})
    assert (tmp_path / "a/metadata/train-weaksup").is_dir()
    assert dataset.splits() == ["test"]
    assert dataset.count(["train"]) == 0
    with pytest.raises(DataError, match="no split 'train'"):
        dataset.samples("train")


def test_bare_metadata(make_dataset: Callable[..., Path]) -> None:
    """A folder with metadata/ alone is a dataset; classes.txt names its classes."""
    root = make_dataset([("a.png", 1, [(0, 0, 5, 5)], (20, 30))])
    (root / "classes.txt").write_text("cat\ndog\n")
    dataset = open_dataset(root)
    assert (dataset.name, dataset.images, dataset.class_names) == (root.name, root, ("cat", "dog"))
    assert dataset.splits() == ["test"]


def test_sibling_has_the_fullsup_split(tmp_path: Path) -> None:
    """train-fullsup may be another dataset beside this one, with its own images."""
    dataset = write(tmp_path / "cub", fullsup="cubv2")
    assert dataset.splits() == ["train-weaksup", "test"]
    with pytest.raises(DataError, match=r"'cubv2', which is not there.*fam data download cubv2"):
        dataset.samples("train-fullsup")
    write(tmp_path / "cubv2", splits={"train-fullsup": [sample("v.png", 0, BOX)]})
    assert dataset.splits() == list(SPLITS)
    assert dataset.own_splits() == ["train-weaksup", "test"]
    assert dataset.samples("val", with_boxes=True)[0].path == tmp_path / "cubv2/v.png"
    assert dataset.count() == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON .*prepare the dataset again"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "not a dataset of this version"),
        ('{"format": "fam-dataset", "format_version": 2}', "not a dataset of this version"),
        ('{"format": "fam-dataset", "format_version": 1}', "is damaged .*prepare the dataset again"),
        ('{"format": "fam-dataset", "format_version": 1, "name": "a", "images": ".", "class_names": 3}', "is damaged"),
    ],
)
def test_damaged_file(tmp_path: Path, text: str, message: str) -> None:
    """A dataset.json that cannot be used is named, with what to do."""
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path)


def test_class_names_of_any_script(tmp_path: Path) -> None:
    """Class names are stored as they are written."""
    dataset = write(tmp_path / "a", class_names=["Möwe", "鳥"])
    assert dataset.class_names == ("Möwe", "鳥")
    assert "鳥" in (tmp_path / "a/dataset.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a/dataset.json").read_text(encoding="utf-8"))["images"] == "."


@pytest.mark.parametrize(("file", "says"), [("boxes.csv", True), ("split.csv", False)])
def test_own_data_of_another_split(tmp_path: Path, pictures: Callable[..., Path], file: str, says: bool) -> None:
    """Own images of which nothing tells the split are answered with the option that does; others are not."""
    pictures(tmp_path, "1.png")
    (tmp_path / "boxes.csv").write_text("image,label,x0,y0,x1,y1\n1.png,cat,1,2,3,4\n")
    (tmp_path / "split.csv").write_text("image,label,split\n1.png,cat,test\n")
    with pytest.raises(DataError, match=r"no split 'train-weaksup' \(splits found: test\)") as caught:
        open_dataset(tmp_path / file).samples("train-weaksup")
    command = f"fam data prepare NAME --from {tmp_path / file} --split train-weaksup'"
    assert (command in str(caught.value)) == says


def test_own_data_in_memory(tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """Own data opens without being written; its boxes are given on request alone."""
    root = pictures(tmp_path / "photos.v1", "cat/1.png", "dog/2.png")
    dataset = open_dataset(root)
    assert (dataset.name, dataset.class_names, dataset.splits()) == ("photos.v1", ("cat", "dog"), ["train-weaksup"])
    assert dataset.count() == 2
    with pytest.raises(DataError, match=r"image 'cat/1.png' has no box"):
        dataset.samples("train", with_boxes=True)
    assert len(dataset.samples("train", with_boxes=True, boxes_optional=True)) == 2
    with pytest.raises(DataError, match="splits found: train-weaksup"):
        dataset.samples("test")
    table = tmp_path / "boxes.csv"
    table.write_text("image,label,x0,y0,x1,y1\nphotos.v1/cat/1.png,cat,1,2,3,4\n")
    dataset = open_dataset(table)
    assert dataset.name == "boxes"
    assert len(dataset.samples("test")[0].boxes) == 0
    np.testing.assert_array_equal(dataset.samples("test", with_boxes=True)[0].boxes, [[1, 2, 3, 4]])
