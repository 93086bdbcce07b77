"""A whole run: results, files beside them, interruption and resume."""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from famcli.inference import pipeline, ranks
from famcli.inference.job import Summary, predict_files
from famcli.inference.predictor import Settings
from famcli.inference.ranks import Rank
from famcli.outputs import FORMATS, IMAGE_FILES, Output, Records, Run
from famcli.outputs.prediction import Prediction
from famcli_models.errors import ConfigError, DataError, UnknownNameError

Predict = Callable[..., Summary]


@pytest.fixture
def predict(checkpoint: Path, image_dir: Path, tmp_path: Path) -> Predict:
    """A function that predicts the pictures, two images a batch; ``stop`` presses Ctrl-C after so many images."""

    def run(
        out: str | None = "out", stop: int | None = None, calls: list[int] | None = None, **options: Any
    ) -> Summary:
        @contextmanager
        def progress(total: int, done: int) -> Iterator[Callable[[], None]]:
            numbers = calls if calls is not None else []

            def step() -> None:
                numbers.append(1)
                if len(numbers) == stop:
                    raise KeyboardInterrupt

            yield step

        settings = Settings(batch_size=2, tau=0.3, topk=2)
        common: dict[str, Any] = {"model": checkpoint, "device": "cpu", "settings": settings, "progress": progress}
        common["engine"] = "torch"  # a tiny checkpoint without a graph: it need not be said
        return predict_files(options.pop("inputs", image_dir), out and tmp_path / out, **common, **options)

    return run


