"""`fam recipes`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from famcli.training.catalog import RecipeNote, recipes
from famcli_models.errors import ConfigError

Fam = Callable[..., Result]


def test_the_list(fam: Fam) -> None:
    """Every packaged recipe has a row with backbone, data and score; as JSON it has the rest of the header too."""
    listed = fam("recipes")
    assert (listed.exit_code, listed.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in listed.stdout.splitlines()]
    assert [row[0] for row in rows[2:]] == list(recipes())
    (cell,) = (row for row in rows if row[0] == "resnet50-cub")
    assert cell[1:4] == ["resnet50", "cub", "not run"]
    assert cell[-1] == "fam train --recipe resnet50-cub"
    notes = json.loads(fam("recipes", "--json").stdout)
    assert [note["name"] for note in notes] == list(recipes())
    assert all(note["title"] and note["hardware"] and note["time"] and note["score"] for note in notes)


def test_one(fam: Fam) -> None:
    """One recipe is printed as it is; a name that is not known is an error with the nearest one."""
    text = recipes()["vgg16-cub"].read_text(encoding="utf-8")
    assert fam("recipes", "vgg16-cub").stdout == text
    told = json.loads(fam("recipes", "vgg16-cub", "--json").stdout)
    assert (told["toml"], told["data"]) == (text, ["cub"])
    wrong = fam("recipes", "vgg16-cubs")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert "did you mean: vgg16-cub" in wrong.stderr


def test_headers(tmp_path: Path) -> None:
    """Facts go on over lines, what follows an empty comment is none of them, and one that is missing is named."""
    text = "# A title,\n# longer.\n#\n# command   fam train\n#           --x\n"
    text += "# hardware  h\n# time      t\n# score     1.0 | s\n"
    path = tmp_path / "mine.toml"
    path.write_text(f"{text}#\n# time flies.\n\n[model]\nbackbone = 'b'\n")
    note = RecipeNote.from_file(path)
    assert (note.title, note.command, note.time, note.score) == ("A title, longer.", "fam train --x", "t", "1.0 | s")
    assert (note.name, note.backbone, note.data) == ("mine", "b", ())
    path.write_text(text.replace("# time ", "# when "))
    with pytest.raises(ConfigError, match=r"mine\.toml: its header does not say time"):
        RecipeNote.from_file(path)
