"""The packaged models: what they are, what their cards say, and what they find on the demo's photographs."""

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

DOCS = Path(__file__).parent.parent.parent / "docs"
# By model and photograph; of models that know the classes of ILSVRC.
EXPECTED = json.loads((Path(__file__).parent / "photographs.json").read_text(encoding="utf-8"))
# Fields of a config that weights, data and training decide, and a recipe need not state.
DECIDED = {"num_classes", "same_padding", "backbone_head", "part_std", "temperature", "box_score"}
each_model = pytest.mark.parametrize("name", packaged())


@pytest.mark.parametrize("name", EXPECTED)
def test_photographs(name: str) -> None:
    """Boxes, classes and the mean of M are those that were checked and kept, within a pixel-sized tolerance."""
    predictor = Predictor(FAM.from_pretrained(name), "cpu")
    for photo in PHOTOS:
        found, expected = predictor(photo_folder() / photo.file), EXPECTED[name][photo.file]
        assert found.classes[0].name == expected["class"], photo.file
        assert float(found.M.mean()) == pytest.approx(expected["mean_M"], abs=2e-3), photo.file
        assert len(found.regions) == 1, photo.file
        assert box_iou(found.regions[0].xyxy, expected["xyxy"])[0, 0] > 0.97, photo.file


def test_the_default_model() -> None:
    """It is packaged, knows the classes of ILSVRC, and every photograph has its numbers."""
    assert DEFAULT_MODEL in EXPECTED.keys() <= packaged().keys()
    for expected in EXPECTED.values():
        assert expected.keys() == {photo.file for photo in PHOTOS}


@each_model
def test_files(name: str) -> None:
    """The weights are small, and nothing tells where the checkpoint was made; there are at most three."""
    assert (packaged()[name] / "model.safetensors").stat().st_size <= 10e6
    assert "/" not in "".join(FAM.from_pretrained(name).provenance["data"])
    assert len(packaged()) <= 3


@each_model
def test_pages(name: str) -> None:
    """The documentation has a page of each model, with its card, and leads to it."""
    page = f"models/{name}.md"
    assert f"weights/{name}/README.md" in (DOCS / page).read_text(encoding="utf-8")
    assert f"      - {name}: {page}\n" in (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")


@each_model
def test_recipe_is_the_models(name: str) -> None:
    """The recipe that a model was trained with gives its config, up to what weights, data and training decide."""
    model = FAM.from_pretrained(name)
    config, recipe = model.config.to_dict(), load_recipe(model.provenance["recipe"]).model.to_dict()
    assert {key for key in config if config[key] != recipe[key]} <= DECIDED


@each_model
def test_card_reports_what_was_measured(name: str) -> None:
    """The rows of the card are those of results.json, of exactly these weights; a centre box is beaten by a margin."""
    folder = packaged()[name]
    card = (folder / "README.md").read_text(encoding="utf-8")
    found = read_all(folder / "results.json")
    for results in found:
        assert results.source["weights_sha256"] == sha256_file(folder / "model.safetensors")
        assert f"### {results.data['name']}, {results.data['split']}, {results.data['images']} images" in card
        for row in results.rows:
            assert f"| {row.metrics['gt_known'].value:.1f} [" in card
    rows = {row.method: row for row in found[0].rows}
    assert rows["FAM"].metrics["gt_known"].value > rows["centre"].metrics["gt_known"].value + 5
