"""`fam train`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Fam = Callable[..., Result]
SMALL = ("--backbone", "test_efficientnet", "--backbone-weights", "none", "--device", "cpu", "--workers", 0)


@pytest.fixture
def data(make_dataset: Callable[..., Path]) -> Path:
    """Four images with labels; no file with boxes."""
    rows: list[Any] = [(f"{i}.png", i % 2, [], (40, 50)) for i in range(4)]
    root = make_dataset(rows)
    (root / "metadata/test").rename(root / "metadata/train")
    (root / "metadata/train/localization.txt").unlink()
    return root


@pytest.fixture
def train(fam: Fam, data: Path) -> Fam:
    """A function that runs a small `fam train`."""

    def run(*arguments: object) -> Result:
        settings = [f"--set={pair}" for pair in ("size=64", "epochs=2", "batch_size=2", "num_classes=2")]
        return fam("train", "--data", data, *SMALL, *settings, *arguments)

    return run


def test_run_folder(train: Fam, fam: Fam, data: Path, tmp_path: Path) -> None:
    """A run leaves checkpoint, recipe and metrics, prints its folder, and predict takes it at once."""
    out = tmp_path / "run"
    result = train("--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert {p.name for p in out.iterdir()} == {"config.json", "model.safetensors", "recipe.toml", "metrics.csv"}
    assert len((out / "metrics.csv").read_text().splitlines()) == 3
    assert "epoch 2:" in result.stderr
    provenance = json.loads((out / "config.json").read_text())["provenance"]
    assert provenance["data"] == [data.name]
    assert str(tmp_path) not in (out / "config.json").read_text()
    assert fam("predict", data / "0.png", "--model", out, "--device", "cpu").exit_code == 0


def test_saved_recipe_repeats_the_run(train: Fam, tmp_path: Path) -> None:
    """The weights of a run made from the saved recipe are those of the first."""
    first, second = tmp_path / "a", tmp_path / "b"
    train("--out", first)
    result = train("--recipe", first / "recipe.toml", "--out", second)
    assert result.exit_code == 0, result.stderr
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_a_full_folder_is_refused(train: Fam, tmp_path: Path) -> None:
    """An existing run is not overwritten unless that is said."""
    (tmp_path / "notes.txt").write_text("mine")
    refused = train("--out", tmp_path)
    assert refused.exit_code == 1
    assert "--exist-ok" in refused.stderr
    assert train("--out", tmp_path, "--exist-ok").exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_class_names(train: Fam, tmp_path: Path) -> None:
    """Names come from a file, WordNet ids left out."""
    names = tmp_path / "names.txt"
    names.write_text("n00000001 tabby, tabby cat\nn00000002 crane\n")
    result = train("--out", tmp_path / "run", "--class-names", names)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "run/config.json").read_text())["class_names"] == ["tabby", "crane"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "epoch=3"), "did you mean: epochs"),
        (("--recipe", "nope"), "unknown recipe 'nope'"),
        (("--split", "test"), "no metadata/test/"),
        (("--set", "num_classes=1"), "has label 1"),
        (("--set", "lambda_target=1"), "class activation maps"),
    ],
)
def test_bad_input(train: Fam, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """What is wrong is one sentence and exit code 1."""
    result = train("--out", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output
