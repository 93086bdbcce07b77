"""`fam eval`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from famcli.results.io import read_images, read_results
from famcli_models.files import sha256_file

Fam = Callable[..., Result]
Eval = Callable[..., Result]
MAPS = ("--protocol", "wsoleval-v1", "--processes", 1)


@pytest.fixture
def dataset(make_dataset: Callable[..., Path]) -> Path:
    """Three images with one box each."""
    return make_dataset([(f"{i}.png", i, [(5, 5, 30, 30)], (40, 50)) for i in range(3)])


@pytest.fixture
def run(fam: Fam, dataset: Path) -> Eval:
    """A function that runs fam eval, on the dataset unless other data are given."""

    def evaluate(*arguments: Any) -> Result:
        data = () if "--data" in arguments else ("--data", dataset)
        return fam("eval", *data, "--device", "cpu", *arguments)

    return evaluate


@pytest.fixture
def model(checkpoint: Path) -> tuple[str, Path]:
    return ("--model", checkpoint)


@pytest.fixture
def with_cam(tmp_path: Path, make_model: Callable[..., Any]) -> tuple[str, Path]:
    """A FAM whose classifier is marked as the backbone's own."""
    model = make_model(classifier="frozen")
    model.provenance["classifier"] = "pretrained"
    model.save_pretrained(tmp_path / "with-cam")
    return ("--model", tmp_path / "with-cam")


@pytest.fixture
def masks(tmp_path: Path) -> tuple[str, Path]:
    """Masks of the three images that fill their boxes."""
    (tmp_path / "pixels").mkdir()  # no name that masks are looked for under
    for i in range(3):
        mask = np.zeros((40, 50), np.uint8)
        mask[5:31, 5:31] = 255
        Image.fromarray(mask).save(tmp_path / "pixels" / f"{i}.png")
    return ("--masks", tmp_path / "pixels")


