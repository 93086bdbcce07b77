"""`fam data check`, `info` and `convert`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from famcli.data.dataset import Sample, data_home, write_dataset
from famcli.data.sample import NO_BOXES

Fam = Callable[..., Result]


@pytest.fixture
def birds(pictures: Callable[..., Path]) -> Path:
    """A prepared dataset of two splits in the data home."""
    root = pictures(data_home() / "birds", "a.png", "b.png")
    boxes = np.array([[0, 0, 9, 9], [1, 1, 30, 20.0]])
    splits = {
        "train-weaksup": [Sample("a.png", Path(), 0, NO_BOXES, (20, 30))],
        "test": [Sample("b.png", Path(), 0, boxes, (20, 30))],
    }
    facts = {"terms": "ask first"}
    write_dataset(root, name="birds", images=root, class_names=["wren", "tit"], splits=splits, facts=facts)
    return root


def test_check_of_good_data(fam: Fam, birds: Path) -> None:
    """Nothing wrong is exit code 0; a remark does not change that."""
    result = fam("data", "check", "birds")
    assert result.exit_code == 0
    assert result.stderr == "birds: 2 images, nothing is wrong\n"
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert lines[2].split("|")[1:5] == [" note ", " class without any image ", " train-weaksup ", " 1     "]


def test_check_of_bad_data(fam: Fam, birds: Path) -> None:
    """Anything wrong is a row of the table and exit code 1."""
    (birds / "a.png").unlink()
    result = fam("data", "check", birds, "--split", "train")
    assert result.exit_code == 1
    assert "| wrong | missing file            | train-weaksup | 1     | a.png" in result.stdout
    assert result.stderr == "fam: birds: 1 images, 1 problem\n"


def test_check_as_json(fam: Fam, birds: Path) -> None:
    """--json has the same findings."""
    (birds / "b.png").write_text("")
    result = fam("data", "check", "birds", "--json", "--fast", "--quiet")
    assert (result.exit_code, result.stderr) == (1, "fam: birds: 2 images, 1 problem\n")
    data = json.loads(result.stdout)
    assert (data["dataset"], data["images"], data["ok"]) == ("birds", 2, False)
    assert data["findings"][0] == {
        "problem": "unreadable image",
        "split": "test",
        "count": 1,
        "examples": data["findings"][0]["examples"],
        "wrong": True,
    }


def test_odd_names_do_not_break_the_table(fam: Fam, tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """A bar or a line break in a file's name stays inside its cell."""
    pictures(tmp_path / "photos", "cat/ok.png")
    (tmp_path / "photos/cat/a|b\nc.png").write_text("")
    result = fam("data", "check", tmp_path / "photos")
    assert "a\\|b\\nc.png" in result.stdout
    assert len(result.stdout.splitlines()) == 3


def test_info(fam: Fam, birds: Path) -> None:
    """Name, place, classes and terms, then a row for each split."""
    result = fam("data", "info", "birds")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[-1] for line in lines[:4]] == ["birds", str(birds), str(birds), "2"]
    assert lines[4].split(maxsplit=1) == ["terms:", "ask first"]
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert cells == ["test", "1", "1", "1", "2", "0", "100 %", "30x20"]


def test_info_as_json(fam: Fam, birds: Path) -> None:
    """--json has the numbers unformatted."""
    data = json.loads(fam("data", "info", "birds", "--json").stdout)
    assert (data["name"], data["where"], data["terms"]) == ("birds", str(birds), "ask first")
    assert [(s["split"], s["images"], s["boxes"]) for s in data["splits"]] == [("train-weaksup", 1, 0), ("test", 1, 2)]


def test_info_of_own_data(fam: Fam, tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """Own data is described too; what was left out is said on stderr."""
    pictures(tmp_path / "photos", "cat/a.png", "loose.png")
    result = fam("data", "info", tmp_path / "photos")
    assert "not stated" in result.stdout
    assert "1 images in no folder of a class were left out" in result.stderr


def test_convert_there_and_back(fam: Fam, birds: Path, tmp_path: Path) -> None:
    """stdout is the list of what was written; the metadata comes back as it was."""
    result = fam("data", "convert", "birds", "--to", "coco", "--out", tmp_path / "coco")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / f"coco/instances_{s}.json") for s in ("train", "test")]
    result = fam(
        "data", "convert", tmp_path / "coco", "--images", birds, "--to", "wsol", "-o", tmp_path / "back", "--json"
    )
    assert json.loads(result.stdout)["written"] == [str(tmp_path / f"back/metadata/{s}") for s in ("train", "test")]
    for name in ("image_ids", "class_labels", "image_sizes", "localization"):
        file = f"metadata/test/{name}.txt"
        assert (tmp_path / "back" / file).read_bytes() == (birds / file).read_bytes()
    assert fam("data", "check", tmp_path / "back").exit_code == 0


def test_convert_says_what_was_left_out(fam: Fam, tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """Remarks of the reader are on stderr."""
    pictures(tmp_path / "photos", "cat/a.png", "loose.png")
    result = fam("data", "convert", tmp_path / "photos", "--to", "wsol", "--out", tmp_path / "out")
    assert "1 images in no folder of a class" in result.stderr


@pytest.mark.parametrize("command", ["check", "info", "convert"])
def test_unknown(fam: Fam, birds: Path, command: str) -> None:
    """A dataset that is not there is one line with near names and exit code 1."""
    more = ("--to", "coco", "--out", "x") if command == "convert" else ()
    result = fam("data", command, "bird", *more)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "unknown dataset 'bird' (did you mean: birds)" in result.stderr


def test_eval_takes_any_form(fam: Fam, checkpoint: Path, birds: Path, tmp_path: Path) -> None:
    """fam eval --data takes a name, and own data with boxes."""
    for data in ("birds", tmp_path / "boxes.csv"):
        (tmp_path / "boxes.csv").write_text(f"image,label,x0,y0,x1,y1\n{birds}/a.png,cat,0,0,9,9\n")
        result = fam("eval", "--data", data, "--model", checkpoint, "--other-classes", "--device", "cpu", "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["data"]["images"] == 1
