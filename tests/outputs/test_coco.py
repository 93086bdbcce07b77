"""COCO's JSON, and what pycocotools makes of it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from famcli.data.listing import Listing
from famcli.outputs import Run
from famcli.outputs.coco import CocoIds, dataset_json, results_json
from famcli_models.errors import DataError

CLASSES = ("cat", "dog", "cup")
NAMES = ("0007.jpg", "a/100.jpg", "b.jpg")


def record(name: str, *boxes: tuple[float, ...], classes: tuple[int, ...] = (1,)) -> dict[str, Any]:
    """An image of 100 x 50 pixels."""
    return {
        "file_name": name,
        "width": 100,
        "height": 50,
        "classes": [{"index": c, "name": CLASSES[c], "probability": 0.5} for c in classes],
        "boxes": [
            {"xyxy": list(b), "area": 9, "foreground": 0.9, "scores": [0.4 / (i + 1) for i in range(len(classes))]}
            for b in boxes
        ],
    }


RECORDS = [
    record(NAMES[0], (10, 10, 30, 25), (50, 0, 60, 50)),
    {"file_name": NAMES[1], "error": "the file is empty"},
    record(NAMES[2]),
]
IDS = CocoIds.numbered(NAMES, CLASSES)


def run(ids: CocoIds = IDS, **options: bool) -> Run:
    return Run(Listing(Path(), NAMES), CLASSES, ids, {"version": "x"}, **options)


def results(records: Iterable[dict[str, Any]], ids: CocoIds = IDS) -> list[dict[str, Any]]:
    kept = list(records)
    return json.loads("".join(results_json(lambda: kept, run(ids))))


def dataset(records: Iterable[dict[str, Any]], ids: CocoIds = IDS, **options: bool) -> dict[str, Any]:
    kept = list(records)
    return json.loads("".join(dataset_json(lambda: kept, run(ids, **options))))


def test_ids_are_counted_and_not_read_from_names() -> None:
    """Image ids are 1..n over the list; 0007.jpg is image 1. Category ids are class index + 1."""
    assert IDS.images == {"0007.jpg": 1, "a/100.jpg": 2, "b.jpg": 3}
    assert IDS.categories == {0: 1, 1: 2, 2: 3}
    assert IDS.names == {1: "cat", 2: "dog", 3: "cup"}


def test_results() -> None:
    """A result has the four keys that pycocotools reads, with x, y, width, height."""
    assert results(RECORDS) == [
        {"image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 15], "score": 0.4},
        {"image_id": 1, "category_id": 2, "bbox": [50, 0, 10, 50], "score": 0.4},
    ]


def test_dataset() -> None:
    """The dataset lists images that were read, boxes or not; annotation ids start at 1, segmentations are empty."""
    data = dataset(RECORDS)
    assert list(data) == ["info", "licenses", "images", "annotations", "categories"]
    assert data["info"] == {"version": "x"}
    assert data["images"] == [
        {"id": 1, "file_name": "0007.jpg", "width": 100, "height": 50},
        {"id": 3, "file_name": "b.jpg", "width": 100, "height": 50},
    ]
    assert [a["id"] for a in data["annotations"]] == [1, 2]
    assert data["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 2,
        "bbox": [10, 10, 20, 15],
        "score": 0.4,
        "area": 300,
        "iscrowd": 0,
        "segmentation": [],
    }
    assert [(c["id"], c["name"]) for c in data["categories"]] == [(2, "dog")]  # what occurs, with the model's ids
    whole = dataset(RECORDS, all_categories=True)
    assert [(c["id"], c["name"]) for c in whole["categories"]] == list(enumerate(CLASSES, 1))
    failed = [{"file_name": NAMES[0], "error": "the file is empty"}]
    assert dataset(failed, all_categories=True)["categories"] == []  # nothing empty is as long as all of them


def test_entries_of_a_box() -> None:
    """A box is cut to the image, and with several classes it is listed once for each, with its score."""
    found = results([record(NAMES[0], (-5, -5, 105.5, 20), classes=(2, 0))])
    assert [(r["bbox"], r["category_id"], r["score"]) for r in found] == [
        ([0, 0, 100, 20], 3, 0.4),
        ([0, 0, 100, 20], 1, 0.2),
    ]


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def ground_truth(path: Path, categories: dict[int, str]) -> Path:
    images = [{"id": 40 + i, "file_name": name, "width": 100, "height": 50} for i, name in enumerate(NAMES)]
    listed = [{"id": i, "name": name} for i, name in categories.items()]
    return write(path, {"images": images, "annotations": [], "categories": listed})


def test_ids_of_an_existing_file(tmp_path: Path) -> None:
    """Images take their ids by file name, classes by name up to case; a box of a class without a number is left out."""
    ids = CocoIds.from_file(ground_truth(tmp_path / "gt.json", {7: "Dog", 9: "tree"}), CLASSES)
    assert ids.images == {"0007.jpg": 40, "a/100.jpg": 41, "b.jpg": 42}
    assert (ids.categories, ids.names) == ({1: 7}, {7: "Dog", 9: "tree"})
    found = results([record(NAMES[0], (0, 0, 5, 5), classes=(0, 1))], ids)
    assert [(r["image_id"], r["category_id"], r["score"]) for r in found] == [(40, 7, 0.2)]


def test_a_single_category_takes_everything(tmp_path: Path) -> None:
    """A file with one category that is no class, such as "object", takes every box; a class takes its own."""
    ids = CocoIds.from_file(ground_truth(tmp_path / "gt.json", {5: "object"}), CLASSES)
    assert "its one category, object, is no class of the model and takes every box" in ids.remark
    of_dogs = CocoIds.from_file(ground_truth(tmp_path / "dogs.json", {5: "DOG"}), CLASSES)
    assert (of_dogs.categories, of_dogs.remark.split("'")[-1]) == (
        {1: 5},
        ": 1 of 1 classes matched by name; boxes of 2 other classes of the model are left out",
    )
    found = results([record(NAMES[2], (0, 0, 5, 5), classes=(2,))], ids)
    assert [(r["image_id"], r["category_id"]) for r in found] == [(42, 5)]


def test_categories_of_other_classes_are_refused(tmp_path: Path) -> None:
    """A file none of whose categories is a class of the model is a mistake, and is said."""
    with pytest.raises(DataError, match="none of the 2 categories"):
        CocoIds.from_file(ground_truth(tmp_path / "gt.json", {1: "x", 2: "y"}), CLASSES)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff\xfe\x00\x81",
        b"[]",
        b'{"images": []}',
        b'{"images": [{"id": 1}], "categories": []}',
        b'{"images": [{"id": 1.5, "file_name": "a"}], "categories": [{"id": 1, "name": "cat"}]}',
        b'{"images": [], "categories": [1]}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing, or no COCO dataset, is refused with its path."""
    path = tmp_path / "gt.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"gt\.json"):
        CocoIds.from_file(path, CLASSES)


