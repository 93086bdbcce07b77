"""Telling the forms of own data apart, and what all readers do the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from famcli.data import readers
from famcli.data.dataset import open_dataset
from famcli.data.readers import files_below, read_own
from famcli_models.errors import DataError, UnknownNameError

Pictures = Callable[..., Path]
COCO = '{"images": [{"id": 1, "file_name": "cat/1.png", "fam_category_id": 1}], "categories": [{"id": 1, "name": "c"}]}'
CORNERS = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
XML = f"<annotation><object><name>cat</name><bndbox>{CORNERS}</bndbox></object></annotation>"


@pytest.mark.parametrize(
    ("file", "text", "format"),
    [
        ("a.json", COCO, "coco"),
        ("annotations/instances_train.json", COCO, "coco"),
        ("cat/1.xml", XML, "voc"),
        ("Annotations/1.xml", XML, "voc"),
        ("list.csv", "image,label\ncat/1.png,cat\n", "csv"),
        ("list.tsv", "path\tclass\ncat/1.png\tcat\n", "csv"),
        ("prices.csv", "item,price\n1,2\n", "folder"),
        ("other.json", '{"images": 3}', "folder"),
        ("empty.json", "", "folder"),
    ],
)
def test_auto(tmp_path: Path, pictures: Callable[..., Path], file: str, text: str, format: str) -> None:  # noqa: A002
    """A folder is looked through for forms that have files of their own; failing these it is a folder of classes."""
    pictures(tmp_path, "cat/1.png")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert read_own(tmp_path).format == format
    assert read_own(tmp_path, format).format == format


def test_the_form_may_be_said(tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """A folder that looks like several forms is read as the one that was said."""
    pictures(tmp_path, "cat/1.png")
    (tmp_path / "list.csv").write_text("image,label\ncat/1.png,kitten\n")
    assert read_own(tmp_path).class_names == ("kitten",)
    assert read_own(tmp_path, "folder").class_names == ("cat",)


def test_unknown_form(tmp_path: Path) -> None:
    """A form that is not there is answered with those that are."""
    with pytest.raises(UnknownNameError, match="unknown format 'yolo' .*coco"):
        read_own(tmp_path, "yolo")


def test_what_is_no_data(tmp_path: Path) -> None:
    """A file of no known form, a path that is not there, and a folder of images that is none, are refused."""
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match="in no form that fam knows"):
        read_own(tmp_path / "a.txt")
    with pytest.raises(DataError, match="does not exist"):
        read_own(tmp_path / "nothing")
    with pytest.raises(DataError, match="--images .* is no folder"):
        read_own(tmp_path, images=tmp_path / "nothing")


def xml(*objects: tuple[str, int]) -> str:
    """An annotation of squares at the corner: class and side."""
    corners = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{0}</xmax><ymax>{0}</ymax></bndbox>"
    items = "".join(f"<object><name>{name}</name>{corners.format(side)}</object>" for name, side in objects)
    return f"<annotation><filename>a.png</filename>{items}</annotation>"


SQUARES = [("dog", 9), ("cat", 10), ("dog", 8)]
ENTRIES = ", ".join(
    f'{{"image_id": 1, "category_id": {1 + (name == "dog")}, "bbox": [0, 0, {side}, {side}]}}' for name, side in SQUARES
)
IMAGES = '[{"id": 1, "file_name": "a.png"}]'
CATEGORIES = '[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]'
FORMS = {
    "boxes.json": f'{{"images": {IMAGES}, "annotations": [{ENTRIES}], "categories": {CATEGORIES}}}',
    "a.xml": xml(*SQUARES),
    "boxes.csv": "image,label,x0,y0,x1,y1\n" + "".join(f"a.png,{n},0,0,{side},{side}\n" for n, side in SQUARES),
}


@pytest.mark.parametrize("file", FORMS)
def test_the_main_class(tmp_path: Path, pictures: Callable[..., Path], file: str) -> None:
    """The class that covers most is the label, and boxes of others are left out; --images and --split are obeyed."""
    source = tmp_path / "labels"
    source.mkdir()
    (source / file).write_text(FORMS[file])
    pictures(tmp_path / "photos", "a.png")
    own = read_own(source, images=tmp_path / "photos")
    (found,) = own.splits["test"]
    assert own.class_names[found.label] == "dog"
    assert found.path == tmp_path / "photos" / "a.png"
    assert found.boxes.tolist() == [[0, 0, 9, 9], [0, 0, 8, 8]]
    assert len(own.remarks) == 1
    assert ": 1 boxes of other " in own.remarks[0]
    assert list(read_own(source, split="train").splits) == ["train-weaksup"]


def test_the_split_of_classes(tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """Images in folders of classes, of which nothing tells the split, go where the caller says."""
    assert list(read_own(pictures(tmp_path, "cat/1.png"), split="val").splits) == ["train-fullsup"]


def test_a_new_form(tmp_path: Path, pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A form of one's own is a module and a row of the table: it is tried, read and opened like the others."""

    def read(source: Path, images: Path | None, split: str | None) -> readers.OwnData:
        name, label = source.read_text().split()
        return readers.own_data("toy", [readers.Row(name, split, [label])], images or source.parent, split, str(source))

    toy = SimpleNamespace(detect=lambda source: source.suffix == ".toy", read=read)
    monkeypatch.setitem(sys.modules, "famcli.data.readers.toy", toy)
    monkeypatch.setattr(readers, "READERS", {"toy": "a toy", **readers.READERS})
    (pictures(tmp_path, "a.png") / "labels.toy").write_text("a.png cat")
    dataset = open_dataset(tmp_path / "labels.toy")
    assert (dataset.class_names, dataset.splits(), dataset.facts["format"]) == (("cat",), ["train-weaksup"], "toy")
    assert dataset.samples("train")[0].path == tmp_path / "a.png"


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.xml", "image_ids.txt", "test/image_ids.txt", "dataset.json"])
def test_only_regular_files(tmp_path: Path, pictures: Pictures, kind: str, name: str) -> None:
    """A pipe, or a link to an endless device, under the name of metadata is passed over or named, and never read."""
    pictures(tmp_path, "cat/1.png", "dog/2.png")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    if name in ("a.json", "a.csv", "dataset.json"):
        assert open_dataset(tmp_path).class_names == ("cat", "dog")
        with pytest.raises(DataError, match="in no form that fam knows"):
            open_dataset(path)
    else:
        with pytest.raises(DataError, match=f"{name}.*it is a {kind} and no regular file"):
            open_dataset(tmp_path).samples("test")


def test_folders_of_any_depth(tmp_path: Path) -> None:
    """Files below a thousand folders are found, links to folders are not followed, and hidden ones are passed over."""
    deep = tmp_path
    for _ in range(1100):
        deep = deep / "d"
        deep.mkdir()
    (deep / "a.XML").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b.xml").touch()
    (tmp_path / "loop").symlink_to(".")
    assert files_below(tmp_path, ".xml") == ["d/" * 1100 + "a.XML"]
    (deep / "a.XML").unlink()
    while deep != tmp_path:  # pytest's own clearing is recursive
        deep.rmdir()
        deep = deep.parent
