"""The interface of a method: one class in this file and one row in METHODS give a method to every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from typer.testing import Result

from famcli_models import METHODS, Method, MethodConfig, load_model
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.method import Batch

Fam = Callable[..., Result]


@dataclass(frozen=True, kw_only=True)
class ToyConfig(MethodConfig):
    """Settings of a toy: those of every method, and one of its own."""

    method: str = "toy"
    tau: float = 0.4
    small: float = 0.01


class ToyOutput(NamedTuple):
    """A learnt map ``(B, 1, H, W)`` and the logits ``(B, L)``."""

    T: Tensor
    logits: Tensor


class Toy(Method):
    """A 1x1 convolution gives a map in (0, 1); the classifier sees the features that it lets through."""

    config_class = ToyConfig
    title = "Toy"
    map_title = "Toy Maps"
    config: ToyConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mask = nn.Conv2d(self.channels, 1, 1)
        self.classifier = nn.Linear(self.channels, self.config.num_classes)

    def head(self, features: Features, labels: Tensor | None = None) -> ToyOutput:
        T = self.mask(features.X).sigmoid()
        return ToyOutput(T, self.classifier((features.X * T).mean(dim=(2, 3))))

    def maps(self, output: ToyOutput, labels: Tensor | None = None) -> Tensor:
        return output.T[:, 0]

    def loss(self, output: ToyOutput, batch: Batch) -> Losses:
        terms = {
            "cla": classification_loss(output.logits, batch.labels, batch.class_weight),
            "small": output.T.mean(),
        }
        return Losses(terms["cla"] + self.config.small * terms["small"], terms)

    def term_weights(self) -> dict[str, float]:
        return {"cla": 1.0, "small": self.config.small}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "toy", Toy)  # type: ignore[arg-type]  # METHODS is a mapping to readers


@pytest.fixture
def data(make_splits: Callable[..., Path]) -> Path:
    """Six images to train on, two to test on."""
    return make_splits(train_weaksup=[0, 1, 2, 3, 4, 5], test=[6, 7])


def train(fam: Fam, data: Path, out: Path, method: str, *settings: str) -> Path:
    """A run of two epochs of two steps on a tiny backbone."""
    base = ("backbone_weights=none", "size=64", "epochs=2", "batch_size=3", "save_minutes=0", *settings)
    sets = [word for setting in base for word in ("--set", setting)]
    arguments = ("--data", data, "--method", method, "--backbone", "test_efficientnet", "--out", out, *sets)
    done = fam("train", *arguments, "--workers", 0, "--device", "cpu", "--quiet")
    assert done.exit_code == int("the training has failed" in done.stderr), done.stderr  # so few steps teach little
    return out


@pytest.mark.slow
def test_every_command_takes_a_method_of_ones_own(
    fam: Fam, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train, predict, eval, report, verify, export and push --dry-run work for a method that they do not know."""
    monkeypatch.chdir(tmp_path)
    run = train(fam, data, Path("toy"), "toy", "small=0.02")
    assert "small = 0.02" in (run / "recipe.toml").read_text()
    assert {"cla", "small", "foreground", "top1"} <= set((run / "metrics.csv").read_text().splitlines()[0].split(","))
    model = load_model(run)
    assert type(model) is Toy
    given = {name: getattr(model.config, name) for name in ("mean", "std", "temperature", "dilation")}
    assert model.config == ToyConfig(backbone="test_efficientnet", num_classes=2, size=64, small=0.02, **given)

    photos = data.parent / "labelled"
    found = fam("predict", photos, "--model", run, "--out", "boxes.json", "--overlays", "overlays", "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    boxes = json.loads(Path("boxes.json").read_text())
    assert (len(boxes["images"]), boxes["info"]["method"], boxes["info"]["threshold"]) == (8, "toy", 0.4)
    assert "Toy Maps" in boxes["info"]["description"]
    assert len(list(Path("overlays").iterdir())) == 8

    baseline = train(fam, data, Path("cam"), "cam")
    measured = fam(
        "eval", "--model", run, "--baseline", baseline, "--data", data, "--device", "cpu", "--out", "results"
    )
    assert measured.exit_code == 0, measured.stderr
    results = json.loads(Path("results/results.json").read_text())
    titles = [row["title"] for row in results["rows"]]
    assert titles[:2] == ["Toy", "CAM, oracle τ"]
    assert ("Toy", "CAM, oracle τ") in {(each["of"], each["minus"]) for each in results["differences"]}
    page = fam("report", "results", "--out", "report.html")
    assert page.exit_code == 0, page.stderr
    assert "Toy" in Path("report.html").read_text()

    refused = fam("push", run, "--repo", "lab/toy", "--dry-run")
    assert (refused.exit_code, "is not pushed, because its training has failed" in refused.stderr) == (1, True)
    config = json.loads((run / "config.json").read_text())
    del config["provenance"]["collapsed"]
    (run / "config.json").write_text(json.dumps(config))
    verified = fam("verify", run)
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    pushed = fam("push", run, "--repo", "lab/toy", "--dry-run", "--results", "results/results.json")
    assert pushed.exit_code == 0, pushed.stderr
    assert "Toy" in pushed.stdout + pushed.stderr

    exported = fam("export", run, "--format", "onnx", "--out", "toy.onnx")
    assert exported.exit_code == 0, exported.stderr
    images = np.zeros((1, 64, 64, 3), np.uint8)
    maps, probabilities = onnxruntime.InferenceSession("toy.onnx").run(None, {"images": images})
    with torch.no_grad():
        out = model(model.preprocess(images[0]))
    np.testing.assert_allclose(maps[:, 0], model.maps(out), atol=1e-4)
    np.testing.assert_allclose(probabilities, model.probabilities(out), atol=1e-4)


def test_a_run_of_it_resumes_exactly(fam: Fam, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped in the middle ends with the weights of one that was not."""
    whole = train(fam, data, tmp_path / "whole", "toy")
    losses = 0
    plain = Toy.loss

    def stop(self: Toy, output: ToyOutput, batch: Batch) -> Losses:
        nonlocal losses
        losses += 1
        if losses == 4:
            raise KeyboardInterrupt
        return plain(self, output, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Toy, "loss", stop)
        base = ["--set", "backbone_weights=none", "--set", "size=64", "--set", "epochs=2", "--set", "batch_size=3"]
        arguments = ["--data", data, "--method", "toy", "--backbone", "test_efficientnet", *base]
        stopped = fam("train", *arguments, "--set", "save_minutes=0", "--out", tmp_path / "cut", "--workers", 0, "-q")
    assert stopped.exit_code == 130
    resumed = fam("train", "--resume", tmp_path / "cut", "--workers", 0, "--device", "cpu", "-q")
    assert (resumed.exit_code, "the training has failed" in resumed.stderr) == (1, True)
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.graphs
def test_a_graph_that_would_be_refused_is_not_kept(
    fam: Fam, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator that is not run in graphs of others leaves the model to PyTorch, which predicts with it."""
    plain = Toy.head

    def summed(self: Toy, features: Features, labels: Tensor | None = None) -> ToyOutput:
        out = plain(self, features, labels)
        return out._replace(logits=out.logits.asinh())

    monkeypatch.setattr(Toy, "head", summed)
    arguments = ["--data", data, "--method", "toy", "--backbone", "test_efficientnet", "--set", "backbone_weights=none"]
    run = tmp_path / "run"
    done = fam("train", *arguments, "--set", "size=64", "--set", "epochs=1", "--out", run, "--workers", 0)
    assert "graph.onnx has the operator Asinh, which no graph of fam has; it is not run; PyTorch will" in done.stderr
    assert not (run / "graph.onnx").exists()
    found = fam("predict", data.parent / "labelled", "--model", run, "--out", tmp_path / "boxes.json")
    assert found.exit_code == 0, found.stderr


def test_another_methods_map_needs_its_own_training(fam: Fam, checkpoint: Path, image_dir: Path) -> None:
    """A FAM cannot be predicted with as a toy, and the message names the way."""
    done = fam("predict", image_dir, "--model", checkpoint, "--method", "toy")
    assert done.exit_code == 1
    assert "a FAM has no map of Toy" in done.stderr
    assert "unknown method 'tyo'" in fam("predict", image_dir, "--model", checkpoint, "--method", "tyo").stderr
