"""Erasing Integrated Learning (EIL; Mai, Yang and Luo, CVPR 2020): CAM that also learns from what is left of a feature.

A feature F ``(B, c, h, w)`` in the backbone is averaged over its channels to a ``(B, 1, h, w)``, and its cells with
``a >= γ max(a)`` are erased. F and the erased F pass through the same layers after it, and

    Loss = CE(plain) + w CE(erased).

This is single EIL; of MEIL, with several such places, neither code nor settings were published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from famcli_models.backbones import Layers
from famcli_models.config import Ranges
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.cam import CAM, CAMConfig
from famcli_models.methods.method import Batch

# VGG16 after pool4, as in the authors' code; for the others, our choice, what the last stage reads.
PLACES = Layers(
    {
        "vgg16": ("features_23",),
        "resnet50": ("layer3",),
        "inceptionv3": ("Mixed_6a",),
        "mobilenetv1": ("blocks.3.5",),  # separable block 11
    },
    stages=(-1,),
)
LITTLE, MUCH = 0.05, 0.4  # shares of erased cells, ours: below nothing new is learnt, above the background is


@dataclass(frozen=True, kw_only=True)
class EILConfig(CAMConfig):
    """Settings of EIL.

    Attributes:
        method: ``eil``.
        tau: Threshold τ on the map, that of the authors' script.
        gamma: γ, the share of the largest mean activation from which on cells are erased.
        erased_weight: w, the weight of the cross entropy of the erased feature.
    """

    method: str = "eil"
    tau: float = 0.15
    gamma: float = 0.7
    erased_weight: float = 1.0

    RANGES: ClassVar[Ranges] = {**CAMConfig.RANGES, "gamma": (0, 2), "erased_weight": (0, 1e3)}
    OF_TRAINING: ClassVar[frozenset[str]] = CAMConfig.OF_TRAINING | {"gamma", "erased_weight"}


class EILOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        X: As in :class:`famcli_models.CAMOutput`, of the plain feature.
        logits: ``(B, L)`` class scores of the plain feature.
        erased_logits: ``(B, L)`` those of the erased feature; in evaluation mode nothing is erased.
        share: ``(B,)`` share of the cells that were erased.
    """

    X: Tensor
    logits: Tensor
    erased_logits: Tensor
    share: Tensor


class EIL(CAM):
    """A CAM that learns from a feature and from what is left of it; arguments are those of :class:`famcli_models.CAM`.

    In training the backbone gives 2B features of B images: those of the images, and those of the erased feature.
    """

    config_class = EILConfig
    title = "EIL"
    needs_images = True
    config: EILConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.erasing = Erasing(self.config.gamma)
        self.backbone.insert(PLACES, lambda: self.erasing)  # type: ignore[operator]  # nn.Module types it as a Tensor

    def head(self, features: Features, labels: Tensor | None = None) -> EILOutput:  # type: ignore[override]
        """Everything behind the backbone, of one feature or of two; see the class."""
        X, logits = super().head(features, labels)
        if not self.training:
            return EILOutput(X, logits, logits, torch.zeros_like(logits[:, 0]))
        plain, erased = logits.chunk(2)
        return EILOutput(X.chunk(2)[0], plain, erased, self.erasing.share)

    def loss(self, output: EILOutput, batch: Batch) -> Losses:
        """CE(plain) + w CE(erased)."""
        cla, erased = (
            classification_loss(logits, batch.labels, batch.class_weight)
            for logits in (output.logits, output.erased_logits)
        )
        return Losses(cla + self.config.erased_weight * erased, {"cla": cla, "erased_cla": erased})

    def term_weights(self) -> dict[str, float]:
        """1 and w."""
        return {"cla": 1.0, "erased_cla": self.config.erased_weight}

    def measures(self, output: EILOutput, labels: Tensor) -> dict[str, Tensor]:
        """What every method logs, and the share of cells that were erased."""
        return {**super().measures(output, labels), "erased": output.share.mean()}

    def warnings(self, measures: Mapping[str, float]) -> list[str]:
        """What every method warns of, and too few or too many erased cells."""
        share, found = measures["erased"], super().warnings(measures)
        if LITTLE <= share <= MUCH:
            return found
        change = "lower" if share < LITTLE else "raise"
        return [*found, f"{share:.1%} of the cells are erased, where 5 to 40% are of use; {change} gamma"]


class Erasing(nn.Module):
    """F ``(B, c, h, w)`` to F and the erased F, ``(2B, c, h, w)``; in evaluation mode to F itself.

    Attributes:
        share: ``(B,)`` share of the cells that were erased last.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.share = torch.zeros(0)

    def forward(self, F: Tensor) -> Tensor:
        """The mask passes no gradient."""
        if not self.training:
            return F
        a = F.detach().mean(dim=1, keepdim=True)  # (B, 1, h, w)
        kept = a < self.gamma * a.amax(dim=(2, 3), keepdim=True)
        self.share = 1 - kept.float().mean(dim=(1, 2, 3))
        return torch.cat([F, F * kept])
