"""`fam predict`."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from famcli.inference.torch_engine import TorchEngine
from famcli_models.checkpoint import DEFAULT_MODEL

Fam = Callable[..., Result]


@pytest.fixture
def predict(fam: Fam, checkpoint: Path) -> Fam:
    """A function that runs `fam predict` with the tiny model on the CPU; τ = 0.3 finds something everywhere."""

    def run(*arguments: object, stdin: str | None = None) -> Result:
        model = () if "--model" in arguments else ("--model", checkpoint)
        device = () if "--device" in arguments else ("--device", "cpu")
        threshold = () if "--threshold" in arguments else ("--threshold", 0.3)
        return fam("predict", *arguments, *model, *device, *threshold, stdin=stdin)

    return run


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_stdout_is_coco_and_nothing_else(predict: Fam, image_dir: Path, names: list[str]) -> None:
    """Without --out the COCO JSON is on stdout, alone; talk is on stderr."""
    result = predict(image_dir)
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert [(i["id"], i["file_name"]) for i in data["images"]] == list(enumerate(names, 1))
    assert {a["image_id"] for a in data["annotations"]} == {1, 2, 3, 4, 5}
    assert "5 images, 5 boxes" in result.stderr


def test_out_leaves_stdout_empty(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """With --out the file has what stdout would have had, its folder is made, and no partial file is left."""
    out = tmp_path / "new" / "boxes.json"
    result = predict(image_dir, "--out", out)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert out.read_text(encoding="utf-8") == predict(image_dir).stdout
    assert list(out.parent.iterdir()) == [out]


def test_boxes_are_in_the_pixels_of_the_image(predict: Fam, image_dir: Path) -> None:
    """With τ = 0 the box of each image is the whole of it."""
    data = json.loads(predict(image_dir, "--threshold", 0).stdout)
    sizes = {i["id"]: [0, 0, i["width"], i["height"]] for i in data["images"]}
    assert {a["image_id"]: a["bbox"] for a in data["annotations"]} == sizes


@pytest.mark.parametrize("form", ["coco", "coco-results", "csv", "jsonl"])
def test_formats(predict: Fam, image_dir: Path, form: str, names: list[str]) -> None:
    """Every form of the results is whole and valid on stdout."""
    text = predict(image_dir, "--format", form).stdout
    if form == "csv":
        assert [r["file_name"] for r in csv.DictReader(text.splitlines())] == names
    elif form == "jsonl":
        assert [json.loads(line)["file_name"] for line in text.splitlines()] == names
    else:
        data = json.loads(text)
        boxes = data if form == "coco-results" else data["annotations"]
        assert [b["image_id"] for b in boxes] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("form", "empty"), [("coco-results", "[]\n"), ("jsonl", None), ("coco", None)])
def test_nothing_found(predict: Fam, image_dir: Path, form: str, empty: str | None) -> None:
    """Images in which nothing is found have no box: neither a crash, nor a full-image box, nor a failure."""
    result = predict(image_dir, "--threshold", 0.999, "--format", form)
    assert result.exit_code == 0
    assert "5 without a box" in result.stderr
    if empty is not None:
        assert result.stdout == empty
    if form == "coco":
        data = json.loads(result.stdout)
        assert len(data["images"]) == 5
        assert data["annotations"] == []


def test_a_bad_image_among_good_ones(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """Bad images are named with the reason, the rest is in the output, and the exit code is 1."""
    (image_dir / "aa.png").touch()
    (image_dir / "zz.jpg").write_text("text")
    result = predict(image_dir, image_dir / "gone.png", "--out", tmp_path / "o.json")
    assert result.exit_code == 1
    assert "fam: aa.png: the file is empty\n" in result.stderr
    assert "fam: zz.jpg: not a JPEG, PNG, WebP, BMP or TIFF image\n" in result.stderr
    assert "fam: gone.png: no such file\n" in result.stderr
    assert "3 failed" in result.stderr
    data = read(tmp_path / "o.json")
    assert {i["file_name"]: i["id"] for i in data["images"]} == {
        "0007.jpg": 1,
        "a.jpg": 2,
        "b.png": 4,
        "sub/c.bmp": 6,
        "sub/d.webp": 7,
    }


def test_many_failures_do_not_fill_the_screen(predict: Fam, tmp_path: Path) -> None:
    """Of many bad images the first are named and the others counted."""
    for i in range(30):
        (tmp_path / f"{i:02}.png").touch()
    result = predict(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.count("the file is empty") == 20
    assert "... and 10 more" in result.stderr
    assert json.loads(result.stdout)["images"] == []


def test_summary_as_json(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """--json prints one JSON object about the run on stdout."""
    (image_dir / "bad.png").touch()
    result = predict(image_dir, "--out", tmp_path / "o.json", "--json")
    summary = json.loads(result.stdout)
    assert result.exit_code == 1
    assert summary["out"] == str(tmp_path / "o.json")
    assert (summary["images"], summary["boxes"], summary["empty"]) == (5, 5, 0)
    assert summary["failed"] == [{"file_name": "bad.png", "reason": "the file is empty"}]


def test_quiet(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """--quiet says nothing when all went well, and still names what failed."""
    result = predict(image_dir, "--out", tmp_path / "o.json", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    (image_dir / "bad.png").touch()
    result = predict(image_dir, "--out", tmp_path / "o.json", "--quiet")
    assert (result.exit_code, result.stderr) == (1, "fam: bad.png: the file is empty\n")


def test_list_on_stdin(predict: Fam, image_dir: Path) -> None:
    """`-` takes the images from stdin, one a line."""
    result = predict("-", stdin=f"{image_dir / 'b.png'}\n{image_dir / 'a.jpg'}\n")
    assert [i["file_name"] for i in json.loads(result.stdout)["images"]] == ["a.jpg", "b.png"]


def test_unknown_model_names_known_ones(predict: Fam, image_dir: Path) -> None:
    """A model that is neither packaged nor a folder is answered with the packaged names."""
    result = predict(image_dir, "--model", DEFAULT_MODEL[:-1])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"unknown model '{DEFAULT_MODEL[:-1]}'" in result.stderr
    assert f"did you mean: {DEFAULT_MODEL}" in result.stderr


def test_damaged_model(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """A folder that is no checkpoint is refused with what is missing."""
    result = predict(image_dir, "--model", tmp_path)
    assert result.exit_code == 1
    assert "config.json and model.safetensors missing" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there(predict: Fam, image_dir: Path) -> None:
    """Asking for a device that is not there is one line with a hint, not a traceback."""
    result = predict(image_dir, "--device", "cuda")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "fam: error: device 'cuda' is not available here; use --device auto or cpu\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--threshold", 1.5), "threshold 1.5 is not in [0, 1)"),
        (("--scales", "0.01"), "scales"),
        (("--labels", "rokcet"), "did you mean: rocket"),
        (("--coco-images", "nothing.json"), "nothing.json"),
        (("--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_values_that_cannot_be_used(predict: Fam, image_dir: Path, arguments: tuple[Any, ...], text: str) -> None:
    """A value that cannot be used is one line that names it and what is allowed."""
    result = predict(image_dir, *arguments)
    assert result.exit_code == 1
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_known_classes(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """--labels gives the class: all boxes have it."""
    data = json.loads(predict(image_dir, "--labels", "Rocket").stdout)
    assert {a["category_id"] for a in data["annotations"]} == {4}


def test_classes_by_folder(predict: Fam, image_dir: Path) -> None:
    """--labels folder takes the class from the folder that each image lies in, searched from above or directly."""
    (image_dir / "sub").rename(image_dir / "cup")
    for name in ("0007.jpg", "a.jpg", "b.png"):
        (image_dir / name).unlink()
    for searched in (image_dir, image_dir / "cup"):
        result = predict(searched, "--labels", "folder")
        assert result.exit_code == 0, result.stderr
        assert {a["category_id"] for a in json.loads(result.stdout)["annotations"]} == {3}


def test_ids_of_an_existing_file(predict: Fam, image_dir: Path, tmp_path: Path, names: list[str]) -> None:
    """--coco-images takes image and category ids from a file, by name."""
    path = tmp_path / "gt.json"
    images = [{"id": 100 - i, "file_name": name} for i, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "categories": [{"id": 8, "name": "object"}]}))
    found = json.loads(predict(image_dir, "--coco-images", path, "--format", "coco-results").stdout)
    assert [(r["image_id"], r["category_id"]) for r in found] == [(100 - i, 8) for i in range(5)]


def test_several_boxes_and_classes(predict: Fam, image_dir: Path) -> None:
    """--topk lists a box once for each class, --max-boxes allows several boxes."""
    lines = predict(image_dir, "--format", "jsonl", "--topk", 3, "--max-boxes", 4, "--threshold", 0.5).stdout
    records = [json.loads(line) for line in lines.splitlines()]
    assert all(len(r["classes"]) == 3 for r in records)
    assert all(len(b["scores"]) == 3 for r in records for b in r["boxes"])
    assert 1 <= max(len(r["boxes"]) for r in records) <= 4


def test_averaging(predict: Fam, image_dir: Path) -> None:
    """--scales, --flip and --amp run and give a box for each image."""
    result = predict(image_dir, "--scales", "1,1.5", "--flip", "--amp", "--batch-size", 2, "--workers", 1)
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["images"]) == 5


def test_side_files(predict: Fam, image_dir: Path, tmp_path: Path, names: list[str]) -> None:
    """--overlays, --maps and --masks write a file for each image, and a second run does not take them for input."""
    folders = {"--overlays": ".overlay.jpg", "--maps": ".npy", "--masks": ".mask.png"}
    arguments = [part for flag in folders for part in (flag, image_dir / flag.strip("-"))]
    for _ in range(2):
        result = predict(image_dir, *arguments)
        assert [i["file_name"] for i in json.loads(result.stdout)["images"]] == names
    for flag, suffix in folders.items():
        root = image_dir / flag.strip("-")
        assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) == [
            n + suffix for n in names
        ]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Ctrl-C while a batch is in the network."""
    infer, left = TorchEngine.infer, batches

    def patched(self: TorchEngine, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return infer(self, *arguments, **options)

    monkeypatch.setattr(TorchEngine, "infer", patched)


def test_interrupt_and_resume(predict: Fam, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves no results file but a partial one; --resume goes on, and the result is as if never stopped."""
    common = (image_dir, "--batch-size", 1)
    predict(*common, "--out", tmp_path / "whole.json")
    out = tmp_path / "o.json"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        result = predict(*common, "--out", out)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert "--resume goes on" in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
    partial = out.with_name("o.json.partial")
    assert len(partial.read_text().splitlines()) >= 2
    result = predict(*common, "--out", out, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "images were done before" in result.stderr
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not partial.exists()


def test_interrupt_without_out(predict: Fam, image_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the results go to stdout leaves stdout empty: half a JSON is worse than none."""
    interrupt_after(monkeypatch, 2)
    result = predict(image_dir, "--batch-size", 1)
    assert result.exit_code == 130
    assert result.stdout == ""


def test_interrupted_side_files_do_not_matter_to_the_input(
    predict: Fam, image_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose results lie in the folder it searches can be interrupted and resumed."""
    arguments = (image_dir, "--batch-size", 1, "--out", image_dir / "o.json", "--overlays", image_dir / "ov")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert predict(*arguments).exit_code == 130
    result = predict(*arguments, "--resume")
    assert result.exit_code == 0, result.stderr
    assert len(read(image_dir / "o.json")["images"]) == 5


def test_resume_with_other_options(
    predict: Fam, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--resume with another threshold is refused; the work done is kept."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        predict(image_dir, "--batch-size", 1, "--out", tmp_path / "o.json")
    before = (tmp_path / "o.json.partial").read_bytes()
    result = predict(image_dir, "--out", tmp_path / "o.json", "--resume", "--threshold", 0.4)
    assert result.exit_code == 1
    assert "other options (tau)" in result.stderr
    assert (tmp_path / "o.json.partial").read_bytes() == before


def test_nothing_to_resume(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """--resume without a partial file says so."""
    result = predict(image_dir, "--out", tmp_path / "o.json", "--resume")
    assert result.exit_code == 1
    assert "nothing to resume" in result.stderr


@pytest.mark.parametrize("where", ["file/o.json", "file/sub/o.json"])
def test_out_below_a_file(predict: Fam, image_dir: Path, tmp_path: Path, where: str) -> None:
    """A results file that cannot be made is one line, not a traceback."""
    (tmp_path / "file").write_text("in the way")
    result = predict(image_dir, "--out", tmp_path / where)
    assert result.exit_code == 1
    assert result.stderr.startswith("fam: error: ")
    assert str(tmp_path) in result.stderr


def test_out_is_a_folder(predict: Fam, image_dir: Path, tmp_path: Path) -> None:
    """A folder given as results file is one line that names it."""
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "x").touch()
    result = predict(image_dir, "--out", tmp_path / "o")
    assert result.exit_code == 1
    assert str(tmp_path / "o") in result.stderr
    assert (tmp_path / "o" / "x").exists()


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


def test_resume_needs_the_same_folder(
    predict: Fam, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of the same names in another folder are other images."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "boxes.json"
    with monkeypatch.context() as patch:
        patch.setattr("famcli.inference.job.Job.write", interrupted)
        assert predict(image_dir, "--out", out).exit_code == 130
    image_dir.rename(tmp_path / "moved")
    result = predict(tmp_path / "moved", "--out", out, "--resume")
    assert result.exit_code == 1
    assert "other options (root)" in result.stderr


def test_out_that_cannot_be_is_noticed_first(predict: Fam, image_dir: Path) -> None:
    """A folder or one of the photographs as --out is refused before any work, and the photograph stays."""
    before = (image_dir / "a.jpg").read_bytes()
    folder = predict(image_dir, "--out", image_dir)
    assert folder.exit_code == 1
    assert "is a folder" in folder.stderr
    photo = predict(image_dir, "--out", image_dir / "a.jpg")
    assert photo.exit_code == 1
    assert "is one of the images" in photo.stderr
    assert (image_dir / "a.jpg").read_bytes() == before
    assert not list(image_dir.glob("*.partial"))


def test_a_line_break_in_a_name_stays_on_its_line(predict: Fam, tmp_path: Path) -> None:
    """A failure is one line on stderr, whatever the file is called."""
    (tmp_path / "bad\nname.jpg").write_bytes(b"")
    result = predict(tmp_path, "--out", tmp_path / "o.json")
    assert result.exit_code == 1
    assert "fam: bad\\nname.jpg: the file is empty\n" in result.stderr


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
    common = ("predict", image_dir, "--device", "cpu")
    seen = {}
    for model, method in ((of_fam, None), (of_fam, "fam"), (of_fam, "cam"), (of_cam, None), (of_cam, "cam")):
        result = fam(*common, "--model", model, *(("--method", method) if method else ()))
        assert result.exit_code == 0, result.stderr
        info = json.loads(result.stdout)["info"]
        seen[model.name, method] = (info["method"], info["threshold"])
    assert seen == {
        ("fam", None): ("fam", 0.5),
        ("fam", "fam"): ("fam", 0.5),
        ("fam", "cam"): ("cam", 0.2),
        ("cam", None): ("cam", 0.2),
        ("cam", "cam"): ("cam", 0.2),
    }
    named = fam(*common, "--model", of_cam, "--threshold", 0.4)
    assert json.loads(named.stdout)["info"]["threshold"] == 0.4


def test_methods_that_are_not_there(predict: Fam, image_dir: Path, two: tuple[Path, Path]) -> None:
    """A CAM has no foreground map of FAM, and a FAM with a trained classifier no CAM: one sentence with a way out."""
    refused = predict(image_dir, "--model", two[1], "--method", "fam")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "leave out --method fam" in refused.stderr
    refused = predict(image_dir, "--method", "cam")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "fam train --method cam --data" in refused.stderr
    refused = predict(image_dir, "--method", "gradcam")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "unknown method 'gradcam'" in refused.stderr


def test_resume_with_another_method(
    predict: Fam, image_dir: Path, tmp_path: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the boxes by FAM and half by CAM is no result."""
    common = (image_dir, "--model", two[0], "--batch-size", 1, "--out", tmp_path / "o.json")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        predict(*common)
    result = predict(*common, "--method", "cam", "--resume")
    assert result.exit_code == 1
    assert "other options (method)" in result.stderr
    assert predict(*common, "--resume").exit_code == 0
