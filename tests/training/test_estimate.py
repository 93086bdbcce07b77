"""What a run would take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.training.estimate import Estimate, dry_run, peak_memory
from famcli.training.recipe import load_recipe
from famcli_models.errors import ConfigError

Make = Callable[..., Path]


def estimate(root: Path, out: Path, *settings: str, **options: Any) -> Estimate:
    common = ("size=64", "batch_size=2", "backbone_weights=none", "epochs=3", *settings)
    recipe = load_recipe(None, common, {"data": [str(root)]}, {"backbone": "test_efficientnet"})
    return dry_run(recipe, out, workers=0, device="cpu", **options)


def test_counts_and_parts(make_splits: Make, make_model: Callable[..., Any], tmp_path: Path) -> None:
    """Images are counted by class and split, each part of the run has a time, and nothing is written."""
    root = make_splits(train_weaksup=[0, 1, 2, 4, 6], train_fullsup=[3, 5])
    make_model().save_pretrained(tmp_path / "teacher")
    before = sorted(tmp_path.rglob("*"))
    teacher = ("lambda_target=1", f"teacher={tmp_path / 'teacher'}", "cached_views=2")
    found = estimate(root, tmp_path / "run", *teacher)
    assert found.classes == [("red", 4, 0), ("green", 1, 2)]
    assert (found.steps, found.recipe.train.epochs, found.recipe.model.num_classes) == (2 * 3, 3, 2)
    parts = {"validation set", "maps of the teacher", "features", "training", "validation after each epoch"}
    assert set(found.seconds) == parts
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.memory["main process"] >= peak_memory() > 0
    assert set(estimate(root, tmp_path / "run", "select=loss").seconds) == {"training"}
    assert sorted(tmp_path.rglob("*")) == before


def test_what_grows_with_the_images(make_splits: Make, tmp_path: Path) -> None:
    """More images than a batch take longer in proportion, and their cached features more memory."""
    few = estimate(make_splits(train_weaksup=[0, 1]), tmp_path / "run", "cached_views=2")
    root = make_splits("many", train_weaksup=list(range(8)) * 50)
    many = estimate(root, tmp_path / "run", "cached_views=2")
    assert (few.steps, many.steps) == (3, 600)
    assert many.seconds["training"] > few.seconds["training"]
    assert many.seconds["features"] > few.seconds["features"]


def test_what_a_run_would_refuse(make_splits: Make, tmp_path: Path) -> None:
    """A folder that a run would not begin in is refused here too, and left as it is."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    root = make_splits(train_weaksup=[0, 1])
    with pytest.raises(ConfigError, match="--exist-ok"):
        estimate(root, tmp_path / "run")
    found = estimate(root, tmp_path / "run", exist_ok=True)
    assert dataclasses.asdict(found.recipe.run)["data"] == (str(root),)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_views_that_fit_all_images(make_splits: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory decides how many views are cached, it is that of all the images, and not of one batch."""
    kept = estimate(make_splits(train_weaksup=[0, 1]), tmp_path / "run", "cached_views=-1")
    assert (kept.recipe.train.cached_views, "features" in kept.seconds) == (2, True)
    root = make_splits("many", train_weaksup=list(range(8)) * 50)
    monkeypatch.setattr("famcli.training.loading.CACHE_BYTES", 300_000)
    none = estimate(root, tmp_path / "run", "cached_views=-1")
    assert (none.recipe.train.cached_views, "features" in none.seconds) == (0, False)
