"""What a backbone gives: the feature map X and, where they are asked for, maps of earlier layers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Features(NamedTuple):
    """Feature maps of one batch.

    Attributes:
        X: ``(B, C, H, W)``, what the paper's modules read.
        earlier: None, unless a model asks for them (``fine_channels``): the deepest map at half the stride of X,
            ``(B, C', 2H, 2W)`` or nearly so, and then, if the network has one, the deepest before X at the stride of X,
            ``(B, C'', H, W)``.
    """

    X: Tensor
    earlier: tuple[Tensor, ...] = ()

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """X and the earlier ones."""
        return (self.X, *self.earlier)

    def to(self, where: torch.device | torch.dtype) -> Features:
        """The same on a device or as another floating type."""
        return Features(self.X.to(where), tuple(earlier.to(where) for earlier in self.earlier))
