"""The packaged checkpoint: what it is, what its card says, and what it finds on the demo's photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from famcli.demo import PHOTOS, photo_folder
from famcli.inference.predictor import Predictor
from famcli.results.io import read_all
from famcli.training.recipe import load_recipe
from famcli_models import FAM, packaged
from famcli_models.boxes import box_iou
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.files import sha256_file

EXPECTED = json.loads((Path(__file__).parent / "photographs.json").read_text(encoding="utf-8"))
FOLDER = packaged()[DEFAULT_MODEL]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The packaged model on the CPU."""
    return Predictor(FAM.from_pretrained(DEFAULT_MODEL), "cpu")


@pytest.mark.parametrize("name", EXPECTED)
def test_photographs(predictor: Predictor, name: str) -> None:
    """Boxes, classes and the mean of M are those that were checked and kept, within a pixel-sized tolerance."""
    found, expected = predictor(photo_folder() / name), EXPECTED[name]
    assert found.classes[0].name == expected["class"]
    assert float(found.M.mean()) == pytest.approx(expected["mean_M"], abs=2e-3)
    assert len(found.regions) == 1
    assert box_iou(found.regions[0].xyxy, expected["xyxy"])[0, 0] > 0.97


def test_files() -> None:
    """Every photograph has its numbers, the weights are small, and nothing tells where the checkpoint was made."""
    assert EXPECTED.keys() == {photo.file for photo in PHOTOS}
    assert (FOLDER / "model.safetensors").stat().st_size < 10e6
    assert "/" not in "".join(FAM.from_pretrained(DEFAULT_MODEL).provenance["data"])


def test_recipe_is_the_models() -> None:
    """The recipe of the same name gives the config of the checkpoint, up to what weights and training decide."""
    config = FAM.from_pretrained(DEFAULT_MODEL).config.to_dict()
    recipe = load_recipe("mobilenetv1-ilsvrc-fine").model.to_dict()
    assert {key for key in config if config[key] != recipe[key]} == {
        *("same_padding", "backbone_head", "part_std", "temperature", "box_score")
    }


def test_card_reports_what_was_measured() -> None:
    """The rows of the card are those of results.json, of exactly these weights; a centre box is beaten by a margin."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = read_all(FOLDER / "results.json")
    for results in found:
        assert results.source["weights_sha256"] == sha256_file(FOLDER / "model.safetensors")
        assert f"### {results.data['name']}, {results.data['split']}, {results.data['images']} images" in card
        for row in results.rows:
            assert f"| {row.metrics['gt_known'].value:.1f} [" in card
    rows = {row.method: row for row in found[0].rows}
    assert rows["FAM"].metrics["gt_known"].value > rows["centre"].metrics["gt_known"].value + 5
