"""The losses of FAM, one function for each term, summed by a table of weights (equation 11); and that of CAM.

Every function gives a scalar and accepts any floating type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from famcli_models.config import FAMConfig
from famcli_models.errors import ShapeError
from famcli_models.methods.cam import CAMOutput
from famcli_models.methods.fam import FAMOutput

NORM_EPS = 1e-8  # a part whose feature is zero everywhere has no direction; its similarity counts as 0


class Losses(NamedTuple):
    """The total of equation (11), to be minimised, and the terms it is made of, unweighted.

    Attributes:
        total: Scalar.
        terms: ``cla``, ``spa`` and ``div``; a term that is switched off is still reported, for the log. A CAM has
            ``cla`` alone.
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
        msg = f"counts have shape {tuple(counts.shape)}; expected (L,)"
        raise ShapeError(msg)
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)


def term_weights(config: FAMConfig) -> dict[str, float]:
    """Equation (11): the weight of each term; 0 for one that is switched off. A CAM has equation (10) alone."""
    if config.method == "cam":
        return {"cla": 1.0}
    return {
        "cla": 1.0,
        "spa": config.lambda_spa if config.sparsity else 0.0,
        "div": config.lambda_div if config.diversity else 0.0,
    }


def fam_loss(output: FAMOutput, y: Tensor, config: FAMConfig, class_weight: Tensor | None = None) -> Losses:
    """Equation (11): L_cla + λ_spa L_spa + λ_div L_div.

    Args:
        output: A forward pass.
        y: ``(B,)`` class indices.
        config: Gives λ_spa and λ_div, and which terms are on.
        class_weight: ``(L,)``, see :func:`classification_loss`.
    """
    terms = {
        "cla": classification_loss(output.logits, y, class_weight),
        "spa": sparsity_loss(output.M),
        "div": diversity_loss(output.P),
    }
    weights = term_weights(config)
    total = torch.stack([weights[name] * term for name, term in terms.items() if weights[name]]).sum()
    return Losses(total, terms)


def cam_loss(output: CAMOutput, y: Tensor, class_weight: Tensor | None = None) -> Losses:
    """Equation (10) alone: a CAM is a classifier, and nothing else is asked of its map.

    Args:
        output: A forward pass.
        y: ``(B,)`` class indices.
        class_weight: ``(L,)``, see :func:`classification_loss`.
    """
    cla = classification_loss(output.logits, y, class_weight)
    return Losses(cla, {"cla": cla})
