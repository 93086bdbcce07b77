"""COCO dataset files as own data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli.data.readers import read_own
from famcli_models.errors import DataError

Pictures = Callable[..., Path]
CATEGORIES = [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}]  # labels follow ids: cat 0, dog 1


def box(image: int, category: int, *xywh: float, **more: Any) -> dict[str, Any]:
    return {"id": 5, "image_id": image, "category_id": category, "bbox": list(xywh), "iscrowd": 0, **more}


def write(path: Path, names: list[str], annotations: list[dict[str, Any]], **more: Any) -> Path:
    """A file whose images, 20 x 30, have the ids 10, 11 and so on."""
    images = [{"id": 10 + i, "file_name": name, "height": 20, "width": 30} for i, name in enumerate(names)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES, **more}))
    return path


def test_labels_and_boxes(tmp_path: Path, pictures: Pictures) -> None:
    """Labels follow the order of ids; the category with most area wins, other boxes and crowds are left out."""
    pictures(tmp_path, "a.png", "b.png", "c.png")
    annotations = [
        box(11, 9, 0, 0, 5, 5),
        box(10, 3, 1.5, 2, 10, 10.25),
        box(10, 9, 0, 0, 9, 9),
        box(10, 3, 0, 0, 1, 1),
        box(11, 3, 0, 0, 30, 20, iscrowd=1),
    ]
    own = read_own(write(tmp_path / "boxes.json", ["a.png", "b.png", "c.png"], annotations))
    assert (own.format, own.class_names, own.images) == ("coco", ("cat", "dog"), tmp_path)
    first, second = own.splits["test"]
    assert [(s.name, s.label, s.size_hw) for s in (first, second)] == [("a.png", 0, (20, 30)), ("b.png", 1, (20, 30))]
    np.testing.assert_array_equal(first.boxes, [[1.5, 2, 11.5, 12.25], [0, 0, 1, 1]])
    assert [remark.split(": ")[1] for remark in own.remarks] == [
        "1 annotations of crowds (iscrowd) were left out",
        "1 boxes of other categories than the image's main one were left out",
        "1 images without any annotation have no label and were left out",
    ]


def test_equal_areas(tmp_path: Path) -> None:
    """Of two categories with the same area the lower id wins, in whatever order they come."""
    path = write(tmp_path / "a.json", ["a.png"], [box(10, 9, 0, 0, 2, 3), box(10, 3, 4, 4, 3, 2)])
    assert read_own(path).splits["test"][0].label == 0


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("annotations/instances_train2017.json", "train-weaksup"),
        ("annotations/instances_val.json", "train-fullsup"),
        ("train-fullsup.json", "train-fullsup"),
        ("train/_annotations.coco.json", "train-weaksup"),
        ("valid/_annotations.coco.json", "train-fullsup"),
        ("boxes.json", "test"),
        ("trainval.json", "test"),
    ],
)
def test_split_by_name(tmp_path: Path, file: str, split: str) -> None:
    """The file's name tells the split, else its folder's; else images with boxes are for testing."""
    path = write(tmp_path / file, ["a.png"], [box(10, 3, 0, 0, 2, 2)])
    assert list(read_own(path).splits) == [split]
    assert list(read_own(tmp_path, "coco").splits) == [split]


def test_several_files(tmp_path: Path, pictures: Pictures) -> None:
    """Files for each split, with images in folders of their own, make one dataset; captions and key points do not."""
    pictures(tmp_path, "train2017/a.png", "val2017/a.png")
    write(tmp_path / "annotations/instances_train2017.json", ["a.png"], [box(10, 3, 0, 0, 2, 2)])
    write(tmp_path / "annotations/instances_val2017.json", ["a.png"], [box(10, 9, 0, 0, 2, 2)])
    write(tmp_path / "annotations/person_keypoints_val2017.json", ["a.png"], [])
    own = read_own(tmp_path)
    assert own.images == tmp_path
    assert {k: [(s.name, s.path.is_file()) for s in v] for k, v in own.splits.items()} == {
        "train-weaksup": [("train2017/a.png", True)],
        "train-fullsup": [("val2017/a.png", True)],
    }


def test_beside_the_images(tmp_path: Path, pictures: Pictures) -> None:
    """Exports with one file in each folder of images are found."""
    for split in ("train", "test"):
        pictures(tmp_path, f"{split}/a.png")
        write(tmp_path / split / "_annotations.coco.json", ["a.png"], [box(10, 3, 0, 0, 2, 2)])
    own = read_own(tmp_path)
    assert [s.name for samples in own.splits.values() for s in samples] == ["train/a.png", "test/a.png"]


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    """Two files of one split, or of different categories, are refused by name."""
    write(tmp_path / "a_val.json", ["a.png"], [box(10, 3, 0, 0, 2, 2)])
    write(tmp_path / "b_val.json", ["a.png"], [box(10, 3, 0, 0, 2, 2)])
    with pytest.raises(DataError, match=r"a_val.json' and .*b_val.json' are both the split train-fullsup"):
        read_own(tmp_path)
    write(tmp_path / "b_val.json", ["a.png"], [], categories=[{"id": 3, "name": "cow"}])
    with pytest.raises(DataError, match="have different categories"):
        read_own(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (box(10, 4, 0, 0, 2, 2), r"annotations\[0\] has category_id 4, which is not in categories"),
        (box(12, 3, 0, 0, 2, 2), "belongs to image 12, which the file does not list"),
        (box(10, 3, 0, 0, 2), r"annotations\[0\] has the bbox \[0, 0, 2\]; four"),
        (box(10, 3, 0, 0, float("nan"), 2), r"annotations\[0\] has the bbox \[0, 0, nan, 2\]; four finite"),
        ({"image_id": 10, "category_id": 3}, r"annotations\[0\] has the bbox None; four"),
        ({"image_id": 10, "category_id": 3, "bbox": "1234"}, r"annotations\[0\] has the bbox '1234'; four"),
        ("text", r"annotations\[0\] is 'text'; image_id"),
        (
            box(10, 3, 9, 9, -4, -4),
            r"annotations\[0\] has the bbox \[9, 9, -4, -4\], whose width or height is negative",
        ),
        (box(10, 3, 9, 9, 4, 0), r"annotations\[0\] has the bbox \[9, 9, 4, 0\], which has no area"),
        (box(10, 3, 0, 0, True, 2), r"annotations\[0\] has the bbox \[0, 0, True, 2\]; four"),
        (box(10, 3, 0, 0, 2, 2, iscrowd="0"), r"annotations\[0\] has iscrowd '0'; 0 or 1"),
        ({**box(10, 3, 0, 0, 2, 2), "category_id": 3.5}, r"annotations\[0\] has category_id 3.5, which"),
        ({**box(10, 3, 0, 0, 2, 2), "image_id": 10.5}, r"annotations\[0\] belongs to image 10.5, which"),
        ({**box(10, 3, 0, 0, 2, 2), "image_id": True}, r"annotations\[0\] belongs to image True, which"),
    ],
)
def test_bad_annotations(tmp_path: Path, annotation: Any, message: str) -> None:
    """An annotation that cannot be used is named by file and place."""
    with pytest.raises(DataError, match=message) as caught:
        read_own(write(tmp_path / "a.json", ["a.png"], [annotation]))
    assert "a.json" in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}],
            r"images\[1\] has the image id 1 a second time.*'a' and 'b'",
        ),
        (
            [{"id": 1, "file_name": "a", "fam_category_id": 7}],
            r"images\[0\] has fam_category_id 7, which is not",
        ),
        (
            [{"id": 1, "file_name": "a", "fam_category_id": 3, "width": "x", "height": 2}],
            r"images\[0\] has a width or height that",
        ),
        ([{"id": 1, "file_name": "a"}], "no image has a label"),
        ([{"file_name": "a"}], r"images\[0\] is {'file_name': 'a'}; an id"),
        ([{"id": 1.5, "file_name": "a"}], r"images\[0\] is .* an id"),
        ([{"id": 1, "file_name": 5}], r"images\[0\] is .* a file_name are needed"),
        ([{"id": 1, "file_name": "\ud800.jpg"}], r"images\[0\] has the file_name '.*ud800.jpg', which is no text"),
        ([{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "./a"}], r"images\[1\] is 'a' a second time: .* 1 and 2"),
        ([{"id": 1, "file_name": "b/a"}, {"id": "x", "file_name": "b\\a"}], r"images\[1\] is 'b/a' a second time"),
        ([{"id": 1, "file_name": "a", "width": 1.5, "height": 2}], r"images\[0\] has a width or height that"),
        ([{"id": 1, "file_name": "a", "width": 1}], r"images\[0\] has a width or height that"),
        (3, "is not a COCO dataset file"),
    ],
)
def test_bad_images(tmp_path: Path, images: Any, message: str) -> None:
    """An image entry that cannot be used is named by file and place."""
    with pytest.raises(DataError, match=message):
        read_own(write(tmp_path / "a.json", [], [], images=images))


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ({"id": 10}, "Infinity", r"images\[0\] is .*inf.* an id"),
        ({"image_id": 10}, "1e999", r"annotations\[0\] belongs to image inf"),
        ({"category_id": 3}, "Infinity", r"annotations\[0\] has category_id inf"),
        ({"category_id": 3}, "9" * 5000, "is not JSON that can be read .Exceeds the limit"),
        ({"bbox": [0, 0, 2, 2]}, "[0, 0, 1e999, 2]", r"annotations\[0\] .*inf, 2\]; four finite"),
        ({"bbox": [0, 0, 2, 2]}, f"[0, 0, {'9' * 400}, 2]", r"annotations\[0\] .*9\.\.\.9+, 2\]; four finite"),
        ({"width": 30}, "Infinity", r"images\[0\] has a width .*inf is not a number"),
    ],
)
def test_numbers_beyond_all_bounds(tmp_path: Path, entry: dict[str, Any], value: str, message: str) -> None:
    """Infinity and numbers of hundreds of digits are named by file and entry."""
    path = write(tmp_path / "a.json", ["a.png"], [box(10, 3, 0, 0, 2, 2)])
    before = json.dumps(entry)[1:-1]
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, f"{before.partition(':')[0]}: {value}", 1))
    with pytest.raises(DataError, match=message) as caught:
        read_own(path)
    assert str(path) in str(caught.value)


def test_a_name_too_long_for_a_file(tmp_path: Path) -> None:
    """An image whose name no file system holds is listed like any that is missing."""
    own = read_own(write(tmp_path / "a.json", ["x" * 300 + ".png"], [box(10, 3, 0, 0, 2, 2)]))
    assert len(own.splits["test"]) == 1
    assert "no image of" in own.remarks[0]


@pytest.mark.parametrize("second", [{"id": 3, "name": "cow"}, {"id": "3", "name": "cat"}])
def test_a_category_twice(tmp_path: Path, second: dict[str, Any]) -> None:
    """Two categories of one id are refused, whatever they are called."""
    path = write(tmp_path / "a.json", ["a.png"], [box(10, 3, 0, 0, 2, 2)], categories=[*CATEGORIES, second])
    with pytest.raises(DataError, match=rf"categories\[2\] has the category id 3 .*'cat' and '{second['name']}'"):
        read_own(path)


def test_ids_that_are_texts(tmp_path: Path) -> None:
    """Texts are ids too, digits those of the number; categories go by number, then by text."""
    categories = [{"id": "b", "name": "owl"}, {"id": "a", "name": "fox"}, {"id": "10", "name": "cat"}, *CATEGORIES[:1]]
    images = [{"id": name, "file_name": f"{name}.png"} for name in ("x", "007", "7")]
    pairs = (("x", "b"), ("007", 10), (7, 9.0))
    annotations = [{"image_id": image, "category_id": category, "bbox": [0, 0, 2, 2]} for image, category in pairs]
    own = read_own(write(tmp_path / "a.json", [], annotations, images=images, categories=categories))
    assert own.class_names == ("dog", "cat", "fox", "owl")
    assert [(s.name, s.label) for s in own.splits["test"]] == [("x.png", 3), ("007.png", 1), ("7.png", 0)]


def test_names_as_windows_writes_them(tmp_path: Path, pictures: Pictures) -> None:
    """A backslash is a slash, unless this program wrote the file."""
    pictures(tmp_path, "images/a.png")
    path = write(tmp_path / "a.json", ["images\\a.png"], [box(10, 3, 0, 0, 2, 2)])
    assert [s.path.is_file() for s in read_own(path).splits["test"]] == [True]
    path = write(tmp_path / "a.json", ["a\\b.png"], [box(10, 3, 0, 0, 2, 2)], info={"fam": {"split": "test"}})
    assert [s.name for s in read_own(path).splits["test"]] == ["a\\b.png"]
