"""`fam predict --parts`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import Result

from famcli.data.dataset import open_dataset

Fam = Callable[..., Result]


@pytest.fixture
def predict(fam: Fam, checkpoint: Path) -> Fam:
    """A function that runs `fam predict --parts` with the tiny model on the CPU."""

    def run(*arguments: object, code: int = 0) -> Result:
        result = fam("predict", *arguments, "--parts", "--model", checkpoint, "--device", "cpu", "--threshold", 0.3)
        assert result.exit_code == code, result.stderr
        return result

    return run


def table(stderr: str) -> dict[str, list[float]]:
    """The weights and the mean cosine of each image, as printed."""
    lines = [line.strip("| ").split(" | ") for line in stderr.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0]] == [*(f"part {k}" for k in range(1, 6)), "mean cosine", "image"]
    return {name: [float(cell) for cell in cells] for *cells, name in lines[2:]}


def test_printed_weights_are_those_of_the_results(predict: Fam, image_dir: Path, names: list[str]) -> None:
    """Every readable image has a line on stderr with K weights that sum to 1 and the mean cosine, as in its record."""
    (image_dir / "aa.png").touch()
    result = predict(image_dir, "--format", "jsonl", code=1)
    printed = table(result.stderr)
    assert list(printed) == names
    records = [json.loads(line) for line in result.stdout.splitlines()]
    for record in (record for record in records if "parts" in record):
        weights, cosine = record["parts"]["weights"], record["parts"]["mean_cosine"]
        assert sum(weights) == pytest.approx(1, abs=1e-4)
        assert printed[record["file_name"]] == pytest.approx([*weights, cosine], abs=6e-4)


def test_forms_with_parts(predict: Fam, image_dir: Path, fam: Fam, checkpoint: Path, tmp_path: Path) -> None:
    """CSV and COCO carry the parts, which readers of COCO accept; detections and a plain run do not."""
    (row, *_) = csv.DictReader(predict(image_dir, "--format", "csv").stdout.splitlines())
    assert list(row)[-6:] == ["mean_cosine", *(f"part_{k}" for k in range(1, 6))]
    assert sum(float(row[f"part_{k}"]) for k in range(1, 6)) == pytest.approx(1, abs=1e-4)
    arguments = (image_dir, "--format", "coco-results")
    without = fam("predict", *arguments, "--model", checkpoint, "--device", "cpu", "--threshold", 0.3)
    assert predict(*arguments).stdout == without.stdout
    assert without.stdout.startswith("[")
    assert "part" not in without.stdout + without.stderr
    out = image_dir / "boxes.json"
    assert predict(image_dir, "--out", out).stdout == ""
    content = json.loads(out.read_text())
    assert all(len(image["parts"]["weights"]) == 5 for image in content["images"])
    assert len(COCO(out).getAnnIds()) == len(content["annotations"]) == 5
    assert open_dataset(out).count(["test"]) == 5


def test_pictures_and_maps(predict: Fam, image_dir: Path, names: list[str]) -> None:
    """Overlays and maps of parts lie beside the others and the masks; a second run does not take them for input."""
    folders = ("--overlays", image_dir / "o", "--maps", image_dir / "m", "--masks", image_dir / "k")
    for _ in range(2):
        images = json.loads(predict(image_dir, *folders, "--out", "-").stdout)["images"]
        assert [image["file_name"] for image in images] == names
    for image in images:
        name, size = image["file_name"], (image["width"], image["height"])
        assert np.load(image_dir / "m" / f"{name}.parts.npy").shape[0] == 5
        with Image.open(image_dir / "o" / f"{name}.parts.overlay.jpg") as picture:
            assert picture.size == (3 * size[0], 2 * size[1])
        for file in (f"o/{name}.overlay.jpg", f"m/{name}.npy", f"k/{name}.mask.png"):
            assert (image_dir / file).is_file()


def test_one_part(fam: Fam, make_model: Callable[..., Any], image_dir: Path, tmp_path: Path) -> None:
    """A single part weighs 1 and is like no other."""
    make_model(num_parts=1).save_pretrained(tmp_path / "one")
    result = fam("predict", image_dir, "--parts", "--model", tmp_path / "one", "--device", "cpu", "--format", "jsonl")
    assert json.loads(result.stdout.splitlines()[0])["parts"] == {"weights": [1.0], "mean_cosine": None}
    assert "|  1.000 |             | a.jpg |" in result.stderr
