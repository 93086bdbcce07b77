"""Extension: where in an image the evidence for its class is, from a classifier and the similarity of cells.

====== ===================== ====================================================
symbol shape                 what
====== ===================== ====================================================
X      (B, C, H, W)          feature map that the classifier reads the mean of
w      (B, C)                weights of the class of each image
cells  (B, D, h, w)          an earlier feature map, whose cells are compared
====== ===================== ====================================================
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 2  # that evidence is carried
POWER = 2  # sharpens cosine similarities
SMALLEST_SPAN = 1e-6  # of values that are scaled to [0, 1]


def class_evidence(X: Tensor, w: Tensor, cells: Tensor) -> Tensor:
    """The class activation map at the size of ``cells``, and the same carried along similar cells.

    The features of the cells are centred image by image, see :func:`carry`. Both maps are min-max scaled.

    Returns:
        ``(B, 2, h, w)`` in [0, 1].
    """
    B, h, w_cells = X.shape[0], cells.shape[-2], cells.shape[-1]
    cam = (w[:, None] @ X.flatten(2)).view(B, 1, X.shape[-2], X.shape[-1])
    cam = _scaled(F.interpolate(cam, size=(h, w_cells), mode="bilinear", align_corners=False))
    flat = cells.flatten(2).transpose(1, 2)  # (B, hw, D)
    carried = carry(cam.flatten(2).transpose(1, 2), flat - flat.mean(dim=1, keepdim=True))  # (B, hw, 1)
    return torch.cat([cam, _scaled(carried.transpose(1, 2).view(B, 1, h, w_cells))], dim=1)


def carry(values: Tensor, centred: Tensor) -> Tensor:
    """Values ``(B, n, 1)`` of cells carried along similar ones, given centred features ``(B, n, D)``.

    Each step replaces the value of a cell by the mean over all cells, weighted by their similarity to it: the cosine of
    their features, without negative values and squared.
    """
    unit = F.normalize(centred, dim=-1)
    alike = (unit @ unit.transpose(1, 2)).clamp(min=0) ** POWER  # (B, n, n)
    alike = alike / alike.sum(dim=-1, keepdim=True).clamp(min=SMALLEST_SPAN)
    for _ in range(STEPS):
        values = alike @ values
    return values


def expected_weights(X: Tensor, classifier: torch.nn.Linear) -> Tensor:
    """Weights ``(B, C)`` of the classes that the classifier sees in the mean of X, averaged by their probabilities."""
    probabilities = classifier(X.mean(dim=(2, 3))).softmax(dim=1)
    expected: Tensor = probabilities @ classifier.weight
    return expected


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp(min=SMALLEST_SPAN)
