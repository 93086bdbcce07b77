"""CutMix (Yun et al., ICCV 2019): CAM trained on images into which a rectangle of another image is pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from famcli_models.config import Ranges
from famcli_models.methods.cam import CAM, CAMConfig


@dataclass(frozen=True, kw_only=True)
class CutMixConfig(CAMConfig):
    """Settings of CutMix.

    Attributes:
        method: ``cutmix``.
        beta: β of the distribution Beta(β, β) of the share that is kept.
        mix: Probability that a batch is mixed.
    """

    method: str = "cutmix"
    beta: float = 1.0
    mix: float = 1.0

    RANGES: ClassVar[Ranges] = {**CAMConfig.RANGES, "beta": (1e-3, 1e3), "mix": (0, 1)}
    OF_TRAINING: ClassVar[frozenset[str]] = CAMConfig.OF_TRAINING | {"beta", "mix"}


class CutMix(CAM):
    """A CAM that learns from mixed images; arguments are those of :class:`famcli_models.CAM`."""

    config_class = CutMixConfig
    title = "CutMix"
    needs_images = True
    config: CutMixConfig

    def augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the batch, with probability ``config.mix``; labels become probabilities ``(B, L)``."""
        shares = F.one_hot(labels, self.config.num_classes).to(images.dtype)
        if not float(torch.rand(())) < self.config.mix:
            return images, shares
        beta = torch.tensor(self.config.beta)
        keep = float(torch.distributions.Beta(beta, beta).sample())
        centre = int(torch.randint(images.shape[-2], ())), int(torch.randint(images.shape[-1], ()))
        others = torch.randperm(len(images)).to(images.device)
        mixed, kept = mix_rectangle(images, others, keep, centre)
        return mixed, kept * shares + (1 - kept) * shares[others]


def mix_rectangle(images: Tensor, others: Tensor, keep: float, centre: tuple[int, int]) -> tuple[Tensor, float]:
    """Paste one rectangle of other images into each image.

    Args:
        images: ``(B, 3, h, w)``.
        others: ``(B,)`` the image in the batch that each gets the rectangle of.
        keep: Share of the image, λ, that is to be kept.
        centre: ``(y, x)`` of the rectangle, which is clipped to the image.

    Returns:
        The mixed images, and the share that was kept after clipping.
    """
    h, w = images.shape[-2:]
    (y, x), high, wide = centre, int(h * (1 - keep) ** 0.5), int(w * (1 - keep) ** 0.5)
    top, left = max(0, y - high // 2), max(0, x - wide // 2)
    bottom, right = min(h, y - high // 2 + high), min(w, x - wide // 2 + wide)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[others, :, top:bottom, left:right]
    return mixed, 1 - max(0, bottom - top) * max(0, right - left) / (h * w)
