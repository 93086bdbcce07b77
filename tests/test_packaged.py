"""The packaged checkpoint: what it is, what its card says, and what it finds on the demo's photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from famcli.demo import PHOTOS, photo_folder
from famcli.names import DEFAULT_MODEL
from famcli.predict import Predictor
from famcli.recipe import load_recipe
from famcli_models import FAM, packaged
from famcli_models.boxes import box_iou

GOLDEN = json.loads((Path(__file__).parent / "golden" / f"{DEFAULT_MODEL}.json").read_text(encoding="utf-8"))
FOLDER = packaged()[DEFAULT_MODEL]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The packaged model on the CPU."""
    return Predictor(FAM.from_pretrained(DEFAULT_MODEL), "cpu")


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.file)
def test_golden_photographs(predictor: Predictor, photo: object) -> None:
    """Boxes, classes and the mean of M are those that were looked at and kept, within a pixel-sized tolerance."""
    name = photo.file  # type: ignore[attr-defined]
    found, golden = predictor(photo_folder() / name), GOLDEN[name]
    assert found.classes[0].name == golden["class"]
    assert float(found.M.mean()) == pytest.approx(golden["mean_M"], abs=2e-3)
    assert len(found.regions) == 1
    assert box_iou(found.regions[0].xyxy, golden["xyxy"])[0, 0] > 0.97


def test_size() -> None:
    """The weights are float16 and small enough to be part of a package."""
    assert (FOLDER / "model.safetensors").stat().st_size < 10e6


def test_recipe_is_the_models() -> None:
    """The recipe of the same name gives the config of the checkpoint, up to what the backbone weights decide."""
    config = FAM.from_pretrained(DEFAULT_MODEL).config.to_dict()
    recipe = load_recipe("mobilenetv1-ilsvrc-frozen").model.to_dict()
    assert {key for key in config if config[key] != recipe[key]} == {"same_padding"}


def test_card_reports_what_was_measured() -> None:
    """The rows of the card are the rows of results.json; a centre box is beaten by a margin."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    results = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    for result in results:
        assert f"### {result['data']}, {result['split']}, {result['images']} images" in card
        for row in result["rows"]:
            assert f"| {row['gt_known']:.1f} |" in card
    rows = {row["method"]: row for row in results[0]["rows"]}
    assert rows["FAM"]["gt_known"] > rows["centre box, 70% of each side"]["gt_known"] + 5


def test_no_private_paths() -> None:
    """Nothing in the checkpoint tells where it was made."""
    assert "/" not in "".join(FAM.from_pretrained(DEFAULT_MODEL).provenance["data"])
