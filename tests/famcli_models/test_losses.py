"""Equations (4), (8), (10) and (11), worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from famcli_models import CAM, FAM, CAMConfig, CAMOutput, FAMConfig, FAMOutput
from famcli_models.errors import ShapeError
from famcli_models.losses import Losses, balanced_class_weight, classification_loss, diversity_loss, sparsity_loss
from famcli_models.methods.method import Batch


def output(M: Tensor, P: Tensor, logits: Tensor) -> FAMOutput:
    B, K, C = P.shape
    A, t, o = torch.rand(B, K, *M.shape[-2:]), torch.full((B, K), 1 / K), torch.zeros(B, C)
    return FAMOutput(M, A, P, t, o, logits, logits)


def model_of(output: FAMOutput, **changes: Any) -> FAM:
    """A FAM with these settings whose outputs have these sizes."""
    classes, parts = output.logits.shape[1], output.P.shape[1]
    return FAM(FAMConfig(backbone="test_efficientnet", num_classes=classes, num_parts=parts, **changes))


def loss(output: FAMOutput, y: Tensor, **changes: Any) -> Losses:
    """Equation (11)."""
    return model_of(output, **changes).loss(output, Batch(y))


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def total(M: Tensor, P: Tensor, logits: Tensor) -> Tensor:
    return loss(output(M.sigmoid(), P, logits), torch.tensor([1, 0])).total


def weighted(logits: Tensor) -> Tensor:
    return classification_loss(logits, torch.tensor([2, 0]), torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda M: sparsity_loss(M.sigmoid()), [(2, 1, 4, 4)]),
        (diversity_loss, [(2, 1, 3)]),
        (diversity_loss, [(2, 2, 3)]),
        (diversity_loss, [(2, 4, 3)]),
        (lambda logits: classification_loss(logits, torch.tensor([2, 0])), [(2, 3)]),
        (weighted, [(2, 3)]),
        (total, [(2, 1, 4, 4), (2, 2, 3), (2, 3)]),
    ],
    ids=["(4)", "(8) of one", "(8) of two", "(8) of four", "(10)", "(10) weighted", "(11)"],
)
def test_gradcheck(function: Callable[..., Tensor], shapes: list[tuple[int, ...]]) -> None:
    """Numerical and analytical gradients agree."""
    assert torch.autograd.gradcheck(function, tuple(doubles(*shape) for shape in shapes))


def test_sparsity_by_hand() -> None:
    """Maps (0, 0.5, 0.5, 1) and (0.2, 0.2, 0.2, 0.2) have means 0.5 and 0.2: 0.35."""
    M = torch.tensor([[0.0, 0.5, 0.5, 1.0], [0.2] * 4]).view(2, 1, 2, 2)
    assert sparsity_loss(M).item() == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("P", "expected"),
    [
        ([[[1, 0], [0, 2], [3, 3]]], math.sqrt(2) / 3),  # cosines 0, 1/√2 and 1/√2; lengths do not count
        ([[[1, 2], [2, 4], [0.5, 1]]], 1),  # the same way
        ([[[1, 0], [-2, 0]]], -1),  # opposite ways
        ([[[1, 0], [1, 0]], [[1, 0], [0, 1]]], 1 / 2),  # the mean of 1 and 0 over the batch
        ([[[1, 2]], [[3, 4]]], 0),  # a single part has no other
        ([[[0, 0], [1, 0], [2, 0]]], 1 / 3),  # a part without a direction counts as orthogonal: (0 + 0 + 1) / 3
    ],
)
def test_diversity_by_hand(P: list[list[list[float]]], expected: float) -> None:
    """The mean cosine over the pairs of parts, with finite gradients."""
    parts = torch.tensor(P, dtype=torch.float32, requires_grad=True)
    value = diversity_loss(parts)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert parts.grad is not None
    assert parts.grad.isfinite().all()
    assert parts.shape[1] > 1 or not parts.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_diversity_of_zero_parts_is_finite_in_every_type(dtype: torch.dtype) -> None:
    """Parts without a direction count as 0 also where 1e-8 is not a number of the type."""
    assert diversity_loss(torch.zeros(1, 2, 4, dtype=dtype)).item() == 0


@pytest.mark.parametrize(("class_weight", "first"), [(None, 1), (torch.tensor([3.0, 1.0]), 3)])
def test_cross_entropy_by_hand(class_weight: Tensor | None, first: int) -> None:
    """Logits (ln 3, 0) give 3/4 and 1/4: a weighted mean of ln 4/3 and ln 4, which is all that CAM minimises."""
    logits, y = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]]), torch.tensor([1, 0])
    value = classification_loss(logits, y, class_weight)
    assert value.item() == pytest.approx((math.log(4) + first * math.log(4 / 3)) / (1 + first))
    cam = CAM(CAMConfig(backbone="test_efficientnet", num_classes=2))
    found = cam.loss(CAMOutput(torch.rand(2, 1, 4, 4), logits), Batch(y, class_weight))
    assert found.total == value
    assert dict(found.terms) == {"cla": found.total}
    assert cam.term_weights() == {"cla": 1.0}


def test_cross_entropy_takes_probabilities() -> None:
    """A one-hot row means the same as the index."""
    logits, y = torch.randn(3, 4), torch.tensor([1, 3, 0])
    one_hot = torch.nn.functional.one_hot(y, 4).float()
    torch.testing.assert_close(classification_loss(logits, one_hot), classification_loss(logits, y))


@pytest.mark.parametrize(
    ("counts", "expected"), [([10, 30, 0], [2, 2 / 3, 0]), ([50] * 4, [1.0] * 4), ([7, 1, 92], None)]
)
def test_balanced_weights_by_hand(counts: list[int], expected: list[float] | None) -> None:
    """40 / (2 classes present x count) gives 2, 2/3 and 0; the mean weight of a training image is 1."""
    weight = balanced_class_weight(torch.tensor(counts))
    assert expected is None or weight.tolist() == pytest.approx(expected)
    assert (weight * torch.tensor(counts)).sum().item() / sum(counts) == pytest.approx(1)


def test_balanced_weights_need_one_count_a_class() -> None:
    """Anything but a list of counts is refused with its shape."""
    with pytest.raises(ShapeError, match=r"\(L,\)"):
        balanced_class_weight(torch.ones(2, 2))


# By hand: L_cla = ln 2 (two equal logits), L_spa = 0.5, L_div = 1 (equal parts).
SWITCHES = [
    ({}, math.log(2) + 0.04 * 0.5 + 0.01 * 1),
    ({"sparsity": False}, math.log(2) + 0.01 * 1),
    ({"diversity": False}, math.log(2) + 0.04 * 0.5),
    ({"sparsity": False, "diversity": False}, math.log(2)),
    ({"lambda_spa": 2.0, "lambda_div": 3.0}, math.log(2) + 2 * 0.5 + 3 * 1),
    ({"lambda_spa": 0.0}, math.log(2) + 0.01 * 1),
]


def halves() -> FAMOutput:
    return output(torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 2, 3), torch.zeros(1, 2))


@pytest.mark.parametrize(("switches", "expected"), SWITCHES)
def test_total_by_hand(switches: dict[str, float], expected: float) -> None:
    """Equation (11) sums L_cla + λ_spa L_spa + λ_div L_div; a switch leaves its term out, but for the log."""
    losses = loss(halves(), torch.tensor([0]), **switches)
    assert losses.total.item() == pytest.approx(expected)
    terms = {name: float(term) for name, term in losses.terms.items()}
    assert terms == pytest.approx({"cla": math.log(2), "spa": 0.5, "div": 1.0})


def test_switched_off_terms_have_no_gradient() -> None:
    """A term that is off does not pull at the map or the parts."""
    M, P = torch.rand(1, 1, 2, 2, requires_grad=True), torch.rand(1, 2, 3, requires_grad=True)
    logits = torch.zeros(1, 2, requires_grad=True)
    loss(output(M, P, logits), torch.tensor([0]), sparsity=False, diversity=False).total.backward()
    assert M.grad is None
    assert P.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_type(dtype: torch.dtype) -> None:
    """The total is finite in every floating type, and where the parts' type is another, as under autocast."""
    M, P, logits = torch.rand(2, 1, 2, 2).to(dtype), torch.rand(2, 2, 3), torch.rand(2, 3).to(dtype)
    for parts in (P, P.to(dtype)):
        assert loss(output(M, parts, logits), torch.tensor([0, 1])).total.isfinite()


def test_the_rising_lambda_spa_by_hand() -> None:
    """With a warm-up over half of 8 steps the sparsity loss weighs 0, a quarter and then all of λ_spa."""
    model = model_of(halves(), lambda_spa=2.0, diversity=False, sparsity_warmup=0.5)
    found = [model.loss(halves(), Batch(torch.tensor([0]), step=step, steps=8)).total.item() for step in (0, 1, 4, 7)]
    assert found == pytest.approx([math.log(2) + weight * 0.5 for weight in (0, 0.5, 2, 2)])
