"""Own data under a name of their own, by the commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from famcli.data.dataset import open_dataset
from famcli_models.errors import DataError

Fam = Callable[..., Result]


def test_own_data(fam: Fam, home: Path, jpeg: Any, tmp_path: Path) -> None:
    """Own photographs by class get a name, stay where they are, and are prepared again when there are more."""
    for name in ("cat/1.jpg", "dog/2.jpg"):
        jpeg(tmp_path / "own" / name)
    result = fam("data", "prepare", "pets", "--from", tmp_path / "own", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["changed"]
    pets = open_dataset("pets")
    assert pets.class_names == ("cat", "dog")
    assert pets.images == tmp_path / "own"
    assert not json.loads(fam("data", "prepare", "pets", "--from", tmp_path / "own", "--json").stdout)["changed"]
    jpeg(tmp_path / "own" / "cow" / "3.jpg")
    assert json.loads(fam("data", "prepare", "pets", "--from", tmp_path / "own", "--json").stdout)["changed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("imagenet",), "did you mean"),
        (("pets",), "for your own data add --from"),
        (("../pets", "--from", "."), "cannot be the name"),
    ],
)
def test_names(fam: Fam, home: Path, arguments: tuple[str, ...], words: str) -> None:
    """A name that is neither known nor given data, or that is a path, is an error."""
    result = fam("data", "prepare", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr


def test_a_split_that_is_gone(fam: Fam, home: Path, jpeg: Any, tmp_path: Path) -> None:
    """Own data that lost a split are prepared again without it."""
    own = tmp_path / "own"
    for name in ("train/cat/1.jpg", "test/cat/2.jpg"):
        jpeg(own / name)
    assert fam("data", "prepare", "pets", "--from", own).exit_code == 0
    assert open_dataset("pets").splits() == ["train-weaksup", "test"]
    (own / "test").rename(tmp_path / "elsewhere")
    assert fam("data", "prepare", "pets", "--from", own).exit_code == 0
    assert open_dataset("pets").splits() == ["train-weaksup"]


def test_the_split_is_said(fam: Fam, home: Path, jpeg: Any, tmp_path: Path) -> None:
    """The command in the message about a split that own boxes do not have makes a dataset that has it."""
    jpeg(tmp_path / "1.jpg")
    table = tmp_path / "boxes.csv"
    table.write_text("image,label,x0,y0,x1,y1\n1.jpg,cat,1,2,3,4\n")
    with pytest.raises(DataError) as caught:
        open_dataset(table).samples("train-weaksup")
    command = str(caught.value).partition("'fam ")[2].partition("' and give")[0]
    assert fam(*shlex.split(command.replace("NAME", "pets"))).exit_code == 0
    assert len(open_dataset("pets").samples("train-weaksup")) == 1


def test_a_damaged_dataset_is_listed(fam: Fam, home: Path, jpeg: Any, tmp_path: Path) -> None:
    """A damaged dataset.json does not hide the other datasets: its row says so, and what to do is told."""
    jpeg(tmp_path / "own" / "cat" / "1.jpg")
    for name in ("pets", "birds"):
        assert fam("data", "prepare", name, "--from", tmp_path / "own").exit_code == 0
    (home / "cub").mkdir()
    for name in ("pets", "cub"):
        (home / name / "dataset.json").write_text('{"format": "fam-dataset"')
    result = fam("data", "list", "--json")
    assert result.exit_code == 0
    states = {row["name"]: row["state"] for row in json.loads(result.stdout)["datasets"]}
    assert (states["pets"], states["cub"], states["birds"]) == ("damaged", "damaged", "prepared")
    assert "pets is damaged and must be prepared again" in result.stderr
    assert "damaged" in fam("data", "list").stdout
    assert fam("data", "prepare", "pets", "--from", tmp_path / "own").exit_code == 0
    assert open_dataset("pets").class_names == ("cat",)


def test_only_for_ilsvrc(fam: Fam, home: Path) -> None:
    """Options of own data and of ILSVRC are wrong usage elsewhere."""
    assert fam("data", "prepare", "cub", "--without-train").exit_code == 2
    assert fam("data", "prepare", "cub", "--format", "coco").exit_code == 2