@pytest.fixture
def maps(tmp_path: Path) -> tuple[str, Path]:
    """Maps of the images: the first two are their boxes, the third is its opposite corner."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for i in range(3):
        scores = np.zeros((40, 50))
        scores[(slice(5, 31), slice(5, 31)) if i < 2 else (slice(36, None), slice(44, None))] = 1.0
        np.save(folder / f"{i}.png.npy", scores)
    return ("--maps", folder)


def done(result: Result) -> dict[str, Any]:
    """What --json printed."""
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def refused(result: Result, text: str, code: int = 1) -> None:
    assert result.exit_code == code
    assert result.stdout == ""
    assert text in " ".join(result.stderr.replace("│", " ").split())


def cells_of(result: Result) -> list[list[str]]:
    """Cells of the first table on stdout."""
    assert result.exit_code == 0, result.stderr
    table = result.stdout.split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_table(run: Eval, model: tuple) -> None:
    """stdout is Markdown: the model, the centre box and the whole image with intervals; then paired differences."""
    result = run(*model)
    header, _, *rows = cells_of(result)
    assert all(line.startswith("| ") and line.endswith(" |") for line in result.stdout.splitlines() if line)
    assert [row[0].split(",")[0] for row in rows] == ["FAM", "centre box", "whole image"]
    assert rows[0][1] == "0.5 (fixed)"
    assert re.fullmatch(r"[0-9.]+ \[[0-9.]+, [0-9.]+\]", rows[0][header.index("GT-known")])
    assert "| FAM" in result.stdout.split("\n\n")[1]
    assert "3 images" in result.stderr
    assert "no CAM beside it" in result.stderr
    quiet = run(*model, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_json(run: Eval, model: tuple, dataset: Path) -> None:
    """--json prints the same result as one object of the documented schema."""
    data = done(run(*model, "--json"))
    assert (data["format"], data["format_version"], data["kind"]) == ("fam-results", 1, "evaluation")
    assert (data["data"]["split"], data["data"]["images"], data["data"]["partial"]) == ("test", 3, False)
    assert [row["method"] for row in data["rows"]] == ["FAM", "centre", "whole"]
    first = data["rows"][0]
    values = {name: number["value"] for name, number in first["metrics"].items()}
    assert values["top1_loc"] <= min(values["top1_cls"], values["gt_known"])
    assert len(first["curve"]) == len(data["taus"])
    assert (set(first["coco"]), sum(first["kinds"].values())) == ({"AP", "AP50", "AP75"}, 3)
    assert data["source"]["weights_sha256"] == sha256_file(model[1] / "model.safetensors")
    assert data["source"]["class_names"] == data["data"]["class_names"] == ["cat", "dog", "cup", "rocket", "person"]
    (dataset / "classes.txt").unlink()
    other = done(run(*model, "--other-classes", "--json"))
    assert other["data"]["class_names"] == []  # the model's names are not those of the labels
    assert other["source"]["class_names"][0] == "cat"


def test_out(run: Eval, fam: Fam, model: tuple, dataset: Path, tmp_path: Path) -> None:
    """--out writes three files that agree with each other, and each box is the one that fam predict writes."""
    out = tmp_path / "results"
    assert run(*model, "--out", out).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["images.jsonl", "results.json", "results.md"]
    images, row = list(read_images(out / "images.jsonl")), read_results(out).rows[0]
    assert [image.name for image in images] == ["0.png", "1.png", "2.png"]
    ious = [image.found["FAM"].iou or 0 for image in images]
    assert row.metrics["gt_known"].value == pytest.approx(100 * sum(iou >= 0.5 for iou in ious) / 3)
    assert row.metrics["mean_iou"].value == pytest.approx(100 * sum(ious) / 3)
    assert Counter(image.found["FAM"].kind for image in images) == row.kinds
    assert images[0].maps["FAM"].ndim == 2
    assert "0.5 (fixed)" in (out / "results.md").read_text()
    fam("predict", dataset, *model, "--device", "cpu", "--format", "jsonl", "--out", tmp_path / "boxes.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()]
    written = {line["file_name"]: [tuple(box["xyxy"]) for box in line["boxes"]] for line in lines}
    assert {i.name: [i.found["FAM"].box] if i.found["FAM"].box else [] for i in images} == written


@pytest.mark.parametrize("protocol", ["fam", "psol", "first-box", "wsoleval-v1", "wsoleval-v2"])
def test_object_sizes(run: Eval, with_cam: tuple, tmp_path: Path, protocol: str) -> None:
    """Each row has the accuracy by object size, whose mean over all images is the accuracy, on the terminal too."""
    result = run(*with_cam, "--processes", 1, "--interval", 0.1, "--protocol", protocol, "--out", tmp_path / "out")
    for row in read_results(tmp_path / "out").rows:
        assert row.sizes is not None
        accuracy = row.at_delta["0.5"]["value"] if row.at_delta else row.metrics["gt_known"].value
        assert sum(of.images for of in row.sizes) == 3
        assert sum(of.images * of.gt_known.value for of in row.sizes if of.gt_known) / 3 == pytest.approx(accuracy)
        assert f"| {row.title} " in result.stdout.split("| GT-known by object size ")[1]
    assert "## By object size" in (tmp_path / "out" / "results.md").read_text()
    assert "Wilson's" in result.stderr


def test_without_arguments_it_checks_itself(fam: Fam, tmp_path: Path) -> None:
    """fam eval alone measures the default model on four photographs, and all that is written says smoke check."""
    out = tmp_path / "out"
    result = fam("eval", "--device", "cpu", "--out", out)
    header, _, *rows = cells_of(result)
    assert "Smoke check" in result.stderr
    assert [row[0].split(",")[0] for row in rows] == ["FAM", "CAM", "centre box", "whole image"]
    assert float(rows[0][header.index("Top-1 Loc")].split()[0]) >= 50
    assert (read_results(out).kind, read_results(out).data["images"]) == ("smoke check", 4)
    assert all(Path(image.path).is_file() for image in read_images(out / "images.jsonl"))


def test_a_baseline_of_its_own_features(run: Eval, with_cam: tuple) -> None:
    """A FAM with the backbone's own classifier has its CAM beside it, at the oracle's τ, and that is said."""
    result = run(*with_cam)
    assert [row[0] for row in cells_of(result)[2:4]] == ["FAM", "CAM, oracle τ"]
    assert "flatters" in result.stderr


def test_method(run: Eval, with_cam: tuple) -> None:
    """--method measures another method's map of the model, a CAM at Zhou's fixed threshold and at the oracle's."""
    data = done(run(*with_cam, "--method", "cam", "--json"))
    assert [row["title"] for row in data["rows"][:2]] == ["CAM", "CAM, oracle τ"]
    assert (data["rows"][0]["tau"], data["rows"][0]["tau_from"]) == (0.2, "fixed")
    assert data["source"]["method"] == "CAM"


