"""Recipes: TOML files, overrides, and what the packaged ones say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, strategies as st

from famcli.results.paper import TABLE1
from famcli.training.catalog import OWN_DATA, recipes
from famcli.training.config import TrainConfig
from famcli.training.recipe import Recipe, RunConfig, load_recipe, migrate
from famcli_models import METHODS, FAMConfig
from famcli_models.errors import ConfigError, FamError, UnknownNameError

CELLS = [f"{backbone}-{data}" for data, backbone in TABLE1]
SWITCHES = ("sparsity", "memory", "diversity", "importance")


def written(tmp_path: Path, text: str) -> str:
    """The path of a recipe."""
    path = tmp_path / "r.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def equal(first: Recipe, second: Recipe) -> bool:
    return (first.run, first.model, first.train) == (second.run, second.model, second.train)


def test_what_comes_later_wins(tmp_path: Path) -> None:
    """The command's options override the recipe or the defaults, --set these; a field of two tables needs its table."""
    defaults = load_recipe(None)
    assert (defaults.run, defaults.model, defaults.train) == (RunConfig(), FAMConfig(), TrainConfig())
    text = '[run]\nselect = "loss"\ndata = ["a"]\n[model]\nbackbone = "vgg16"\nnum_parts = 4\n[train]\nepochs = 3\n'
    path = written(tmp_path, text)
    settings = ["epochs=7", "similarity=ratio", "memory=false", "split=train-fullsup"]
    recipe = load_recipe(path, settings, {"data": ["b", "c"]}, {"backbone": "resnet50"})
    assert recipe.run == RunConfig(data=("b", "c"), select="loss", split="train-fullsup")
    assert recipe.model == FAMConfig(backbone="resnet50", num_parts=4, similarity="ratio", memory=False)
    assert recipe.train == TrainConfig(epochs=7)
    assert load_recipe(path, ["data=d"], {"data": ["b"]}).run.data == ("d",)
    assert load_recipe(path, ['data=["d", "e"]']).run.data == ("d", "e")
    recipe = load_recipe(None, ["train.backbone=trained", "model.backbone=vgg16", "model.num_parts=3"])
    assert (recipe.train.backbone, recipe.model.backbone, recipe.model.num_parts) == ("trained", "vgg16", 3)
    message = r"of \[model\] and \[train\]: write model\.backbone=VALUE or train\.backbone="
    with pytest.raises(ConfigError, match=message):
        load_recipe(None, ["backbone=vgg16"])


