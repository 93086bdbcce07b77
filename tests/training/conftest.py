"""Short trainings on the CPU, and a pretrained backbone small enough for a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from safetensors.torch import save_file

from famcli.data.sample import Sample
from famcli.training.config import TrainConfig
from famcli.training.environment import make_accelerator
from famcli.training.loop import Training, explained, fit
from famcli.training.resume import State
from famcli_models import FAM


@pytest.fixture
def train(labelled: list[Sample]) -> Callable[..., Training]:
    """A function that trains a model for two epochs of two steps on :func:`labelled`, unless it is told otherwise."""

    def run(
        model: FAM,
        samples: Sequence[Sample] = labelled,
        *,
        on_step: Callable[[Training], object] = lambda _: None,
        targets: Sequence[np.ndarray] | None = None,
        start: State | None = None,
        workers: int = 0,
        **fields: Any,
    ) -> Training:
        config = TrainConfig(**{"epochs": 2, "batch_size": 4, "lr": 1e-3, **fields})
        training = Training(model, samples, config, make_accelerator("cpu", config.precision), targets, start)
        with explained(training, workers):
            for _ in fit(training, workers):
                on_step(training)
        return training

    return run


@pytest.fixture
def pretrained(make_model: Callable[..., Any]) -> Any:
    """A tiny FAM in evaluation mode that says of its classifier that it is the backbone's own."""
    model = make_model().eval()
    model.provenance["classifier"] = "pretrained"
    return model


@pytest.fixture
def backbone_file(tmp_path: Path) -> Path:
    """Weights of a tiny ResNet with a classifier of two classes."""
    path = tmp_path / "backbone.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), path)
    return path
