"""Recipes: TOML files and overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from famcli.training.config import TrainConfig
from famcli.training.recipe import Recipe, RunConfig, load_recipe, recipes
from famcli_models import FAMConfig
from famcli_models.errors import ConfigError, FamError, UnknownNameError


def header(path: Path) -> list[str]:
    """The comment that a recipe begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end]]


@pytest.mark.parametrize("name", sorted(recipes()))
def test_packaged_recipes(name: str) -> None:
    """Every recipe in the package is valid and begins with its command, hardware, time and score."""
    load_recipe(name)
    stated = {line.split()[0]: line.split(maxsplit=1)[1:] for line in header(recipes()[name]) if line}
    for word in ("command", "hardware", "time", "score"):
        assert stated.get(word), word
    assert name in " ".join(stated["command"]) or "model card" in " ".join(stated["command"])


def test_defaults() -> None:
    """Without a recipe the configs' own defaults hold."""
    recipe = load_recipe(None)
    assert (recipe.run, recipe.model, recipe.train) == (RunConfig(), FAMConfig(), TrainConfig())


def test_what_comes_later_wins(tmp_path: Path) -> None:
    """The recipe is overridden by the command's own options, and these by --set; values are TOML or a bare word."""
    path = tmp_path / "r.toml"
    path.write_text(
        '[run]\nselect = "loss"\ndata = ["a"]\n[model]\nbackbone = "vgg16"\nnum_parts = 4\n[train]\nepochs = 3\n'
    )
    settings = ["epochs=7", "similarity=ratio", "memory=false", "split=train-fullsup"]
    recipe = load_recipe(str(path), settings, {"data": ["b", "c"]}, {"backbone": "resnet50"})
    assert recipe.run == RunConfig(data=("b", "c"), select="loss", split="train-fullsup")
    assert recipe.model == FAMConfig(backbone="resnet50", num_parts=4, similarity="ratio", memory=False)
    assert recipe.train == TrainConfig(epochs=7)
    assert load_recipe(str(path), ["data=d"], {"data": ["b"]}).run.data == ("d",)
    assert load_recipe(str(path), ['data=["d", "e"]']).run.data == ("d", "e")


def test_a_field_that_two_tables_have() -> None:
    """The key then carries its table; without it the message shows how."""
    recipe = load_recipe(None, ["train.backbone=trained", "model.backbone=vgg16", "model.num_parts=3"])
    assert (recipe.train.backbone, recipe.model.backbone, recipe.model.num_parts) == ("trained", "vgg16", 3)
    with pytest.raises(
        ConfigError, match=r"of \[model\] and \[train\]: write model\.backbone=VALUE or train\.backbone="
    ):
        load_recipe(None, ["backbone=vgg16"])


def test_resolved_recipe_reads_back(tmp_path: Path) -> None:
    """A saved recipe repeats the run: reading it gives an equal one."""
    settings = ["tau=0.4", "backbone_lr=0.5", "mean=[0.1, 0.2, 0.3]", "lr=1e-5", "i_know_this_is_test=true"]
    recipe = load_recipe(None, settings, {"data": ["a", 'odd "name" \\ ä']}, {"backbone": "resnet50"})
    path = tmp_path / "r.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    again = load_recipe(str(path))
    assert (again.run, again.model, again.train) == (recipe.run, recipe.model, recipe.train)


@pytest.mark.parametrize(
    ("settings", "number", "named", "expected"),
    [
        ([], 200, True, 200),
        ([], 7, False, 7),
        (["num_classes=1000"], 7, False, 1000),
        (["num_classes=200"], 200, True, 200),
    ],
)
def test_the_number_of_classes(settings: list[str], number: int, named: bool, expected: int) -> None:
    """It is that of the data, unless the recipe states one."""
    assert load_recipe(None, settings).with_classes(number, named).model.num_classes == expected


def test_a_number_of_classes_that_cannot_be() -> None:
    """Data that name 200 classes cannot train a model of 1,000."""
    with pytest.raises(ConfigError, match="the data name 200 classes, but num_classes is 1000; leave it out"):
        load_recipe(None, ["num_classes=1000"]).with_classes(200, named=True)


