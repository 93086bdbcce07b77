"""`fam compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Fam = Callable[..., Result]
Make = Callable[..., Path]
GOOD, POOR = [0.9, 0.8, 0.7, 0.4], [0.6, 0.3, 0.7, None]


@pytest.fixture
def folders(make_evaluation: Make) -> list[Path]:
    return [make_evaluation("fam", GOOD, "FAM"), make_evaluation("cam", POOR, "CAM")]


def test_tables(fam: Fam, folders: list[Path], tmp_path: Path) -> None:
    """Two tables on stdout, how to read them on stderr, and the same in files."""
    result = fam("compare", *folders, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    scores, differences = result.stdout.strip().split("\n\n")
    assert [line.split("|")[1].strip() for line in scores.splitlines()[2:]] == ["FAM", "CAM", "centre box"]
    assert "75.00 [0.00, 100.00]" in scores
    assert "| FAM minus CAM | +25.00 [" in differences
    assert "3 methods" not in result.stderr
    assert "2 methods on drawn/test, 4 images, protocol fam" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compare.json", "compare.md"]
    as_json = fam("compare", *folders, "--json")
    assert json.loads(as_json.stdout) == json.loads((tmp_path / "out/compare.json").read_text())


def test_names_of_ones_own(fam: Fam, folders: list[Path]) -> None:
    """A row may be named, and be what the others are compared with."""
    result = fam("compare", folders[0], "--group", f"My method={folders[1]}", "--baseline", "my method")
    assert "| FAM minus My method |" in result.stdout
    for option, message in (("--group=x", "is not NAME=RESULTS_DIR"), ("--baseline=x", "unknown baseline 'x'")):
        result = fam("compare", *folders, option)
        assert (result.exit_code, message in result.stderr) == (2 if "group" in option else 1, True)


def test_bad_input(fam: Fam, folders: list[Path], make_evaluation: Make) -> None:
    """Nothing to compare is wrong usage; what cannot be compared is one sentence and exit code 1."""
    assert fam("compare").exit_code == 2
    other = make_evaluation("other", GOOD, protocol={"name": "psol"})
    result = fam("compare", *folders, other)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"fam: error: '{folders[0]}' and '{other}' cannot be compared: the protocol is 'fam' in one and 'psol' in the "
        "other\n"
    )
    result = fam("compare", folders[0].parent)
    assert (result.exit_code, "does not exist; write it with fam eval --out" in result.stderr) == (1, True)
