"""Equations (4), (8), (10) and (11), worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from famcli_models import CAM, FAM, CAMConfig, CAMOutput, FAMConfig, FAMOutput
from famcli_models.errors import ShapeError
from famcli_models.losses import (
    Losses,
    balanced_class_weight,
    classification_loss,
    diversity_loss,
    sparsity_loss,
)
from famcli_models.methods.method import Batch


def output(M: Tensor, P: Tensor, logits: Tensor) -> FAMOutput:
    B, K, C = P.shape
    return FAMOutput(M, torch.rand(B, K, *M.shape[-2:]), P, torch.full((B, K), 1 / K), torch.zeros(B, C), logits)


def loss(output: FAMOutput, y: Tensor, **changes: Any) -> Losses:
    """Equation (11) by a FAM with these settings."""
    classes = output.logits.shape[1]
    model = FAM(FAMConfig(backbone="test_efficientnet", num_classes=classes, num_parts=output.P.shape[1], **changes))
    return model.loss(output, Batch(y))


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_sparsity_gradcheck() -> None:
    """Numerical and analytical gradients of equation (4) agree."""
    M = torch.rand(2, 1, 4, 4, dtype=torch.float64).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(sparsity_loss, M)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_diversity_gradcheck(parts: int) -> None:
    """Numerical and analytical gradients of equation (8) agree."""
    assert torch.autograd.gradcheck(diversity_loss, doubles(2, parts, 3))


@pytest.mark.parametrize("weighted", [False, True])
def test_classification_gradcheck(weighted: bool) -> None:
    """Numerical and analytical gradients of equation (10) agree, with class weights and without."""
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) if weighted else None
    y = torch.tensor([2, 0])
    assert torch.autograd.gradcheck(lambda z: classification_loss(z, y, weight), doubles(2, 3))


def test_total_gradcheck() -> None:
    """Numerical and analytical gradients of equation (11) agree."""
    y = torch.tensor([1, 0])

    def total(M: Tensor, P: Tensor, logits: Tensor) -> Tensor:
        return loss(output(M.sigmoid(), P, logits), y).total

    assert torch.autograd.gradcheck(total, (doubles(2, 1, 4, 4), doubles(2, 2, 3), doubles(2, 3)))


def test_sparsity_by_hand() -> None:
    """Maps (0, 0.5, 0.5, 1) and (0.2, 0.2, 0.2, 0.2) have means 0.5 and 0.2: 0.35."""
    M = torch.tensor([[0.0, 0.5, 0.5, 1.0], [0.2] * 4]).view(2, 1, 2, 2)
    assert sparsity_loss(M).item() == pytest.approx(0.35)


def test_diversity_by_hand() -> None:
    """Parts (1,0), (0,2), (3,3): cosines 0, 1/√2 and 1/√2 of three pairs, so √2/3; lengths do not count."""
    P = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]])
    assert diversity_loss(P).item() == pytest.approx(math.sqrt(2) / 3)


def test_diversity_of_equal_parts_is_one() -> None:
    """Parts that point the same way have the greatest loss, 1."""
    P = torch.tensor([[[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]]])
    assert diversity_loss(P).item() == pytest.approx(1)


def test_diversity_of_opposite_parts_is_minus_one() -> None:
    """Two parts that point opposite ways have the cosine -1."""
    assert diversity_loss(torch.tensor([[[1.0, 0.0], [-2.0, 0.0]]])).item() == pytest.approx(-1)


def test_diversity_is_the_mean_over_the_batch() -> None:
    """One image with equal parts (1) and one with orthogonal parts (0) give 1/2."""
    P = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert diversity_loss(P).item() == pytest.approx(0.5)


def test_diversity_of_one_part_is_zero() -> None:
    """A single part has no other: 0, still connected to the graph, with zero gradient."""
    P = torch.randn(2, 1, 3, requires_grad=True)
    value = diversity_loss(P)
    value.backward()
    assert value.item() == 0
    assert P.grad is not None
    assert P.grad.abs().max() == 0


def test_diversity_of_a_zero_part_is_finite() -> None:
    """A part without a direction counts as orthogonal to the others: (0 + 0 + 1) of three pairs is 1/3."""
    P = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]], requires_grad=True)
    value = diversity_loss(P)
    value.backward()
    assert value.item() == pytest.approx(1 / 3)
    assert P.grad is not None
    assert P.grad.isfinite().all()


def test_cross_entropy_by_hand() -> None:
    """Logits (ln 3, 0) give 3/4 and 1/4: the loss of the second class is ln 4, of the first ln 4/3."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    expected = (math.log(4) + math.log(4 / 3)) / 2
    assert classification_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(expected)


