"""`fam eval`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
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


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Maps of the images of :func:`dataset`: the first two are their boxes, the third is its opposite corner."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for i in range(3):
        scores = np.zeros((40, 50))
        if i < 2:
            scores[5:31, 5:31] = 1.0
        else:
            scores[36:, 44:] = 1.0
        np.save(folder / f"{i}.png.npy", scores)
    return folder


def test_maps(fam: Fam, dataset: Path, maps: Path) -> None:
    """--maps scores another tool's maps: two of three are right, and the row says by what rules."""
    result = fam("eval", "--data", dataset, "--maps", maps, "--protocol", "wsoleval-v1", "--processes", 1)
    assert result.exit_code == 0, result.stderr
    header, _, row = ([cell.strip() for cell in line.strip("| ").split("|")] for line in result.stdout.splitlines())
    cells = dict(zip(header, row, strict=True))
    assert cells["MaxBoxAcc"] == "66.67"
    assert cells["protocol"] == "wsoleval-v1"
    assert (cells["images"], cells["zero maps"], cells["interval"]) == ("3", "0", "0.001")
    assert "oracle: the threshold was chosen on these very images" in result.stderr


def test_maps_as_json(fam: Fam, dataset: Path, maps: Path) -> None:
    """--json has the accuracy at each δ, its τ, the whole curve, the rules and the versions."""
    result = fam(
        *("eval", "--data", dataset, "--maps", maps, "--protocol", "wsoleval-v2"),
        *("--processes", 1, "--interval", 0.1, "--json"),
    )
    data = json.loads(result.stdout)
    assert (data["metric"], data["split"], data["images"], data["interval"]) == ("MaxBoxAccV2", "test", 3, 0.1)
    # Ringing of the cubic resize lifts the ground above 0: at τ = 0 the box is the whole image, 676/2000 of it right.
    assert data["at_delta"] == pytest.approx({"0.3": 100, "0.5": 200 / 3, "0.7": 200 / 3})
    assert data["tau"]["0.3"] == 0
    assert data["value"] == pytest.approx(700 / 9)
    assert set(data["at_delta"]) == set(data["tau"]) == set(data["curve"]) == {"0.3", "0.5", "0.7"}
    assert len(data["curve"]["0.5"]) == 10
    assert data["rules"]["right"].startswith("IoU >= δ")
    assert "opencv-python-headless" in data["versions"]


@pytest.mark.parametrize(("protocol", "metric"), [("wsoleval-v1", "MaxBoxAcc"), ("wsoleval-v2", "MaxBoxAccV2")])
def test_a_model_by_another_protocol(fam: Fam, checkpoint: Path, dataset: Path, protocol: str, metric: str) -> None:
    """--protocol scores a model's own maps by the same rules; no classes are asked for."""
    arguments = ("--data", dataset, "--model", checkpoint, "--device", "cpu", "--processes", 1, "--interval", 0.01)
    result = fam("eval", *arguments, "--protocol", protocol, "--json")
    data = json.loads(result.stdout)
    assert (data["metric"], data["model"], data["images"]) == (metric, str(checkpoint), 3)
    assert 0 <= data["value"] <= 100


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "--maps needs --protocol"),
        (("--protocol", "wsoleval-v1", "--model", "any"), 2, "a model or maps, not both"),
        (("--protocol", "psol"), 1, "described but not computed"),
        (("--protocol", "wsol"), 1, "unknown protocol 'wsol'"),
        (("--protocol", "wsoleval-v2", "--interval", "0"), 1, "interval of the thresholds is 0"),
    ],
)
def test_maps_errors(fam: Fam, dataset: Path, maps: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    """What cannot be is said before anything is computed."""
    result = fam("eval", "--data", dataset, "--maps", maps, "--processes", 1, *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert text in " ".join(result.stderr.replace("│", " ").split())


def test_missing_map(fam: Fam, dataset: Path, maps: Path) -> None:
    """A map that is missing is one line with its name."""
    (maps / "1.png.npy").unlink()
    result = fam("eval", "--data", dataset, "--maps", maps, "--protocol", "wsoleval-v1", "--processes", 1)
    assert result.exit_code == 1
    assert "has no map for 1 of 3 images: '1.png'" in result.stderr
