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


@pytest.fixture
def dataset(make_dataset: Callable[..., Path]) -> Path:
    """Three images with one box each."""
    return make_dataset([(f"{i}.png", i, [(5, 5, 30, 30)], (40, 50)) for i in range(3)])


def rows(result: Result) -> list[list[str]]:
    """Cells of the first table on stdout."""
    table = result.stdout.split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_table(fam: Fam, checkpoint: Path, dataset: Path) -> None:
    """stdout is Markdown: FAM, the centre box and the whole image with intervals; then paired differences."""
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert all(line.startswith("| ") and line.endswith(" |") for line in result.stdout.splitlines() if line)
    cells = rows(result)
    assert [row[0].split(",")[0] for row in cells[2:]] == ["FAM", "centre box", "whole image"]
    assert cells[2][1] == "0.5 (fixed)"
    assert re.fullmatch(r"[0-9.]+ \[[0-9.]+, [0-9.]+\]", cells[2][cells[0].index("GT-known")])
    assert "| FAM" in result.stdout.split("\n\n")[1]
    assert "3 images" in result.stderr
    assert "no CAM beside it" in result.stderr


def test_json(fam: Fam, checkpoint: Path, dataset: Path) -> None:
    """--json prints the same result as one object of the documented schema."""
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", "--json")
    data = json.loads(result.stdout)
    assert (data["format"], data["format_version"], data["kind"]) == ("fam-results", 1, "evaluation")
    assert (data["data"]["split"], data["data"]["images"], data["data"]["partial"]) == ("test", 3, False)
    assert [row["method"] for row in data["rows"]] == ["FAM", "centre", "whole"]
    metrics = data["rows"][0]["metrics"]
    assert metrics["top1_loc"]["value"] <= min(metrics["top1_cls"]["value"], metrics["gt_known"]["value"])
    assert len(data["rows"][0]["curve"]) == len(data["taus"])
    assert data["source"]["weights_sha256"] == sha256_file(checkpoint / "model.safetensors")
    assert data["source"]["class_names"] == data["data"]["class_names"] == ["cat", "dog", "cup", "rocket", "person"]
    other = json.loads(
        fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", "--other-classes", "--json").stdout
    )
    assert other["data"]["class_names"] == []  # the model's names are not those of the labels
    assert other["source"]["class_names"][0] == "cat"
    assert set(data["rows"][0]["coco"]) == {"AP", "AP50", "AP75"}
    assert sum(data["rows"][0]["kinds"].values()) == 3


