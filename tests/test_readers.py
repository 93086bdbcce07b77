"""The wsolevaluation metadata layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from famcli.data.readers import read_class_names, read_samples
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
    samples = read_samples(root, "test", with_boxes=True)
    assert [s.name for s in samples] == ["b/2.png", "a/1.png"]
    assert [s.label for s in samples] == [3, 0]
    assert [s.path for s in samples] == [root / "b/2.png", root / "a/1.png"]
    np.testing.assert_array_equal(samples[0].boxes, [[0, 0, 10, 5]])
    np.testing.assert_array_equal(samples[1].boxes, [[5, 6, 8, 9], [1, 1, 2, 2]])


def test_boxes_are_read_on_request_alone(root: Path) -> None:
    """Training reads no boxes, and needs no file of them."""
    (root / "metadata/test/localization.txt").unlink()
    assert all(s.boxes.shape == (0, 4) for s in read_samples(root, "test"))
    with pytest.raises(DataError, match="localization.txt"):
        read_samples(root, "test", with_boxes=True)


def test_names_with_commas(make_dataset: Callable[..., Path]) -> None:
    """The path is everything before the last fields."""
    root = make_dataset([("a, b.png", 1, [(0, 0, 1, 1)], (8, 8))])
    assert read_samples(root, "test", with_boxes=True)[0].name == "a, b.png"


def test_unknown_split(root: Path) -> None:
    """A split that is not there is answered with those that are."""
    with pytest.raises(DataError, match=r"no metadata/val/ \(splits found: test\)"):
        read_samples(root, "val")


def test_no_dataset(tmp_path: Path) -> None:
    """A folder without metadata says so."""
    with pytest.raises(DataError, match="splits found: none"):
        read_samples(tmp_path, "test")


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
        ("image_ids.txt", "", "no images"),
        ("image_ids.txt", "\n\n", "no images"),
    ],
)
def test_bad_files(root: Path, file: str, text: str, message: str) -> None:
    """A line that cannot be used is named by file and number."""
    (root / "metadata/test" / file).write_text(text)
    with pytest.raises(DataError, match=message):
        read_samples(root, "test", with_boxes=True)


def test_file_that_is_no_text(root: Path) -> None:
    """A binary file is refused with its path."""
    (root / "metadata/test/class_labels.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="class_labels.txt"):
        read_samples(root, "test")


def test_class_names(tmp_path: Path) -> None:
    """WordNet ids go, of synonyms the first stays, and plain names are taken whole."""
    path = tmp_path / "names.txt"
    path.write_text("n02123045 tabby, tabby cat\nn02124075 Egyptian cat\n\ncup\nnew york taxi\n")
    assert read_class_names(path) == ["tabby", "Egyptian cat", "cup", "new york taxi"]


def test_class_names_stay_unique(tmp_path: Path) -> None:
    """ILSVRC has two cranes and two maillots; --labels needs to tell them apart."""
    path = tmp_path / "names.txt"
    path.write_text("n02012849 crane\nn03126707 crane\nn03710637 maillot\nn03710721 maillot, tank suit\n")
    names = read_class_names(path)
    assert names == ["crane", "crane (n03126707)", "maillot", "maillot (tank suit)"]


def test_class_names_of_a_missing_file(tmp_path: Path) -> None:
    """A missing file is refused with its path."""
    with pytest.raises(DataError, match="names.txt"):
        read_class_names(tmp_path / "names.txt")
