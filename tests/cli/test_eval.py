"""`fam eval`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Fam = Callable[..., Result]


@pytest.fixture
def dataset(make_dataset: Callable[..., Path]) -> Path:
    """Three images with one box each."""
    return make_dataset([(f"{i}.png", i, [(5, 5, 30, 30)], (40, 50)) for i in range(3)])


def test_table(fam: Fam, checkpoint: Path, dataset: Path) -> None:
    """stdout is a Markdown table: FAM, the centre box and the whole image."""
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0].split(",")[0] for row in cells] == [
        "method",
        "-" * len(lines[1].split(" ")[1]),
        "FAM",
        "centre box",
        "whole image",
    ]
    assert cells[2][1] == "0.5 (fixed)"
    assert "3 images" in result.stderr


def test_json(fam: Fam, checkpoint: Path, dataset: Path) -> None:
    """--json prints the same numbers as one object."""
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", "--json")
    data = json.loads(result.stdout)
    assert (data["split"], data["images"]) == ("test", 3)
    assert [row["method"].split(",")[0] for row in data["rows"]] == ["FAM", "centre box", "whole image"]
    fam_row = data["rows"][0]
    assert fam_row["top1_loc"] <= min(fam_row["top1_cls"], fam_row["gt_known"])


def test_quiet(fam: Fam, checkpoint: Path, dataset: Path) -> None:
    """--quiet leaves the table alone."""
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", "--quiet")
    assert result.stderr == ""
    assert result.stdout.startswith("| method")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("--split", "val"), "splits found: test"), (("--model", "nothing"), "unknown model 'nothing'")],
)
def test_errors(fam: Fam, checkpoint: Path, dataset: Path, arguments: tuple[str, ...], text: str) -> None:
    """A split or model that is not there is one line and exit code 1."""
    model = () if "--model" in arguments else ("--model", checkpoint)
    result = fam("eval", "--data", dataset, "--device", "cpu", *model, *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert text in result.stderr


def test_labels_of_another_dataset(fam: Fam, checkpoint: Path, make_dataset: Callable[..., Path]) -> None:
    """Labels beyond the model's classes are one line and exit code 1."""
    root = make_dataset([("a.png", 7, [(0, 0, 5, 5)], (20, 20))])
    result = fam("eval", "--data", root, "--model", checkpoint, "--device", "cpu")
    assert result.exit_code == 1
    assert "'a.png' has label 7, but the model's 5 classes" in result.stderr
