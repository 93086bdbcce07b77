"""CSV files of images, labels and boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from famcli.data.readers import read_own
from famcli_models.errors import DataError

Pictures = Callable[..., Path]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_alone(tmp_path: Path, pictures: Pictures) -> None:
    """Without boxes the images are for training; labels follow the sorted names, and columns may have other names."""
    pictures(tmp_path, "a.png", "sub/b.png")
    own = read_own(write(tmp_path / "l.csv", "id,filename,category\n7,sub/b.png,dog\n8,a.png,cat\n\n"))
    assert (own.class_names, own.images, list(own.splits)) == (("cat", "dog"), tmp_path, ["train-weaksup"])
    assert [(s.name, s.label) for s in own.splits["train-weaksup"]] == [("sub/b.png", 1), ("a.png", 0)]


def test_boxes(tmp_path: Path) -> None:
    """Several rows of an image are several boxes, half-open as they stand; images with boxes are for testing."""
    text = 'image,label,xmin,ymin,xmax,ymax\n"a, b.png",cat,1,2,3.5,4\nc.png,dog,0,0,9,9\n"a, b.png",cat,5,5,6,6\n'
    own = read_own(write(tmp_path / "l.csv", text))
    first, second = own.splits["test"]
    assert (first.name, second.name) == ("a, b.png", "c.png")
    np.testing.assert_array_equal(first.boxes, [[1, 2, 3.5, 4], [5, 5, 6, 6]])


def test_sizes(tmp_path: Path) -> None:
    """Columns of sizes are those of the images."""
    own = read_own(write(tmp_path / "l.csv", "image,label,width,height\na.png,cat,30,20\nb.png,cat,,\n"))
    assert [sample.size_hw for sample in own.splits["train-weaksup"]] == [(20, 30), None]


def test_splits(tmp_path: Path) -> None:
    """A column of splits takes everyday names; images without one follow the rule for boxes."""
    text = "image,label,split\na.png,x,val\nb.png,x,TRAIN\nc.png,x,\nd.png,x,test\n"
    own = read_own(write(tmp_path / "l.csv", text))
    assert {k: [s.name for s in v] for k, v in own.splits.items()} == {
        "train-weaksup": ["b.png", "c.png"],
        "train-fullsup": ["a.png"],
        "test": ["d.png"],
    }
    assert list(own.splits) == ["train-weaksup", "train-fullsup", "test"]


@pytest.mark.parametrize(
    "text", ["image;label\na.png;x\n", "image\tlabel\na.png\tx\n", "\ufeffImage , LABEL\na.png,x\n"]
)
def test_dialects(tmp_path: Path, text: str) -> None:
    """Semicolons, tabs, a byte order mark, and capitals are understood."""
    assert read_own(write(tmp_path / "l.csv", text)).splits["train-weaksup"][0].name == "a.png"


def test_where_images_are(tmp_path: Path, pictures: Pictures) -> None:
    """Images are looked for beside the file and in images/; --images says otherwise; full paths give the folder."""
    pictures(tmp_path, "images/a.png", "far/x/a.png", "far/y/b.png")
    table = write(tmp_path / "l.csv", "image,label\na.png,cat\n")
    assert read_own(table).images == tmp_path / "images"
    assert read_own(table, images=tmp_path / "far/x").splits["train-weaksup"][0].path == tmp_path / "far/x/a.png"
    full = f"image,label\n{tmp_path}/far/x/a.png,cat\n{tmp_path}/far/y/b.png,cat\n"
    own = read_own(write(tmp_path / "f.csv", full))
    assert own.images == tmp_path / "far"
    assert [s.name for s in own.splits["train-weaksup"]] == ["x/a.png", "y/b.png"]


def test_windows_paths(tmp_path: Path) -> None:
    """Backslashes of a table made on Windows separate folders."""
    own = read_own(write(tmp_path / "l.csv", "image,label\nsub\\a.png,cat\n"))
    assert own.splits["train-weaksup"][0].name == "sub/a.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,price\na,1\n", "line 1: the header needs a column label"),
        ("", "line 1: the header needs a column image"),
        ("image,label,x0,y0\n", "line 1: the header needs all of"),
        ("image,label\n", "no line after the header"),
        ("image,label\na.png\n", "line 2: 1 fields"),
        ("image,label\na.png,cat\n,cat\n", "line 3: no image"),
        ("image,label\na.png,\n", "line 2: no label"),
        ("image,label\na.png,cat\na.png,cat\n", "line 3: 'a.png' was on line 2 already$"),
        ("image,label\na.png,cat\na.png,dog\n", "on line 2 already, with another label"),
        ("image,label,split\na.png,cat,holdout\n", "line 2: unknown split 'holdout'"),
        (
            "image,label,split,x0,y0,x1,y1\na,c,val,0,0,1,1\na,c,test,0,0,1,1\n",
            "line 3: 'a' has another split than on line 2",
        ),
        ("image,label,x0,y0,x1,y1\na.png,cat,0,0,1,\n", "line 2: the box is '0,0,1,'"),
        ("image,label,x0,y0,x1,y1\na.png,cat,0,0,nan,1\n", "line 2: the box is"),
        ("image,label,x0,y0,x1,y1\na.png,cat,0,0,1e400,1\n", "line 2: the box is .*'1e400' is not a number up to"),
        (
            "image,label,x0,y0,x1,y1\na.png,cat,0,0,1,1\na.png,cat,,,,\n",
            "line 3: 'a.png' has no box here and one on line 2",
        ),
        (
            "image,label,x0,y0,x1,y1\na.png,cat,,,,\na.png,cat,0,0,1,1\n",
            "line 3: 'a.png' has a box here and none on line 2",
        ),
        ('image,label\na.png,cat\n"b.png,cat\n', "cannot read .*after line 2"),
    ],
)
def test_bad_lines(tmp_path: Path, text: str, message: str) -> None:
    """A line that cannot be used is named by file and number, with what is wrong."""
    with pytest.raises(DataError, match=message) as caught:
        read_own(write(tmp_path / "l.csv", text), "csv")
    assert "l.csv" in str(caught.value)


def test_no_text(tmp_path: Path) -> None:
    """A binary file is refused with its path."""
    (tmp_path / "l.csv").write_bytes(b"image,label\n\xff\xfe,x\n")
    with pytest.raises(DataError, match=r"l\.csv"):
        read_own(tmp_path / "l.csv")
