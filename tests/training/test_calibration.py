"""Temperature, calibration error and the weights of the box score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from famcli.data.sample import Sample
from famcli.training.calibration import (
    calibration_error,
    class_scores,
    fit_box_score,
    fit_temperature,
)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_drew_the_labels(temperature: float) -> None:
    """Labels drawn from the softmax at a temperature give it back, and with it the error is small."""
    generator = torch.Generator().manual_seed(0)
    logits = temperature * 2 * torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(dim=1), 1, generator=generator)[:, 0]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.08)
    assert calibration_error((logits / found).softmax(dim=1), labels) < 0.02


def test_a_few_images_that_are_all_right() -> None:
    """They do not make the model certain: the largest probability stays near (N + 1) / (N + 2)."""
    labels = torch.arange(10) % 3
    logits = 5.0 * F.one_hot(labels, 3).float()
    probability = (logits / fit_temperature(logits, labels)).softmax(dim=1).max(dim=1).values
    assert probability.mean().item() == pytest.approx(1 - 2 / 3 / 12, abs=0.01)
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) == 1.0


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.9 where half are right, and 0.6 where all are."""
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 1, 1])
    assert calibration_error(probabilities, labels) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4, abs=1e-6)


def test_scores_of_images(make_model: Callable[..., Any], labelled: list[Sample]) -> None:
    """They are the model's own, in order; an image that cannot be read is left out with its label."""
    model = make_model()
    labelled[1].path.write_bytes(b"")
    logits, labels = class_scores(model, labelled[:4], "cpu")
    assert labels.tolist() == [labelled[i].label for i in (0, 2, 3)]
    assert logits.shape == (3, 5)
    assert class_scores(model, [], "cpu")[0].shape == (0, 5)


def test_weights_of_the_box_score(make_model: Callable[..., Any], labelled: list[Sample]) -> None:
    """Boxes that agree with their targets have a high score, others a low one; images without a box say nothing."""
    model = make_model()
    model.config = replace(model.config, tau=0.01)  # M is everywhere: the box is the whole image
    whole, corner = np.ones((98, 98), np.float16), np.zeros((98, 98), np.float16)
    corner[:20, :20] = 1
    bias, of_map, of_class = fit_box_score(model, [(sample, whole) for sample in labelled], "cpu")
    high = fit_box_score(model, [(sample, corner) for sample in labelled], "cpu")
    assert bias > high[0]
    assert all(np.isfinite([bias, of_map, of_class, *high]))
    model.config = replace(model.config, tau=0.999999)
    assert fit_box_score(model, [(sample, whole) for sample in labelled], "cpu") == ()
