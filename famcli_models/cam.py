"""Class activation maps (Zhou et al., 2016): what a linear classifier behind a global average looks at."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-6  # a map whose values differ by less is 0 everywhere rather than its rounding errors


def class_activation_maps(X: Tensor, weights: Tensor) -> Tensor:
    """One map for each image.

    Args:
        X: ``(B, C, H, W)`` features.
        weights: ``(B, C)`` classifier weights of the class wanted for each image.

    Returns:
        ``(B, H, W)``, min-max scaled per image.
    """
    return min_max(torch.einsum("bchw,bc->bhw", X, weights))


def min_max(maps: Tensor) -> Tensor:
    """Scale each of the maps ``(B, H, W)`` to [0, 1]."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=FLAT)
