"""What is wrong with a dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.data.check import Finding, check, summary
from famcli.data.dataset import Dataset, Sample, open_dataset, write_dataset
from famcli.data.sample import NO_BOXES

Pictures = Callable[..., Path]
SIZE = (20, 30)
WHOLE = (0, 0, 30, 20)


def sample(name: str, label: int = 0, *boxes: tuple[float, ...], size_hw: tuple[int, int] | None = SIZE) -> Sample:
    return Sample(name, Path("unused"), label, np.array(boxes, float).reshape(-1, 4) if boxes else NO_BOXES, size_hw)


GOOD = {
    "train-weaksup": [sample("a.png", 0), sample("b.png", 1)],
    "test": [sample("c.png", 0, WHOLE), sample("d.png", 1, (1, 1, 5, 5), (2, 2, 3, 3))],
}


@pytest.fixture
def make(tmp_path: Path, pictures: Pictures) -> Callable[..., Dataset]:
    """A function that writes a dataset of four good pictures, of which splits may be given anew."""
    root = pictures(tmp_path / "set", "a.png", "b.png", "c.png", "d.png")

    def write(name: str = "set", class_names: Any = ("cat", "dog"), **splits: list[Sample]) -> Dataset:
        given = {key.replace("_", "-"): value for key, value in splits.items()}
        write_dataset(root, name=name, images=root, class_names=class_names, splits={**GOOD, **given})
        return open_dataset(root)

    return write


def found(dataset: Dataset, *splits: str, fast: bool = False) -> list[tuple[str, str, int, bool]]:
    return [(f.problem, f.split, f.count, f.wrong) for f in check(dataset, splits, fast=fast)]


def test_nothing_wrong(make: Callable[..., Dataset]) -> None:
    """A good dataset has no findings, and each image is counted once."""
    steps: list[int] = []
    assert check(make(), on_image=lambda: steps.append(1)) == []
    assert len(steps) == 4


def test_files(make: Callable[..., Dataset]) -> None:
    """Missing, damaged, and mislabelled files are told apart, with the reason."""
    dataset = make()
    content = (dataset.root / "a.png").read_bytes()
    (dataset.root / "a.png").write_bytes(content[: len(content) // 2])
    (dataset.root / "b.png").unlink()
    (dataset.root / "c.png").write_text("<html>404</html>")
    findings = check(dataset)
    assert [(f.problem, f.split, f.count) for f in findings] == [
        ("unreadable image", "train-weaksup", 1),
        ("missing file", "train-weaksup", 1),
        ("unreadable image", "test", 1),
    ]
    assert findings[0].examples[0].startswith("a.png (damaged image")
    assert findings[1].examples == ("b.png",)


def test_entries_beyond_all_bounds(make: Callable[..., Dataset]) -> None:
    """A name that no file system holds is a missing file; a label that no model can have is named by file and line."""
    dataset = make(train_weaksup=[sample("x" * 300 + ".png"), sample("b.png", 1)])
    for fast in (False, True):
        assert found(dataset, fast=fast) == [("missing file", "train-weaksup", 1, True)]
    (finding,) = check(make(train_weaksup=[sample("a.png", 10**12), sample("b.png", 1)]), ["train-weaksup"])
    assert finding.problem == "split cannot be read"
    assert "class_labels.txt, line 1" in finding.examples[0]


def test_fast_reads_headers(make: Callable[..., Dataset], pictures: Pictures) -> None:
    """--fast finds what a header shows, not the damage behind it."""
    dataset = make(train_weaksup=[sample("a.jpg"), sample("b.png", 1)])
    path = pictures(dataset.root, "a.jpg") / "a.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    (dataset.root / "b.png").write_bytes(b"")
    assert [f.count for f in check(dataset)] == [2]
    assert found(dataset, fast=True) == [("unreadable image", "train-weaksup", 1, True)]


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((0, 0, 32, 20), "box outside the image"),
        ((0, 0, 30, 22), "box outside the image"),
        ((-2, 0, 30, 20), "box outside the image"),
        ((0, -2, 30, 20), "box outside the image"),
        ((5, 5, 5, 9), "box without area"),
        ((5, 5, 9, 4), "box without area"),
        ((0, 0, 30.4, 20), None),
    ],
)
def test_boxes(make: Callable[..., Dataset], box: tuple[float, ...], problem: str | None) -> None:
    """A box reaches out of the picture by a pixel, or has no area; half a pixel is other tools' rounding."""
    dataset = make(test=[sample("c.png", 0, box), sample("d.png", 1, WHOLE)])
    assert found(dataset) == ([(problem, "test", 1, True)] if problem else [])


