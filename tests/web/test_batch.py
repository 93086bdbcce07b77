"""The photographs of one visitor of the page, without the page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from famcli.demo import PHOTOS, photo_folder
from famcli.inference.predictor import Predictor
from famcli.outputs.prediction import Failure, Prediction
from famcli.web.batch import Batch, Choice, Choices
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import DataError, UnknownNameError

FAM, CAM = f"{DEFAULT_MODEL} · FAM", f"{DEFAULT_MODEL} · CAM"
NAMES = [PHOTOS[i].file for i in (2, 4)]  # a cat and a cup


@pytest.fixture(scope="module")
def choices() -> Choices:
    return Choices([DEFAULT_MODEL])


@pytest.fixture
def batch(tmp_path: Path, choices: Choices) -> Batch:
    """Two photographs and a text file, on which FAM was run."""
    (tmp_path / "batch").mkdir()
    (tmp_path / "broken.jpg").write_text("no photograph")
    batch = Batch(tmp_path / "batch")
    for path in (*(photo_folder() / name for name in NAMES), tmp_path / "broken.jpg"):
        batch.add(path, path.name)
    assert list(batch.predict(choices[FAM])) == [(1, 3), (2, 3), (3, 3)]
    return batch


def prediction(batch: Batch, choice: Choice, name: str, tau: float, boxes: int = 1) -> Prediction:
    found = batch.large(choice, name, tau, boxes)
    assert isinstance(found, Prediction)
    return found


def test_the_methods_of_a_graph_are_offered(choices: Choices, checkpoint: Path) -> None:
    """FAM and those on its features by their titles; a checkpoint without graph has its own method alone."""
    assert choices.titles == [FAM, CAM, f"{DEFAULT_MODEL} · RCAM"]
    assert Choices([str(checkpoint)]).titles == [str(checkpoint)]
    with pytest.raises(UnknownNameError, match="unknown model"):
        Choices(["no-such-model"])
    with pytest.raises(UnknownNameError):
        choices["another"]


def test_boxes_at_a_threshold_are_those_of_a_prediction_at_it(batch: Batch, choices: Choices) -> None:
    """Without running the network again; the photograph is there to be drawn on, small and large."""
    own = prediction(batch, choices[FAM], NAMES[0], choices[FAM].predictor.tau)
    for tau, boxes in ((0.2, 1), (0.7, 3)):
        expected = Predictor(DEFAULT_MODEL, tau=tau, max_boxes=boxes)(photo_folder() / NAMES[0])
        found = prediction(batch, choices[FAM], NAMES[0], tau, boxes)
        assert found.boxes.tolist() == expected.boxes.tolist() != own.boxes.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
        assert found.overlay().size == (451, 300)
    small = batch.small(choices[FAM], NAMES[0], 0.5, 1)
    assert isinstance(small, Prediction)
    assert small.overlay().width == 240


def test_what_cannot_be_read_is_a_failure_and_what_was_not_run_is_nothing(batch: Batch, choices: Choices) -> None:
    """The failure has the words of the command line, for every threshold."""
    failure = batch.large(choices[FAM], "broken.jpg", 0.1, 1)
    assert isinstance(failure, Failure)
    assert "not a JPEG" in failure.reason
    assert batch.large(choices[CAM], NAMES[0], 0.2, 1) is None


def test_only_new_photographs_are_predicted(batch: Batch, choices: Choices) -> None:
    """Those that a choice was run on are not read again."""
    batch.add(photo_folder() / NAMES[0], NAMES[0])
    assert list(batch.predict(choices[FAM])) == [(1, 1)]
    assert list(batch.predict(choices[FAM])) == []
    assert list(batch.predict(choices[CAM]))[-1] == (4, 4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.jpg", ["a.jpg", "a (2).jpg", "a (3).jpg"]),
        ("x/y/a b[1] é.jpg", ["x/y/a b[1] é.jpg", "x/y/a b[1] é (2).jpg", "x/y/a b[1] é (3).jpg"]),
        ("../../etc/a", ["etc/a", "etc/a (2)", "etc/a (3)"]),
        ("/a\\b\n.jpg", ["a/b_.jpg", "a/b_ (2).jpg", "a/b_ (3).jpg"]),
        ("é" * 140 + ".jpg", [f"{'é' * 44}{number}.jpg" for number in ("", " (2)", " (3)")]),
        ("..", ["photograph", "photograph (2)", "photograph (3)"]),
    ],
)
def test_names_are_kept_apart_and_inside(tmp_path: Path, given: str, expected: list[str]) -> None:
    """The same name gets a number, and none leads out of the folder."""
    batch, source = Batch(tmp_path / "batch"), tmp_path / "source"
    source.write_bytes(b"x")
    assert [batch.add(source, given) for _ in range(3)] == expected == batch.names
    found = (path for path in tmp_path.rglob("*") if path.is_file() and path != source)
    assert sorted(path.relative_to(batch.photographs).as_posix() for path in found) == sorted(expected)


def test_a_photograph_may_have_the_name_of_a_folder(tmp_path: Path) -> None:
    """Either way round both are kept."""
    batch, source = Batch(tmp_path / "batch"), tmp_path / "source"
    source.write_bytes(b"x")
    assert [batch.add(source, name) for name in ("a", "a/b", "c/d", "c")] == ["a", "a_b", "c/d", "c (2)"]


def test_coco_is_that_of_the_command_line(batch: Batch, choices: Choices, tmp_path: Path, fam: Any) -> None:
    """At the same threshold, with as many boxes: images, annotations and categories are equal."""
    out = tmp_path / "boxes.json"
    done = fam("predict", batch.photographs, "--out", out, "--threshold", 0.3, "--max-boxes", 2)
    assert done.exit_code == 1  # for the broken one
    expected, found = json.loads(out.read_text()), json.loads(batch.write(choices[FAM], 0.3, 2, "coco").read_text())
    assert len(found["annotations"]) >= 2
    assert {key: found[key] for key in found if key != "info"} == {
        key: expected[key] for key in expected if key != "info"
    }
    assert {**expected["info"], **found["info"]} == {**expected["info"], "model": FAM}


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("yolo", ["data.yaml", *(f"{f}/{n}" for f in ("images", "labels") for n in ("chelsea", "coffee"))]),
        ("voc", ["chelsea.xml", "coffee.xml"]),
        ("overlays", ["chelsea.png.overlay.jpg", "coffee.png.overlay.jpg"]),
    ],
)
def test_folders_come_as_a_zip(batch: Batch, choices: Choices, kind: str, files: list[str]) -> None:
    """With the photographs themselves, not links; nothing of the folder is left beside it, nor of the one before."""
    batch.write(choices[FAM], 0.5, 1, "csv")
    out = batch.write(choices[FAM], 0.5, 1, kind)
    assert [path.name for path in out.parent.iterdir()] == [f"{kind}.zip"]
    with zipfile.ZipFile(out) as found:
        names = found.namelist()
        for part in files:
            assert any(part in name for name in names), names
        assert all(found.read(name) for name in names)
        if kind == "yolo":
            assert found.read("images/chelsea.png") == (photo_folder() / "chelsea.png").read_bytes()


def test_nothing_to_download(tmp_path: Path, choices: Choices) -> None:
    """Said where no photograph could be read; removing the batch leaves nothing."""
    batch, source = Batch.in_new_folder(), tmp_path / "text.jpg"
    source.write_text("x")
    batch.add(source, "text.jpg")
    list(batch.predict(choices[FAM]))
    with pytest.raises(DataError, match="nothing to download"):
        batch.write(choices[FAM], 0.5, 1, "coco")
    batch.remove()
    assert not batch.folder.exists()
