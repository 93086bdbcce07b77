"""Training: what it learns, what is frozen, what repeats, and how it ends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from famcli.data.sample import Sample
from famcli.training.accelerator import make_accelerator
from famcli.training.config import TrainConfig
from famcli.training.loading import Batch
from famcli.training.loop import fit
from famcli.training.monitor import Epoch
from famcli.training.step import Training
from famcli_models.errors import ConfigError, DataError, FamError
from famcli_models.methods.cam import CAM
from famcli_models.methods.fam import FAM

Make = Callable[..., FAM]


def train(model: FAM, samples: list[Sample], config: TrainConfig, **arguments: Any) -> Training:
    return fit(model, samples, config, make_accelerator("cpu", config.precision), workers=0, **arguments)


def test_overfits_a_few_images(make_model: Make, labelled: list[Sample]) -> None:
    """Eight images are learnt by heart in a few epochs."""
    config = TrainConfig(epochs=25, batch_size=4, backbone="trained", backbone_lr=0.1, lr=0.03)
    history = train(make_model(frozen_norm=False), labelled, config).history
    assert history[-1].terms["cla"] < 0.5 * history[0].terms["cla"]
    assert history[-1].measures["top1"] == 1.0


def test_a_cam_overfits_a_few_images(make_model: Make, labelled: list[Sample]) -> None:
    """Its classifier learns eight images by heart through a global average, by its classes alone."""
    config = TrainConfig(epochs=25, batch_size=4, backbone="trained", backbone_lr=0.1, lr=0.03)
    training = train(make_model(method="cam", frozen_norm=False), labelled, config)
    assert set(training.history[0].terms) == {"total", "cla"}
    assert training.history[-1].terms["cla"] < 0.5 * training.history[0].terms["cla"]
    assert training.history[-1].measures["top1"] == 1.0
    assert type(training.weights) is CAM


@pytest.mark.parametrize("fields", [{}, {"cached_views": 2}, {"backbone": "trained", "ema": 0.9}])
def test_the_same_seed_gives_the_same_weights(make_model: Make, labelled: list[Sample], fields: dict[str, Any]) -> None:
    """A run repeats bit by bit whatever was drawn before it, and another seed is another run."""
    states = []
    for number, seed in enumerate((0, 0, 1)):
        model = make_model()
        torch.manual_seed(number)
        done = train(model, labelled, TrainConfig(epochs=2, batch_size=4, seed=seed, **fields))
        states.append(done.weights.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_loading_processes_change_nothing(make_model: Make, labelled: list[Sample]) -> None:
    """However many processes decode, the weights are the same bit by bit."""
    states = []
    for workers in (0, 2):
        model = make_model()
        fit(model, labelled, TrainConfig(epochs=2, batch_size=4), make_accelerator("cpu"), workers)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("classifier", ["frozen", "trained"])
def test_what_is_frozen_stays(make_model: Make, labelled: list[Sample], classifier: str) -> None:
    """A frozen backbone and a frozen classifier keep every value; the attention modules move."""
    model = make_model(classifier=classifier)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, labelled, TrainConfig(epochs=1, batch_size=4))
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    expected = {"object_attention", "part_attention"} | ({"classifier"} if classifier == "trained" else set())
    assert moved == expected


def test_the_model_is_ready_to_use(make_model: Make, labelled: list[Sample]) -> None:
    """After training the model is in evaluation mode."""
    model = make_model()
    train(model, labelled, TrainConfig(epochs=1, batch_size=4))
    assert not any(module.training for module in model.modules())


def test_targets_draw_m(make_model: Make, labelled: list[Sample]) -> None:
    """Targets that are 1 everywhere raise the mean of M, targets that are 0 lower it; the term is logged."""
    means = []
    for value in (0.0, 1.0):
        config = TrainConfig(epochs=10, batch_size=4, lambda_target=10.0, lr=0.1)
        targets = [np.full((8, 8), value, np.float16)] * len(labelled)
        history = train(make_model(), labelled, config, targets=targets).history
        assert list(history[-1].terms) == ["total", "cla", "spa", "div", "target"]
        means.append(history[-1].measures["foreground"])
    assert means[1] - means[0] > 0.1


def test_targets_without_weight_are_not_used(make_model: Make, labelled: list[Sample]) -> None:
    """With ``lambda_target`` 0 the targets neither cost nor are logged."""
    targets = [np.ones((8, 8), np.float16)] * len(labelled)
    assert "target" not in train(make_model(), labelled, TrainConfig(epochs=1), targets=targets).history[0].terms


def test_the_callbacks(make_model: Make, labelled: list[Sample]) -> None:
    """After each step one is called, after each epoch the other, which may add to what is known of it."""
    steps: list[tuple[int, int]] = []

    def judge(now: Training, epoch: Epoch) -> Epoch:
        now.weights.eval()  # as measuring does
        return dataclasses.replace(epoch, gt_known=50.0)

    def note(now: Training) -> None:
        steps.append((now.step, len(now.history)))
        assert now.model.training  # again, after an epoch

    done = train(make_model(), labelled, TrainConfig(epochs=2, batch_size=4), on_step=note, on_epoch=judge)
    assert steps == [(1, 0), (2, 1), (3, 1), (4, 2)]
    assert [epoch.gt_known for epoch in done.history] == [50.0, 50.0]


def test_a_wish_to_stop(make_model: Make, labelled: list[Sample]) -> None:
    """The step that is being made is finished, and its callback called."""
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train(
            make_model(),
            labelled,
            TrainConfig(epochs=2, batch_size=4),
            on_step=lambda now: steps.append(now.step),
            stopping=lambda: len(steps) == 2,
        )
    assert steps == [1, 2, 3]


def test_corrupt_images_are_counted(make_model: Make, labelled: list[Sample]) -> None:
    """Images that cannot be read cost nothing but themselves; each is counted once and named with its reason."""
    labelled[3].path.write_bytes(b"no image")
    labelled[5].path.write_bytes(b"")
    done = train(make_model(), labelled, TrainConfig(epochs=2, batch_size=4))
    assert [epoch.skipped for epoch in done.history] == [2, 2]
    assert done.unreadable == {"3.png": "not a JPEG, PNG, WebP, BMP or TIFF image", "5.png": "the file is empty"}


def test_bad_input(make_model: Make, labelled: list[Sample]) -> None:
    """Labels beyond the classes and a data set without a readable image are named."""
    beyond = [*labelled[:-1], Sample("x.png", labelled[0].path, 9, np.zeros((0, 4)))]
    with pytest.raises(DataError, match="'x.png' has label 9"):
        train(make_model(), beyond, TrainConfig(batch_size=4))
    for sample in labelled:
        sample.path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"8 images in a row cannot be read, the first is .*\.png: not a JPEG"):
        train(make_model(), labelled, TrainConfig(batch_size=4))


def test_a_step_that_cannot_be_shared(make_model: Make, labelled: list[Sample]) -> None:
    """Accumulating over more passes than the batch has images is refused."""
    with pytest.raises(ConfigError, match="multiple of 3"):
        train(make_model(), labelled, TrainConfig(batch_size=4, accumulate=3))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_out_of_memory(
    make_model: Make, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    """The error says with how many images, and which option to change."""

    def fail(_now: Training, _batch: Batch) -> None:
        raise error

    monkeypatch.setattr(Training, "_forward", fail)
    with pytest.raises(FamError, match=r"out of memory on cpu with 2 images a forward pass .*--set accumulate=4"):
        train(make_model(), labelled, TrainConfig(batch_size=4, accumulate=2))


def test_other_errors_are_not_hidden(make_model: Make, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the program stays a traceback."""

    def fail(_now: Training, _batch: Batch) -> None:
        msg = "shapes differ"
        raise RuntimeError(msg)

    monkeypatch.setattr(Training, "_forward", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(make_model(), labelled, TrainConfig(batch_size=4))


def test_no_loading_process_outlives_an_error(
    make_model: Make, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the training, the processes that decode have ended before the error is seen."""

    def fail(_now: Training, _batch: Batch) -> None:
        assert torch.multiprocessing.active_children()
        msg = "shapes differ"
        raise RuntimeError(msg)

    monkeypatch.setattr(Training, "_forward", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        fit(make_model(), labelled, TrainConfig(epochs=50, batch_size=4), make_accelerator("cpu"), workers=1)
    assert not torch.multiprocessing.active_children()


def test_the_first_step_may_be_the_broken_one(make_model: Make, labelled: list[Sample]) -> None:
    """A model that is broken from the start ends with the step and what to do."""
    model = make_model()
    with torch.no_grad():
        model.classifier.bias.fill_(math.inf)
    with pytest.raises(FamError, match=r"loss is nan at step 0 \(epoch 1\).* Lower lr"):
        train(model, labelled, TrainConfig(batch_size=4))