@pytest.mark.parametrize(
    ("text", "overrides", "error", "message"),
    [
        ("[model", [], ConfigError, "is not TOML"),
        ("[modle]\n", [], UnknownNameError, "did you mean: model"),
        ("[model]\nbackbones = 1\n", [], UnknownNameError, "did you mean: backbone"),
        ("[run]\nsplits = 'x'\n", [], UnknownNameError, "did you mean: split"),
        ("[model]\nnum_parts = 0\n", [], ConfigError, "num_parts is 0"),
        ("[train]\nepochs = 'many'\n", [], FamError, "epochs"),
        ("[run]\nhalf = 1\n", [], ConfigError, "half is 1"),
        ("[run]\ndata = 3\n", [], ConfigError, "data is 3"),
        ("epochs = 3\n[train]\n", [], ConfigError, r"'epochs' stands outside of a table; put it below \[run\]"),
        ("", ["epoch=3"], UnknownNameError, "did you mean: epochs"),
        ("", ["epochs"], UnknownNameError, "key=value"),
        ("", ["model.epochs=3"], UnknownNameError, "unknown setting 'model.epochs'"),
        ("", ["=3"], UnknownNameError, "key=value"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, overrides: list[str], error: type[FamError], message: str) -> None:
    """What is wrong is named, with near names."""
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        load_recipe(str(path), overrides)


def test_a_recipe_that_is_no_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is an error that names it."""
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"r\.toml is not TOML"):
        load_recipe(str(path))


def test_unknown_recipe() -> None:
    """An unknown recipe lists near ones."""
    with pytest.raises(UnknownNameError, match="mobilenetv1-ilsvrc-frozen"):
        load_recipe("mobilenetv1-ilsvrc-froze")


def test_every_field_is_documented() -> None:
    """The docstring explains each field of the run: the reference is made from it."""
    fields: dict[str, Any] = RunConfig.__dataclass_fields__
    assert RunConfig.__doc__ is not None
    assert [name for name in fields if f"        {name}: " not in RunConfig.__doc__] == []


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=3))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, data: list[str]) -> None:
    """Paths in any script, with any sign in them, are read back from the recipe as they were."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    text = Recipe("x", RunConfig(data=tuple(data)), FAMConfig(), TrainConfig()).to_toml()
    path.write_text(text, encoding="utf-8", newline="")
    assert load_recipe(str(path)).run.data == tuple(data)


def test_bytes_that_are_no_text_are_refused() -> None:
    """A path that is not Unicode cannot be kept, and is refused before anything is done."""
    with pytest.raises(ConfigError, match="not Unicode"):
        RunConfig(data=("/data/\udcff",))


@pytest.mark.parametrize(("text", "tau"), [("", 0.2), ("[model]\ntau = 0.4\n", 0.4)])
def test_the_threshold_of_a_cam(tmp_path: Path, text: str, tau: float) -> None:
    """A CAM starts from its own threshold unless the recipe names one, and the resolved recipe names it."""
    (tmp_path / "r.toml").write_text(text)
    recipe = load_recipe(str(tmp_path / "r.toml"), [], {}, {"method": "cam"})
    assert (recipe.model.method, recipe.model.tau) == ("cam", tau)
    assert f"tau = {tau}" in recipe.to_toml()
    assert load_recipe(str(tmp_path / "r.toml"), ["method=cam"]).model == recipe.model


@pytest.mark.parametrize(("method", "other", "tau"), [("fam", "cam", 0.2), ("cam", "fam", 0.5)])
def test_another_method_has_a_threshold_of_its_own(tmp_path: Path, method: str, other: str, tau: float) -> None:
    """A printed recipe states τ; asked for the other method, the τ of that one counts, unless it is typed."""
    path = tmp_path / "recipe.toml"
    path.write_text(load_recipe(None, [f"method={method}"]).to_toml(), encoding="utf-8")
    assert load_recipe(str(path), model={"method": other}).model.tau == tau
    assert load_recipe(str(path), [f"method={other}"]).model.tau == tau
    assert load_recipe(str(path), ["tau=0.3"], model={"method": other}).model.tau == 0.3
    path.write_text(load_recipe(None, [f"method={method}", "tau=0.35"]).to_toml(), encoding="utf-8")
    assert load_recipe(str(path), model={"method": method}).model.tau == 0.35
