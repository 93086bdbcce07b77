"""`fam predict`."""

from __future__ import annotations

import csv
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from famcli.inference.torch_engine import TorchEngine
from famcli.outputs import FORMATS
from famcli.outputs.prediction import OBJECT, UNSURE
from famcli_models.checkpoint import DEFAULT_MODEL

Fam = Callable[..., Result]
GUIDE = Path(__file__).parent.parent.parent / "docs" / "guides" / "predict.md"


@pytest.fixture
def predict(fam: Fam, checkpoint: Path) -> Fam:
    """A function that runs `fam predict` with the tiny model on the CPU; τ = 0.3 finds something everywhere."""

    def run(*arguments: object, stdin: str | None = None) -> Result:
        model = () if "--model" in arguments else ("--model", checkpoint)
        device = () if "--device" in arguments else ("--device", "cpu")
        threshold = () if "--threshold" in arguments else ("--threshold", 0.3)
        engine = ("--engine", "torch")  # the tiny model has no graph, which would be said
        return fam("predict", *arguments, *model, *device, *threshold, *engine, stdin=stdin)

    return run


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def refused(result: Result, *texts: str) -> None:
    """One line on stderr with these texts, nothing on stdout, exit code 1."""
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("fam: error: ")
    assert all(text in result.stderr for text in texts)


def test_stdout_is_coco_and_nothing_else(predict: Fam, image_dir: Path, tmp_path: Path, names: list[str]) -> None:
    """With --out - the COCO JSON is on stdout, alone; a file has what stdout would have had, as has --format."""
    result = predict(image_dir, "--out", "-")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert [(i["id"], i["file_name"]) for i in data["images"]] == list(enumerate(names, 1))
    assert {a["image_id"] for a in data["annotations"]} == {1, 2, 3, 4, 5}
    assert "5 images, 5 boxes" in result.stderr
    out = tmp_path / "new" / "boxes.json"
    again = predict(image_dir, "--out", out)
    assert (again.exit_code, again.stdout) == (0, "")
    assert out.read_text(encoding="utf-8") == result.stdout
    assert list(out.parent.iterdir()) == [out]
    assert predict(image_dir, "--format", "coco").stdout == result.stdout


def test_lines(predict: Fam, image_dir: Path, names: list[str]) -> None:
    """Without --out each box is a line with name, label, score and corners, whatever the name; talk is on stderr."""
    (image_dir / "b\x1b[31m.png").write_bytes((image_dir / "b.png").read_bytes())
    (image_dir / "bad.png").touch()
    result = predict(image_dir, "--label", "cup", "--max-boxes", 2)
    assert result.exit_code == 1
    assert result.stderr.startswith("fam: bad.png: the file is empty\n1 of 1 classes matched by name\n6 images, ")
    lines = [re.fullmatch(r"(.+?)  cup 0\.\d\d  box (\d+),(\d+),(\d+),(\d+)", x) for x in result.stdout.splitlines()]
    assert list(dict.fromkeys(line[1] for line in lines if line)) == ["0007.jpg", "a.jpg", "b\\x1b[31m.png", *names[2:]]
    records = map(json.loads, predict(image_dir, "--json", "--label", "cup", "--max-boxes", 2).stdout.splitlines())
    boxes = [box["xyxy"] for record in records for box in record.get("boxes", ())]
    assert [[float(corner) for corner in line.groups()[1:]] for line in lines if line] == boxes


def test_lines_come_while_the_run_goes_on(interrupted: Fam, image_dir: Path, names: list[str]) -> None:
    """A line is printed as soon as its image is done: before Ctrl-C, those of the images before."""
    printed = [line.split("  ")[0] for line in interrupted(image_dir).stdout.splitlines()]
    assert printed
    assert printed == names[: len(printed)]


