"""The wsolevaluation metadata layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from famcli.data.dataset import open_dataset
from famcli.data.metadata import count_images, read_class_names, read_split, splits_of, write_split
from famcli.data.sample import MAX_CLASSES, NO_BOXES, Sample
from famcli_models.config import MethodConfig
from famcli_models.errors import DataError

ROWS = [
    ("b/2.png", 3, [(0, 0, 9, 4)], (20, 30)),
    ("a/1.png", 0, [(5, 6, 7, 8), (1, 1, 1, 1)], (20, 30)),
]


@pytest.fixture
def root(make_dataset: Callable[..., Path]) -> Path:
    """A dataset of two images."""
    return make_dataset(ROWS)


def test_samples(root: Path) -> None:
    """Samples keep the file's order; the stored inclusive corners become half-open boxes."""
    samples = open_dataset(root).samples("test", with_boxes=True)
    assert [s.name for s in samples] == ["b/2.png", "a/1.png"]
    assert [s.label for s in samples] == [3, 0]
    assert [s.path for s in samples] == [root / "b/2.png", root / "a/1.png"]
    np.testing.assert_array_equal(samples[0].boxes, [[0, 0, 10, 5]])
    np.testing.assert_array_equal(samples[1].boxes, [[5, 6, 8, 9], [1, 1, 2, 2]])


def test_boxes_are_read_on_request_alone(root: Path) -> None:
    """Training reads no boxes, and needs no file of them; what reads a dataset through takes images without."""
    boxes = root / "metadata/test/localization.txt"
    boxes.write_text("b/2.png,0,0,9,4\n")
    found = read_split(root / "metadata/test", root, with_boxes=True, boxes_optional=True)
    assert [len(s.boxes) for s in found] == [1, 0]
    boxes.unlink()
    found = read_split(root / "metadata/test", root, with_boxes=True, boxes_optional=True)
    assert [len(s.boxes) for s in found] == [0, 0]
    assert all(s.boxes.shape == (0, 4) for s in open_dataset(root).samples("test"))
    with pytest.raises(DataError, match="localization.txt"):
        open_dataset(root).samples("test", with_boxes=True)


def test_names_with_commas(make_dataset: Callable[..., Path]) -> None:
    """The path is everything before the last fields."""
    root = make_dataset([("a, b.png", 1, [(0, 0, 1, 1)], (8, 8))])
    assert open_dataset(root).samples("test", with_boxes=True)[0].name == "a, b.png"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("class_labels.txt", "b/2.png,3\n", "'a/1.png' has no label"),
        ("localization.txt", "b/2.png,0,0,9,4\n", "'a/1.png' has no box"),
        ("class_labels.txt", "b/2.png,3\na/1.png\n", "line 2: expected 2 fields"),
        ("class_labels.txt", "b/2.png,cat\na/1.png,0\n", "line 1"),
        ("class_labels.txt", "b/2.png,1.5\na/1.png,0\n", "line 1"),
        ("class_labels.txt", "b/2.png,nan\na/1.png,0\n", "line 1"),
        ("localization.txt", "b/2.png,0,0,9\na/1.png,0,0,1,1\n", "line 1: expected 5 fields"),
        ("localization.txt", "b/2.png,0,0,9,nan\na/1.png,0,0,1,1\n", "line 1"),
        (
            "class_labels.txt",
            "b/2.png,3\n\na/1.png,100000\n",
            "class_labels.txt, line 3: .*a whole number up to 99,999",
        ),
        ("class_labels.txt", f"b/2.png,3\na/1.png,{'9' * 400}\n", r"line 2: .*9\.\.\.'$"),
        ("localization.txt", "b/2.png,0,0,9,1e400\na/1.png,0,0,1,1\n", "localization.txt, line 1: .*1,000,000,000"),
        ("image_ids.txt", "\n\n", "no images"),
        ("image_sizes.txt", f"b/2.png,{'9' * 400},20\n", "image_sizes.txt, line 1"),
        ("class_labels.txt", "b\udcff,3\x00\x81", "class_labels.txt"),
    ],
)
def test_bad_files(root: Path, file: str, text: str, message: str) -> None:
    """A line that cannot be used is named by file and number."""
    (root / "metadata/test" / file).write_text(text, errors="surrogateescape")
    with pytest.raises(DataError, match=message):
        open_dataset(root).samples("test", with_boxes=True)


def test_as_many_classes_as_a_model_can_have() -> None:
    """Labels and models have the same bound."""
    assert MethodConfig.RANGES["num_classes"][1] == MAX_CLASSES


