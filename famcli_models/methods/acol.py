"""Adversarial Complementary Learning (ACoL; Zhang et al., CVPR 2018): two heads, the second without the first's region.

``image -> backbone -> X``; head A gives a map of each class from X. Where its map of the class y, min-max scaled, is δ
or more, X is set to 0, and head B has to find y in what is left. ``L = CE(A, y) + CE(B, y)``, and the map of a class
is the larger of the two heads' maps, cell by cell. Where no class is given and several views are averaged, B lacks the
region of the class that A finds most probable in each view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from famcli_models.config import Ranges
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.cam import CAM, CAMConfig, class_activation_maps, map_convolutions, smoothing
from famcli_models.methods.method import Batch, wanted_classes


@dataclass(frozen=True, kw_only=True)
class ACoLConfig(CAMConfig):
    """Settings of ACoL.

    Attributes:
        method: ``acol``.
        head_channels: Of each of the two heads, on any backbone; on ResNet50 they have 29 million weights each.
        erase: δ, the share of the maximum of A's map from which on X is erased; 0.6 in the authors' code, 0.7 in
            wsolevaluation's. On a map of 14 x 14 cells 0.6 may erase one or two.
        tau: CAM's. That of the published numbers is not known: the authors no longer remember it.
    """

    method: str = "acol"
    head_channels: int = 1024
    erase: float = 0.6

    RANGES: ClassVar[Ranges] = {**CAMConfig.RANGES, "erase": (0, 2)}


class ACoLOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        X: ``(B, D, H, W)`` features of head A, whose mean its classifier sees.
        logits: ``(B, L)`` class scores of A, which are the method's.
        X_b: ``(B, D, H, W)`` those of head B.
        logits_b: ``(B, L)`` of B.
        erased: ``(B,)`` share of the cells of X that B does not have.
    """

    X: Tensor
    logits: Tensor
    X_b: Tensor
    logits_b: Tensor
    erased: Tensor


class ACoL(CAM):
    """A CAM with a second head; arguments are those of :class:`famcli_models.CAM`."""

    config_class = ACoLConfig
    title = "ACoL"
    config: ACoLConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.config
        self.smoothing = smoothing(config.backbone)
        self.convolutions_b = map_convolutions(self.channels, config.head_channels, config.head_dropout)
        self.classifier_b = nn.Linear(self.classifier.in_features, config.num_classes)

    @property
    def before_average(self) -> nn.Module:
        """X to the features that the classifier sees the mean of."""
        return nn.Sequential(self.smoothing, self.convolutions)

    def head(  # type: ignore[override]
        self, features: Features, labels: Tensor | None = None
    ) -> ACoLOutput:
        """Head A on X, and head B on X without what A's map of the wanted class shows."""
        F = self.smoothing(features.X)
        X = self.convolutions(F)
        logits = self.classifier(X.mean(dim=(2, 3)))
        with torch.no_grad():
            A = class_activation_maps(X, self.classifier.weight[wanted_classes(logits, labels)])
            kept = (self.config.erase > A).to(F.dtype)
        X_b = self.convolutions_b(F * kept[:, None])
        return ACoLOutput(X, logits, X_b, self.classifier_b(X_b.mean(dim=(2, 3))), 1 - kept.mean(dim=(1, 2)))

    def maps(self, output: ACoLOutput, labels: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The larger of both heads' maps ``(B, H, W)`` of given classes ``(B,)``, or of A's most probable ones."""
        y = wanted_classes(output.logits, labels)
        A = class_activation_maps(output.X, self.classifier.weight[y])
        return torch.maximum(A, class_activation_maps(output.X_b, self.classifier_b.weight[y]))

    def loss(self, output: ACoLOutput, batch: Batch) -> Losses:
        """The cross entropies of both heads."""
        terms = {
            "cla": classification_loss(output.logits, batch.labels, batch.class_weight),
            "cla_b": classification_loss(output.logits_b, batch.labels, batch.class_weight),
        }
        return Losses(terms["cla"] + terms["cla_b"], terms)

    def term_weights(self) -> dict[str, float]:
        """Equal ones."""
        return {"cla": 1.0, "cla_b": 1.0}

    def measures(self, output: ACoLOutput, labels: Tensor) -> dict[str, Tensor]:
        """What every method logs; the accuracy of B, whose maps are noise while it is low; and the erased share."""
        found = super().measures(output, labels)
        top1_b = (output.logits_b.argmax(dim=1) == labels).float().mean()
        return {"erased": output.erased.mean(), "top1_b": top1_b, **found}
