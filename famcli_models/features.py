"""What a backbone gives: the feature map X and, where they are asked for, maps of earlier layers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Features(NamedTuple):
    """Feature maps of one batch.

    Attributes:
        X: ``(B, C, H, W)``, what the paper's modules read.
        earlier: None, unless a model asks for them (``fine_channels``): the deepest map at each stride below that of X
            down to a ``fine_factor``-th of it, the finest first, ``(B, C', 2H, 2W)`` or nearly so for half the stride;
            and then, if the network has one, the deepest before X at the stride of X, ``(B, C'', H, W)``.
        tapped: Outputs of the layers that a method reads beside X, in the order of its table, see
            :class:`famcli_models.backbones.Layers`.
    """

    X: Tensor
    earlier: tuple[Tensor, ...] = ()
    tapped: tuple[Tensor, ...] = ()

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """X and the others."""
        return (self.X, *self.earlier, *self.tapped)

    @property
    def cells(self) -> Tensor:
        """The deepest earlier map, or X if there is none: what cells are compared by."""
        return self.earlier[-1] if self.earlier else self.X

    def to(self, where: torch.device | torch.dtype) -> Features:
        """The same on a device or as another floating type."""
        earlier, tapped = (tuple(m.to(where) for m in maps) for maps in (self.earlier, self.tapped))
        return Features(self.X.to(where), earlier, tapped)