@pytest.mark.parametrize("option", ["--baseline", "--cam"])
def test_a_trained_baseline(
    run: Eval, model: tuple, tmp_path: Path, make_model: Callable[..., Any], option: str
) -> None:
    """--baseline, which older versions called --cam, takes a model of its own weights."""
    make_model(method="cam").save_pretrained(tmp_path / "cam")
    data = done(run(*model, option, tmp_path / "cam", "--json"))
    assert [row["method"] for row in data["rows"]] == ["FAM", "CAM", "centre", "whole"]
    assert data["source"]["baseline"] == str(tmp_path / "cam")


def test_a_baseline_at_the_threshold_of_fullsup(run: Eval, with_cam: tuple, make_splits: Callable[..., Path]) -> None:
    """Data with train-fullsup give a second row, at the τ that was chosen there; without boxes they cost that row."""
    root = make_splits(classes=("cat", "dog"), test=[0, 1, 2], train_fullsup=[3, 4, 5])
    rows = done(run("--data", root, *with_cam, "--json"))["rows"]
    assert [row["tau_from"] for row in rows] == ["fixed", "oracle", "train-fullsup", "", ""]
    assert (rows[2]["title"], rows[2]["tau"] is None) == ("CAM, τ of train-fullsup", False)
    (root / "metadata" / "train-fullsup" / "localization.txt").unlink()
    result = run("--data", root, *with_cam, "--json")
    assert "no τ can be chosen on it" in result.stderr
    assert [row["tau_from"] for row in done(result)["rows"]] == ["fixed", "oracle", "", ""]


def test_masks(run: Eval, with_cam: tuple, masks: tuple) -> None:
    """--masks adds PxAP and pIoU, by either kind of protocol; they agree, being made of the same maps."""
    arguments = (*with_cam, *masks, "--processes", 1, "--json")
    found = [done(run(*arguments, "--protocol", protocol)) for protocol in ("fam", "wsoleval-v1")]
    assert found[0]["data"]["masks"] == found[1]["data"]["masks"] == 3
    for method in ("FAM", "CAM"):
        both = [next(r for r in data["rows"] if r["method"] == method)["metrics"] for data in found]
        assert both[0]["pxap"] == both[1]["pxap"]
        assert 0 < both[0]["pxap"]["value"] < 100
    cropped = run(*arguments, "--protocol", "psol")
    assert "PxAP and pIoU are left out" in cropped.stderr  # its maps are of a crop, and the masks are not
    assert "pxap" not in done(cropped)["rows"][0]["metrics"]
    assert done(cropped)["data"]["masks"] == 0


def test_the_interval_of_pxap_is_on_the_card(run: Eval, model: tuple, masks: tuple) -> None:
    """PxAP depends on the interval, so the card of any protocol has it where there are masks, and only there."""
    arguments = (*model, "--json", "--interval", 0.25, "--processes", 1)
    assert done(run(*arguments))["protocol"]["interval"] is None
    assert done(run(*arguments, *masks))["protocol"]["interval"] == 0.25


