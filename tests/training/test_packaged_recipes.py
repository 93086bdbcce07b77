"""Packaged recipes: what the paper's cells, rows and axes ask for, and that headers keep to the facts."""

from __future__ import annotations

import re

import pytest

from famcli.training.recipe import load_recipe, recipes
from famcli_models import BACKBONES, FAMConfig

CELLS = [f"{backbone}-{data}" for backbone in BACKBONES for data in ("cub", "ilsvrc")]
SWITCHES = ("sparsity", "memory", "diversity", "importance")


@pytest.mark.parametrize("name", CELLS)
def test_cells_follow_the_paper(name: str) -> None:
    """Each cell of Table 1 has a recipe: the paper's λ, numbers of templates and parts, trained end to end."""
    recipe, paper = load_recipe(name), FAMConfig()
    backbone, _, data = name.partition("-")
    assert (recipe.model.backbone, recipe.run.data, recipe.train.backbone) == (backbone, (data,), "trained")
    for field in ("lambda_spa", "lambda_div", "num_templates", "num_parts", "tau", *SWITCHES):
        assert getattr(recipe.model, field) == getattr(paper, field)
    assert "num_classes" not in recipe.stated


@pytest.mark.parametrize("name", sorted(recipes()))
def test_headers_say_their_own_command(name: str) -> None:
    """The command in a header names the recipe, and the score is a number or says that nothing was run."""
    text = recipes()[name].read_text(encoding="utf-8")
    assert re.search(rf"(?m)^# command +fam train --recipe {re.escape(name)}( |$)", text)
    (score,) = re.findall(r"(?m)^# score +(.*)$", text)
    assert score == "not run" or re.match(r"\d", score)
    assert load_recipe(name).name == name


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
    assert [switch for switch in SWITCHES if getattr(recipe.model, switch)] == [s for s in SWITCHES if s in on]
    assert recipe.model.to_dict() == {**base.model.to_dict(), **{switch: switch in on for switch in SWITCHES}}
    assert (recipe.run, recipe.train) == (base.run, base.train)


@pytest.mark.parametrize(
    ("axis", "field"),
    [("spa", "lambda_spa"), ("div", "lambda_div"), ("templates", "num_templates"), ("parts", "num_parts")],
)
def test_sweeps_vary_one_field(axis: str, field: str) -> None:
    """An axis of figure 7 varies one field of vgg16-cub around the paper's value, which the recipe's name states."""
    base = load_recipe("vgg16-cub")
    values = {}
    for name in recipes():
        if name.startswith(f"sweep-{axis}-"):
            recipe = load_recipe(name)
            values[name.rpartition("-")[2]] = value = getattr(recipe.model, field)
            assert recipe.model.to_dict() == {**base.model.to_dict(), field: value}
            assert (recipe.run, recipe.train) == (base.run, base.train)
    assert len(values) > 4
    assert {f"{value:g}" for value in values.values()} == set(values)
    assert getattr(base.model, field) in values.values()