def test_resolved_recipe_reads_back(tmp_path: Path) -> None:
    """A saved recipe repeats the run: reading it gives an equal one."""
    settings = ["tau=0.4", "backbone_lr=0.5", "mean=[0.1, 0.2, 0.3]", "lr=1e-5", "i_know_this_is_test=true"]
    settings += ["schedule=step", "decay_epochs=[1, 3]"]
    recipe = load_recipe(None, settings, {"data": ["a", 'odd "name" \\ ä']}, {"backbone": "resnet50"})
    assert equal(load_recipe(written(tmp_path, recipe.to_toml())), recipe)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=3))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, data: list[str]) -> None:
    """Paths in any script, with any sign in them, are read back from the recipe as they were."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    text = Recipe("x", RunConfig(data=tuple(data)), FAMConfig(), TrainConfig()).to_toml()
    path.write_text(text, encoding="utf-8", newline="")
    assert load_recipe(str(path)).run.data == tuple(data)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """Neither a path nor a file that is not Unicode is taken; an unknown recipe lists near ones."""
    with pytest.raises(ConfigError, match="not Unicode"):
        RunConfig(data=("/data/\udcff",))
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"r\.toml is not TOML"):
        load_recipe(str(tmp_path / "r.toml"))
    with pytest.raises(UnknownNameError, match="mobilenetv1-ilsvrc-frozen"):
        load_recipe("mobilenetv1-ilsvrc-froze")


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
    """It is that of the data, unless the recipe states one; data that name 200 classes cannot train 1,000."""
    assert load_recipe(None, settings).with_classes(number, named).model.num_classes == expected
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
        ("", ["method=gradcam"], ConfigError, "method is 'gradcam'; it must be one of fam, cam"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, overrides: list[str], error: type[FamError], message: str) -> None:
    """What is wrong is named, with near names."""
    with pytest.raises(error, match=message):
        load_recipe(written(tmp_path, text), overrides)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"epochs": 1.5}, "epochs is 1.5; it must be an integer"),
        ({"lr": -1.0}, "lr is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"ema": 1.0}, "ema is 1"),
        ({"backbone": "thawed"}, "backbone is 'thawed'"),
        ({"precision": "int8"}, "precision is 'int8'; it must be one of fp32, bf16, fp16"),
        ({"compile": 1}, "compile is 1; it must be true or false"),
        ({"backbone": "trained", "cached_views": 2}, "cached_views needs"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be one of adamw, sgd"),
        ({"schedule": "step", "decay_epochs": (0, 3)}, r"decay_epochs is \(0, 3\); it must be a list"),
        ({"schedule": "step", "decay_epochs": 3}, "decay_epochs is 3; it must be a list"),
        ({"decay_epochs": (3,)}, "decay_epochs needs schedule = 'step'"),
    ],
)
def test_bad_training_settings(fields: dict[str, Any], message: str) -> None:
    """A value that is not allowed is named, with what is."""
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**fields)


@pytest.mark.parametrize("kind", [RunConfig, TrainConfig])
def test_every_field_is_documented(kind: Any) -> None:
    """The docstring explains each field: the reference is made from it."""
    assert [name for name in kind.__dataclass_fields__ if f"        {name}: " not in kind.__doc__] == []


@pytest.mark.parametrize(("method", "other", "tau"), [("fam", "cam", 0.2), ("cam", "fam", 0.5)])
def test_each_method_has_a_threshold_of_its_own(tmp_path: Path, method: str, other: str, tau: float) -> None:
    """A printed recipe states τ; asked for the other method, the τ of that one counts, unless it is typed."""
    assert f"tau = {tau}" in load_recipe(None, [f"method={other}"]).to_toml()
    stated = load_recipe(written(tmp_path, "[model]\ntau = 0.4\n"), model={"method": other})
    assert (stated.model.method, stated.model.tau) == (other, 0.4)
    path = written(tmp_path, load_recipe(None, [f"method={method}"]).to_toml())
    assert load_recipe(path, model={"method": other}).model.tau == tau
    assert load_recipe(path, [f"method={other}"]).model.tau == tau
    assert load_recipe(path, ["tau=0.3"], model={"method": other}).model.tau == 0.3
    path = written(tmp_path, load_recipe(None, [f"method={method}", "tau=0.35"]).to_toml())
    assert load_recipe(path, model={"method": method}).model.tau == 0.35


def test_recipes_of_version_0_1(tmp_path: Path) -> None:
    """Their [train] held two settings of FAM, and that of a CAM too, which takes no notice of them."""
    text = "[train]\nepochs = 3\npart_std = 1.5\nsparsity_warmup = 0.5\n"
    assert equal(
        load_recipe(written(tmp_path, text)), load_recipe(None, ["epochs=3", "part_std=1.5", "sparsity_warmup=0.5"])
    )
    cam = load_recipe(written(tmp_path, f'[model]\nmethod = "cam"\nnum_parts = 5\n{text}'))
    assert equal(cam, load_recipe(None, ["method=cam", "epochs=3"]))
    assert equal(load_recipe(written(tmp_path, text), ["method=cam"]), cam)


@pytest.mark.parametrize("name", sorted(recipes()))
def test_packaged_recipes(name: str) -> None:
    """Every recipe is valid; its header says its own command, hardware, time, and a score or that nothing was run."""
    assert load_recipe(name).name == name
    header = recipes()[name].read_text(encoding="utf-8").partition("\n\n")[0]
    stated = dict(re.findall(r"(?m)^# (command|hardware|time|score) +(\S.*)$", header))
    assert set(stated) == {"command", "hardware", "time", "score"}
    given = "--data FOLDER" if name == OWN_DATA else f"--recipe {re.escape(name)}"
    assert re.match(rf"fam train {given}( |$)", stated["command"])
    assert stated["score"] == "not run" or stated["score"][0].isdigit()


@pytest.mark.parametrize("name", CELLS)
def test_cells_follow_the_paper(name: str) -> None:
    """Each cell of Table 1 has a recipe: the paper's λ, numbers of templates and parts, trained end to end."""
    recipe, paper = load_recipe(name), FAMConfig()
    backbone, _, data = name.partition("-")
    assert (recipe.model.backbone, recipe.run.data, recipe.train.backbone) == (backbone, (data,), "trained")
    for field in ("lambda_spa", "lambda_div", "num_templates", "num_parts", "tau", *SWITCHES):
        assert getattr(recipe.model, field) == getattr(paper, field)
    assert "num_classes" not in recipe.stated


def test_cells_of_other_methods(load_script: Callable[[str], ModuleType]) -> None:
    """Each method in Table 1 has a recipe for each of its cells, trained end to end, as the script writes it."""
    script, names = load_script("method_recipes.py"), {method.title: name for name, method in METHODS.items()}
    for (data, backbone), (_, *rows) in TABLE1.items():
        for row in rows:
            recipe = load_recipe(f"{names[row.method]}-{backbone}-{data}")
            found = (recipe.model.method, recipe.model.backbone, recipe.run.data, recipe.train.backbone)
            assert found == (names[row.method], backbone, (data,), "trained")
    for name, text in script.recipes():
        assert recipes()[name].read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize("data", ["imagenette-wsol", "butterflies"])