def test_masks_without_boxes(run: Eval, dataset: Path, maps: tuple, masks: tuple, tmp_path: Path) -> None:
    """Data as OpenImages, with masks and no boxes, give PxAP and pIoU of maps; box protocols refuse them."""
    (dataset / "metadata" / "test" / "localization.txt").unlink()
    data = done(run(*maps, *masks, *MAPS, "--json", "--out", tmp_path / "out"))
    assert [(row["method"], set(row["metrics"])) for row in data["rows"]] == [("maps", {"pxap", "piou"})]
    assert data["data"]["boxes"] == 0
    assert len(list(read_images(tmp_path / "out" / "images.jsonl"))) == 3
    refused(run(*masks), "box")


@pytest.mark.parametrize("protocol", ["psol", "first-box"])
def test_other_box_protocols(run: Eval, model: tuple, protocol: str) -> None:
    """psol and first-box are computed, and the card has their rules; ten crops are an option."""
    data = done(run(*model, "--protocol", protocol, "--crops", 10, "--json"))
    assert (data["protocol"]["name"], data["protocol"]["crops"]) == (protocol, 10)
    assert data["protocol"]["rules"]["title"]
    assert "top1_loc" in data["rows"][0]["metrics"]


@pytest.mark.parametrize(("protocol", "metric"), [("wsoleval-v1", "max_box_acc"), ("wsoleval-v2", "max_box_acc_v2")])
def test_a_model_over_many_thresholds(run: Eval, model: tuple, protocol: str, metric: str) -> None:
    """--protocol scores a model's own maps by the benchmark's rules; no classes are asked for."""
    data = done(run(*model, "--processes", 1, "--interval", 0.01, "--protocol", protocol, "--json"))
    assert (data["source"]["name"], data["data"]["images"]) == (str(model[1]), 3)
    assert 0 <= data["rows"][0]["metrics"][metric]["value"] <= 100


def test_predictions(run: Eval, fam: Fam, model: tuple, dataset: Path, tmp_path: Path) -> None:
    """Boxes that fam predict wrote score as the model does; the dataset has no class names to compare."""
    boxes = tmp_path / "boxes.json"
    fam("predict", dataset, *model, "--device", "cpu", "--topk", 5, "--out", boxes)
    own = done(run(*model, "--other-classes", "--json"))["rows"][0]
    data = done(run("--predictions", boxes, "--other-classes", "--json"))
    row = data["rows"][0]
    assert data["source"] == {"kind": "predictions", "name": str(boxes), "class_names": []}
    assert (row["metrics"]["gt_known"], row["empty"]) == (own["metrics"]["gt_known"], own["empty"])
    assert row["metrics"]["mean_iou"]["value"] == pytest.approx(own["metrics"]["mean_iou"]["value"])
    assert [of["gt_known"] for of in row["sizes"]] == [of["gt_known"] for of in own["sizes"]]


def test_predictions_of_some_images(run: Eval, fam: Fam, model: tuple, dataset: Path, tmp_path: Path) -> None:
    """Images that are not in the file are an error by name, or are left out and the result is marked."""
    boxes = tmp_path / "boxes.json"
    fam("predict", dataset / "0.png", dataset / "2.png", *model, "--device", "cpu", "--out", boxes)
    arguments = ("--predictions", boxes, "--other-classes")
    refused(run(*arguments), f"1 of 3 images are not in '{boxes}': '1.png'; --allow-missing")
    result = run(*arguments, "--allow-missing", "--json")
    data = done(result)["data"]
    assert (data["images"], data["images_of_split"], data["partial"]) == (2, 3, True)
    assert "partial: 1 of 3 images" in result.stderr


