"""The terms of the losses, one function each: equations (4), (8) and (10). Their sums are in the methods.

Every function gives a scalar and accepts any floating type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from famcli_models.errors import ShapeError

NORM_EPS = 1e-8  # a part whose feature is zero everywhere has no direction; its similarity counts as 0


class Losses(NamedTuple):
    """The total, to be minimised, and the terms it is made of, unweighted.

    Attributes:
        total: Scalar; for FAM that of equation (11).
        terms: By name, ``cla`` and a method's own; a term that is switched off is still reported, for the log.
    """

    total: Tensor
    terms: Mapping[str, Tensor]


def sparsity_loss(M: Tensor) -> Tensor:
    """Equation (4): the mean of abs(M) over pixels and batch; M ``(B, 1, H, W)``."""
    return M.abs().mean()


def diversity_loss(P: Tensor) -> Tensor:
    """Equation (8): the mean cosine between different part features; P ``(B, K, C)``, 0 for a single part."""
    K = P.shape[1]
    if K == 1:
        return P.sum() * 0
    unit = F.normalize(P, dim=-1, eps=max(NORM_EPS, torch.finfo(P.dtype).tiny))
    cosines = unit @ unit.transpose(1, 2)  # (B, K, K)
    others = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    return (others / (K * (K - 1))).mean()


def classification_loss(logits: Tensor, y: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Equation (10): cross entropy between the softmax of the logits and the label.

    Args:
        logits: ``(B, L)``.
        y: ``(B,)`` class indices, or ``(B, L)`` probabilities.
        class_weight: ``(L,)`` weights that balance the classes, see :func:`balanced_class_weight`.
    """
    return F.cross_entropy(logits, y, weight=class_weight)


def balanced_class_weight(counts: Tensor) -> Tensor:
    """Weights that make the cross entropy of equation (10) "class-balanced".

    The paper names no formula; this is the inverse frequency, scaled so that the mean over the training
    images is 1. Classes without an image get 0.

    Args:
        counts: ``(L,)`` training images of each class.
    """
    if counts.ndim != 1:
        raise ShapeError(f"counts have shape {tuple(counts.shape)}; expected (L,)")
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)
