"""wsolevaluation metadata to COCO and back, byte for byte."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from famcli.data.convert import to_coco, to_wsol
from famcli.data.dataset import Dataset, Sample, open_dataset, write_dataset
from famcli.data.sample import NO_BOXES
from famcli_models.errors import DataError


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def metadata(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(root).items() if name.startswith("metadata/")}


corner = st.integers(-1, 60)
side = st.integers(1, 60)
boxes = st.lists(st.builds(lambda x, y, w, h: (x, y, x + w, y + h), corner, corner, side, side), max_size=3)
letters = st.characters(exclude_characters="\n\r", exclude_categories=("Cs",))
names = st.text(letters, min_size=1, max_size=8).filter(lambda name: bool(name.strip()) and name[0] != "\ufeff")
images = st.tuples(st.integers(0, 4), boxes, st.none() | st.tuples(st.integers(120, 900), st.integers(120, 900)))
splits = st.dictionaries(
    st.sampled_from(["train", "val", "test", "extra"]),
    st.dictionaries(names, images, min_size=1, max_size=4),
    min_size=1,
)
class_names = st.just([]) | st.lists(names, min_size=5, max_size=6, unique=True)


def write(root: Path, split_rows: dict[str, Any], class_names: list[str]) -> None:
    samples = {
        split: [
            Sample(n, Path("x"), label, np.array(b, float).reshape(-1, 4), hw) for n, (label, b, hw) in rows.items()
        ]
        for split, rows in split_rows.items()
    }
    write_dataset(root, name="x", images=root, class_names=class_names, splits=samples, benchmark_names=True)


@settings(deadline=None, max_examples=30)
@given(splits=splits, class_names=class_names)
def test_nothing_is_lost(splits: dict[str, Any], class_names: list[str]) -> None:
    """There and back again gives the same bytes from either side, whatever the names, boxes, sizes and splits."""
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder, "a"), Path(folder, "b")
        write(there, splits, class_names)
        to_coco(open_dataset(there), there / "coco")
        coco = open_dataset(there / "coco")
        to_wsol(coco, back)
        assert metadata(back) == metadata(there)
        assert open_dataset(back).class_names == open_dataset(there).class_names == tuple(class_names)
        to_coco(open_dataset(back), back / "coco")
        assert files(back / "coco") == files(there / "coco")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three images, one without box or size, in two splits."""
    rows = {
        "train": {"a.png": (1, [], None)},
        "test": {"b.png": (0, [(1, 2, 11, 22), (0, 0, 3, 4)], (40, 50)), "c.png": (2, [(0, 0, 50, 40)], (40, 50))},
    }
    write(tmp_path / "data", rows, ["cat", "dog", "cup"])
    return open_dataset(tmp_path / "data")


def test_the_coco_file(dataset: Dataset, tmp_path: Path) -> None:
    """Ids start at 1 and follow the list, boxes are x, y, width, height, and the label has a key of its own."""
    train, test = to_coco(dataset, tmp_path / "out")
    assert (train.name, test.name) == ("instances_train.json", "instances_test.json")
    data = json.loads(test.read_text())
    assert data["images"] == [
        {"id": 1, "file_name": "b.png", "width": 50, "height": 40, "fam_category_id": 1},
        {"id": 2, "file_name": "c.png", "width": 50, "height": 40, "fam_category_id": 3},
    ]
    assert [(a["id"], a["image_id"], a["category_id"], a["bbox"], a["area"]) for a in data["annotations"]] == [
        (1, 1, 1, [1, 2, 10, 20], 200),
        (2, 1, 1, [0, 0, 3, 4], 12),
        (3, 2, 3, [0, 0, 50, 40], 2000),
    ]
    assert all(a["iscrowd"] == 0 and a["segmentation"] == [] for a in data["annotations"])
    assert [(c["id"], c["name"]) for c in data["categories"]] == [(1, "cat"), (2, "dog"), (3, "cup")]
    assert json.loads(train.read_text())["images"] == [{"id": 1, "file_name": "a.png", "fam_category_id": 2}]


def test_pycocotools_reads_it(dataset: Dataset, tmp_path: Path) -> None:
    """The reference implementation loads the file and finds the boxes by category."""
    coco = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = coco.COCO(str(to_coco(dataset, tmp_path / "x.json", ["test"])[0]))
        results = loaded.loadRes([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20], "score": 0.5}])
    assert loaded.getImgIds(catIds=loaded.getCatIds(["cup"])) == [2]
    assert loaded.loadAnns(loaded.getAnnIds(imgIds=[2]))[0]["bbox"] == [0, 0, 50, 40]
    assert len(results.anns) == 1