# ---- pycocotools -----------------------------------------------------------------------------------------


def quiet_coco(path: Path | None = None) -> Any:
    """pycocotools' COCO, which prints on stdout."""
    coco = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        return coco.COCO(str(path) if path else None)


def write_dataset(path: Path, records: list[dict[str, Any]]) -> Path:
    return write(path, dataset(records))


def evaluated(truth: Any, found: Any) -> float:
    """Average precision at IoU 0.5."""
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        run = cocoeval.COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[1])


@pytest.mark.filterwarnings("ignore")
def test_pycocotools_reads_the_dataset(tmp_path: Path) -> None:
    """COCO() loads the dataset and finds images, boxes and categories in it."""
    coco = quiet_coco(write_dataset(tmp_path / "d.json", RECORDS))
    assert coco.getImgIds() == [1, 3]
    assert coco.getAnnIds(imgIds=[1]) == [1, 2]
    assert coco.getAnnIds(imgIds=[3]) == []
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["dog"]


@pytest.mark.filterwarnings("ignore")
def test_pycocotools_reads_the_results(tmp_path: Path) -> None:
    """loadRes takes the results, and evaluating them against themselves gives a perfect score."""
    truth = quiet_coco(write_dataset(tmp_path / "d.json", RECORDS))
    path = write(tmp_path / "r.json", results(RECORDS))
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes(str(path))
    assert len(found.anns) == 2
    assert evaluated(truth, found) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore")
def test_pycocotools_with_no_detection(tmp_path: Path) -> None:
    """With nothing found the results are the list `[]`, which loadRes of 2.0.11 does not take; the dataset scores 0."""
    nothing = [record(name) for name in NAMES]
    assert "".join(results_json(lambda: nothing, run())) == "[]\n"
    truth = quiet_coco(write_dataset(tmp_path / "truth.json", [record(n, (0, 0, 5, 5)) for n in NAMES]))
    found = quiet_coco(write_dataset(tmp_path / "found.json", nothing))
    assert found.getImgIds() == [1, 2, 3]
    assert found.getAnnIds() == []
    assert evaluated(truth, found) == 0


def test_nothing_at_all_is_valid_json() -> None:
    """A run in which every image failed still gives whole files; names in other scripts stay as they are."""
    failed = [{"file_name": NAMES[0], "error": "x"}]
    assert results(failed) == []
    assert dataset(failed)["images"] == dataset(failed)["annotations"] == []
    name = 'é漢"x".jpg'
    assert dataset([record(name)], CocoIds.numbered([name], CLASSES))["images"][0]["file_name"] == name
