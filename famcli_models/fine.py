"""Extension: features of a finer resolution than X, so that M can follow an object's outline more closely.

====== ===================== ====================================================
symbol shape                 what
====== ===================== ====================================================
X      (B, C, H, W)          feature map of the backbone
Z      (B, D, fH, fW)        fused features of D channels, at the stride of X divided by f, a power of two
====== ===================== ====================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.features import Features

KERNEL = 7  # cells of Z that one layer looks across


class FineFeatures(nn.Module):
    """X and the maps of earlier layers to one map Z at a finer stride.

    Each map is brought to the width of Z by a 1x1 convolution. Those at the stride of X are added up, enlarged
    (bilinear, pixel centres aligned) and added to the next finer one, and so on (Lin et al. 2017). Then come a ReLU and
    the layers: a depthwise 7x7 convolution and a ReLU each, with a 1x1 convolution and a ReLU between two of them.

    Args:
        channels: C.
        earlier_channels: Channels of :attr:`Features.earlier`, in its order.
        width: D.
        layers: Number of depthwise convolutions.
        factor: f.
    """

    def __init__(
        self, channels: int, earlier_channels: Sequence[int], width: int, layers: int = 1, factor: int = 2
    ) -> None:
        super().__init__()
        self.levels = factor.bit_length() - 1  # maps finer than X, each of twice the resolution of the one before
        self.laterals = nn.ModuleList(nn.Conv2d(each, width, 1) for each in (channels, *earlier_channels))
        mix: list[nn.Module] = [nn.ReLU()]
        for number in range(layers):
            mix += [nn.Conv2d(width, width, 1), nn.ReLU()] if number else []
            mix += [nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width), nn.ReLU()]
        self.mix = nn.Sequential(*mix)

    def forward(self, features: Features) -> Tensor:
        """Z ``(B, D, fH, fW)``; its height and width are exactly those of the first of ``features.earlier``."""
        X, *earlier = (lateral(m) for lateral, m in zip(self.laterals, features.maps, strict=True))
        fused = sum(earlier[self.levels :], X)
        for finer in reversed(earlier[: self.levels]):
            size_hw = finer.shape[-2], finer.shape[-1]
            fused = finer + F.interpolate(fused, size=size_hw, mode="bilinear", align_corners=False)
        Z: Tensor = self.mix(fused)
        return Z