def test_weighted_cross_entropy_by_hand() -> None:
    """With weights 3 and 1 the losses ln 4 (class 1) and ln 4/3 (class 0) average to (ln 4 + 3 ln 4/3) / 4."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    value = classification_loss(logits, torch.tensor([1, 0]), torch.tensor([3.0, 1.0]))
    assert value.item() == pytest.approx((math.log(4) + 3 * math.log(4 / 3)) / 4)


def test_cross_entropy_takes_probabilities() -> None:
    """A one-hot row means the same as the index."""
    logits = torch.randn(3, 4)
    y = torch.tensor([1, 3, 0])
    one_hot = torch.nn.functional.one_hot(y, 4).float()
    torch.testing.assert_close(classification_loss(logits, one_hot), classification_loss(logits, y))


def test_balanced_weights_by_hand() -> None:
    """10, 30 and 0 images: 40 / (2 classes present x count) gives 2, 2/3 and 0."""
    weight = balanced_class_weight(torch.tensor([10, 30, 0]))
    torch.testing.assert_close(weight, torch.tensor([2, 2 / 3, 0]))


def test_balanced_weights_average_to_one_over_the_images() -> None:
    """Weighting does not change the size of the loss: the mean weight of a training image is 1."""
    counts = torch.tensor([7, 1, 92])
    assert (balanced_class_weight(counts) * counts).sum().item() / 100 == pytest.approx(1)


def test_balanced_weights_of_equal_classes_are_one() -> None:
    """Balanced classes are left as they are."""
    torch.testing.assert_close(balanced_class_weight(torch.full((4,), 50)), torch.ones(4))


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


@pytest.mark.parametrize(("switches", "expected"), SWITCHES)
def test_total_by_hand(switches: dict[str, float], expected: float) -> None:
    """Equation (11) sums L_cla + λ_spa L_spa + λ_div L_div, and a switch leaves its term out."""
    out = output(torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 2, 3), torch.zeros(1, 2))
    losses = loss(out, torch.tensor([0]), **switches)
    assert losses.total.item() == pytest.approx(expected)


def test_terms_are_reported_even_when_off() -> None:
    """The log shows every term unweighted, those that are switched off too."""
    out = output(torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 2, 3), torch.zeros(1, 2))
    terms = loss(out, torch.tensor([0]), sparsity=False, diversity=False).terms
    assert {name: round(float(term), 6) for name, term in terms.items()} == {
        "cla": round(math.log(2), 6),
        "spa": 0.5,
        "div": 1.0,
    }


def test_switched_off_terms_have_no_gradient() -> None:
    """A term that is off does not pull at the map or the parts."""
    M, P = torch.rand(1, 1, 2, 2, requires_grad=True), torch.rand(1, 2, 3, requires_grad=True)
    logits = torch.zeros(1, 2, requires_grad=True)
    loss(output(M, P, logits), torch.tensor([0]), sparsity=False, diversity=False).total.backward()
    assert M.grad is None
    assert P.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_type(dtype: torch.dtype) -> None:
    """The total works in every floating type and stays finite."""
    out = output(torch.rand(2, 1, 2, 2).to(dtype), torch.rand(2, 2, 3).to(dtype), torch.rand(2, 3).to(dtype))
    assert loss(out, torch.tensor([0, 1])).total.isfinite()


def test_mixed_types_as_autocast_gives_them() -> None:
    """Under autocast maps and logits may differ in type; the total is still one number."""
    out = output(torch.rand(2, 1, 2, 2).bfloat16(), torch.rand(2, 2, 3), torch.rand(2, 3).bfloat16())
    assert loss(out, torch.tensor([0, 1])).total.isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_diversity_of_zero_parts_is_finite_in_every_type(dtype: torch.dtype) -> None:
    """Parts without a direction count as 0 also where 1e-8 is not a number of the type."""
    assert diversity_loss(torch.zeros(1, 2, 4, dtype=dtype)).item() == 0


def test_the_rising_lambda_spa_by_hand() -> None:
    """With a warm-up over half of 8 steps the sparsity loss weighs 0, a quarter and then all of λ_spa."""
    out = output(torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 2, 3), torch.zeros(1, 2))
    config = FAMConfig(
        backbone="test_efficientnet", num_classes=2, num_parts=2, lambda_spa=2.0, diversity=False, sparsity_warmup=0.5
    )
    model = FAM(config)
    found = [model.loss(out, Batch(torch.tensor([0]), step=step, steps=8)).total.item() for step in (0, 1, 4, 7)]
    assert found == pytest.approx([math.log(2) + weight * 0.5 for weight in (0, 0.5, 2, 2)])


@pytest.mark.parametrize(("class_weight", "first"), [(None, 1), (torch.tensor([3.0, 1.0]), 3)])
def test_the_loss_of_cam_by_hand(class_weight: Tensor | None, first: int) -> None:
    """Logits 0 and log 3 give the classes 1/4 and 3/4: a weighted mean of log 4/3 and log 4, and no other term."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    cam = CAM(CAMConfig(backbone="test_efficientnet", num_classes=2))
    found = cam.loss(CAMOutput(torch.rand(2, 1, 4, 4), logits), Batch(torch.tensor([1, 0]), class_weight))
    assert float(found.total) == pytest.approx((math.log(4 / 3) + first * math.log(4)) / (1 + first))
    assert dict(found.terms) == {"cla": found.total}
    assert cam.term_weights() == {"cla": 1.0}
