"""Recipes: TOML files and overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.recipe import load_recipe, recipes
from famcli.train import TrainConfig
from famcli_models import FAMConfig
from famcli_models.errors import ConfigError, FamError, UnknownNameError


@pytest.mark.parametrize("name", sorted(recipes()))
def test_packaged_recipes_load(name: str) -> None:
    """Every recipe in the package is valid and says its command, hardware, time and score."""
    load_recipe(name)
    text = recipes()[name].read_text(encoding="utf-8")
    assert all(f"# {word}" in text for word in ("command", "hardware", "time", "score"))


def test_defaults() -> None:
    """Without a recipe the configs' own defaults hold."""
    recipe = load_recipe(None)
    assert (recipe.model, recipe.train) == (FAMConfig(), TrainConfig())


def test_what_comes_later_wins(tmp_path: Path) -> None:
    """The recipe is overridden by the command's own options, and these by --set; values are TOML or a bare word."""
    path = tmp_path / "r.toml"
    path.write_text('[model]\nbackbone = "vgg16"\nnum_parts = 4\n[train]\nepochs = 3\n')
    recipe = load_recipe(str(path), ["epochs=7", "similarity=ratio", "memory=false"], {"backbone": "resnet50"})
    assert recipe.model == FAMConfig(backbone="resnet50", num_parts=4, similarity="ratio", memory=False)
    assert recipe.train == TrainConfig(epochs=7)


def test_resolved_recipe_reads_back(tmp_path: Path) -> None:
    """A saved recipe repeats the run: reading it gives an equal one."""
    recipe = load_recipe(None, ["tau=0.4", "backbone_lr=0.5", "backbone=resnet50", "mean=[0.1, 0.2, 0.3]"])
    path = tmp_path / "r.toml"
    path.write_text(recipe.to_toml())
    again = load_recipe(str(path))
    assert (again.model, again.train) == (recipe.model, recipe.train)


@pytest.mark.parametrize(
    ("text", "overrides", "error", "message"),
    [
        ("[model", [], ConfigError, "is not TOML"),
        ("[modle]\n", [], UnknownNameError, "did you mean: model"),
        ("[model]\nbackbones = 1\n", [], UnknownNameError, "did you mean: backbone"),
        ("[model]\nnum_parts = 0\n", [], ConfigError, "num_parts is 0"),
        ("[train]\nepochs = 'many'\n", [], FamError, "epochs"),
        ("", ["epoch=3"], UnknownNameError, "did you mean: epochs"),
        ("", ["epochs"], UnknownNameError, "key=value"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, overrides: list[str], error: type[FamError], message: str) -> None:
    """What is wrong is named, with near names."""
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        load_recipe(str(path), overrides)


def test_unknown_recipe() -> None:
    """An unknown recipe lists the known ones."""
    with pytest.raises(UnknownNameError, match="mobilenetv1-ilsvrc-frozen"):
        load_recipe("mobilenetv1-ilsvrc")
