"""Engines: PyTorch's, and the interface for others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.inference.engine import open_engine
from famcli.inference.torch_engine import TorchEngine, pick_device
from famcli_models.errors import ConfigError, UnknownNameError

TOY = Path(__file__).parent / "toy_engine.py"


def test_an_engine_of_ones_own(tmp_path: Path, picture: Callable[..., np.ndarray]) -> None:
    """One file and one row are an engine that predict_files and Predictor run; nothing of torch is loaded for it.

    Loading, network and box finding may each run in a process of its own.
    """
    Image.fromarray(picture(64, 64)).save(tmp_path / "x.png")  # a bright rectangle at rows 16-32, columns 21-42
    run = [sys.executable, TOY, tmp_path / "x.png", tmp_path / "o.jsonl"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.stderr) == (["1", "True", "False"], "")
    record = json.loads((tmp_path / "o.jsonl").read_text())
    assert record["classes"] == [{"index": 1, "name": "bright", "probability": 1.0}]
    assert record["boxes"][0]["xyxy"] == [21, 16, 42, 32]


def test_unknown_engines(checkpoint: Path) -> None:
    """A name in no row is answered with the known ones."""
    with pytest.raises(UnknownNameError, match="did you mean: torch"):
        open_engine(checkpoint, name="torchh")


def test_devices() -> None:
    """The CPU is always there; what is not there or no device is refused with what to use instead."""
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("tpu", "", "cuda:x", "cuda:99", "meta", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(ConfigError, match="use auto, cpu|use --device auto or cpu"):
            pick_device(name)


def test_folding_and_sharing_change_no_more_than_rounding(make_model: Callable[..., Any]) -> None:
    """An engine without folded norms, and a CAM beside a FAM that shares its backbone, give the same maps."""
    fam = make_model(classifier="frozen").eval()
    fam.provenance["classifier"] = "pretrained"
    cam = type(make_model(method="cam")).from_model(fam)
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    folded, plain = TorchEngine(fam, "cpu"), TorchEngine(fam, "cpu", fold=False)
    assert np.allclose(folded.infer([images]).maps, plain.infer([images]).maps, atol=1e-4)
    beside = plain.beside("cam")
    assert beside is not None
    assert beside.trunk is plain.trunk
    np.testing.assert_array_equal(beside.infer([images]).maps, TorchEngine(cam, "cpu", fold=False).infer([images]).maps)


def test_parts_are_averaged_over_views(make_model: Callable[..., Any]) -> None:
    """Weights are averaged, maps at the size of the largest view; without parts there are none."""
    engine = TorchEngine(make_model(), "cpu", fold=False)
    small = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    views = [small, small.repeat(2, axis=1).repeat(2, axis=2)]
    (both,), *single = (engine.infer(v, parts=True).parts or [] for v in (views, views[:1], views[1:]))
    assert both.A.shape == (5, 8, 8)
    means = [(a + b) / 2 for a, b in zip(single[0][0].weights, single[1][0].weights, strict=True)]
    assert both.weights == pytest.approx(means, abs=1e-6)
    cam = TorchEngine(make_model(method="cam"), "cpu")
    assert cam.infer([small], parts=True).parts is None


def test_amp_is_of_the_backbone_alone(make_model: Callable[..., Any]) -> None:
    """With amp the backbone runs in float16, and the rest gives what it gives for these features in float32."""
    model = make_model()
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    half, whole = TorchEngine(model, "cpu", amp=True), TorchEngine(model, "cpu")
    features = half.features(images)
    assert features.X.dtype == torch.float32
    assert torch.equal(features.X, features.X.half().float())
    assert not torch.equal(features.X, whole.features(images).X)
    with torch.inference_mode():
        expected = model.head(features)
    for found, wanted in zip(half.run(images), expected, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, wanted)


def test_amp_beyond_the_range_of_float16(make_model: Callable[..., Any]) -> None:
    """Features that float16 cannot hold are computed in float32."""
    model = make_model()
    first = next(module for module in model.backbone.modules() if isinstance(module, torch.nn.Conv2d))
    first.weight.data *= 1e6
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    half, whole = (TorchEngine(model, "cpu", amp=amp, fold=False).infer([images]) for amp in (True, False))
    assert np.isfinite(whole.maps).all()
    np.testing.assert_array_equal(half.maps, whole.maps)
