"""Rethinking CAM (RCAM; Bae, Noh and Kim, ECCV 2020): three changes to CAM, so that small strong parts weigh less.

*Thresholded average pooling*: the classifier sees the mean of each channel over the cells above a share of its maximum,
not over all. *Negative weight clamping*: the map of a class adds up the channels with positive weights alone.
*Percentile as a standard*: the threshold is a share of the map's 90th percentile, not of its maximum.

The last two need no training, so that every CAM has a map of this method; see :meth:`RCAM.from_model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from famcli_models.config import Choices, Ranges
from famcli_models.features import Features
from famcli_models.methods.cam import CAM, CAMConfig, CAMOutput
from famcli_models.methods.method import Method, min_max, wanted_classes

Averaging = Literal["thresholded", "plain"]


@dataclass(frozen=True, kw_only=True)
class RCAMConfig(CAMConfig):
    """Settings of RCAM.

    Attributes:
        method: ``rcam``.
        tau: Threshold τ on the map, which is 1 at its percentile: θ_loc of the authors' code.
        averaging: Of the features before the classifier: ``thresholded``, or ``plain`` as in CAM.
        theta: θ_tap, the share of a channel's maximum in an image above which its cells are averaged.
        percentile: Of the cells of the map, min-max scaled, that is taken for 1; at 100 it is the maximum. The authors
            take it of the map enlarged to the image, here it is that of the map as it is; on 250 photographs it differs
            by 0.02 in the mean, and one box more is right.
        least: The percentile is taken for no less than this share of the maximum (our choice): where an object covers
            less than a tenth of an image the 90th percentile is background, and so would everything be.
    """

    method: str = "rcam"
    tau: float = 0.35
    averaging: Averaging = "thresholded"
    theta: float = 0.1
    percentile: float = 90.0
    least: float = 0.2

    CHOICES: ClassVar[Choices] = {**CAMConfig.CHOICES, "averaging": get_args(Averaging)}
    RANGES: ClassVar[Ranges] = {**CAMConfig.RANGES, "theta": (0, 0.99), "percentile": (1, 100), "least": (1e-3, 1)}


class RCAM(CAM):
    """A CAM with another average, other weights of the map and another scale; arguments are those of CAM."""

    config_class = RCAMConfig
    title = "RCAM"
    rescaled = False
    config: RCAMConfig

    @classmethod
    def from_model(cls, model: Method) -> RCAM:
        """This map of a model's own features and classifier, which it shares and which goes on to see the plain mean.

        Args:
            model: A CAM, however it was trained, or what has a CAM, see :meth:`famcli_models.CAM.from_model`; an RCAM
                is given back as it is.

        Raises:
            ConfigError: It is neither.
        """
        if type(model) is cls:
            return model
        one_row_a_class = model.classifier.out_features == model.config.num_classes  # DANet has several
        if not (isinstance(model, CAM) and one_row_a_class):
            cls.require_pretrained(model)
        return cls.sharing(model, averaging="plain")

    def head(self, features: Features, labels: Tensor | None = None) -> CAMOutput:
        """Everything behind the backbone: X ``(B, C, H, W)`` to :class:`famcli_models.CAMOutput`."""
        if self.config.averaging == "plain":
            return super().head(features, labels)
        X = self.convolutions(features.X)
        return CAMOutput(X, self.classifier(thresholded_average(X, self.config.theta)))

    def maps(self, output: CAMOutput, labels: Tensor | None = None) -> Tensor:
        """Maps ``(B, H, W)`` of given classes ``(B,)``, or of the most probable ones, 1 from their percentile on."""
        weights = self.classifier.weight[wanted_classes(output.logits, labels)].clamp(min=0)
        M = min_max(torch.einsum("bchw,bc->bhw", output.X, weights))
        return scale_to_percentile(M, self.config.percentile, self.config.least)


def thresholded_average(X: Tensor, theta: float) -> Tensor:
    """The mean ``(B, C)`` of each channel of X ``(B, C, H, W)`` over the cells above ``theta`` times its maximum."""
    above = theta * X.amax(dim=(2, 3), keepdim=True) < X
    return (X * above).sum(dim=(2, 3)) / above.sum(dim=(2, 3)).clamp(min=1)


def scale_to_percentile(M: Tensor, percentile: float, least: float) -> Tensor:
    """Maps ``(B, H, W)`` divided by a percentile of their cells, or by ``least`` if that is less, and cut off at 1."""
    standard = torch.quantile(M.flatten(1).float(), percentile / 100, dim=1).clamp(min=least)
    return (M / standard[:, None, None]).clamp(max=1)