def test_a_class_that_is_not_sure_is_an_object(predict: Fam, image_dir: Path) -> None:
    """A class below UNSURE is printed as "object", one above by its name; files have index and name of either."""
    records = [json.loads(line) for line in predict(image_dir, "--json").stdout.splitlines()]
    best = {record["file_name"]: record["classes"][0] for record in records}
    lines = [line.split("  ")[:2] for line in predict(image_dir).stdout.splitlines()]
    assert {name: label.rpartition(" ")[0] for name, label in lines} == {
        name: chosen["name"] if chosen["probability"] >= UNSURE else OBJECT for name, chosen in best.items()
    }
    assert OBJECT not in {chosen["name"] for chosen in best.values()}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--json", "--out", "-"), "leave out --json"),
        (("--json", "--format", "csv"), "leave out --json"),
        (("--resume",), "--resume needs --out FILE"),
        (("--resume", "--out", "-"), "--resume needs --out FILE"),
        (("--all-categories",), "are for results in a format"),
        (("--coco-images", "x.json"), "are for results in a format"),
    ],
)
def test_options_that_do_not_go_together(predict: Fam, image_dir: Path, arguments: tuple[str, ...], text: str) -> None:
    """Two things for standard output, and options of results where lines are printed, are wrong usage."""
    result = predict(image_dir, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in " ".join(result.stderr.replace("│", " ").split())


def test_names_of_ones_own(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """Names that the model does not know name the boxes, in files too; the summary says so, with the nearest class."""
    found = predict(image_dir, "--label", "rockett")
    assert "names: 1 own class (rockett); no class of the model, but 'rockett' is near rocket\n" in found.stderr
    assert found.stdout.count("  rockett 0.") == 5
    out = tmp_path / "o.json"
    (tmp_path / "labels.csv").write_text("a.jpg,wing\nb.png,cup\ngone.jpg,door\n")
    found = predict(image_dir, "--labels", tmp_path / "labels.csv", "--out", out, "--json")
    assert found.exit_code == 1  # three images without a label
    assert "1 entry of" in found.stderr
    assert "(gone.jpg)" in found.stderr
    assert [remark[:9] for remark in json.loads(found.stdout)["remarks"]] == ["1 entry o", "names: 2 "]
    written = read(out)
    assert {c["id"]: c["name"] for c in written["categories"]} == {1: "cup", 2: "wing"}
    assert [a["category_id"] for a in written["annotations"]] == [2, 1]
    truth = {"images": written["images"], "categories": [{"id": 70, "name": "Wing"}, {"id": 4, "name": "hat"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    ids = ("--coco-images", tmp_path / "truth.json", "--format", "coco-results", "--labels", tmp_path / "labels.csv")
    assert [found["category_id"] for found in json.loads(predict(image_dir, *ids).stdout)] == [70]


def test_a_side_file_that_cannot_be_written_keeps_the_box(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """An overlay that the disk refuses is named and counted, exit code 1; all boxes and other files are there."""
    (tmp_path / "ov" / "a.jpg.overlay.jpg").mkdir(parents=True)
    files = ("--overlays", tmp_path / "ov", "--maps", tmp_path / "maps")
    result = predict(image_dir, *files, "--out", tmp_path / "o.json", "--json")
    assert result.exit_code == 1
    assert f"fam: a.jpg: cannot write '{tmp_path / 'ov' / 'a.jpg.overlay.jpg'}'" in result.stderr
    assert "5 images, 5 boxes, 1 without all of their files" in result.stderr
    assert [w["file_name"] for w in json.loads(result.stdout)["warnings"]] == ["a.jpg"]
    assert len(read(tmp_path / "o.json")["annotations"]) == 5
    assert (len(list((tmp_path / "maps").rglob("*.npy"))), len(list((tmp_path / "ov").rglob("*.jpg")))) == (5, 5)


def test_boxes_are_in_the_pixels_of_the_image(predict: Fam, image_dir: Path) -> None:
    """With τ = 0 the box of each image is the whole of it."""
    data = json.loads(predict(image_dir, "--threshold", 0, "--out", "-").stdout)
    sizes = {i["id"]: [0, 0, i["width"], i["height"]] for i in data["images"]}
    assert {a["image_id"]: a["bbox"] for a in data["annotations"]} == sizes


@pytest.mark.parametrize("form", list(FORMATS))
def test_formats(predict: Fam, image_dir: Path, form: str, names: list[str], tmp_path: Path) -> None:
    """Every form of the results is whole and valid on stdout or a folder, and described in help and in the guide."""
    row = FORMATS[form]
    result = predict(image_dir, "--format", form, *(("--out", tmp_path / "new") if row.folder else ()))
    text = result.stdout
    assert result.exit_code == 0, result.stderr
    if row.folder:
        assert text == ""
        assert any((tmp_path / "new").iterdir())
    elif form == "cvat":
        root = ET.fromstring(text)  # noqa: S314  (it is our own)
        assert [image.get("name") for image in root.iter("image")] == names
    elif form == "csv":
        assert [r["file_name"] for r in csv.DictReader(text.splitlines())] == names
    elif form == "jsonl":
        assert [json.loads(line)["file_name"] for line in text.splitlines()] == names
    else:
        data = json.loads(text)
        boxes = data if form == "coco-results" else data["annotations"]
        assert [b["image_id"] for b in boxes] == [1, 2, 3, 4, 5]
    default = " (default)" if form == "coco" else ""
    assert f"| `{form}`{default} | {row.summary} |" in GUIDE.read_text(encoding="utf-8")


def test_nothing_found(predict: Fam, image_dir: Path) -> None:
    """Images in which nothing is found have no box: neither a crash, nor a full-image box, nor a failure."""
    assert predict(image_dir / "a.jpg", "--threshold", 0.999).stdout == "a.jpg  nothing found\n"
    result = predict(image_dir, "--threshold", 0.999, "--out", "-")
    assert result.exit_code == 0
    assert "5 without a box" in result.stderr
    data = json.loads(result.stdout)
    assert (len(data["images"]), data["annotations"]) == (5, [])
    assert predict(image_dir, "--threshold", 0.999, "--format", "coco-results").stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--format", "jsnl"), "unknown format 'jsnl' (did you mean: jsonl)"),
        (("--format", "jsonl", "--out", "x.CSV"), "'x.CSV' is a name for csv, and --format is jsonl"),
        (("--format", "csv", "--out", "x.json"), "is a name for coco or coco-results"),
        (("--format", "yolo", "--out", "x.json"), "and --format is yolo, a folder of files: change one"),
        (("--out", "x.txt"), "no format is known by the suffix of --out 'x.txt'"),
    ],
)
def test_formats_and_suffixes_that_do_not_fit(
    predict: Fam, image_dir: Path, arguments: tuple[str, ...], text: str
) -> None:
    """A form that is not there, or one that the suffix of --out contradicts, is wrong usage, said in a sentence."""
    result = predict(image_dir, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("out", "form", "start"),
    [
        ("o.json", None, '{"info"'),
        ("o.json", "coco-results", "[{"),
        ("o.csv", None, "file_name,"),
        ("O.JSONL", None, '{"file_name"'),
        ("o", None, '{"info"'),
        ("o.txt", "csv", "file_name,"),
    ],
)
def test_the_suffix_of_out_picks_the_format(
    predict: Fam, image_dir: Path, tmp_path: Path, out: str, form: str | None, start: str
) -> None:
    """.json, .csv and .jsonl are their formats, a name without a suffix is COCO, and --format takes any new suffix."""
    named = ("--format", form) if form else ()
    assert predict(image_dir / "a.jpg", "--out", tmp_path / out, *named).exit_code == 0
    assert (tmp_path / out).read_text(encoding="utf-8").replace("\n", "").startswith(start)


def test_a_bad_image_among_good_ones(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """Bad images are named with the reason, one line each, the rest is in the output, and the exit code is 1."""
    (image_dir / "aa.png").touch()
    (image_dir / "bad\nname.jpg").touch()
    (image_dir / "zz.jpg").write_text("text")
    result = predict(image_dir, image_dir / "gone.png", "--out", tmp_path / "o.json", "--json")
    assert result.exit_code == 1
    assert "fam: aa.png: the file is empty\n" in result.stderr
    assert "fam: bad\\nname.jpg: the file is empty\n" in result.stderr
    assert "fam: zz.jpg: not a JPEG, PNG, WebP, BMP or TIFF image, but text; a list" in result.stderr
    assert "4 failed" in result.stderr
    found = {i["file_name"]: i["id"] for i in read(tmp_path / "o.json")["images"]}
    assert found == {"0007.jpg": 1, "a.jpg": 2, "b.png": 4, "sub/c.bmp": 7, "sub/d.webp": 8}
    summary = json.loads(result.stdout)
    assert summary["out"] == str(tmp_path / "o.json")
    assert (summary["images"], summary["boxes"], summary["empty"]) == (5, 5, 0)
    assert summary["failed"][2] == {"file_name": "gone.png", "reason": "no such file"}


def test_many_failures_do_not_fill_the_screen(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """Of many bad images the first are named, and all are in a file beside the results as long as there are so many."""
    for i in range(30):
        (image_dir / f"{i:02}.png").touch()
    result = predict(image_dir, "--out", "-")
    assert result.exit_code == 1
    assert result.stderr.count("the file is empty") == 20
    assert "... and 10 more failed; with --out FILE all are listed beside it\n" in result.stderr
    out, listed = tmp_path / "o.json", tmp_path / "o.json.failed.jsonl"
    assert f"... and 10 more failed; all are listed in '{listed}'\n" in predict(image_dir, "--out", out).stderr
    records = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
    assert records == [{"file_name": f"{i:02}.png", "error": "the file is empty"} for i in range(30)]
    assert predict(image_dir / "a.jpg", "--out", out).exit_code == 0
    assert not listed.exists()


def test_nothing_is_lost_without_a_word(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """An input that gives no image fails among those that do, and what a rule leaves out is counted."""
    (image_dir / "x.jfif").touch()
    (image_dir / "linked").symlink_to(tmp_path)
    result = predict(image_dir, tmp_path / "*.gif", "--json", "--out", tmp_path / "o.json")
    assert result.exit_code == 1
    assert f"fam: {tmp_path}/*.gif: it matches no file\n" in result.stderr
    assert "5 images, 5 boxes, 1 failed" in result.stderr
    said = json.loads(result.stdout)
    assert said["failed"] == [{"file_name": f"{tmp_path}/*.gif", "reason": "it matches no file"}]
    assert [remark.partition(":")[0] for remark in said["remarks"]] == [
        "links to folders not followed",
        "files of other types left out",
    ]
    assert all(f"{remark}\n" in result.stderr for remark in said["remarks"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--model", DEFAULT_MODEL[:-1]), f"unknown model '{DEFAULT_MODEL[:-1]}' (did you mean: {DEFAULT_MODEL}"),
        (("--model", "."), "config.json and model.safetensors missing"),
        (("--threshold", 1.5), "threshold is 1.5; it must be in [0, 1)"),
        (("--scales", "0.01"), "scales"),
        (("--label", " "), "the name of a class is empty"),
        (("--labels", "rocket"), "--labels 'rocket' is neither 'folder' nor a file"),
        (("--labels", "folder", "--label", "cup"), "give one of the two"),
        (("--coco-images", "nothing.json", "--out", "-"), "nothing.json"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--method", "gradcam"), "unknown method 'gradcam'"),
        (("--out", "o.json", "--join"), "no shard of 'o.json' is here: make them with the same command"),
        (("--out", "s3://bucket/o.json"), "is a URL; results are written to files here"),
        (("--out", "file/o.json"), "file"),
        (("--out", "file/sub/o.json"), "file"),
        (("--out", "photos"), "'photos' is a folder"),
        (("--out", "photos/a.jpg", "--format", "coco"), "is one of the images"),
        *(
            ()
            if torch.cuda.is_available()
            else [(("--device", "cuda"), "is not available here; use --device auto or cpu")]
        ),
    ],
)
def test_values_that_cannot_be_used(
    predict: Fam, image_dir: Path, arguments: tuple[Any, ...], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that cannot be used is one line that names it and what is allowed, and nothing is written."""
    monkeypatch.chdir(image_dir.parent)
    Path("file").write_text("in the way")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    refused(predict(image_dir, *arguments), text)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_quiet_list_on_stdin(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """`-` takes the images from stdin, one a line; --quiet says nothing but what failed."""
    (image_dir / "bad.png").touch()
    bad = image_dir / "bad.png"
    for names, said in ((["b.png", "a.jpg"], ""), (["a.jpg", "bad.png"], f"fam: {bad}: the file is empty\n")):
        listed = "".join(f"{image_dir / name}\n" for name in names)
        result = predict("-", "--quiet", "--out", tmp_path / "o.json", stdin=listed)
        assert (result.exit_code, result.stdout, result.stderr) == (int(bool(said)), "", said)
        good = sorted(set(names) - {"bad.png"})
        assert [i["file_name"] for i in read(tmp_path / "o.json")["images"]] == good


def test_image_files(predict: Fam, image_dir: Path, names: list[str]) -> None:
    """--overlays, --maps and --masks write a file for each image, and a second run does not take them for input."""
    folders = {"--overlays": ".overlay.jpg", "--maps": ".npy", "--masks": ".mask.png"}
    arguments = [part for flag in folders for part in (flag, image_dir / flag.strip("-"))]
    for _ in range(2):
        result = predict(image_dir, *arguments, "--threshold", 0, "--out", "-")
        sizes = {i["file_name"]: (i["height"], i["width"]) for i in json.loads(result.stdout)["images"]}
        assert list(sizes) == names
    for flag, suffix in folders.items():
        root = image_dir / flag.strip("-")
        found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        assert found == [name + suffix for name in names]
    for name, size_hw in sizes.items():
        M = np.load(image_dir / "maps" / f"{name}.npy")
        assert (M.shape, M.dtype) == ((4, 4), np.float32)
        mask = cv2.imread(str(image_dir / "masks" / f"{name}.mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == cv2.imread(str(image_dir / "overlays" / f"{name}.overlay.jpg")).shape[:2] == size_hw
        assert (mask == 255).all()  # τ = 0 takes everything


@pytest.mark.parametrize(
    ("masks", "form", "kind"),
    [("rle", "coco", dict), ("rle", "jsonl", dict), ("polygons", "coco-results", list), ("folder/", "coco", dict)],
)
def test_masks_in_the_results(predict: Fam, image_dir: Path, tmp_path: Path, masks: str, form: str, kind: type) -> None:
    """--masks rle and polygons put the region of each box into the results; a folder gets files too."""
    where = tmp_path / masks if "/" in masks else masks
    result = predict(image_dir, "--masks", where, "--format", form)
    assert result.exit_code == 0, result.stderr
    if form == "jsonl":
        boxes = [box for line in result.stdout.splitlines() for box in json.loads(line)["boxes"]]
    else:
        boxes = json.loads(result.stdout)
        boxes = boxes["annotations"] if form == "coco" else boxes
    assert len(boxes) == 5
    assert {type(box["segmentation"]) for box in boxes} == {kind}
    assert len(list(tmp_path.rglob("*.mask.png"))) == (5 if "/" in masks else 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--masks", "rle"), "without --out or --format there is no place for masks as 'rle'; coco,"),
        (("--masks", "polygons", "--format", "csv"), "--format csv has no place for masks as 'polygons'; coco,"),
        (("--masks", "rle", "--format", "yolo", "--out", "new"), "--format yolo has no place for masks as 'rle'"),
    ],
)
def test_masks_that_the_results_have_no_place_for(
    predict: Fam, image_dir: Path, arguments: tuple[str, ...], text: str
) -> None:
    """A form that the format cannot hold is refused before any work, with the formats that can."""
    refused(predict(image_dir, *arguments), text)


def test_all_categories(predict: Fam, image_dir: Path) -> None:
    """COCO lists the categories that occur; with --all-categories all of the model's, by the same ids."""
    some, every = (
        json.loads(predict(image_dir, "--format", "coco", *more).stdout) for more in ((), ("--all-categories",))
    )
    assert {c["id"] for c in some["categories"]} == {a["category_id"] for a in some["annotations"]}
    assert [c["id"] for c in every["categories"]] == list(range(1, len(every["categories"]) + 1))
    assert [c for c in every["categories"] if c in some["categories"]] == some["categories"]


def test_boxes_classes_and_averaging(predict: Fam, image_dir: Path) -> None:
    """--topk lists a box once for each class, --max-boxes allows several; --scales, --flip and --amp run."""
    more = ("--topk", 3, "--max-boxes", 4, "--threshold", 0.5)
    views = ("--scales", "1,1.5", "--flip", "--amp", "--batch-size", 2, "--workers", 1)
    lines = predict(image_dir, "--format", "jsonl", *more, *views).stdout
    records = [json.loads(line) for line in lines.splitlines()]
    assert len(records) == 5
    assert all(len(r["classes"]) == 3 for r in records)
    assert all(len(b["scores"]) == 3 for r in records for b in r["boxes"])
    assert 1 <= max(len(r["boxes"]) for r in records) <= 4


@pytest.fixture
def interrupted(predict: Fam, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A function that runs `fam predict` one image a batch and presses Ctrl-C while the third is in the network."""

    def run(*arguments: object) -> Result:
        infer, left = TorchEngine.infer, 2

        def patched(self: TorchEngine, *arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return infer(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(TorchEngine, "infer", patched)
            result = predict(*arguments, "--batch-size", 1)
        assert result.exit_code == 130
        assert "{" not in result.stdout  # half a JSON is worse than none
        assert "Traceback" not in result.stderr
        return result

    return run


def test_interrupt_and_resume(predict: Fam, interrupted: Fam, image_dir: Path, tmp_path: Path) -> None:
    """Ctrl-C leaves no results file but a partial one; --resume goes on, and the result is as if never stopped.

    The results may lie in the folder that is searched.
    """
    predict(image_dir, "--out", tmp_path / "whole.json")
    out = image_dir / "o.json"
    arguments = (image_dir, "--out", out, "--overlays", image_dir / "ov")
    partial = out.with_name("o.json.partial")
    assert f"kept in '{partial}'; the same command with --resume goes on" in interrupted(*arguments).stderr
    assert not out.exists()
    assert len(partial.read_text().splitlines()) >= 2
    result = predict(*arguments, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "of 5 images were done before" in result.stderr
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not partial.exists()


def test_interrupt_without_out(interrupted: Fam, image_dir: Path) -> None:
    """There is nothing to go on with where the results go to stdout."""
    assert "--resume" not in interrupted(image_dir).stderr


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
@pytest.mark.parametrize("form", ["coco", "csv", "jsonl"])
def test_file_names_that_are_no_unicode(predict: Fam, image_dir: Path, tmp_path: Path, form: str) -> None:
    """A file name that is not UTF-8 is an image like any other, and the results are valid UTF-8."""
    os.rename(image_dir / "a.jpg", os.fsencode(image_dir) + b"/caf\xe9.jpg")
    result = predict(image_dir, "--out", tmp_path / "o", "--format", form)
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "o").read_bytes().decode("utf-8")
    assert "b.png" in text
    assert "caf" in text


@pytest.fixture
def two(make_model: Callable[..., Any], tmp_path: Path) -> tuple[Path, Path]:
    """A FAM that kept the backbone's own classifier, and a CAM, as checkpoints."""
    fam, cam = make_model(classifier="frozen"), make_model(method="cam")
    fam.provenance["classifier"] = "pretrained"
    fam.save_pretrained(tmp_path / "fam")
    cam.save_pretrained(tmp_path / "cam")
    return tmp_path / "fam", tmp_path / "cam"


def test_methods(fam: Fam, image_dir: Path, two: tuple[Path, Path]) -> None:
    """A checkpoint's own method is the default, --method cam takes a FAM's CAM, and the results say which it was."""
    of_fam, of_cam = two
    for model, method, used in (
        (of_fam, None, ("fam", 0.5)),
        (of_fam, "fam", ("fam", 0.5)),
        (of_fam, "cam", ("cam", 0.2)),
        (of_cam, None, ("cam", 0.2)),
        (of_cam, "cam", ("cam", 0.2)),
    ):
        named = ("--method", method) if method else ()
        result = fam("predict", image_dir, "--device", "cpu", "--model", model, *named, "--out", "-")
        assert result.exit_code == 0, result.stderr
        info = json.loads(result.stdout)["info"]
        assert (info["method"], info["threshold"]) == used
    with_threshold = fam("predict", image_dir, "--device", "cpu", "--model", of_cam, "--threshold", 0.4, "--out", "-")
    assert json.loads(with_threshold.stdout)["info"]["threshold"] == 0.4


def test_methods_that_are_not_there(predict: Fam, image_dir: Path, two: tuple[Path, Path]) -> None:
    """A CAM has no foreground map of FAM, and a FAM with a trained classifier no CAM: one sentence with a way out."""
    refused(predict(image_dir, "--model", two[1], "--method", "fam"), "leave out --method fam")
    refused(predict(image_dir, "--method", "cam"), "fam train --method cam --data")
    parts = predict(image_dir, "--parts", "--model", two[1])
    refused(parts, "a model of 'cam' has no parts; leave out --parts, or predict with --method fam\n")


def test_resume_with_another_method(
    predict: Fam, interrupted: Fam, image_dir: Path, tmp_path: Path, two: tuple[Path, Path]
) -> None:
    """Half of the boxes by FAM and half by CAM is no result."""
    common = (image_dir, "--model", two[0], "--out", tmp_path / "o.json")
    interrupted(*common)
    refused(predict(*common, "--method", "cam", "--resume"), "other options (method)")
    assert predict(*common, "--resume").exit_code == 0


def test_deep_images(predict: Fam, tmp_path: Path) -> None:
    """The same picture with 8 and 12 bits has the same line; --range says otherwise what is black and white."""
    values = np.random.default_rng(0).integers(0, 255, (9, 12), np.uint8)
    scene = np.asarray(Image.fromarray(values).resize((96, 72), Image.Resampling.BICUBIC))
    for name, pixels in (("8.png", scene), ("12.png", (scene / 255 * 4095).round().astype(np.uint16))):
        Image.fromarray(pixels).save(tmp_path / name)
    lines = [predict(tmp_path / name).stdout.removeprefix(name) for name in ("8.png", "12.png")]
    assert lines[0] == lines[1] == predict(tmp_path / "12.png", "--range", "0,4095").stdout.removeprefix("12.png")
    assert predict(tmp_path / "12.png", "--range", "container").stdout.removeprefix("12.png") != lines[0]
    for wrong in ("dark", "5,1", "0,inf"):
        result = predict(tmp_path, "--range", wrong)
        assert result.exit_code == 2
        assert "LOW,HIGH" in result.stderr


def test_an_end_that_is_missing(predict: Fam, image_dir: Path) -> None:
    """A JPEG that lacks its end marker is read, which is said, and is no failure."""
    content = (image_dir / "a.jpg").read_bytes()
    whole = predict(image_dir / "a.jpg").stdout
    (image_dir / "a.jpg").write_bytes(content[:-2])
    result = predict(image_dir / "a.jpg")
    assert (result.exit_code, result.stdout) == (0, whole)
    assert "read all the same, its end marker is missing, but all pixels are there: " in result.stderr
    assert "a.jpg" in json.loads(predict(image_dir, "--out", image_dir / "x.csv", "--json").stdout)["remarks"][-1]


def test_memory(predict: Fam, image_dir: Path) -> None:
    """An image that needs more than --memory is refused with both sizes; the others are read."""
    Image.new("RGB", (2000, 2000)).save(image_dir / "large.png")
    result = predict(image_dir, "--memory", "8M")
    assert result.exit_code == 1
    assert "large.png: too large (2000x2000 PNG of mode RGB takes 15 MiB to decode, of 8 MiB)" in result.stderr
    assert "5 images" in result.stderr
    assert predict(image_dir, "--memory", "much").exit_code == 2
    assert predict(image_dir).exit_code == 0