def test_out(fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    """--out writes the three files of a result, which can be read back; the records agree with the numbers."""
    out = tmp_path / "results"
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == ["images.jsonl", "results.json", "results.md"]
    results, records = read_results(out), list(read_images(out / "images.jsonl"))
    assert [record.name for record in records] == ["0.png", "1.png", "2.png"]
    row = results.rows[0]
    ious = [record.found["FAM"].iou or 0 for record in records]
    assert row.metrics["gt_known"].value == pytest.approx(100 * sum(iou >= 0.5 for iou in ious) / 3)
    assert row.metrics["mean_iou"].value == pytest.approx(100 * sum(ious) / 3)
    assert Counter(record.found["FAM"].kind for record in records) == row.kinds
    assert records[0].maps["FAM"].ndim == 2
    assert "0.5 (fixed)" in (out / "results.md").read_text()


def test_boxes_are_those_of_predict(fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    """Each scored box is the one that fam predict writes for the same image."""
    model = ("--model", checkpoint, "--device", "cpu")
    fam("eval", "--data", dataset, *model, "--out", tmp_path)
    fam("predict", dataset, *model, "--format", "jsonl", "--out", tmp_path / "boxes.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()]
    written = {line["file_name"]: [box["xyxy"] for box in line["boxes"]] for line in lines}
    for record in read_images(tmp_path / "images.jsonl"):
        box = record.found["FAM"].box
        assert ([list(box)] if box else []) == written[record.name]


def test_quiet(fam: Fam, checkpoint: Path, dataset: Path) -> None:
    """--quiet leaves the tables alone."""
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", "--quiet")
    assert result.stderr == ""
    assert result.stdout.startswith("| method")


def test_without_arguments_it_checks_itself(fam: Fam, tmp_path: Path) -> None:
    """fam eval alone measures the packaged model on three photographs, and all that is written says smoke check."""
    out = tmp_path / "out"
    result = fam("eval", "--device", "cpu", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "Smoke check" in result.stderr
    cells = rows(result)
    assert [row[0].split(",")[0] for row in cells[2:]] == ["FAM", "CAM", "centre box", "whole image"]
    assert float(cells[2][cells[0].index("Top-1 Loc")].split()[0]) > 60
    assert (read_results(out).kind, read_results(out).data["images"]) == ("smoke check", 3)
    assert all(Path(record.path).is_file() for record in read_images(out / "images.jsonl"))


@pytest.fixture
def with_cam(tmp_path: Path, make_model: Callable[..., Any]) -> Path:
    """A FAM whose classifier is marked as the backbone's own."""
    model = make_model(classifier="frozen")
    model.provenance["classifier"] = "pretrained"
    model.save_pretrained(tmp_path / "with-cam")
    return tmp_path / "with-cam"


def test_cam_beside_fam(fam: Fam, with_cam: Path, dataset: Path) -> None:
    """A FAM with the backbone's own classifier has its CAM beside it, at the oracle's τ, and that is said."""
    result = fam("eval", "--data", dataset, "--model", with_cam, "--device", "cpu")
    assert [row[0] for row in rows(result)[2:4]] == ["FAM", "CAM, oracle τ"]
    assert "flatters" in result.stderr


def test_method_cam(fam: Fam, with_cam: Path, dataset: Path) -> None:
    """--method measures another method's map of the model, a CAM at Zhou's fixed threshold and at the oracle's."""
    result = fam("eval", "--data", dataset, "--model", with_cam, "--method", "cam", "--device", "cpu", "--json")
    data = json.loads(result.stdout)
    assert [row["title"] for row in data["rows"][:2]] == ["CAM", "CAM, oracle τ"]
    assert (data["rows"][0]["tau"], data["rows"][0]["tau_from"]) == (0.2, "fixed")
    assert data["source"]["method"] == "CAM"


@pytest.mark.parametrize("option", ["--baseline", "--cam"])
def test_a_trained_baseline(
    fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path, make_model: Callable[..., Any], option: str
) -> None:
    """--baseline, which older versions called --cam, takes a model of its own weights."""
    make_model(method="cam").save_pretrained(tmp_path / "cam")
    arguments = ("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", option)
    data = json.loads(fam(*arguments, tmp_path / "cam", "--json").stdout)
    assert [row["method"] for row in data["rows"]] == ["FAM", "CAM", "centre", "whole"]
    assert data["source"]["baseline"] == str(tmp_path / "cam")


def test_cam_at_the_threshold_of_fullsup(fam: Fam, with_cam: Path, make_splits: Callable[..., Path]) -> None:
    """Data with train-fullsup give CAM a second row, at the τ that was chosen there."""
    root = make_splits(test=[0, 1, 2], train_fullsup=[3, 4, 5])
    result = fam("eval", "--data", root, "--model", with_cam, "--device", "cpu", "--json")
    row = next(r for r in json.loads(result.stdout)["rows"] if r["tau_from"] == "train-fullsup")
    assert row["title"] == "CAM, τ of train-fullsup"
    assert row["tau"] is not None


def test_masks(fam: Fam, with_cam: Path, dataset: Path, tmp_path: Path) -> None:
    """--masks adds PxAP and pIoU, by either kind of protocol; they agree, being made of the same maps."""
    (tmp_path / "masks").mkdir()
    for i in range(3):
        mask = np.zeros((40, 50), np.uint8)
        mask[5:31, 5:31] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    arguments = ("eval", "--data", dataset, "--model", with_cam, "--device", "cpu", "--masks", tmp_path / "masks")
    found = [
        json.loads(fam(*arguments, "--protocol", protocol, "--processes", 1, "--json").stdout)
        for protocol in ("fam", "wsoleval-v1")
    ]
    assert found[0]["data"]["masks"] == found[1]["data"]["masks"] == 3
    for method in ("FAM", "CAM"):
        both = [next(r for r in data["rows"] if r["method"] == method)["metrics"] for data in found]
        assert both[0]["pxap"] == both[1]["pxap"]
        assert 0 < both[0]["pxap"]["value"] < 100
    cropped = fam(*arguments, "--protocol", "psol", "--json")
    assert "PxAP and pIoU are left out" in cropped.stderr  # its maps are of a crop, and the masks are not
    assert "pxap" not in json.loads(cropped.stdout)["rows"][0]["metrics"]
    assert json.loads(cropped.stdout)["data"]["masks"] == 0


@pytest.mark.parametrize("protocol", ["psol", "first-box"])
def test_other_box_protocols(fam: Fam, checkpoint: Path, dataset: Path, protocol: str) -> None:
    """psol and first-box are computed, and the card has their rules; ten crops are an option."""
    arguments = ("--data", dataset, "--model", checkpoint, "--device", "cpu", "--protocol", protocol, "--crops", 10)
    data = json.loads(fam("eval", *arguments, "--json").stdout)
    assert (data["protocol"]["name"], data["protocol"]["crops"]) == (protocol, 10)
    assert data["protocol"]["rules"]["title"]
    assert "top1_loc" in data["rows"][0]["metrics"]


def test_predictions(fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    """Boxes that fam predict wrote score as the model does."""
    model = ("--model", checkpoint, "--device", "cpu")
    boxes = tmp_path / "boxes.json"
    fam("predict", dataset, *model, "--topk", 5, "--out", boxes)
    # The dataset has no class names, so boxes alone can be compared.
    own = json.loads(fam("eval", "--data", dataset, *model, "--other-classes", "--json").stdout)["rows"][0]
    result = fam("eval", "--data", dataset, "--predictions", boxes, "--other-classes", "--json")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["source"] == {"kind": "predictions", "name": str(boxes), "class_names": []}
    assert data["rows"][0]["metrics"]["gt_known"] == own["metrics"]["gt_known"]
    assert data["rows"][0]["metrics"]["mean_iou"]["value"] == pytest.approx(own["metrics"]["mean_iou"]["value"])
    assert data["rows"][0]["empty"] == own["empty"]


def test_predictions_of_some_images(fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    """Images that are not in the file are an error by name, or are left out and the result is marked."""
    boxes = tmp_path / "boxes.json"
    fam("predict", dataset / "0.png", dataset / "2.png", "--model", checkpoint, "--device", "cpu", "--out", boxes)
    arguments = ("eval", "--data", dataset, "--predictions", boxes, "--other-classes")
    wrong = fam(*arguments)
    assert wrong.exit_code == 1
    assert "1 of 3 images" in wrong.stderr
    assert "'1.png'" in wrong.stderr
    assert "--allow-missing" in wrong.stderr
    result = fam(*arguments, "--allow-missing", "--json")
    data = json.loads(result.stdout)["data"]
    assert (data["images"], data["images_of_split"], data["partial"]) == (2, 3, True)
    assert "partial: 1 of 3 images" in result.stderr


def test_an_unreadable_image(fam: Fam, checkpoint: Path, dataset: Path) -> None:
    """An image that cannot be read ends the evaluation, or is left out where that is allowed."""
    (dataset / "1.png").write_bytes(b"")
    arguments = ("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu")
    assert "1.png: the file is empty" in fam(*arguments).stderr
    result = fam(*arguments, "--allow-missing", "--json")
    assert json.loads(result.stdout)["data"]["partial"] is True


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
    header, _, row, centre, whole = rows(result)
    cells = dict(zip(header, row, strict=True))
    assert cells["MaxBoxAcc"].startswith("66.67 [")
    assert (row[0], centre[0].split(",")[0], whole[0]) == ("maps", "centre box", "whole image")
    assert "protocol wsoleval-v1" in result.stderr
    assert "oracle: the threshold was chosen on these very images" in result.stderr


def test_maps_as_json(fam: Fam, dataset: Path, maps: Path) -> None:
    """--json has the accuracy at each δ, its τ, the whole curve, the rules and the versions."""
    result = fam(
        *("eval", "--data", dataset, "--maps", maps, "--protocol", "wsoleval-v2"),
        *("--processes", 1, "--interval", 0.1, "--json"),
    )
    data = json.loads(result.stdout)
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


@pytest.mark.parametrize(("protocol", "metric"), [("wsoleval-v1", "max_box_acc"), ("wsoleval-v2", "max_box_acc_v2")])
def test_a_model_by_another_protocol(fam: Fam, checkpoint: Path, dataset: Path, protocol: str, metric: str) -> None:
    """--protocol scores a model's own maps by the same rules; no classes are asked for."""
    arguments = ("--data", dataset, "--model", checkpoint, "--device", "cpu", "--processes", 1, "--interval", 0.01)
    result = fam("eval", *arguments, "--protocol", protocol, "--json")
    data = json.loads(result.stdout)
    assert (data["source"]["name"], data["data"]["images"]) == (str(checkpoint), 3)
    assert 0 <= data["rows"][0]["metrics"][metric]["value"] <= 100


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "--maps needs --protocol"),
        (("--protocol", "wsoleval-v1", "--model", "any"), 2, "give a model or --maps, not both: leave out --model"),
        (("--protocol", "psol"), 2, "--maps needs --protocol"),
        (("--protocol", "wsoleval-v1", "--predictions", "x.json"), 2, "give maps or predictions, not both"),
        (("--protocol", "wsoleval-v1", "--crops", "3"), 2, "--crops is 3"),
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


def test_some_maps(fam: Fam, dataset: Path, maps: Path, tmp_path: Path) -> None:
    """With --allow-missing the images that have a map are scored, and --out has their boxes."""
    (maps / "1.png.npy").unlink()
    arguments = ("eval", "--data", dataset, "--maps", maps, "--protocol", "wsoleval-v1", "--processes", 1)
    result = fam(*arguments, "--allow-missing", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "partial: 1 of 3 images have no map" in result.stderr
    results = read_results(tmp_path / "out")
    assert results.data["partial"] is True
    assert results.rows[0].metrics["max_box_acc"].value == 50
    records = {record.name: record for record in read_images(tmp_path / "out" / "images.jsonl")}
    assert set(records) == {"0.png", "2.png"}
    assert records["0.png"].found["maps"].kind == "right"
    assert records["0.png"].found["maps"].box == pytest.approx((5, 5, 31, 31), abs=1)
    assert records["2.png"].found["maps"].kind != "right"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--predictions", "x.json", "--protocol", "wsoleval-v1"), "predictions are boxes"),
        (("--predictions", "x.json", "--model", "any"), "give a model or --predictions, not both"),
        (("--predictions", "x.json", "--masks", "y"), "leave out --masks"),
    ],
)
def test_predictions_errors(fam: Fam, dataset: Path, arguments: tuple[str, ...], text: str) -> None:
    """What cannot go with predictions is wrong usage."""
    result = fam("eval", "--data", dataset, *arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", " ").split())


def test_predictions_need_data(fam: Fam) -> None:
    """Predictions and maps are of images that have to be named."""
    result = fam("eval", "--predictions", "x.json")
    assert result.exit_code == 2
    assert "--data" in result.stderr


def test_masks_without_boxes(fam: Fam, dataset: Path, maps: Path, tmp_path: Path) -> None:
    """Data as OpenImages, with masks and no boxes, give PxAP and pIoU of maps; box protocols refuse them."""
    (dataset / "metadata" / "test" / "localization.txt").unlink()
    (tmp_path / "masks").mkdir()
    for i in range(3):
        mask = np.zeros((40, 50), np.uint8)
        mask[5:31, 5:31] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    arguments = ("eval", "--data", dataset, "--maps", maps, "--masks", tmp_path / "masks", "--processes", 1)
    result = fam(*arguments, "--protocol", "wsoleval-v1", "--json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert [row["method"] for row in data["rows"]] == ["maps"]
    assert set(data["rows"][0]["metrics"]) == {"pxap", "piou"}
    assert data["data"]["boxes"] == 0
    assert len(list(read_images(tmp_path / "out" / "images.jsonl"))) == 3
    refused = fam("eval", "--data", dataset, "--masks", tmp_path / "masks")
    assert refused.exit_code == 1
    assert "box" in refused.stderr


def test_records_of_predictions_can_be_read_back(fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    """Also where the right class was not named: its place is behind all others, and the score is the file's."""
    boxes = tmp_path / "boxes.json"
    fam("predict", dataset, "--model", checkpoint, "--device", "cpu", "--threshold", 0, "--out", boxes)
    document = json.loads(boxes.read_text())
    document["categories"] = [{"id": i + 1, "name": str(i)} for i in range(5)]  # the data have numbers for names
    for annotation in document["annotations"]:
        annotation |= {"category_id": 5, "score": 0.25}
    boxes.write_text(json.dumps(document))
    result = fam("eval", "--data", dataset, "--predictions", boxes, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    metrics = json.loads(result.stdout)["rows"][0]["metrics"]
    assert metrics["top1_cls"]["value"] == 0
    assert "top5_cls" not in metrics
    records = list(read_images(tmp_path / "out" / "images.jsonl"))
    assert [record.rank for record in records] == [100_000] * 3
    assert [record.found["predictions"].score for record in records] == [0.25] * 3
    assert [record.classes for record in records] == [()] * 3  # class 4 is none of the data


def test_fullsup_without_boxes(fam: Fam, with_cam: Path, make_splits: Callable[..., Path]) -> None:
    """A split for choosing that has no boxes costs its row alone, and that is said."""
    root = make_splits(test=[0, 1, 2], train_fullsup=[3, 4, 5])
    (root / "metadata" / "train-fullsup" / "localization.txt").unlink()
    result = fam("eval", "--data", root, "--model", with_cam, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    assert "no τ can be chosen on it" in result.stderr
    assert [row["tau_from"] for row in json.loads(result.stdout)["rows"]] == ["fixed", "oracle", "", ""]


@pytest.mark.parametrize("arguments", [("--interval", 0), ("--interval", "nan"), ("--out", "FILE/x")])
def test_what_cannot_be_is_said_first(
    fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path, arguments: tuple[Any, ...], monkeypatch: Any
) -> None:
    """A bad interval or folder ends the command before any image is read."""
    (tmp_path / "FILE").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("famcli.evaluation.run.run_models", lambda *_, **__: pytest.fail("an image was read"))
    result = fam("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", *arguments)
    assert result.exit_code == 1
    assert "interval" in result.stderr or "choose another --out" in result.stderr


def test_the_interval_of_pxap_is_on_the_card(fam: Fam, checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    """PxAP depends on the interval, so the card of any protocol has it where there are masks, and only there."""
    (tmp_path / "pixels").mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 50), 255, np.uint8)).save(tmp_path / "pixels" / f"{i}.png")
    arguments = ("eval", "--data", dataset, "--model", checkpoint, "--device", "cpu", "--json", "--interval", 0.25)
    assert json.loads(fam(*arguments).stdout)["protocol"]["interval"] is None
    with_masks = fam(*arguments, "--masks", tmp_path / "pixels", "--processes", 1)
    assert json.loads(with_masks.stdout)["protocol"]["interval"] == 0.25