def test_methods_have_one_budget_on_small_sets(data: str) -> None:
    """They differ in the settings of the method and in nothing of the training but the targets of a FAM."""
    found = [load_recipe(name) for name in recipes() if name.endswith(f"-mobilenetv1-{data}")]
    assert {recipe.model.method for recipe in found} == METHODS.keys() - {"ddt"}  # which nothing is trained for
    first, *others = ((replace(r.train, lambda_target=0.0), replace(r.run, teacher=())) for r in found)
    assert all(other == first for other in others)
    assert {(recipe.model.size, recipe.model.dilation, recipe.model.stride) for recipe in found} == {(224, False, 16)}
    assert [recipe.train.lambda_target > 0 for recipe in found].count(True) == 1


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("table2-none", ()),
        ("table2-sparsity", ("sparsity",)),
        ("table2-sparsity-memory", ("sparsity", "memory")),
        ("table3-none", ("sparsity", "memory")),
        ("table3-diversity", ("sparsity", "memory", "diversity")),
        ("table3-importance", ("sparsity", "memory", "importance")),
        ("table3-diversity-importance", SWITCHES),
    ],
)
@pytest.mark.parametrize(
    ("prefix", "copied"), [("ablation", "vgg16-cub"), ("ablation-mini", "mobilenetv1-cub-mini-frozen")]
)
def test_ablations_switch_what_the_tables_switch(name: str, on: tuple[str, ...], prefix: str, copied: str) -> None:
    """A row of Tables 2 and 3 is its base with some of the four designs off, and nothing else changed."""
    recipe, base = load_recipe(f"{prefix}-{name}"), load_recipe(copied)
    assert recipe.model.to_dict() == {**base.model.to_dict(), **{switch: switch in on for switch in SWITCHES}}
    assert (recipe.run, recipe.train) == (base.run, base.train)


@pytest.mark.parametrize(("images", "epochs"), [(1, 20), (133, 20), (416, 11), (960, 5), (1_000_000, 5)])
def test_epochs_that_fit(images: int, epochs: int) -> None:
    """Few images are taken often and many seldom; a number that is stated stays."""
    assert load_recipe(OWN_DATA).fitted(images).train.epochs == epochs
    assert load_recipe(OWN_DATA, ["epochs=3"]).fitted(images).train.epochs == 3


def test_what_own_data_start_from() -> None:
    """A model by name, unless another backbone or --init is given; a method without a learnt map has no teacher."""
    plain = load_recipe(OWN_DATA)
    assert (plain.run.backbone_weights,) == plain.run.teacher == ("fam-mobilenetv1-ilsvrc",)
    assert load_recipe(OWN_DATA, model={"backbone": "mobilenetv1"}).run.backbone_weights == "fam-mobilenetv1-ilsvrc"
    other = load_recipe(OWN_DATA, model={"backbone": "resnet50"})
    assert (other.run.backbone_weights, other.run.teacher) == ("imagenet", plain.run.teacher)
    assert load_recipe(OWN_DATA, run={"backbone_weights": "none"}).run.backbone_weights == "none"
    typed = load_recipe(OWN_DATA, ["tau=0.4"], {"backbone_weights": "none"}, {"backbone": "vgg16"})
    assert typed.kept == {"tau", "backbone"}
    assert {"tau", "dilation", "fine_channels"} <= load_recipe(OWN_DATA, ["tau=0.4"]).kept  # the file knows its model
    cam = load_recipe(OWN_DATA, model={"method": "cam"})
    assert (cam.run.teacher, cam.run.teacher_flip, cam.train.lambda_target) == ((), False, 0.0)


@pytest.mark.parametrize(
    ("typed", "names"), [("teacher=a", ("a",)), ('teacher=["a", "b"]', ("a", "b")), ("teacher=", ()), ("seed=1", ())]
)
def test_one_teacher_or_several(typed: str, names: tuple[str, ...]) -> None:
    """One may be a bare word; the recipe that is written has a list, and an older one with a name is read."""
    recipe = load_recipe(None, [typed])
    assert recipe.run.teacher == names
    assert f"teacher = {json.dumps(names)}" in recipe.to_toml()
    assert migrate({"run": {"teacher": "a"}, "model": {}, "train": {}})["run"] == {"teacher": ["a"]}


def test_bad_looks_of_a_teacher() -> None:
    """There are one or two."""
    with pytest.raises(ConfigError, match=r"teacher_looks is 3; it must be in \[1, 2\]"):
        load_recipe(None, ["teacher_looks=3"])


@pytest.mark.parametrize("value", ["[]", "1.5", '["a"]', "[9.0]"])
def test_bad_scales_of_a_teacher(value: str) -> None:
    """They are a list of numbers."""
    with pytest.raises(ConfigError, match="teacher_scales is .*; it must be a list of numbers"):
        load_recipe(None, [f"teacher_scales={value}"])