@pytest.mark.parametrize(
    ("folder", "asked"),
    [
        *(("train", "train-weaksup"), ("train-weaksup", "train"), ("val", "train-fullsup"), ("train-fullsup", "val")),
        *(("test", "test"), ("test", "TEST"), ("test", "testing")),
    ],
)
def test_either_folder_for_either_name(root: Path, folder: str, asked: str) -> None:
    """A folder named as the paper, wsolevaluation or others name a split is found by each of these names."""
    (root / "metadata/test").rename(root / "metadata" / folder)
    assert len(open_dataset(root).samples(asked)) == 2
    assert len(splits_of(root / "metadata")) == 1


def test_numbers_of_other_tools(root: Path) -> None:
    """12.0 is 12, and a box may have a fraction, which wsolevaluation's own programs would refuse."""
    (root / "metadata/test/class_labels.txt").write_text("b/2.png,3.0\na/1.png,0.\n")
    (root / "metadata/test/localization.txt").write_text("b/2.png,0.0,0,9.25,4.\na/1.png,1,1,2,2\n")
    samples = open_dataset(root).samples("test", with_boxes=True)
    assert [s.label for s in samples] == [3, 0]
    np.testing.assert_array_equal(samples[0].boxes, [[0, 0, 10.25, 5]])


def test_sizes_are_read_where_stated(root: Path) -> None:
    """image_sizes.txt has width before height; an image that it does not name has no size."""
    (root / "metadata/test/image_sizes.txt").write_text("b/2.png,30,20\nother.png,1,1\n")
    assert [s.size_hw for s in open_dataset(root).samples("test")] == [(20, 30), None]


def test_an_image_listed_twice_is_two_samples(root: Path) -> None:
    """The reader hides nothing: fam data check reports it."""
    (root / "metadata/test/image_ids.txt").write_text("a/1.png\nb/2.png\na/1.png\n")
    assert [(s.name, s.label) for s in open_dataset(root).samples("test")] == [
        ("a/1.png", 0),
        ("b/2.png", 3),
        ("a/1.png", 0),
    ]


def test_written_files(tmp_path: Path) -> None:
    """The four files have the benchmark's form: inclusive whole corners, width before height."""
    boxes = np.array([[0, 0, 10, 5], [2.5, 3, 4, 6]])
    samples = [Sample("b,1.png", Path("x"), 3, boxes, (20, 30)), Sample("a.png", Path("x"), 0, NO_BOXES)]
    assert write_split(tmp_path, samples) == {"images": 2, "boxes": 2}
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "image_ids.txt": "b,1.png\na.png\n",
        "class_labels.txt": "b,1.png,3\na.png,0\n",
        "image_sizes.txt": "b,1.png,30,20\n",
        "localization.txt": "b,1.png,0,0,9,4\nb,1.png,2.5,3,3,5\n",
    }
    assert count_images(tmp_path) == 2


def test_no_file_without_a_line(tmp_path: Path) -> None:
    """Without boxes or sizes there is no file of them, also where an older one was."""
    write_split(tmp_path, [Sample("a.png", Path("x"), 0, np.array([[0.0, 0, 1, 1]]), (2, 2))])
    write_split(tmp_path, [Sample("a.png", Path("x"), 0, NO_BOXES)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["class_labels.txt", "image_ids.txt"]


@pytest.mark.parametrize("name", ["a\nb.png", "a\r.png", "", " "])
def test_names_that_are_no_line(tmp_path: Path, name: str) -> None:
    """A name that would break the list is refused, and nothing is left behind."""
    with pytest.raises(DataError, match="rename it"):
        write_split(tmp_path, [Sample(name, Path("x"), 0, NO_BOXES)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["\u2028.png", "\x85.png", "\x0c.png", "\udcff.png", "a\u00e9.png"])
def test_odd_names_come_back(tmp_path: Path, name: str) -> None:
    """Characters that look like line ends elsewhere, and bytes that are no Unicode, stay part of the name."""
    write_split(tmp_path, [Sample(name, Path("x"), 0, NO_BOXES)])
    assert read_split(tmp_path, tmp_path)[0].name == name


def test_class_names(tmp_path: Path) -> None:
    """WordNet ids with a name go, of synonyms the first stays, plain names are taken whole, and all stay unique."""
    path = tmp_path / "names.txt"
    path.write_text("n02123045 tabby, tabby cat\nn02124075 Egyptian cat\n\ncup\nnew york taxi\nn01440764\n")
    assert read_class_names(path) == ["tabby", "Egyptian cat", "cup", "new york taxi", "n01440764"]
    path.write_text("n02012849 crane\nn03126707 crane\nn03710637 maillot\nn03710721 maillot, tank suit\n")
    assert read_class_names(path) == ["crane", "crane (n03126707)", "maillot", "maillot (tank suit)"]
    path.unlink()
    with pytest.raises(DataError, match="names.txt"):
        read_class_names(path)