def test_images_of_predictions(run: Eval, fam: Fam, model: tuple, dataset: Path, tmp_path: Path) -> None:
    """Where the right class was not named its place is behind all others, and the score is the file's."""
    boxes = tmp_path / "boxes.json"
    fam("predict", dataset, *model, "--device", "cpu", "--threshold", 0, "--out", boxes)
    (dataset / "classes.txt").unlink()
    document = json.loads(boxes.read_text())
    document["categories"] = [{"id": i + 1, "name": str(i)} for i in range(5)]  # the data have numbers for names
    for annotation in document["annotations"]:
        annotation |= {"category_id": 5, "score": 0.25}
    boxes.write_text(json.dumps(document))
    metrics = done(run("--predictions", boxes, "--out", tmp_path / "out", "--json"))["rows"][0]["metrics"]
    assert metrics["top1_cls"]["value"] == 0
    assert "top5_cls" not in metrics
    images = list(read_images(tmp_path / "out" / "images.jsonl"))
    facts = [(image.rank, image.found["predictions"].score, image.classes) for image in images]
    assert facts == [(100_000, 0.25, ())] * 3  # class 4 is none of the data


def test_maps(run: Eval, maps: tuple) -> None:
    """--maps scores another tool's maps: two of three are right, and the row says by what rules."""
    result = run(*maps, *MAPS)
    header, _, row, centre, whole = cells_of(result)
    assert row[header.index("MaxBoxAcc")].startswith("66.67 [")
    assert (row[0], centre[0].split(",")[0], whole[0]) == ("maps", "centre box", "whole image")
    assert "protocol wsoleval-v1" in result.stderr
    assert "oracle: the threshold was chosen on these very images" in result.stderr


def test_maps_as_json(run: Eval, maps: tuple) -> None:
    """--json has the accuracy at each δ, its τ, the whole curve, the rules and the versions."""
    data = done(run(*maps, "--protocol", "wsoleval-v2", "--processes", 1, "--interval", 0.1, "--json"))
    assert (data["protocol"]["name"], data["protocol"]["interval"], data["data"]["images"]) == ("wsoleval-v2", 0.1, 3)
    row = data["rows"][0]
    # Ringing of the cubic resize lifts the ground above 0: at τ = 0 the box is the whole image, 676/2000 of it right.
    values = {delta: found["value"] for delta, found in row["at_delta"].items()}
    assert values == pytest.approx({"0.3": 100, "0.5": 200 / 3, "0.7": 200 / 3})
    assert row["at_delta"]["0.3"]["tau"] == 0
    assert row["metrics"]["max_box_acc_v2"]["value"] == pytest.approx(700 / 9)
    assert len(row["curve"]) == len(data["taus"]) == 10
    assert data["protocol"]["rules"]["right"].startswith("IoU >= δ")
    assert "opencv-python-headless" in data["versions"]


def test_some_maps(run: Eval, maps: tuple, tmp_path: Path) -> None:
    """A map that is missing is an error by name, or its image is left out and --out has the boxes of the others."""
    (maps[1] / "1.png.npy").unlink()
    refused(run(*maps, *MAPS), "has no map for 1 of 3 images: '1.png'")
    result = run(*maps, *MAPS, "--allow-missing", "--out", tmp_path / "out")
    assert "partial: 1 of 3 images have no map" in result.stderr
    results = read_results(tmp_path / "out")
    assert (results.data["partial"], results.rows[0].metrics["max_box_acc"].value) == (True, 50)
    found = {image.name: image.found["maps"] for image in read_images(tmp_path / "out" / "images.jsonl")}
    assert (set(found), found["0.png"].kind, found["2.png"].kind == "right") == ({"0.png", "2.png"}, "right", False)
    assert found["0.png"].box == pytest.approx((5, 5, 31, 31), abs=1)


def test_an_unreadable_image(run: Eval, model: tuple, dataset: Path) -> None:
    """An image that cannot be read ends the evaluation, or is left out where that is allowed."""
    (dataset / "1.png").write_bytes(b"")
    refused(run(*model), "1.png: the file is empty")
    assert done(run(*model, "--allow-missing", "--json"))["data"]["partial"] is True


