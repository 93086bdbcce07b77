"""What is true of every method: each row of METHODS goes through the same checks, and none is left out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from famcli.checkpoints.export import write_graph
from famcli.checkpoints.reference import reference_images
from famcli.data.dataset import write_dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.inference.engine import open_engine
from famcli.training.config import TrainConfig
from famcli.training.loop import make_optimizer
from famcli_models import METHODS, Method, MethodConfig, load_model
from famcli_models.methods.method import Batch

Fam = Callable[..., Result]
Make = Callable[..., Method]
FAST = (
    "eil"  # the case of the slow tests that the default run has: its training differs from evaluation in the backbone
)
TRAINED = [name for name, method in METHODS.items() if not method.fitted_to_images]
every_method = pytest.mark.parametrize("name", TRAINED)
every_method_slowly = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != FAST else []) for name in TRAINED]
)
LABELS = torch.tensor([0, 0, 3, 3])  # pairs of a class, for the methods that need them
BOXES = torch.tensor([[0.2, 0.1, 0.7, 0.6]]).expand(4, 4)  # what a first stage gives, likewise


@pytest.fixture
def data(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Path:
    """A prepared set of two classes that colour tells apart: eight images to train on, two to test on."""
    samples = []
    for i in range(10):
        array = picture(seed=i)
        array[..., i % 2] = 255 - array[..., i % 2]
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(array).save(path)
        samples.append(Sample(path.name, path, i % 2, NO_BOXES))
    boxed = [replace(sample, boxes=np.array([[20.0, 10.0, 40.0, 20.0]])) for sample in samples[8:]]
    splits = {"train-weaksup": samples[:8], "test": boxed}
    root = tmp_path / "two"
    write_dataset(root, name="two", images=tmp_path / "images", class_names=("red", "green"), splits=splits)
    return root


def small(name: str) -> dict[str, Any]:
    """Settings that make a method's head narrow, where it has convolutions."""
    return {"head_channels": 16} if getattr(METHODS[name].config_class, "head_channels", 0) else {}


def train(fam: Fam, data: Path, out: Path, name: str) -> Result:
    """One epoch of two steps, each of which is saved."""
    settings = ["backbone_weights=none", "size=64", "epochs=1", "batch_size=4", "save_minutes=0"]
    settings += ["train.backbone=trained", "backbone_lr=0.1", *(f"{key}={value}" for key, value in small(name).items())]
    sets = [word for setting in settings for word in ("--set", setting)]
    arguments = ("--data", data, "--method", name, "--backbone", "test_efficientnet", "--out", out, *sets)
    return fam("train", *arguments, "--workers", 0, "--device", "cpu", "--quiet")


def assert_trained(done: Result) -> None:
    """It went well, or what so few steps taught is too little, which is said."""
    assert done.exit_code == int("the training has failed" in done.stderr), done.stderr


