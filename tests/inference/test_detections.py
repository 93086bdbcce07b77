"""Predictions in the form of a Hugging Face object detection pipeline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import famcli
from famcli.inference.predictor import ClassScore, Prediction
from famcli_models import FAM
from famcli_models.localization import Region

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "api.md"
CLASSES = (ClassScore(3, "cat", 0.5), ClassScore(1, "dog", 0.25))


def prediction(*regions: Region, known: bool = False) -> Prediction:
    """A prediction of an image of 20 x 30."""
    return Prediction("p.jpg", (20, 30), CLASSES, regions, np.zeros((2, 2)), known)


def test_by_hand() -> None:
    """Each region and class is one entry, best score first, with plain numbers that JSON takes."""
    found = prediction(Region((1.0, 2.0, 11.0, 12.0), 80, 0.6), Region((20.0, 0.0, 30.0, 20.0), 70, 0.9)).detections()
    assert [(d["label"], round(d["score"], 4)) for d in found] == [
        ("cat", 0.45), ("cat", 0.3), ("dog", 0.225), ("dog", 0.15),
    ]  # fmt: skip
    assert found[1]["box"] == {"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 12}
    assert json.loads(json.dumps(found)) == found
    assert all(type(value) is int for d in found for value in d["box"].values())
    assert all(type(d["score"]) is float for d in found)


def test_corners_go_outwards_and_stay_inside() -> None:
    """Corners between pixels are rounded so that the box holds what it held, and cut to the image."""
    (first, _) = prediction(Region((0.6, 1.2, 10.1, 11.9), 80, 0.6)).detections()
    assert first["box"] == {"xmin": 0, "ymin": 1, "xmax": 11, "ymax": 12}
    (first, _) = prediction(Region((-3.0, -0.5, 40.0, 20.4), 80, 0.6)).detections()
    assert first["box"] == {"xmin": 0, "ymin": 0, "xmax": 30, "ymax": 20}


def test_known_class() -> None:
    """A given class is certain: the score is the foreground alone."""
    assert prediction(Region((0, 0, 1, 1), 1, 0.6), known=True).detections()[0]["score"] == pytest.approx(0.6)


def test_nothing() -> None:
    """Where nothing was found the list is empty."""
    assert prediction().detections() == []


def test_load_model(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """load_model takes folders, and hands every other name to the hub."""
    assert isinstance(famcli.load_model(checkpoint), FAM)
    monkeypatch.setattr("famcli.hub.load.find_model", lambda name, **_: {"org/name": checkpoint}[name])
    assert famcli.load_model("org/name").class_names == FAM.from_pretrained(checkpoint).class_names


def test_the_example(tmp_path: Path, picture: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The ten lines on the page of the reference run as they are printed, and print scores, names and corners."""
    program = re.search(r"## Prediction.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    assert len([line for line in program[1].splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(120, 160)).save("photo.jpg")
    exec(compile(program[1], str(PAGE), "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 4
    assert re.fullmatch(r"0\.\d\d  \S.*", lines[0])
    assert re.fullmatch(r"x \d+ to \d+, y \d+ to \d+", lines[1])