def test_labels_of_another_dataset(run: Eval, model: tuple, make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    """Labels beyond the model's classes are one line and exit code 1."""
    (tmp_path / "dataset").rename(tmp_path / "first")
    root = make_dataset([("a.png", 7, [(0, 0, 5, 5)], (20, 20))])
    refused(run("--data", root, *model), "1 of 1 classes of 'dataset' are none of FAM: number 7, which has no name")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--split", "val"), 1, "splits found: test"),
        (("--model", "nothing"), 1, "unknown model 'nothing'"),
        (("--method", "cma"), 1, "unknown method 'cma' (did you mean: cam)"),
        (("--maps", "m"), 2, "--maps needs --protocol"),
        (("--maps", "m", "--protocol", "psol"), 2, "--maps needs --protocol"),
        (("--maps", "m", *MAPS, "--model", "any"), 2, "give a model or --maps, not both: leave out --model"),
        (("--maps", "m", *MAPS, "--predictions", "x.json"), 2, "give maps or predictions, not both"),
        (("--crops", "3"), 2, "--crops is 3"),
        (("--maps", "m", "--protocol", "wsol"), 1, "unknown protocol 'wsol'"),
        (("--maps", "m", *MAPS, "--interval", "0"), 1, "interval of the thresholds is 0"),
        (("--predictions", "x.json", *MAPS), 2, "predictions are boxes"),
        (("--predictions", "x.json", "--cam", "any"), 2, "give a model or --predictions, not both"),
        (("--predictions", "x.json", "--masks", "y"), 2, "leave out --masks"),
    ],
)
def test_errors(run: Eval, arguments: tuple[Any, ...], code: int, text: str) -> None:
    """What cannot be is one sentence, and what does not go together is wrong usage."""
    refused(run(*arguments), text, code)


def test_predictions_need_data(fam: Fam) -> None:
    """Predictions and maps are of images that have to be named."""
    refused(fam("eval", "--predictions", "x.json"), "--data", code=2)