def test_fractions(tmp_path: Path) -> None:
    """A box with a fraction is refused by name; --round rounds it, and a thin box keeps a pixel."""
    rows = {"test": {"a.png": (0, [(0.4, 1.5, 10.6, 20), (3.1, 3, 3.4, 9)], (40, 50))}}
    write(tmp_path / "a", rows, ["cat"])
    dataset = open_dataset(tmp_path / "a")
    with pytest.raises(DataError, match=r"'a.png' \(test\) has the box 0.4,1.5,10.6,20; .*--round"):
        to_wsol(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    to_wsol(dataset, tmp_path / "out", rounded=True)
    (found,) = open_dataset(tmp_path / "out").samples("test", with_boxes=True)
    assert found.boxes.tolist() == [[0, 2, 11, 20], [3, 3, 4, 9]]
    (path,) = to_coco(dataset, tmp_path / "out")
    np.testing.assert_allclose(open_dataset(path).samples("test", with_boxes=True)[0].boxes[0], [0.4, 1.5, 10.6, 20])


def test_nothing_is_replaced(dataset: Dataset, tmp_path: Path) -> None:
    """Files that exist are replaced on request alone, and never half of a split is hidden by another name."""
    to_coco(dataset, tmp_path / "out")
    with pytest.raises(DataError, match=r"instances_train.json' exists: .*--exist-ok"):
        to_coco(dataset, tmp_path / "out")
    to_coco(dataset, tmp_path / "out", exist_ok=True)
    with pytest.raises(DataError, match=r"metadata' exists"):
        to_wsol(dataset, tmp_path / "data")
    to_wsol(dataset, tmp_path / "data", exist_ok=True)
    (tmp_path / "data/metadata/train").rename(tmp_path / "data/metadata/train-weaksup")
    with pytest.raises(DataError, match="holds train-weaksup under another name"):
        to_wsol(dataset, tmp_path / "data", exist_ok=True)


def test_the_split_of_a_sibling(tmp_path: Path) -> None:
    """train-fullsup of a sibling is refused, because its names would be put with the wrong images."""
    for name, split in (("cub", "train"), ("cubv2", "val")):
        box = {split: [Sample(f"{name}.png", Path("x"), 0, np.array([[0.0, 0, 2, 2]]))]}
        write_dataset(tmp_path / name, name=name, images=tmp_path / name, class_names=[], splits=box, fullsup="cubv2")
    for convert in (to_coco, to_wsol):
        with pytest.raises(DataError, match=rf"convert that, 'fam data convert {tmp_path / 'cubv2'}'"):
            convert(open_dataset(tmp_path / "cub"), tmp_path / "out", ["train-fullsup"])
    assert to_wsol(open_dataset(tmp_path / "cubv2"), tmp_path / "out", ["train-fullsup"])


def test_splits_and_files(dataset: Dataset, tmp_path: Path) -> None:
    """A single file takes a single split, and one split is not written over a dataset of two, which would lose one."""
    with pytest.raises(DataError, match=r"2 splits \(train-weaksup, test\): choose one with --split"):
        to_coco(dataset, tmp_path / "x.json")
    assert [f.name for f in to_wsol(dataset, tmp_path / "out")] == ["train", "test"]  # as wsolevaluation calls them
    assert open_dataset(tmp_path / "out").images == tmp_path / "data"
    with pytest.raises(DataError, match="also has train-weaksup"):
        to_wsol(dataset, tmp_path / "out", ["test"], exist_ok=True)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1, "label -1, which is no class of 'x': see 'fam data check"),
        (3, "label 3, which is no class of 'x': see 'fam data check"),
        (10**12, r"class_labels.txt, line 1: .* up to 99,999.*a.png,1000000000000"),  # not so many categories
    ],
)
def test_labels_without_a_class(tmp_path: Path, label: int, message: str) -> None:
    """A label that is no class cannot be a category; the message names the command that lists all of them."""
    write(tmp_path / "a", {"test": {"a.png": (label, [], None)}}, ["cat", "dog", "cup"])
    with pytest.raises(DataError, match=message):
        to_coco(open_dataset(tmp_path / "a"), tmp_path / "out")


def test_from_a_folder_of_classes(tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """Any own data converts: a folder of classes becomes COCO, with labels and no boxes."""
    pictures(tmp_path / "photos", "cat/a.png", "dog/b.png")
    (path,) = to_coco(open_dataset(tmp_path / "photos"), tmp_path / "photos")
    again = open_dataset(path)
    assert [(s.name, s.label) for s in again.samples("train")] == [("cat/a.png", 0), ("dog/b.png", 1)]
    assert all(s.boxes is NO_BOXES for s in again.samples("train"))
