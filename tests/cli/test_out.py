"""`--out` of every command: links, pipes and standard output."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import Result

from famcli_models.locks import only_writer

Fam = Callable[..., Result]


@pytest.fixture
def predict(fam: Fam, checkpoint: Path, image_dir: Path) -> Fam:
    """A function that predicts the pictures with the tiny model."""
    model = ("--model", checkpoint, "--device", "cpu", "--engine", "torch")
    return lambda *arguments: fam("predict", image_dir, *model, *arguments)


def test_links_and_pipes(predict: Fam, tmp_path: Path) -> None:
    """A link is written through and a pipe gets the same bytes; nothing else is there afterwards."""
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "link.json").symlink_to("real.json")
    os.mkfifo(folder / "pipe.json")
    assert predict("--out", folder / "link.json").exit_code == 0
    with ThreadPoolExecutor(1) as pool:
        piped = pool.submit((folder / "pipe.json").read_bytes)
        result = predict("--out", folder / "pipe.json", "--json")
    assert json.loads(result.stdout)["out"] == str(folder / "pipe.json")
    assert piped.result() == (folder / "real.json").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["link.json", "pipe.json", "real.json"]
    assert (folder / "link.json").is_symlink()
    assert (folder / "pipe.json").is_fifo()


def test_a_folder_may_be_a_link(predict: Fam, tmp_path: Path) -> None:
    """A format that is a folder of files goes where a link to an empty folder, or to none, leads."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        (tmp_path / f"to-{name}").symlink_to(name)
        assert predict("--format", "voc", "--out", tmp_path / f"to-{name}").exit_code == 0
        assert (tmp_path / f"to-{name}").is_symlink()
        assert len(list((tmp_path / name).rglob("*.xml"))) == 5


def test_what_the_run_reads(predict: Fam, checkpoint: Path, tmp_path: Path) -> None:
    """Results never take the place of the labels, the ids or the model of the run."""
    labels, ids = tmp_path / "labels.csv", tmp_path / "ids.json"
    labels.write_text("a.jpg,cat\n")
    ids.write_text("{}")
    for options in (("--labels", labels), ("--coco-images", ids)):
        result = predict(*options, "--out", options[1])
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "is a file that this run reads" in result.stderr
    result = predict("--out", checkpoint / "config.json")
    assert (result.exit_code, "is a file that this run reads" in result.stderr) == (1, True)
    assert (labels.read_text(), ids.read_text()) == ("a.jpg,cat\n", "{}")


def test_another_run(predict: Fam, tmp_path: Path) -> None:
    """While somebody writes the same results, under whatever name, a run is refused in one sentence."""
    (tmp_path / "link.json").symlink_to("o.json")
    with only_writer(tmp_path / "o.json"):
        result = predict("--out", tmp_path / "link.json")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert f"is writing '{tmp_path / 'link.json'}': wait for it, or choose another --out" in result.stderr


def test_standard_output(
    fam: Fam, make_dataset: Callable[..., Path], make_evaluation: Callable[..., Path], tmp_path: Path
) -> None:
    """A report and a COCO file go to standard output, which then has nothing else."""
    data = make_dataset([("0.png", 0, [(5, 5, 20, 20)], (40, 50))])
    converted = fam("data", "convert", data, "--to", "coco", "--out", "-")
    assert [image["file_name"] for image in json.loads(converted.stdout)["images"]] == ["0.png"]
    report = fam("report", make_evaluation("first", [0.2, 0.6]), "--no-parts", "--out", "-")
    assert report.stdout.startswith("<!DOCTYPE html>")
    assert report.stdout.rstrip().endswith("</html>")
    assert not Path("-").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--out", "-"),
        ("compare", "first", "--out", "-"),
        ("demo", "--out", "-"),
        ("train", "--data", "birds", "--out", "/dev/null"),
        ("predict", "photos", "--overlays", "-"),
        ("predict", "photos", "--format", "voc", "--out", "/dev/null"),
        ("predict", "photos", "--out", "/dev/null", "--resume"),
        ("predict", "photos", "--out", "-", "--json"),
        ("export", "model", "--out", "-", "--json"),
        ("data", "convert", "data", "--to", "coco", "--out", "-", "--json"),
        ("data", "convert", "data", "--to", "wsol", "--out", "-"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_a_stream(fam: Fam, arguments: tuple[str, ...]) -> None:
    """A folder cannot be a stream, a run beside which nothing lies cannot be resumed, and stdout has one content."""
    result = fam(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr
