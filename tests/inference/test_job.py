"""A whole run: results file, side files, interruption and resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from famcli.data.listing import list_images
from famcli.inference.job import Job, SideFiles, Summary, prepare
from famcli.inference.predictor import Settings
from famcli.names import Format
from famcli_models.errors import DataError, UnknownNameError

Run = Callable[..., Job]


@pytest.fixture
def make_job(checkpoint: Path, image_dir: Path, tmp_path: Path) -> Run:
    """A function that prepares a run over the pictures, two images a batch."""

    def make(
        settings: dict[str, Any] | None = None,
        side: SideFiles | None = None,
        labels: str | None = None,
        coco_images: Path | None = None,
        spool: str = "spool",
    ) -> Job:
        listing = list_images([str(image_dir)])
        chosen = Settings(**{"batch_size": 2, "tau": 0.3, "topk": 2, **(settings or {})})
        return prepare(listing, tmp_path / spool, str(checkpoint), "cpu", chosen, side, labels, coco_images)

    return make


def written(job: Job, path: Path, kind: Format = Format.coco) -> bytes:
    job.write(path, kind)
    return path.read_bytes()


def test_run_and_write(make_job: Run, tmp_path: Path, names: list[str]) -> None:
    """A run counts what it did, writes one whole file in the order of the names, and leaves no spool."""
    job = make_job()
    calls = []
    summary = job.run(lambda: calls.append(1))
    assert len(calls) == 5
    assert (summary.images, summary.failures) == (5, [])
    assert [r["file_name"] for r in job.spool.records()] == names
    data = json.loads(written(job, tmp_path / "out.json"))
    assert [(i["id"], i["file_name"]) for i in data["images"]] == list(enumerate(names, 1))
    assert summary.boxes * 2 == len(data["annotations"])  # two classes a box
    assert not (tmp_path / "spool").exists()
    assert data["info"]["threshold"] == 0.3
    assert len(data["info"]["model_sha256"]) == 64


@pytest.mark.parametrize("kind", list(Format))
def test_every_format(make_job: Run, tmp_path: Path, kind: Format) -> None:
    """Every form of the results is written and has something in it."""
    job = make_job({"tau": 0.0})
    job.run()
    text = written(job, tmp_path / "out", kind).decode()
    assert text.endswith("\n")
    assert text.count("\n") >= 5


def test_empty_maps_are_counted(make_job: Run) -> None:
    """Images without a box are images, and counted as empty."""
    summary = make_job({"tau": 0.999}).run()
    assert (summary.images, summary.boxes, summary.empty) == (5, 0, 5)


def test_failures_are_counted_and_named(make_job: Run, image_dir: Path) -> None:
    """A bad image is in the summary with its reason and in no other count."""
    (image_dir / "aa.png").touch()
    summary = make_job().run()
    assert summary.images == 5
    assert [(f.name, f.reason) for f in summary.failures] == [("aa.png", "the file is empty")]


class Stop:
    """Presses Ctrl-C after a number of images."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [Format.coco, Format.jsonl])
def test_resume_equals_never_having_stopped(make_job: Run, tmp_path: Path, after: int, kind: Format) -> None:
    """A run interrupted anywhere and resumed writes the same bytes as one that was not."""
    whole = make_job(spool="whole")
    expected_summary = whole.run()
    expected = written(whole, tmp_path / "whole.json", kind)
    with pytest.raises(KeyboardInterrupt):
        make_job().run(Stop(after))
    assert (tmp_path / "spool").is_file()
    again = make_job()
    again.spool.resume(again.listing.names)
    assert again.spool.done == after
    summary = again.run()
    assert summary == expected_summary
    assert written(again, tmp_path / "again.json", kind) == expected


def test_resume_of_a_finished_run(make_job: Run, tmp_path: Path) -> None:
    """A run stopped after its last image has nothing left to do but writing."""
    make_job().run()
    again = make_job()
    again.spool.resume(again.listing.names)
    calls = []
    assert again.run(lambda: calls.append(1)).images == 5
    assert calls == []
    assert json.loads(written(again, tmp_path / "o.json"))["images"]


def test_resume_in_other_batches(make_job: Run) -> None:
    """Batch size and workers may change between the parts of a run: they do not change the results."""
    with pytest.raises(KeyboardInterrupt):
        make_job().run(Stop(2))
    again = make_job({"batch_size": 5, "workers": 1})
    again.spool.resume(again.listing.names)
    assert again.run().images == 5


@pytest.mark.parametrize(
    ("change", "word"),
    [({"tau": 0.4}, "tau"), ({"topk": 1}, "topk"), ({"flip": True}, "flip"), ({"max_boxes": 2}, "max_boxes")],
)
def test_resume_with_other_options_is_refused(make_job: Run, change: dict[str, Any], word: str) -> None:
    """Results of different options are not mixed; the option is named."""
    with pytest.raises(KeyboardInterrupt):
        make_job().run(Stop(2))
    again = make_job(change)
    with pytest.raises(DataError, match=rf"other options \({word}\)"):
        again.spool.resume(again.listing.names)


def test_resume_with_other_labels_is_refused(make_job: Run) -> None:
    """Known classes are an option too."""
    with pytest.raises(KeyboardInterrupt):
        make_job().run(Stop(2))
    again = make_job(labels="cat")
    with pytest.raises(DataError, match="labels"):
        again.spool.resume(again.listing.names)


