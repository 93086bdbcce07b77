"""Predictions: their JSON record, their Hugging Face form, and the likeness of parts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from famcli.outputs.prediction import ClassScore, Failure, PartMaps, Prediction, to_record
from famcli_models.localization import Region

CLASSES = (ClassScore(3, "cat", 0.5), ClassScore(1, "dog", 0.25))


def prediction(*regions: Region, known: bool = False) -> Prediction:
    """A prediction of an image of 20 x 30."""
    return Prediction("p.jpg", (20, 30), CLASSES, regions, np.zeros((2, 2)), known)


def test_detections() -> None:
    """Each region and class is one entry, best score first, with plain numbers that JSON takes."""
    found = prediction(Region((1.0, 2.0, 11.0, 12.0), 80, 0.6), Region((20.0, 0.0, 30.0, 20.0), 70, 0.9)).detections()
    assert [(d["label"], round(d["score"], 4)) for d in found] == [
        ("cat", 0.45), ("cat", 0.3), ("dog", 0.225), ("dog", 0.15),
    ]  # fmt: skip
    assert found[1]["box"] == {"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 12}
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
    """A record has the size, the classes, and for each box one score a class: mean M times probability."""
    assert to_record(prediction(Region((1.0, 2.0, 4.0, 6.0), 10, 0.8))) == {
        "file_name": "p.jpg",
        "width": 30,
        "height": 20,
        "classes": [{"index": 3, "name": "cat", "probability": 0.5}, {"index": 1, "name": "dog", "probability": 0.25}],
        "boxes": [{"xyxy": [1.0, 2.0, 4.0, 6.0], "area": 10, "foreground": 0.8, "scores": [0.4, 0.2]}],
    }


def test_known_class() -> None:
    """A given class is certain: the score is the foreground alone."""
    known = prediction(Region((0.0, 0.0, 1.0, 1.0), 1, 0.8), known=True)
    assert to_record(known)["boxes"][0]["scores"] == [0.8, 0.8]
    assert known.detections()[0]["score"] == 0.8


def test_record_of_a_failure() -> None:
    """A failure is its name and reason."""
    assert to_record(Failure("a.jpg", "the file is empty")) == {"file_name": "a.jpg", "error": "the file is empty"}


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