def test_box_outside_a_turned_image(make: Callable[..., Dataset]) -> None:
    """The frame is the picture as it is shown: EXIF orientation applied."""
    dataset = make(train_weaksup=GOOD["train-weaksup"], test=[sample("c.jpg", 0, WHOLE), sample("d.png", 1, WHOLE)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(dataset.root / "c.jpg", exif=exif)
    findings = check(dataset)
    assert [f.problem for f in findings] == ["wrong image size", "box outside the image"]
    assert findings[0].examples[0].startswith("c.jpg is given as 30x20, but is 20x30 when its EXIF orientation")


def test_labels(make: Callable[..., Dataset]) -> None:
    """Labels must be classes; without class names any from 0 is."""
    train = [sample("a.png", 2), sample("b.png", -1)]
    labels = ("label out of range", "train-weaksup", 2, True)
    assert labels in found(make(train_weaksup=train))
    findings = found(make(class_names=(), train_weaksup=train))
    assert ("label out of range", "train-weaksup", 1, True) in findings


def test_boxes_are_needed_for_testing(make: Callable[..., Dataset]) -> None:
    """Test images need boxes; train-fullsup may have none at all, but not some."""
    test = [sample("c.png"), sample("d.png", 1)]
    assert found(make(test=test)) == [("no box", "test", 2, True)]
    assert found(make(train_fullsup=test), "val") == [("no box", "train-fullsup", 2, False)]
    some = [sample("c.png"), sample("d.png", 1, WHOLE)]
    assert found(make(train_fullsup=some), "val") == [("no box", "train-fullsup", 1, True)]


def test_duplicates_and_overlap(make: Callable[..., Dataset]) -> None:
    """A name listed twice, a name in two splits, and the same bytes under two names are told apart."""
    dataset = make(
        train_weaksup=[sample("a.png"), sample("a.png"), sample("b.png", 1), sample("e.png"), sample("f.png", 1)],
        test=[sample("b.png", 1, WHOLE), sample("c.png", 0, WHOLE)],
    )
    shutil.copy(dataset.root / "a.png", dataset.root / "e.png")
    shutil.copy(dataset.root / "a.png", dataset.root / "f.png")
    shutil.copy(dataset.root / "a.png", dataset.root / "c.png")
    assert found(dataset) == [
        ("listed twice", "train-weaksup", 1, True),
        ("same picture, other label", "train-weaksup", 1, True),
        ("also in train-weaksup", "test", 1, True),
        ("same picture as in train-weaksup", "test", 1, True),
        ("same picture twice", "train-weaksup", 1, False),
    ]
    assert check(dataset)[3].examples == ("c.png = a.png",)
    assert [f[0] for f in found(dataset, fast=True)] == ["listed twice", "also in train-weaksup"]


def test_classes(make: Callable[..., Dataset]) -> None:
    """A class that is tested but never trained is wrong; one that no image has is a remark, as is a name used twice."""
    dataset = make(train_weaksup=[sample("a.png")], class_names=("cat", "dog", "Cat"))
    findings = check(dataset)
    assert [(f.problem, f.examples, f.wrong) for f in findings] == [
        ("tested class without a training image", ("1 (dog)",), True),
        ("class without any image", ("2 (Cat)",), False),
        ("class name used twice", ("cat",), False),
    ]
    assert [f.problem for f in check(dataset, ["test"])] == ["class name used twice"]


def test_lists_that_lost_lines(make: Callable[..., Dataset]) -> None:
    """dataset.json remembers how many images and boxes there were."""
    dataset = make()
    for file in ("image_ids.txt", "class_labels.txt"):
        path = dataset.root / "metadata/test" / file
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    findings = check(dataset)
    assert [(f.problem, f.count, f.examples) for f in findings] == [
        ("wrong number of images", 1, ("1 images, 2 when it was prepared",)),
        ("wrong number of boxes", 2, ("1 boxes, 3 when it was prepared",)),
    ]


def test_published_numbers(make: Callable[..., Dataset]) -> None:
    """A dataset of the catalogue must have the published number of images in each split; other names need not."""
    assert found(make(name="cub")) == [
        ("not the published number", "train-weaksup", 5992, True),
        ("not the published number", "test", 5792, True),
    ]
    dataset = make(name="cub")
    data = json.loads((dataset.root / "dataset.json").read_text())
    (dataset.root / "dataset.json").unlink()
    assert data["name"] == "cub"
    assert found(open_dataset(dataset.root)) == []


def test_splits_that_are_missing(make: Callable[..., Dataset]) -> None:
    """A split that was prepared and is gone is wrong; one of the catalogue that was never prepared is a remark."""
    dataset = make(name="cub")
    shutil.rmtree(dataset.root / "metadata/test")
    assert ("split cannot be read", "test", 1, True) in found(dataset)
    data = json.loads((dataset.root / "dataset.json").read_text())
    del data["counts"]["test"]
    (dataset.root / "dataset.json").write_text(json.dumps(data))
    assert ("published split that was not prepared", "test", 1, False) in found(open_dataset(dataset.root))


def test_lists_that_cannot_be_read(make: Callable[..., Dataset]) -> None:
    """A bad line is a finding with the reader's own sentence; the other splits are looked at."""
    dataset = make()
    (dataset.root / "metadata/test/class_labels.txt").write_text("c.png,cat\n")
    (finding,) = check(dataset)
    assert (finding.problem, finding.split) == ("split cannot be read", "test")
    assert "line 1: expected 2 fields" in finding.examples[0]


def test_examples_are_few(tmp_path: Path, make: Callable[..., Dataset], pictures: Pictures) -> None:
    """Of many images with a problem the first three are shown, and all are counted; own data are looked through too."""
    test = [sample(f"{i}.png", 0, WHOLE) for i in range(9)]
    (finding,) = check(make(test=test))
    assert finding == Finding("missing file", "test", 9, ("0.png", "1.png", "2.png"))
    pictures(tmp_path / "photos", "cat/1.png", "dog/2.png")
    (tmp_path / "photos/dog/3.png").write_text("")
    assert found(open_dataset(tmp_path / "photos")) == [("unreadable image", "train-weaksup", 1, True)]


def test_masks(make_dataset: Callable[..., Path]) -> None:
    """An image with a mask needs no box; masks that cannot be used or are empty are found, unless only headers are."""
    root = make_dataset([(f"{i}.png", 0, [(0, 0, 5, 5)] if i > 1 else [], (20, 30)) for i in range(5)])
    (root / "masks").mkdir()
    for i, (value, size) in enumerate([(255, (30, 20)), (255, (20, 30)), (0, (30, 20))]):
        Image.new("L", size, value).save(root / f"masks/{i}.png")
    dataset = open_dataset(root)
    found = {(f.problem, f.count, f.examples) for f in check(dataset) if "mask" in f.problem or "box" in f.problem}
    turned = f"'{root / 'masks/1.png'}' is a mask of 20x30, its image is 30x20: turn the mask as the EXIF data turn"
    sentence = f"{turned} the image"
    assert found == {("mask that cannot be used", 1, (sentence,)), ("mask without an object", 1, ("2.png",))}
    assert not [f for f in check(dataset, fast=True) if "mask" in f.problem]
    (root / "masks/0.png").unlink()
    assert [f.examples for f in check(dataset, fast=True) if f.problem == "no box"] == [("0.png",)]


def test_summary() -> None:
    """Four images of two classes, with 0, 1, 2 and 3 boxes, two of them of known size, counted by hand."""
    sizes = [None, (10, 40), (30, 20), None]
    samples = [
        Sample(f"{n}.png", Path(), label, np.zeros((n, 4)), size)
        for n, (label, size) in enumerate(zip([5, 5, 5, 2], sizes, strict=True))
    ]
    assert summary("test", samples) == {
        "split": "test",
        "images": 4,
        "classes": 2,
        "boxes": 6,
        "without_boxes": 1,
        "several_boxes": 50.0,
        "fewest": (2, 1),
        "most": (5, 3),
        "smallest_hw": (10, 40),
        "median_hw": (30, 20),
        "largest_hw": (30, 20),
    }
    without = summary("test", samples[:1])
    assert without["smallest_hw"] is without["median_hw"] is without["largest_hw"] is None
