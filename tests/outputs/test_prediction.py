"""Predictions: their JSON record, their Hugging Face form, and the likeness of parts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from famcli.outputs.prediction import ClassScore, Failure, PartMaps, Prediction, readable_lines
from famcli_models.errors import ConfigError, DataError, ShapeError
from famcli_models.localization import Region

CLASSES = (ClassScore(3, "cat", 0.5), ClassScore(1, "dog", 0.25))


def prediction(*regions: Region, known: bool = False) -> Prediction:
    """A prediction of an image of 20 x 30."""
    return Prediction("p.jpg", (20, 30), CLASSES, regions, np.zeros((2, 2)), (0.7, 0.5)[: len(regions)], known)


def test_detections() -> None:
    """Each region and class is one entry, best score first, with plain numbers that JSON takes."""
    found = prediction(Region((1.0, 2.0, 11.0, 12.0), 80, 0.6), Region((20.0, 0.0, 30.0, 20.0), 70, 0.9)).detections()
    assert [(d["label"], round(d["score"], 4)) for d in found] == [
        ("cat", 0.7), ("cat", 0.5), ("dog", 0.35), ("dog", 0.25),
    ]  # fmt: skip
    assert found[0]["box"] == {"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 12}
    assert json.loads(json.dumps(found)) == found
    assert all(type(value) is int for d in found for value in d["box"].values())
    assert all(type(d["score"]) is float for d in found)
    assert prediction().detections() == []


@pytest.mark.parametrize(
    ("xyxy", "box"), [((0.6, 1.2, 10.1, 11.9), (0, 1, 11, 12)), ((-3.0, -0.5, 40.0, 20.4), (0, 0, 30, 20))]
)
def test_corners_go_outwards_and_stay_inside(xyxy: tuple[float, ...], box: tuple[int, ...]) -> None:
    """Corners between pixels are rounded so that the box holds what it held, and cut to the image."""
    (first, _) = prediction(Region(xyxy, 80, 0.6)).detections()  # type: ignore[arg-type]
    assert tuple(first["box"].values()) == box


def test_record() -> None:
    """A record has the size, the classes, and for each box its score, which is less for a less probable class."""
    assert prediction(Region((1.0, 2.0, 4.0, 6.0), 10, 0.8)).to_dict() == {
        "file_name": "p.jpg",
        "width": 30,
        "height": 20,
        "classes": [{"index": 3, "name": "cat", "probability": 0.5}, {"index": 1, "name": "dog", "probability": 0.25}],
        "boxes": [{"xyxy": [1.0, 2.0, 4.0, 6.0], "area": 10, "foreground": 0.8, "scores": [0.7, 0.35]}],
    }


def test_known_class() -> None:
    """A given class, which the model may not know, has the score of the box."""
    known = replace(
        prediction(Region((0.0, 0.0, 1.0, 1.0), 1, 0.8), known=True), classes=(ClassScore(0, "wasp", None),)
    )
    assert known.to_dict()["boxes"][0]["scores"] == [0.7]
    assert known.to_dict()["given"] is True
    assert replace(known, box_scores=()).detections()[0]["score"] == 0.8


def test_arrays() -> None:
    """Boxes, scores and labels go together, one a region, with the best class; without a region they are empty."""
    found = prediction(Region((1.0, 2.0, 11.0, 12.0), 80, 0.6), Region((20.0, 0.0, 30.0, 20.0), 70, 0.9))
    assert found.boxes.tolist() == [[1, 2, 11, 12], [20, 0, 30, 20]]
    assert found.scores.tolist() == [0.7, 0.5]
    assert found.labels == ("cat", "cat")
    empty = prediction()
    assert (empty.boxes.shape, empty.scores.shape, empty.labels) == ((0, 4), (0,), ())


def test_map_of_any_size() -> None:
    """The map is upsampled to the photograph, or to a size that is asked for, by pixel centres."""
    found = replace(prediction(), M=np.array([[0.0, 1.0]], np.float32))
    assert found.map().shape == (20, 30)
    assert found.map((1, 4)).tolist() == [[0, 0.25, 0.75, 1]]
    for size in ((0, 4), (1, 4, 3), 7):
        with pytest.raises(ShapeError, match=r"a size is \(h, w\) in pixels"):
            found.map(size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probability", "known", "label"),
    [(0.49, False, "object"), (0.5, False, "cat"), (0.1, True, "cat"), (None, True, "cat")],
)
def test_lines(probability: float | None, known: bool, label: str) -> None:
    """A line a box with the name of a class that is more likely right than wrong, or that was given."""
    found = replace(
        prediction(Region((1.4, 2.0, 11.0, 12.0), 80, 0.6), Region((20.0, 0.0, 30.0, 20.0), 70, 0.9), known=known),
        classes=(ClassScore(3, "cat", probability),),
    )
    first, second = readable_lines(found.to_dict())
    assert first == f"p.jpg  {label} {found.scores[0]:.2f}  box 1,2,11,12"
    assert second == f"p.jpg  {label} {found.scores[1]:.2f}  box 20,0,30,20"
    assert list(readable_lines(prediction().to_dict())) == ["p.jpg  nothing found"]
    assert list(readable_lines(Failure("a.jpg", "empty").to_dict())) == []


def test_overlay_and_save(tmp_path: Path) -> None:
    """A picture or a results file as the suffix says, of an array or of a file that is read again."""
    photo = np.full((20, 30, 3), 200, np.uint8)
    Image.fromarray(photo).save(tmp_path / "p.png")
    found = replace(
        prediction(Region((1.0, 2.0, 11.0, 12.0), 80, 0.6)), source=photo, class_names=("a", "dog", "b", "cat")
    )
    pixels = np.asarray(found.overlay())
    assert pixels.shape == photo.shape
    assert (pixels != photo).any()
    assert np.array_equal(np.asarray(replace(found, source=tmp_path / "p.png").overlay()), pixels)
    found.save(tmp_path / "o.png")
    with Image.open(tmp_path / "o.png") as saved:
        assert np.array_equal(np.asarray(saved), pixels)
    found.save(tmp_path / "o.JPG")
    with Image.open(tmp_path / "o.JPG") as saved:
        assert (saved.format, saved.size) == ("JPEG", (30, 20))
    found.save(str(tmp_path / "o.json"))
    data = json.loads((tmp_path / "o.json").read_text())
    assert [a["bbox"] for a in data["annotations"]] == [[1, 2, 10, 10], [1, 2, 10, 10]]
    assert [a["category_id"] for a in data["annotations"]] == [4, 2]
    found.save(tmp_path / "o.jsonl")
    assert json.loads((tmp_path / "o.jsonl").read_text()) == found.to_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.JPG", "o.json", "o.jsonl", "o.png", "p.png"]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    """A suffix that is nothing, a photograph that has gone, a disk that refuses: one sentence each, nothing written."""
    found = replace(prediction(), source=tmp_path / "gone.png")
    with pytest.raises(ConfigError, match=r"'x\.txt'"):
        found.save("x.txt")
    with pytest.raises(DataError, match=r"p\.jpg: no such file"):
        found.save(tmp_path / "x.png")
    with pytest.raises(ConfigError, match="does not say where"):
        prediction().overlay()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        replace(found, source=np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "file" / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    """supervision takes boxes, scores, class and name, also of nothing found; its absence is one sentence."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "supervision", None)
        with pytest.raises(ConfigError, match="pip install supervision"):
            prediction().to_supervision()
    supervision = pytest.importorskip("supervision")
    found = prediction(Region((1.0, 2.0, 11.0, 12.0), 80, 0.6)).to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.xyxy.tolist() == [[1, 2, 11, 12]]
    assert found.confidence == pytest.approx([0.7])
    assert (found.class_id.tolist(), found["class_name"].tolist()) == ([3], ["cat"])
    assert len(prediction().to_supervision()) == 0
    assert len(found[found.confidence > 0.75]) == 0


def test_record_of_a_failure() -> None:
    """A failure is its name and reason."""
    assert Failure("a.jpg", "the file is empty").to_dict() == {"file_name": "a.jpg", "error": "the file is empty"}


@pytest.mark.parametrize(
    ("maps", "cosine"),
    [
        ([[[1.0, 0.0]], [[0.25, 0.0]]], 1),
        ([[[1.0, 0.0]], [[0.0, 1.0]]], 0),
        ([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]], (0 + 2 * np.sqrt(0.5)) / 3),  # the mean of three pairs
        ([[[0.0, 0.0]], [[1.0, 0.0]]], 0),  # a map of zeros is like nothing and is no NaN
        ([[[0.5, 0.5]]], None),  # one part has no pair
    ],
)
def test_cosine_by_hand(maps: list[list[list[float]]], cosine: float | None) -> None:
    """Equal maps have 1, maps without a common cell 0."""
    found = PartMaps((1 / len(maps),) * len(maps), np.array(maps, np.float32)).cosine()
    assert found == (None if cosine is None else pytest.approx(cosine))