def test_resume_with_other_images_is_refused(make_job: Run, image_dir: Path) -> None:
    """A new image in the middle of the list is refused."""
    with pytest.raises(KeyboardInterrupt):
        make_job().run(Stop(3))
    (image_dir / "aa.png").touch()
    again = make_job()
    with pytest.raises(DataError, match="images have changed"):
        again.spool.resume(again.listing.names)


def test_resume_after_a_cut_line(make_job: Run, tmp_path: Path) -> None:
    """A line cut short by a power failure is done again, with the same result."""
    whole = make_job(spool="whole")
    whole.run()
    expected = written(whole, tmp_path / "whole.json")
    with pytest.raises(KeyboardInterrupt):
        make_job().run(Stop(3))
    spool = tmp_path / "spool"
    spool.write_bytes(spool.read_bytes()[:-7])
    again = make_job()
    again.spool.resume(again.listing.names)
    assert again.spool.done == 2
    again.run()
    assert written(again, tmp_path / "again.json") == expected


def test_side_files(make_job: Run, tmp_path: Path, names: list[str]) -> None:
    """Overlays, maps and masks are written for each image under its name, subfolders and all."""
    side = SideFiles(tmp_path / "o", tmp_path / "m", tmp_path / "k")
    make_job({"masks": True, "tau": 0.0}, side).run()
    for name in names:
        overlay = cv2.imread(str(tmp_path / "o" / f"{name}.overlay.jpg"))
        M = np.load(tmp_path / "m" / f"{name}.npy")
        mask = cv2.imread(str(tmp_path / "k" / f"{name}.mask.png"), cv2.IMREAD_UNCHANGED)
        assert M.shape == (4, 4)
        assert M.dtype == np.float32
        assert overlay.shape[:2] == mask.shape
        assert (mask == 255).all()  # τ = 0 takes everything
    assert not list(tmp_path.rglob("*.tmp"))


def test_side_file_that_cannot_be_written(make_job: Run, tmp_path: Path) -> None:
    """A folder that cannot be made is noticed before any image; one that vanishes later is made again."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot make the folder"):
        make_job(None, SideFiles(maps=tmp_path / "file" / "maps"))
    job = make_job(None, SideFiles(maps=tmp_path / "maps"))
    (tmp_path / "maps").rmdir()
    assert job.run().images == 5


def test_labels_for_all(make_job: Run) -> None:
    """With a known class it is the only one, and scores are the mean of M."""
    job = make_job({"tau": 0.0}, labels="rocket")
    job.run()
    for record in job.spool.records():
        assert [c["name"] for c in record["classes"]] == ["rocket"]
        assert record["boxes"][0]["scores"] == [record["boxes"][0]["foreground"]]


def test_images_without_a_label_are_failures(make_job: Run, tmp_path: Path, names: list[str]) -> None:
    """Images that the label file does not name fail by themselves, in their place."""
    path = tmp_path / "labels.csv"
    path.write_text("a.jpg,cat\nsub/d.webp,dog\n")
    job = make_job(labels=str(path))
    summary = job.run()
    assert summary.images == 2
    assert {f.reason for f in summary.failures} == {"no label was given for it"}
    assert [r["file_name"] for r in job.spool.records()] == names
    found = {r["file_name"]: r["classes"][0]["name"] for r in job.spool.records() if "classes" in r}
    assert found == {"a.jpg": "cat", "sub/d.webp": "dog"}


def test_ids_of_a_coco_file(make_job: Run, tmp_path: Path) -> None:
    """Images take their ids from the file by name; those that it does not have are failures."""
    path = tmp_path / "gt.json"
    images = [{"id": 900, "file_name": "b.png"}, {"id": 7, "file_name": "0007.jpg"}]
    path.write_text(json.dumps({"images": images, "categories": [{"id": 3, "name": "thing"}]}))
    job = make_job({"tau": 0.0, "topk": 1}, coco_images=path)
    summary = job.run()
    assert {f.reason for f in summary.failures} == {"not among the images of the --coco-images file"}
    results = json.loads(written(job, tmp_path / "o.json", Format.coco_results))
    assert [(r["image_id"], r["category_id"]) for r in results] == [(7, 3), (900, 3)]


def test_results_that_cannot_be_written_keep_the_spool(make_job: Run, tmp_path: Path) -> None:
    """If the results file cannot be written the work is kept, and the message names the file."""
    job = make_job()
    job.run()
    (tmp_path / "out.json").mkdir()
    (tmp_path / "out.json" / "x").touch()
    with pytest.raises(DataError, match=r"cannot write .*out\.json"):
        job.write(tmp_path / "out.json")
    assert (tmp_path / "spool").is_file()


def test_unknown_label_is_found_before_the_run(make_job: Run) -> None:
    """A class that the model does not have stops the run before an image is read."""
    with pytest.raises(UnknownNameError, match="did you mean: rocket"):
        make_job(labels="rokcet")


def test_summary_counts_records() -> None:
    """A record adds its boxes, an empty one an image, an error a failure."""
    summary = Summary()
    summary.count({"file_name": "a", "boxes": [1, 2]})
    summary.count({"file_name": "b", "boxes": []})
    summary.count({"file_name": "c", "error": "x"})
    assert (summary.images, summary.boxes, summary.empty, len(summary.failures)) == (2, 2, 1, 1)