@every_method_slowly
def test_the_command_line(fam: Fam, data: Path, tmp_path: Path, name: str) -> None:
    """One epoch of training, then predict, eval and report work, and their files name the method."""
    run, boxes, results = tmp_path / "run", tmp_path / "boxes.json", tmp_path / "results"
    assert_trained(train(fam, data, run, name))
    assert json.loads((run / "config.json").read_text())["model"]["method"] == name
    done = fam("predict", tmp_path / "images", "--model", run, "--out", boxes, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    found = json.loads(boxes.read_text())
    assert (len(found["images"]), found["info"]["method"]) == (10, name)
    done = fam("eval", "--model", run, "--data", data, "--out", results, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    titles = [row["title"] for row in json.loads((results / "results.json").read_text())["rows"]]
    assert titles[0].startswith(METHODS[name].title)
    done = fam("report", results, "--out", tmp_path / "report.html")
    assert done.exit_code == 0, done.stderr
    assert METHODS[name].title in (tmp_path / "report.html").read_text()


@every_method_slowly
def test_an_interrupted_run_resumes_exactly(
    fam: Fam, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A run that was stopped after its first step ends with the bytes of one that was not."""
    assert_trained(train(fam, data, tmp_path / "whole", name))
    plain, losses = METHODS[name].loss, itertools.count(1)

    def stop(self: Method, output: Any, batch: Batch) -> Any:
        if next(losses) == 2:
            raise KeyboardInterrupt
        return plain(self, output, batch)

    with monkeypatch.context() as patched:
        patched.setattr(METHODS[name], "loss", stop)
        assert train(fam, data, tmp_path / "cut", name).exit_code == 130
    assert_trained(fam("train", "--resume", tmp_path / "cut", "--workers", 0, "--device", "cpu", "--quiet"))
    whole, cut = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "cut"))
    assert cut == whole


@pytest.fixture(scope="module")
def stepped(make_model: Make) -> Callable[[str], Method]:
    """A function that gives a model of a method after two steps of training; it is not to be changed."""

    @cache
    def make(name: str) -> Method:
        torch.manual_seed(0)
        model = make_model(method=name, **small(name)).train()
        optimizer = make_optimizer(model, TrainConfig(backbone="trained"))
        for step in range(2):
            optimizer.zero_grad()
            loss(model, step, steps=2).backward()
            optimizer.step()
        return model.eval()

    return make


def loss(model: Method, step: int, steps: int) -> torch.Tensor:
    """What a step of training minimises, on random images."""
    model.begin_step(step, steps)
    images, labels = model.augment(torch.randn(4, 3, 64, 64), LABELS)
    return model.loss(model(images, LABELS), Batch(labels, None, step, steps, BOXES)).total


def answers(model: Method, images: torch.Tensor) -> list[torch.Tensor]:
    """Scores, maps of the most probable and of given classes, and boxes, if there are any."""
    given = torch.arange(len(images)) % model.config.num_classes
    with torch.no_grad():
        best, of_given = model(images), model(images, given)
        boxes = model.boxes(best)
        return [best.logits, model.maps(best), model.maps(of_given, given), *([] if boxes is None else [boxes])]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Equal bit for bit."""
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_method
def test_every_parameter_learns(make_model: Make, name: str) -> None:
    """Over a training each parameter that it changes gets a gradient, and those that it freezes get none."""
    model = make_model(method=name, seed=1, **small(name)).train()
    make_optimizer(model, TrainConfig(backbone="trained"))
    model.begin_training()
    for step in range(4):
        loss(model, step, steps=4).backward()
    wrong = [
        key
        for key, p in model.named_parameters()
        if p.requires_grad != (p.grad is not None and bool(p.grad.isfinite().all() and p.grad.any()))
    ]
    assert wrong == []


@every_method
def test_a_saved_model_comes_back(stepped: Callable[[str], Method], tmp_path: Path, name: str) -> None:
    """What was learnt, and what is remembered beside it, is read back and gives the same answers."""
    model, images = stepped(name), torch.randn(2, 3, 64, 64)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is METHODS[name]
    assert loaded.config == model.config
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key
    assert_same(answers(loaded, images), answers(model, images))


@every_method
def test_evaluation_is_fixed(stepped: Callable[[str], Method], name: str) -> None:
    """In evaluation mode nothing is drawn or remembered, images do not change each other, maps are in [0, 1]."""
    model, images = stepped(name), torch.randn(3, 3, 64, 64)
    before, state = torch.get_rng_state(), {key: tensor.clone() for key, tensor in model.state_dict().items()}
    expected = answers(model, images)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    torch.manual_seed(1)
    assert_same(answers(model, images), expected)
    assert all(float(m.min()) >= 0 and float(m.max()) <= 1 and m.shape[0] == 3 for m in expected[1:3])
    for found, whole in zip(answers(model, images[:1]), expected, strict=True):
        torch.testing.assert_close(found, whole[:1], rtol=1e-4, atol=1e-4)


@every_method
def test_evaluation_ignores_what_is_for_training(stepped: Callable[[str], Method], make_model: Make, name: str) -> None:
    """With other numbers in the fields that are training's own the answers are the same."""
    model, images = stepped(name), torch.randn(2, 3, 64, 64)
    config, own = model.config, model.config_class.OF_TRAINING - MethodConfig.OF_TRAINING
    ranges = {key: bounds for key, bounds in config.RANGES.items() if key in own}
    types = {f.name: type(f.default) for f in fields(config)}
    others = {key: types[key](low if getattr(config, key) != low else high) for key, (low, high) in ranges.items()}
    other = make_model(**{**config.to_dict(), **others}).eval()
    other.load_state_dict(model.state_dict())
    assert_same(answers(other, images), answers(model, images))


@pytest.mark.slow
@pytest.mark.graphs
@every_method
def test_the_graph_gives_the_models_answers(stepped: Callable[[str], Method], tmp_path: Path, name: str) -> None:
    """ONNX Runtime gives the maps, scores and boxes of PyTorch, of the method and of those that need no training."""
    stepped(name).save_pretrained(tmp_path)
    write_graph(tmp_path)
    methods = json.loads((tmp_path / "config.json").read_text())["provenance"]["graph"]["methods"]
    assert next(iter(methods)) == name
    images, labels = reference_images(64)[:3], [2, None, 0]
    for of in methods:
        found, expected = (
            open_engine(tmp_path, of, "cpu", name=engine).infer([images], labels) for engine in ("onnx", "torch")
        )
        np.testing.assert_allclose(found.maps, expected.maps, atol=1e-4)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
        assert (found.boxes is None) == (expected.boxes is None) == (not METHODS[of].gives_boxes)
        if found.boxes is not None:
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)


@pytest.mark.parametrize("name", sorted({*METHODS} - {*TRAINED}))
def test_what_is_not_trained_is_refused_to_train(fam: Fam, data: Path, tmp_path: Path, name: str) -> None:
    """A method without training says so in one sentence, and has a map of other methods' models instead."""
    done = train(fam, data, tmp_path / "run", name)
    assert done.exit_code == 1
    assert f"{METHODS[name].title} is not trained: give any trained model to 'fam predict'" in done.stderr
    assert not (tmp_path / "run").exists()