def interrupted(predict: Predict, after: int, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(stop=after, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_run_and_write(predict: Predict, tmp_path: Path, names: list[str]) -> None:
    """A run counts what it did, writes one whole file in the order of the names, and leaves no journal."""
    calls: list[int] = []
    records: list[Any] = []
    summary = predict(calls=calls, on_record=records.append)
    assert (summary.images, summary.failures, len(calls)) == (5, [], 5)
    assert [record["file_name"] for record in records] == names
    data = json.loads((tmp_path / "out").read_text())
    assert [(i["id"], i["file_name"]) for i in data["images"]] == list(enumerate(names, 1))
    assert summary.boxes * 2 == len(data["annotations"])  # two classes a box
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]
    assert data["info"]["threshold"] == 0.3
    assert len(data["info"]["model_sha256"]) == 64


def test_empty_maps_and_failures_are_counted(predict: Predict, image_dir: Path) -> None:
    """Images without a box are images; a bad image is in the summary with its reason and in no other count."""
    (image_dir / "aa.png").touch()
    summary = predict(tau=0.999)
    assert (summary.images, summary.boxes, summary.empty) == (5, 0, 5)
    assert [(f.name, f.reason) for f in summary.failures] == [("aa.png", "the file is empty")]


def test_processes_change_nothing(
    predict: Predict, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and the files beside them are the same to the byte, whether workers are threads or processes."""
    (image_dir / "bad.png").write_text("no image")
    monkeypatch.setattr(pipeline, "ENOUGH", 2)
    trees = []
    for number, processes in enumerate((False, True)):
        folders = {kind: tmp_path / f"{number}" / kind for kind in IMAGE_FILES}
        options = {"image_files": folders, "segmentation": "rle", "format": "jsonl", "parts": True}
        assert len(predict(f"{number}/out", processes=processes, **options).failures) == 1
        root = tmp_path / f"{number}"
        trees.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert trees[0] == trees[1]
    assert len(trees[0]) == 1 + 5 * 5  # an overlay and a map of the object and of the parts, and a mask


@pytest.mark.parametrize("after", [1, 3, 5])
@pytest.mark.parametrize("form", ["coco", "jsonl"])
def test_resume_equals_never_having_stopped(predict: Predict, tmp_path: Path, after: int, form: str) -> None:
    """A run interrupted anywhere, after its last image too, and resumed writes the same bytes as one that was not.

    Batch size and workers may change: they do not change the results.
    """
    whole = predict("whole", format=form)
    interrupted(predict, after, format=form)
    assert not (tmp_path / "out").exists()
    calls: list[int] = []
    said: list[str] = []
    summary = predict(calls=calls, resume=True, format=form, say=said.append, batch_size=5, workers=1)
    assert (summary, len(calls)) == (whole, 5 - after)
    assert said == [f"{after} of 5 images were done before"]
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"tau": 0.4}, "tau"),
        ({"topk": 1}, "topk"),
        ({"flip": True}, "flip"),
        ({"max_boxes": 2, "parts": True}, "max_boxes, parts"),
        ({"label": "cat"}, "label"),
        ({"image_files": {"maps": "maps"}}, "image_files"),
    ],
)
def test_resume_with_other_options_is_refused(
    predict: Predict, change: dict[str, Any], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of different options are not mixed; the option is named."""
    monkeypatch.chdir(tmp_path)
    interrupted(predict, 2)
    with pytest.raises(DataError, match=rf"other options \({word}\)"):
        predict(resume=True, **change)


def test_resume_with_other_images_is_refused(predict: Predict, image_dir: Path) -> None:
    """A new image in the middle of the list is refused, and so are images of the same names in another folder."""
    interrupted(predict, 3)
    (image_dir / "aa.png").touch()
    with pytest.raises(DataError, match="images have changed"):
        predict(resume=True)
    image_dir.rename(image_dir.with_name("moved"))
    with pytest.raises(DataError, match=r"other options \(root\)"):
        predict(inputs=image_dir.with_name("moved"), resume=True)


def test_image_files_that_cannot_be_written(predict: Predict, tmp_path: Path) -> None:
    """A folder that cannot be made, and a kind that is not there, are noticed before any image."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot make the folder"):
        predict(image_files={"maps": tmp_path / "file" / "maps"})
    with pytest.raises(UnknownNameError, match="did you mean: maps"):
        predict(image_files={"map": tmp_path})


def test_labels(predict: Predict, tmp_path: Path, names: list[str]) -> None:
    """With a known class scores are the mean of M; images that the file does not name fail in their place."""
    (tmp_path / "labels.csv").write_text("a.jpg,cat\nsub/d.webp,dog\n")
    summary = predict(tau=0.0, labels=str(tmp_path / "labels.csv"), format="jsonl")
    assert (summary.images, {f.reason for f in summary.failures}) == (2, {"no label was given for it"})
    records = lines(tmp_path / "out")
    assert [r["file_name"] for r in records] == names
    found = {r["file_name"]: [c["name"] for c in r["classes"]] for r in records if "classes" in r}
    assert found == {"a.jpg": ["cat"], "sub/d.webp": ["dog"]}
    assert all(box["scores"] == [box["foreground"]] for r in records for box in r.get("boxes", ()))


def test_without_out(predict: Predict, tmp_path: Path, names: list[str]) -> None:
    """Without a file for the results nothing is written, and each record is given as soon as it is there."""
    records: list[Any] = []
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        predict(None, stop=3, calls=calls, on_record=records.append)
    assert [record["file_name"] for record in records] == names[:3]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    with pytest.raises(ConfigError, match="only a run with --out"):
        predict(None, resume=True)


def test_a_file_that_failed_before_the_resume_is_still_a_warning(predict: Predict, tmp_path: Path) -> None:
    """Warnings of images that were done before the interruption are in the summary of the resumed run."""
    (tmp_path / "maps" / "0007.jpg.npy").mkdir(parents=True)
    files = {"image_files": {"maps": tmp_path / "maps"}}
    interrupted(predict, 2, **files)
    records: list[Any] = []
    summary = predict(resume=True, on_record=records.append, **files)
    assert [warning.name for warning in summary.warnings] == ["0007.jpg"]
    assert (summary.images, len(records)) == (5, 5)


def test_ids_of_a_coco_file(predict: Predict, tmp_path: Path) -> None:
    """Images take their ids from the file by name; those that it does not have are failures."""
    path = tmp_path / "gt.json"
    images = [{"id": 900, "file_name": "b.png"}, {"id": 7, "file_name": "0007.jpg"}]
    path.write_text(json.dumps({"images": images, "categories": [{"id": 3, "name": "thing"}]}))
    summary = predict(tau=0.0, topk=1, coco_images=path, format="coco-results")
    assert {f.reason for f in summary.failures} == {"not among the images of the --coco-images file"}
    results = json.loads((tmp_path / "out").read_text())
    assert [(r["image_id"], r["category_id"]) for r in results] == [(7, 3), (900, 3)]


def test_results_that_cannot_be_written_keep_the_journal(predict: Predict, tmp_path: Path) -> None:
    """If the results cannot be written the work is kept, and the message names the file."""
    with pytest.raises(DataError, match=r"cannot write .*out"):
        predict(on_record=lambda _: (tmp_path / "out").mkdir(exist_ok=True))
    assert (tmp_path / "out.partial").is_file()


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_a_folder_that_cannot_be_finished_is_not_there(
    predict: Predict, image_dir: Path, tmp_path: Path, form: str
) -> None:
    """A name too long for a file beside it stops the folder of results: nothing of it is left, and the work is kept."""
    (image_dir / "a.jpg").rename(image_dir / ("x" * 253))
    with pytest.raises(DataError, match=r"cannot write .*out"):
        predict(inputs=[image_dir / "b.png", image_dir / ("x" * 253)], format=form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.partial", "photos"]
    predict(inputs=[image_dir / "b.png", image_dir / ("x" * 253)], format="jsonl", resume=True)
    assert len(lines(tmp_path / "out")) == 2


# ---- several processes -----------------------------------------------------------------------------------


def in_ranks(predict: Predict, count: int, *, launcher: str = "", **options: Any) -> list[Summary]:
    """Every rank, one after the other, and rank 0 last: so it has nothing to wait for."""
    return [predict(rank=Rank(i, count, launcher), **options) for i in reversed(range(count))]


@pytest.mark.parametrize("count", [2, 4, 9])
@pytest.mark.parametrize("form", ["coco", "csv", "jsonl", "yolo", "voc"])
def test_ranks_write_what_one_process_writes(predict: Predict, tmp_path: Path, count: int, form: str) -> None:
    """The file or folder of several ranks, some without an image, has the bytes of one process's, and nothing is left.

    Rank 0 gives the records and counts of all of them.
    """
    records: list[Any] = []
    whole = predict("whole", format=form, batch_size=1)
    options = {"format": form, "batch_size": 1, "on_record": records.append}
    *others, first = in_ranks(predict, count, launcher="torchrun", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (first, len(records)) == (whole, 5)
    assert sum(summary.images for summary in others) + Rank(0, count).share(5).stop == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos", "whole"]


def contents(path: Path) -> dict[str, bytes]:
    """The files at a path."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()}


def test_shards_are_joined(predict: Predict, image_dir: Path, tmp_path: Path) -> None:
    """Shards leave their journals; those that are missing or not finished are named, and the last call joins all.

    Images that fail and files beside the results that cannot be written are counted once, as in one process.
    """
    (image_dir / "aa.png").touch()
    files = {"image_files": {"maps": tmp_path / "maps"}, "batch_size": 1}
    (tmp_path / "maps" / "0007.jpg.npy").mkdir(parents=True)
    whole = predict("whole", **files)
    predict(rank=Rank(2, 3), **files)
    interrupted(predict, 1, rank=Rank(1, 3), **files)
    todo = r"2 of 3 shards .*: --shard 0/3 --resume \(missing\); --shard 1/3 --resume \(not finished\)$"
    with pytest.raises(DataError, match=todo):
        predict(join=True, **files)
    for i in (0, 1):
        predict(rank=Rank(i, 3), resume=True, **files)
    with pytest.raises(DataError, match=r"with other options \(tau\); join shards of one and the same command"):
        predict(join=True, tau=0.4, **files)
    assert predict(join=True, **files) == whole
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps", "out", "photos", "whole"]
    assert predict(join=True, **files).finished_before


def test_shards_of_other_images_are_not_joined(predict: Predict, image_dir: Path) -> None:
    """Nor are those of runs in different numbers of shards, which cannot be told apart."""
    in_ranks(predict, 2)
    (image_dir / "new.png").write_bytes((image_dir / "b.png").read_bytes())
    with pytest.raises(DataError, match="images have changed"):
        predict(join=True)
    predict(rank=Rank(0, 3))
    with pytest.raises(DataError, match="runs in 2 and in 3: remove"):
        predict(join=True)


def test_a_shard_is_resumed_alone(predict: Predict, tmp_path: Path) -> None:
    """What a rank that was killed has done is kept, a line cut short is not; other numbers of processes are refused."""
    predict("whole", batch_size=1)
    interrupted(predict, 2, rank=Rank(0, 2, "srun"), batch_size=1)
    with (tmp_path / "out.0-of-2.partial").open("a") as journal:
        journal.write('{"file_na')
    with pytest.raises(DataError, match="was in 2 processes and this is 1"):
        predict(resume=True)
    predict(rank=Rank(1, 2), batch_size=1)
    said: list[str] = []
    predict(rank=Rank(0, 2), resume=True, say=said.append, batch_size=1)
    predict(rank=Rank(0, 2), resume=True, say=said.append, batch_size=1)
    assert said == ["2 of 2 images were done before"] * 2
    predict(join=True, batch_size=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_rank_0_waits_no_longer_for_one_that_has_failed(predict: Predict, tmp_path: Path) -> None:
    """A rank that an error ends leaves its sentence, which ends rank 0 too; another launch begins anew."""
    with pytest.raises(UnknownNameError):
        predict(rank=Rank(1, 2, "mpirun"), method="gradcam")
    with pytest.raises(DataError, match=r"rank 1 of 2 has failed \(unknown method 'gradcam'.*--shard I/2 --resume"):
        predict(rank=Rank(0, 2, "mpirun"))
    in_ranks(predict, 2, launcher="mpirun")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_rank_0_gives_up(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that never writes anything is named again and again, and after a time it ends the run."""
    monkeypatch.setattr(ranks, "REMINDER", 0.0)
    monkeypatch.setattr(ranks, "PATIENCE", 0.5)
    said: list[str] = []
    with pytest.raises(DataError, match="rank 1, 2 of 3 wrote nothing for"):
        predict(rank=Rank(0, 3, "torchrun"), say=said.append)
    assert len(said) > 1
    assert set(said) == {"waiting for rank 1, 2 of 3"}


def test_journals_of_an_earlier_launch_are_not_joined(predict: Predict, tmp_path: Path) -> None:
    """Rank 0 of a new launch takes no finished journal from before it, but that of a rank which was just faster."""
    predict(rank=Rank(1, 2, "torchrun"))
    done = tmp_path / "out.1-of-2.done"
    os.utime(done, (done.stat().st_mtime - 3600,) * 2)
    interrupted(predict, 1, rank=Rank(0, 2, "torchrun"))
    assert not done.exists()


def test_two_runs_of_the_same_results(predict: Predict, tmp_path: Path) -> None:
    """The second is refused as long as the first goes on, and does it no harm."""
    refused: list[str] = []

    def again(_: object) -> None:
        with pytest.raises(DataError) as error:
            predict()
        refused.append(str(error.value))

    predict("whole")
    predict(on_record=again)
    assert len(refused) == 5
    assert f"is writing '{tmp_path / 'out'}': wait for it, or choose another --out" in refused[0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_resume_without_anything_to_resume(predict: Predict, tmp_path: Path) -> None:
    """Before the first record it begins, after the results are written it does nothing; each is said."""
    said: list[str] = []
    (tmp_path / "out.partial").write_text('{"journal": ')  # killed while it wrote the first line
    assert predict(resume=True, say=said.append).images == 5
    written = (tmp_path / "out").read_bytes()
    assert predict(resume=True, say=said.append) == Summary(finished_before=True)
    assert said == [
        "0 of 5 images were done before",
        f"'{tmp_path / 'out'}' is there and no unfinished run beside it: nothing is left to do",
    ]
    assert (tmp_path / "out").read_bytes() == written


@pytest.mark.parametrize(
    "options",
    [{"rank": Rank(0, 2, "srun"), "out": None}, {"join": True, "out": None}, {"join": True, "rank": Rank(0, 2)}],
)
def test_what_several_processes_need(predict: Predict, options: dict[str, Any]) -> None:
    """Without a place for journals there is no run in several processes, and joining is one process's."""
    with pytest.raises(ConfigError, match="--out FILE|leave out --resume, --shard"):
        predict(**options)


# ---- tars and URLs ---------------------------------------------------------------------------------------


def pack(image_dir: Path, tar: Path) -> Path:
    """The pictures as a tar, with what else lies in shards."""
    with tarfile.open(tar, "w") as archive:
        for path in sorted(image_dir.rglob("*"), reverse=True):
            archive.add(path, f"./{path.relative_to(image_dir)}", recursive=False)
            archive.addfile(tarfile.TarInfo(f"{path.stem}.cls"))
    return tar


@pytest.mark.parametrize("count", [1, 2])
def test_tars_and_urls_give_what_files_give(predict: Predict, image_dir: Path, tmp_path: Path, count: int) -> None:
    """Boxes, overlays and masks of the images in tars, here or at URLs, are those of the files themselves."""
    overlays = {name: tmp_path / name for name in ("files", "tars", "urls")}
    predict("whole", format="jsonl", image_files={"overlays": overlays["files"]})
    fs = fsspec.filesystem("memory")
    tars = [pack(image_dir, tmp_path / name) for name in ("1.tar", "2.tar")]
    fs.pipe_file("/shards/1.tar", tars[0].read_bytes())
    fs.pipe_file("/shards/2.tar", tars[1].read_bytes())
    expected = [
        {**record, "file_name": f"{t.name}/{record['file_name']}"} for t in tars for record in lines(tmp_path / "whole")
    ]
    for out, inputs in (("tars", tars), ("urls", ["memory://shards/*.tar"])):
        options = {"inputs": inputs, "format": "jsonl", "image_files": {"overlays": overlays[out]}}
        in_ranks(predict, count, launcher="torchrun", out=f"{out}.jsonl", **options)
        assert lines(tmp_path / f"{out}.jsonl") == expected
        assert contents(overlays[out] / "2.tar") == contents(overlays["files"])


def test_a_damaged_tar_is_a_failure(predict: Predict, image_dir: Path, tmp_path: Path) -> None:
    """What lies before the damage is predicted, the tar itself fails, and others go on."""
    good, bad = pack(image_dir, tmp_path / "good.tar"), tmp_path / "bad.tar"
    bad.write_bytes(good.read_bytes()[:20_000])
    summary = predict(inputs=[bad, good, tmp_path / "none.tar"], format="jsonl")
    assert 5 < summary.images < 10
    failed = {f.name: f.reason for f in summary.failures}
    assert failed == {
        "bad.tar/": "not a tar that can be read (unexpected end of data)",
        "bad.tar/b.png": "its tar has changed, or is cut short",
        "none.tar/": "no such file",
    }
    with pytest.raises(ConfigError, match="--format yolo names the photographs as files"):
        predict("other", inputs=[good], format="yolo")
    with pytest.raises(ConfigError, match="--labels folder is for images in folders"):
        predict("other", inputs=[good], labels="folder")


# ---- outputs of one's own --------------------------------------------------------------------------------


def toy_folder(records: Records, run: Run) -> Iterator[tuple[str, str | bytes]]:
    """A text file for each image with its boxes, and the names of the classes."""
    yield "classes.txt", "\n".join(run.class_names).encode()
    for record in records():
        if "error" not in record:
            yield f"labels/{record['file_name']}.txt", f"{len(record['boxes'])} {run.info['method']}\n"


def toy_note(prediction: Prediction) -> Iterator[tuple[str, bytes]]:
    """The classes of an image, and whether its mask is there."""
    yield ".txt", f"{prediction.classes[0].name} {prediction.mask is not None} {prediction.name}".encode()


@pytest.fixture
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "toy_outputs", sys.modules[__name__])
    monkeypatch.setitem(FORMATS, "toy", Output("toy_outputs:toy_folder", "a file for each image", folder=True))
    monkeypatch.setitem(IMAGE_FILES, "notes", Output("toy_outputs:toy_note", "the class", mask=True))


@pytest.mark.usefixtures("_toys")
def test_a_format_of_ones_own(
    predict: Predict, image_dir: Path, tmp_path: Path, names: list[str], fam: Callable[..., Any], checkpoint: Path
) -> None:
    """One function and one row are a format, here a folder of files: whole or not there, resumable, on the CLI too."""
    (image_dir / "aa.png").touch()
    interrupted(predict, 2, format="toy")
    assert not (tmp_path / "out").exists()
    predict(format="toy", resume=True)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt")}
    assert found == {"classes.txt", *(f"labels/{name}.txt" for name in names)}
    assert (tmp_path / "out" / "labels" / "sub" / "c.bmp.txt").read_text() == "1 fam\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]
    with pytest.raises(ConfigError, match="is there already"):
        predict(format="toy")

    common = ("predict", image_dir, "--format", "toy", "--model", checkpoint, "--device", "cpu")
    assert fam(*common).exit_code == 2  # a folder is nothing for stdout
    (tmp_path / "empty").mkdir()
    assert fam(*common, "--out", tmp_path / "empty").exit_code == 1  # an image failed
    assert (tmp_path / "empty" / "classes.txt").read_text().splitlines()[0] == "cat"


@pytest.mark.usefixtures("_toys")
def test_image_files_of_ones_own(predict: Predict, tmp_path: Path) -> None:
    """One function and one row are files that each image gets when it is done; a row says if they need the mask."""
    predict(image_files={"notes": tmp_path / "notes"}, label="cup")
    assert (tmp_path / "notes" / "sub" / "c.bmp.txt").read_text() == "cup True sub/c.bmp"
