"""The whole road of somebody with a folder of photographs: train, predict, evaluate and report, without an option."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

SHAPES = ("circle", "square", "triangle")
SIZE_HW = (150, 200)


def drawn(shape: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A shape in a shade of its class on a dark, noisy ground, and its box ``(x, y, width, height)``."""
    photo = rng.integers(0, 70, (*SIZE_HW, 3), dtype=np.uint8)
    photo = cv2.GaussianBlur(photo, (0, 0), 2)
    half = int(rng.integers(28, 45))
    x, y = int(rng.integers(half, SIZE_HW[1] - half)), int(rng.integers(half, SIZE_HW[0] - half))
    colour = [int(c) for c in rng.integers(60, 120, 3)]
    colour[SHAPES.index(shape)] = int(rng.integers(200, 255))
    if shape == "circle":
        cv2.circle(photo, (x, y), half, colour, -1)
    elif shape == "square":
        cv2.rectangle(photo, (x - half, y - half), (x + half - 1, y + half - 1), colour, -1)
    else:
        corners = np.array([(x, y - half), (x - half, y + half - 1), (x + half - 1, y + half - 1)])
        cv2.fillPoly(photo, [corners], colour)
    return photo, (x - half, y - half, 2 * half, 2 * half)


@pytest.mark.slow
def test_a_folder_a_class(fam: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve photographs of each of three shapes are enough to find and to name others, offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    for category, shape in enumerate(SHAPES, 1):
        for folder, count in ((f"shapes/{shape}", 12), ("new", 6)):
            Path(folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                photo, box = drawn(shape, rng)
                Image.fromarray(photo).save(f"{folder}/{shape}{number}.png")
                if folder == "new":
                    size = {"width": SIZE_HW[1], "height": SIZE_HW[0]}
                    images.append({"id": len(images) + 1, "file_name": f"new/{shape}{number}.png", **size})
                    of = {"image_id": len(images), "category_id": category, "bbox": box, "area": box[2] * box[3]}
                    truth.append({"id": len(images), "iscrowd": 0, **of})
    categories = [{"id": i, "name": shape} for i, shape in enumerate(SHAPES, 1)]
    Path("new.json").write_text(json.dumps({"images": images, "annotations": truth, "categories": categories}))

    trained = fam("train", "--data", "shapes")
    assert trained.exit_code == 0, trained.stderr
    run = trained.stdout.strip()
    assert "3 of 36 images are held out" in trained.stderr
    assert {path.name for path in Path(run).iterdir()} >= {
        "config.json",
        "model.safetensors",
        "curves.png",
        "samples.jpg",
    }
    found = fam("predict", "new", "--model", run)
    lines = found.stdout.splitlines()
    assert (found.exit_code, len(lines)) == (0, 18)
    named = [line.split()[1] for line in lines]
    assert sum(line.startswith(name) for line, name in zip(lines, named, strict=True)) >= 14  # the file's name says it
    assert fam("predict", "new", "--model", run, "--out", "boxes.csv").exit_code == 0
    measured = fam("eval", "--model", run, "--data", "new.json", "--out", "results")
    assert measured.exit_code == 0, measured.stderr
    row = json.loads(Path("results/results.json").read_text())["rows"][0]
    assert row["metrics"]["gt_known"]["value"] >= 80
    assert row["metrics"]["top1_cls"]["value"] >= 80
    assert fam("report", "results").exit_code == 0