@pytest.mark.parametrize("arguments", [("--interval", 0), ("--interval", "nan"), ("--out", "FILE/x")])
def test_what_cannot_be_is_said_first(
    run: Eval, model: tuple, tmp_path: Path, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad interval or folder ends the command before any image is read."""
    (tmp_path / "FILE").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("famcli.evaluation.run.run_models", lambda *_, **__: pytest.fail("an image was read"))
    refused(run(*model, *arguments), "choose another --out" if "--out" in arguments else "interval")


def test_shards_are_joined(run: Eval, model: tuple[str, Path], tmp_path: Path) -> None:
    """Each shard says how many images it has measured; what is missing is named, and the join leaves no parts."""
    common = (*model, "--batch-size", 1, "--out")
    whole, out = run(*common, tmp_path / "one"), tmp_path / "two"
    assert whole.exit_code == 0
    first = run(*common, out, "--shard", "0/2")
    assert (first.exit_code, first.stdout) == (0, "")
    assert "shard 0/2: 1 images" in first.stderr
    refused(run(*common, out, "--join"), "--shard 1/2 --resume (missing)")
    assert run(*common, out, "--shard", "1/2", "--resume").exit_code == 0
    joined = run(*common, out, "--join")
    assert (joined.exit_code, joined.stdout) == (0, whole.stdout)
    assert sorted(path.name for path in out.iterdir()) == ["images.jsonl", "results.json", "results.md"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shard", "0/2"), "shard 0/2 needs --out DIR"),
        (("--resume",), "--resume needs --out DIR"),
        (("--join",), "--join needs --out DIR"),
        (("--join", "--shard", "0/2", "--out", "r"), "--join measures nothing and is one process"),
        (("--shard", "2/2", "--out", "r"), "is no shard"),
    ],
)
def test_shards_that_cannot_be(run: Eval, arguments: tuple[str, ...], words: str) -> None:
    """Parts are kept in the folder of the results, so there has to be one."""
    refused(run(*arguments), words, code=2)


def test_a_rank_without_a_folder(run: Eval, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a launcher --out is needed too."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    refused(run(), "rank 1 of 4 needs --out DIR", code=2)


def test_a_rank_that_fails_ends_all(
    run: Eval, model: tuple[str, Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 waits no longer, and names it with its reason."""
    (dataset / "2.png").write_bytes(b"")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        result = run(*model, "--batch-size", 1, "--out", tmp_path / "r")
        assert result.exit_code == 1
    assert "rank 1 of 2 has failed (" in result.stderr
    assert "2.png" in result.stderr


@pytest.fixture
def two_classes(tmp_path: Path, fam: Fam, with_cam: tuple, pictures: Callable[..., Path]) -> Path:
    """A COCO file whose first category is the class that the model gives its images, and whose other is another."""
    pictures(tmp_path / "coco", "a.png", "b.png", size_hw=(40, 50))
    (tmp_path / "coco" / "b.png").write_bytes((tmp_path / "coco" / "a.png").read_bytes())
    lines = fam("predict", tmp_path / "coco" / "a.png", *with_cam, "--format", "jsonl", "--threshold", 0).stdout
    first = json.loads(lines)["classes"][0]["name"]
    second = "rocket" if first != "rocket" else "cat"
    annotation = {"category_id": 1, "bbox": [0, 0, 50, 40], "area": 2000, "iscrowd": 0}
    document = {
        "images": [{"id": i, "file_name": f"{name}.png", "width": 50, "height": 40} for i, name in enumerate("ab", 1)],
        "annotations": [{"id": i, "image_id": i, **annotation} for i in (1, 2)],
        "categories": [{"id": 1, "name": first.upper()}, {"id": 2, "name": f" {second}_"}],
    }
    (tmp_path / "coco" / "test.json").write_text(json.dumps(document))
    return tmp_path / "coco"


@pytest.mark.parametrize("options", [(), ("--crops", 10), ("--protocol", "psol"), ("--method", "cam")])
def test_classes_go_by_name(run: Eval, two_classes: Path, with_cam: tuple, options: tuple) -> None:
    """The label of a COCO file is the class of its name, whatever the numbers, for models and for predictions."""
    result = run("--data", two_classes, *with_cam, *options, "--json")
    assert done(result)["rows"][0]["metrics"]["top1_cls"]["value"] == 100
    assert "coco and FAM: 2 of 2 classes matched by name" in result.stderr.replace("CAM", "FAM")


def test_predictions_go_by_name(run: Eval, fam: Fam, two_classes: Path, with_cam: tuple, tmp_path: Path) -> None:
    """So do those of a file, with ids of the dataset or of the model."""
    for options in ((), ("--coco-images", two_classes / "test.json")):
        predicted = fam("predict", two_classes, *with_cam, "--out", tmp_path / "p.json", "--threshold", 0, *options)
        assert ("2 of 2 classes matched by name" in predicted.stderr) == bool(options)
        result = run("--data", two_classes, "--predictions", tmp_path / "p.json", "--json")
        # Without the ids the file has the one category that occurs.
        assert done(result)["rows"][0]["metrics"]["top1_cls"]["value"] == 100, result.stderr
        assert "classes matched by name" in result.stderr


def test_classes_of_others(run: Eval, with_cam: tuple, make_splits: Callable[..., Path]) -> None:
    """They are refused, or boxes are scored alone; of a map of a class it is said which class it is."""
    root = make_splits(classes=("red", "green"), test=[0, 1, 2])
    refused(
        run("--data", root, *with_cam), "2 of 2 classes of 'tiny' are none of FAM: red, green; score the boxes alone"
    )
    result = run("--data", root, *with_cam, "--other-classes", "--json")
    assert {row["method"]: "top1_cls" in row["metrics"] for row in done(result)["rows"][:2]} == {
        "FAM": False,
        "CAM": False,
    }
    assert "a map of CAM is of a class, and it knows none of the labels" in result.stderr
    assert "a map of FAM" not in result.stderr
