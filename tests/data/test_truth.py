"""True boxes and stated sizes that do not fit their images, on every way that truth is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.data.convert import to_wsol
from famcli.data.dataset import Sample, open_dataset, write_dataset
from famcli.data.images import Header
from famcli.data.public.prepare import prepare_own
from famcli.data.truth import check_truth, truth_faults
from famcli.evaluation.run import evaluate
from famcli.training.data import open_data
from famcli.training.recipe import RunConfig
from famcli_models.errors import DataError

GOOD = [2.0, 3.0, 20.0, 10.0]  # x, y, width, height


def write_coco(root: Path, size: tuple[int, int] | None, xywh: list[float], orientation: int = 1) -> Path:
    """A split train-fullsup of two pictures of 40 x 30 stored pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    images, annotations = [], []
    for number, name in enumerate(("a.jpg", "b.jpg"), 1):
        Image.new("RGB", (40, 30)).save(root / name, exif=exif)
        stated = {} if size is None else {"width": size[0], "height": size[1]}
        images.append({"id": number, "file_name": name, **stated})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": xywh})
    path = root / "instances_val.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    )
    return path


def read(path: Path, out: Path) -> None:
    open_dataset(path).samples("val", with_boxes=True)


def prepare(path: Path, out: Path) -> None:
    prepare_own("own", path, "auto", out, None, None)


def convert(path: Path, out: Path) -> None:
    to_wsol(open_dataset(path), out)


def score(path: Path, out: Path) -> None:
    evaluate(path, "no-such-model", split="val")


def train(path: Path, out: Path) -> None:
    (path.parent / "instances_train.json").write_text(
        path.read_text().replace('"bbox": [', '"bbox": [0, 0, 1, 1], "_": [')
    )
    open_data(RunConfig(data=(str(path.parent),)))


@pytest.mark.parametrize("road", [read, prepare, convert, score, train])
@pytest.mark.parametrize(
    ("size", "xywh", "orientation", "words"),
    [
        ((80, 60), GOOD, 1, "a.jpg is given as 80x60, but is 40x30; boxes must be in the pixels of the image"),
        ((40, 30), GOOD, 6, "a.jpg is given as 40x30, but is 30x40 when its EXIF orientation is applied"),
        (None, [25.0, 3.0, 20.0, 10.0], 1, r"box outside the image: a.jpg \(25,3,45,13 of 40x30\)"),
        (None, [-3.0, 3.0, 20.0, 10.0], 1, r"box outside the image: a.jpg \(-3,3,17,13 of 40x30\)"),
        (None, [0.1, 0.2, 0.5, 0.6], 1, r"box within one pixel: a.jpg .* in pixels of the image, not in shares"),
        (None, [50.0, 3.0, 5.0, 5.0], 8, r"box outside the image: a.jpg \(50,3,55,8 of 30x40\)"),
    ],
)
def test_what_cannot_be_true(
    tmp_path: Path, road: Callable[[Path, Path], None], size: Any, xywh: list[float], orientation: int, words: str
) -> None:
    """Sizes of other pictures or unturned pixels, and boxes outside, are refused; nothing is written."""
    (tmp_path / "own").mkdir()
    path = write_coco(tmp_path / "own", size, xywh, orientation)
    with pytest.raises(DataError, match=rf"{words}.* \(2 such images\); 'fam data check .*' lists what is wrong"):
        road(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("size", "orientation"), [((40, 30), 1), ((30, 40), 6), ((0, 0), 1), (None, 8)])
def test_what_may_be_true(tmp_path: Path, size: Any, orientation: int) -> None:
    """The size of the upright picture, one that is not known, and a box that reaches out by a pixel are taken."""
    path = write_coco(tmp_path, size, [-1.0, 0.0, 30.0, 31.0], orientation)
    assert len(open_dataset(path).samples("val", with_boxes=True)) == 2


def test_lists(tmp_path: Path) -> None:
    """Boxes of wsolevaluation's lists are checked alike, and an image that is listed twice counts once."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    samples = [Sample(name, tmp_path / name, 0, np.array([[1.0, 1, 9, 9]])) for name in ("a.png", "b.png", "a.png")]
    with pytest.raises(DataError, match="^list: listed twice: a.png; 'fam x' lists"):
        check_truth(samples, "list", "fam x")
    empty = Sample("b.png", tmp_path / "b.png", 0, np.array([[5.0, 5, 5, 9], [9.0, 9, 4, 4]]))
    write_dataset(tmp_path / "set", "set", tmp_path, ["cat"], {"test": [samples[0], empty]})
    with pytest.raises(DataError, match=r"box without area: b.png \(5,5,5,9, which has no area\)"):
        open_dataset(tmp_path / "set").samples("test", with_boxes=True)
    problems = list(truth_faults(empty, Header((30, 40))))
    assert [example for _, example in problems][1] == "b.png (9,9,4,4, whose width or height is negative)"


def test_images_that_are_not_there(tmp_path: Path) -> None:
    """Preparing names how many images are missing, and refuses if all are."""
    path = write_coco(tmp_path, None, GOOD)
    (tmp_path / "b.jpg").unlink()
    assert (
        "1 of 2 images are not there, the first is"
        in prepare_own("own", path, "auto", tmp_path / "o", None, None).remarks[0]
    )
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"none of the 2 images is there, not even '.*a.jpg': .* --images"):
        prepare_own("own", path, "auto", tmp_path / "o", None, None)
