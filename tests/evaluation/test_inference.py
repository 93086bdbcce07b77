"""What networks say of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from famcli.data.dataset import open_dataset
from famcli.evaluation.inference import Look, Networks, rank
from famcli_models.errors import WeightsError


def test_rank_counts_ties_against_the_network() -> None:
    """0 is best; equal scores count as worse, so that a constant classifier gets no credit."""
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    assert rank(logits, torch.tensor([0, 0])).tolist() == [0, 2]
    assert rank(logits, torch.tensor([1, 2])).tolist() == [2, 2]
    nan = float("nan")
    damaged = torch.tensor([[nan, nan, nan], [1.0, 2.0, nan], [nan, 2.0, 1.0]])
    assert rank(damaged, torch.tensor([1, 1, 0])).tolist() == [2, 1, 2]


def test_damaged_weights_are_no_result(make_model: Callable[..., Any], make_dataset: Callable[..., Path]) -> None:
    """A network whose output is not finite ends the evaluation, and says which image and which command."""
    model = make_model()
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    samples = open_dataset(make_dataset([("a.png", 0, [(5, 5, 20, 20)], (40, 50))])).samples("test", with_boxes=True)
    with pytest.raises(WeightsError, match=r"what FAM says of 'a\.png' is not finite: .* fam verify"):
        list(Look(device="cpu").at(Networks(model, None), samples))
