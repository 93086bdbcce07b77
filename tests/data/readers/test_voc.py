"""Pascal VOC XML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from famcli.data.readers import read_own
from famcli.data.readers.voc import read_xml
from famcli_models.errors import DataError

Pictures = Callable[..., Path]


def xml(*objects: tuple[str, object, object, object, object], file_name: str = "") -> str:
    """An annotation of a picture of 30 x 20 pixels; corners as VOC writes them."""
    items = "".join(
        f"<object><name>{name}</name><pose>x</pose><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    size = "<size><width>30</width><height>20</height><depth>3</depth></size>"
    return f"<annotation><filename>{file_name}</filename>{size}{items}</annotation>"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_boxes_become_half_open(tmp_path: Path) -> None:
    """1-based inclusive corners: the whole picture of 30 x 20 is 1,1,30,20 there and 0,0,30,20 here."""
    path = write(tmp_path / "a.xml", xml(("cat", 1, 1, 30, 20), ("cat", 3, 4, 3, 4.5), file_name="C:\\photos\\a.jpg"))
    found = read_xml(path)
    np.testing.assert_array_equal(found.boxes, [[0, 0, 30, 20], [2, 3, 3, 4.5]])
    assert (found.file_name, found.size_hw, found.classes) == ("a.jpg", (20, 30), ("cat", "cat"))


def test_the_usual_folders(tmp_path: Path, pictures: Pictures) -> None:
    """Annotations, JPEGImages and the lists of ImageSets/Main make splits; lists of single classes are passed over."""
    pictures(tmp_path / "JPEGImages", "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    for stem in "1234":
        write(tmp_path / f"Annotations/{stem}.xml", xml(("dog" if stem == "1" else "cat", 1, 1, 9, 9)))
    write(tmp_path / "ImageSets/Main/train.txt", "2\n1\n")
    write(tmp_path / "ImageSets/Main/val.txt", "3\n")
    write(tmp_path / "ImageSets/Main/cat_train.txt", "2 1\n1 -1\n")
    own = read_own(tmp_path)
    assert (own.format, own.class_names, own.images) == ("voc", ("cat", "dog"), tmp_path / "JPEGImages")
    assert {k: [s.name for s in v] for k, v in own.splits.items()} == {
        "train-weaksup": ["1.jpg", "2.jpg"],
        "train-fullsup": ["3.jpg"],
    }
    assert own.splits["train-weaksup"][0].path == tmp_path / "JPEGImages/1.jpg"


def test_beside_the_images(tmp_path: Path, pictures: Pictures) -> None:
    """XML files beside images of any extension, in folders of splits or none; with boxes they are for testing."""
    pictures(tmp_path, "train/a.PNG", "b.webp", "named.png")
    write(tmp_path / "train/a.xml", xml(("cat", 1, 1, 5, 5)))
    write(tmp_path / "b.xml", xml(("cat", 1, 1, 5, 5), file_name="gone.jpg"))
    write(tmp_path / "c.xml", xml(("dog", 1, 1, 5, 5), file_name="named.png"))
    own = read_own(tmp_path)
    assert [s.name for s in own.splits["train-weaksup"]] == ["train/a.PNG"]
    assert [s.name for s in own.splits["test"]] == ["b.webp", "named.png"]
    assert all(s.path.is_file() for samples in own.splits.values() for s in samples)


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><annotation><object><name>&c;</name></object></annotation>'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a document type or entities"),
        (BOMB.encode("utf-16"), "not UTF-8"),  # in which its words would not be found
        ("<annotation>", "cannot read"),
        ("<html></html>", "the outermost element is <html>"),
        ("<annotation><object></object></annotation>", "object 1: no <name>"),
        (xml(("cat", 1, 1, 5, 5), ("cat", 1, 1, "five", 5)), "object 2: bndbox/xmax is 'five'"),
        (xml(("cat", "nan", 1, 5, 5)), "object 1: bndbox/xmin is 'nan'"),
        (xml(("cat", 1, 1, "9" * 400, 5)), r"object 1: bndbox/xmax: .*9\.\.\.9+'? is not a number up to"),
        (xml(("cat", 1, 1, 5, 5)).replace(">30<", f">{'9' * 5000}<"), r"size: .*9\.\.\.9+'? is not a number up to"),
        ("<annotation><object><name>cat</name></object></annotation>", "object 1: bndbox/xmin is ''"),
    ],
)
def test_bad_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    """A file that cannot be used is named, with the object; entity bombs are refused before they are parsed."""
    (tmp_path / "a.xml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=message) as caught:
        read_own(tmp_path)
    assert "a.xml" in str(caught.value)


def test_lists_that_are_wrong(tmp_path: Path) -> None:
    """A listed image without XML, and one in two splits, are told by file and line."""
    write(tmp_path / "Annotations/1.xml", xml(("cat", 1, 1, 5, 5)))
    write(tmp_path / "ImageSets/Main/train.txt", "1\n2\n")
    with pytest.raises(DataError, match="names '2', but there is no"):
        read_own(tmp_path)
    write(tmp_path / "ImageSets/Main/train.txt", "1\n")
    write(tmp_path / "ImageSets/Main/val.txt", "\n1\n")
    with pytest.raises(DataError, match=r"val.txt, line 2: '1' is in the split train-weaksup too"):
        read_own(tmp_path)


def test_no_object_at_all(tmp_path: Path) -> None:
    """A folder whose files name no object has no labels."""
    write(tmp_path / "a.xml", xml())
    with pytest.raises(DataError, match="no XML file there names an object"):
        read_own(tmp_path)
