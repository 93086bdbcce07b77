"""What networks say of images."""

from __future__ import annotations

import torch

from famcli.evaluation.look import rank


def test_rank_counts_ties_against_the_network() -> None:
    """0 is best; equal scores count as worse, so that a constant classifier gets no credit."""
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    assert rank(logits, torch.tensor([0, 0])).tolist() == [0, 2]
    assert rank(logits, torch.tensor([1, 2])).tolist() == [2, 2]
