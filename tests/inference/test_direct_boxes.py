"""Methods that give boxes themselves: the box is the answer everywhere, and the map a picture of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import Result

from famcli.checkpoints.export import write_graph
from famcli.inference.engine import open_engine
from famcli.inference.predictor import Predictor
from famcli.inference.torch_engine import TorchEngine
from famcli_models.localization import localize_box
from famcli_models.methods.gcnet import GCNet

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
Fam = Callable[..., Result]


@pytest.fixture(scope="module")
def boxed(make_model: Callable[..., Any]) -> GCNet:
    """A GC-Net whose ellipses differ from image to image and lie left of the middle."""
    model: GCNet = make_model(method="gcnet", num_classes=2).eval()
    with torch.no_grad():
        model.detector.weight.mul_(20)
        model.detector.bias.copy_(torch.tensor([-0.6, 0.2, -0.2, -0.9, 0.1]))
    return model


@pytest.fixture
def folder(boxed: GCNet, tmp_path: Path) -> Path:
    boxed.save_pretrained(tmp_path / "boxed")
    return tmp_path / "boxed"


def test_engines_average_views_and_turn_mirrored_boxes(boxed: GCNet) -> None:
    """The box of both views is the mean of the one, and of that of the mirror image turned back."""
    engine = TorchEngine(boxed, "cpu", fold=False)
    plain, mirrored, both = (
        engine.infer([images], flip=flip).boxes
        for images, flip in ((IMAGES, False), (np.ascontiguousarray(IMAGES[:, :, ::-1]), False), (IMAGES, True))
    )
    assert plain is not None
    assert mirrored is not None
    assert plain.std(axis=0).min() > 1e-4
    turned = np.stack([1 - mirrored[:, 2], mirrored[:, 1], 1 - mirrored[:, 0], mirrored[:, 3]], axis=1)
    np.testing.assert_allclose(both, (plain + turned) / 2, atol=1e-6)


def test_a_region_of_a_box() -> None:
    """It has the box's corners, and of its pixels those that the map has above the threshold."""
    M = np.zeros((4, 4), np.float32)
    M[:, :2] = 0.8
    found = localize_box(M, (40, 80), (0.25, 0.5, 0.75, 1.0), 0.5, with_map=True)
    (region,) = found.regions
    assert region.xyxy == (20, 20, 60, 40)
    assert found.region_map is not None
    ys, xs = np.nonzero(found.region_map)
    assert (ys.min(), ys.max(), xs.min()) == (20, 39, 20)
    assert 35 <= xs.max() < 45
    assert region.area == len(ys)
    assert 0.5 < region.foreground <= 0.8
    nothing = localize_box(np.zeros((4, 4)), (40, 80), (-1, 0.999, 0.001, 2), 0.5)
    assert (nothing.regions[0].xyxy, nothing.regions[0].area) == ((0, pytest.approx(39.96), 0.08, 40), 1)


@pytest.mark.slow
@pytest.mark.graphs
def test_the_graph_gives_boxes_too(boxed: GCNet, folder: Path) -> None:
    """ONNX Runtime gives PyTorch's boxes."""
    assert write_graph(folder).good
    wanted = TorchEngine(boxed, "cpu").infer([IMAGES], flip=True).boxes
    np.testing.assert_allclose(open_engine(folder, name="onnx").infer([IMAGES], flip=True).boxes, wanted, atol=1e-4)


@pytest.mark.slow
def test_commands_use_the_box(
    fam: Fam, boxed: GCNet, folder: Path, make_splits: Callable[..., Path], tmp_path: Path
) -> None:
    """predict and eval, by each protocol, have the box at every threshold; masks, overlays, export and report work."""
    photo = tmp_path / "labelled" / "3.png"
    data = make_splits(train_weaksup=[0, 1], test=[2, 3, 4, 5, 6, 7])
    box = Predictor(boxed, "cpu").engine.infer([boxed_view(photo)]).boxes
    assert box is not None
    expected = (box[0] * (60, 40, 60, 40)).tolist()
    for threshold in (0.1, 0.9):
        out = tmp_path / f"{threshold}.json"
        done = fam(
            "predict", photo, "--model", folder, "--threshold", threshold, "--max-boxes", 3, "--out", out, "--masks",
            "rle", "--overlays", tmp_path / "overlays", "--engine", "torch", "--device", "cpu",
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        (found,) = json.loads(out.read_text())["annotations"]
        x, y, w, h = found["bbox"]
        assert [x, y, x + w, y + h] == pytest.approx(expected, abs=0.02)
        assert "counts" in found["segmentation"]
    for protocol in ("fam", "psol", "wsoleval-v1"):
        results = tmp_path / protocol
        done = fam(
            "eval", "--model", folder, "--data", data, "--protocol", protocol, "--out", results, "--device", "cpu",
            "--processes", 1,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        page = fam("report", results, "--out", results / "report.html")
        assert page.exit_code == 0, page.stderr
        row = json.loads((results / "results.json").read_text())["rows"][0]
        if protocol == "wsoleval-v1":
            assert len(set(row["curve"])) == 1  # the box stands at every threshold
        else:
            assert row["tau"] is None
            images = [json.loads(line) for line in (results / "images.jsonl").read_text().splitlines()]
            of_photo = next(image for image in images if image.get("name") == "3.png")
            if protocol == "fam":
                assert of_photo["found"]["GC-Net"]["box"] == pytest.approx(expected, abs=0.02)
    exported = fam("export", folder, "--format", "torchscript", "--with-boxes", "--out", tmp_path / "boxed.pt")
    assert exported.exit_code == 0, exported.stderr


def boxed_view(photo: Path) -> np.ndarray:
    from PIL import Image

    from famcli_models.preprocess import resize

    return resize(Image.open(photo).convert("RGB"), 64)[None].copy()
