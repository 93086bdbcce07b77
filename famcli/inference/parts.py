"""The parts of one image: their maps and how much each of them counts.

A is ``(K, h, w)`` and t is ``(K,)``, in the paper's letters; see :mod:`famcli_models.attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from famcli_models.losses import diversity_loss


@dataclass(frozen=True, slots=True)
class PartMaps:
    """K parts, in the order of the model.

    Attributes:
        weights: The importance t of eq. (9), one a part, summing to 1.
        A: ``(K, h, w)`` float32 part maps of eq. (6), each value in (0, 1), at feature resolution, in the frame of the
            input. Where the foreground map is near 0 a part map is a constant that says nothing.
    """

    weights: tuple[float, ...]
    A: np.ndarray = field(repr=False)

    def cosine(self) -> float | None:
        """Mean cosine over all pairs of part maps, 1 if they are alike; ``None`` of a single part."""
        if len(self.weights) < 2:
            return None
        return float(diversity_loss(torch.from_numpy(self.A).double().flatten(1)[None]))  # of maps here, not features


def mean_maps(views: Sequence[Tensor]) -> Tensor:
    """Mean of the maps of several views, ``(B, n, h, w)`` each, at the size of the largest."""
    size = max((maps.shape[-2:] for maps in views), key=lambda hw: hw[0])
    same = [m if m.shape[-2:] == size else F.interpolate(m, size=size, mode="bilinear") for m in views]
    return torch.stack(same).mean(dim=0)


def mean_parts(views: Sequence[tuple[Tensor, Tensor]]) -> list[PartMaps]:
    """The parts of B images from A ``(B, K, h, w)`` and t ``(B, K)`` of each of several views."""
    A = mean_maps([maps for maps, _ in views]).cpu().numpy()
    t = torch.stack([weights for _, weights in views]).mean(dim=0).cpu().tolist()
    return [PartMaps(tuple(weights), maps) for weights, maps in zip(t, A, strict=True)]
