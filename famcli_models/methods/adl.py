"""Attention-based Dropout Layer (ADL; Choe and Shim, CVPR 2019): CAM trained with layers that hide what is strongest.

A layer averages a feature F ``(B, c, h, w)`` over its channels to a ``(B, 1, h, w)`` and multiplies F by one of two
maps: the drop mask ``a < γ max(a)``, which hides the most telling cells, or the importance map σ(a). It has no
parameters and does nothing in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from famcli_models.backbones import Layers
from famcli_models.config import Ranges
from famcli_models.methods.cam import CAM, CAMConfig

# VGG16 and ResNet50 as in the authors' code, InceptionV3 as in wsolevaluation. For MobileNetV1 none is published: like
# ResNet50's, in the last two stages.
PLACES = Layers(
    {
        "vgg16": ("features_16", "features_23", "features_29"),  # pool3, pool4, conv5_3
        "resnet50": ("layer3.0", "layer4.0", "layer4.2"),
        "inceptionv3": ("Mixed_5d", "Mixed_6e"),
        "mobilenetv1": ("blocks.3.0", "blocks.4.0", "blocks.4.1"),  # separable blocks 6, 12 and 13
    },
    stages=(-1, 0),
)
# γ: the authors' code for VGG16 and ResNet50-SE, the paper, quoted in the code's issue 12, for the others.
GAMMA: Mapping[str, float] = {"vgg16": 0.8, "resnet50": 0.9, "inceptionv3": 0.8, "mobilenetv1": 0.95}


@dataclass(frozen=True, kw_only=True)
class ADLConfig(CAMConfig):
    """Settings of ADL.

    Attributes:
        method: ``adl``.
        gamma: γ, the share of the largest mean activation from which on cells are hidden; 0 for the published value of
            the backbone, and 0.9 (our choice) for one without.
        drop_rate: Probability that a layer takes the drop mask and not the importance map, drawn once a batch.
    """

    method: str = "adl"
    gamma: float = 0.0
    drop_rate: float = 0.75

    RANGES: ClassVar[Ranges] = {**CAMConfig.RANGES, "gamma": (0, 1), "drop_rate": (0, 1)}
    OF_TRAINING: ClassVar[frozenset[str]] = CAMConfig.OF_TRAINING | {"gamma", "drop_rate"}


class ADL(CAM):
    """A CAM that learns with layers of dropout in its backbone; arguments are those of :class:`famcli_models.CAM`.

    With ``config.head_channels`` there is one more behind the head's convolutions, as wsolevaluation's InceptionV3 has.
    """

    config_class = ADLConfig
    title = "ADL"
    needs_images = True
    config: ADLConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.config
        settings = config.gamma or GAMMA.get(config.backbone, 0.9), config.drop_rate
        self.backbone.insert(PLACES, lambda: AttentionDropout(*settings))  # type: ignore[operator]  # nn.Module types it as a Tensor
        if isinstance(self.convolutions, nn.Sequential):  # before its last layer, which is dropout
            self.convolutions.insert(len(self.convolutions) - 1, AttentionDropout(*settings))


class AttentionDropout(nn.Module):
    """The layer: in training it hides the strongest cells of a feature, or weighs all of them; see the module.

    Args:
        gamma: γ.
        drop_rate: Probability of hiding, drawn once a batch.
    """

    def __init__(self, gamma: float, drop_rate: float) -> None:
        super().__init__()
        self.gamma, self.drop_rate = gamma, drop_rate

    def forward(self, F: Tensor) -> Tensor:
        """A feature ``(B, c, h, w)`` to one of its shape; in evaluation mode to itself."""
        if not self.training:
            return F
        a = F.mean(dim=1, keepdim=True)  # (B, 1, h, w)
        if float(torch.rand(())) < self.drop_rate:
            return F * (a < self.gamma * a.amax(dim=(2, 3), keepdim=True))
        return F * a.sigmoid()
