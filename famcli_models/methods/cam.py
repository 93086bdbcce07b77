"""Class Activation Maps (Zhou et al., CVPR 2016): what a linear classifier behind a global average looks at.

``image -> backbone -> X -> mean over the pixels -> classifier``, and the map of a class is the sum of the channels of
X, weighed by that class's row of the classifier. The bias adds the same number to every pixel and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from famcli_models.config import CAM_TAU, FAMConfig, Method
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.methods.method import Localizer

BACKBONE_TRAINING = "backbone_training"  # in the provenance: whether the backbone was trained; absent, it was not
FLAT = 1e-6  # a map whose values differ by less is 0 everywhere rather than its rounding errors


class CAMOutput(NamedTuple):
    """What one forward pass gives, frozen; a plain tuple to tracers and exporters.

    Attributes:
        M: ``(B, 1, H, W)`` map of the most probable class in [0, 1] at feature resolution, min-max scaled per image,
            in the frame of the input.
        logits: ``(B, L)`` class scores before the softmax.
    """

    M: Tensor
    logits: Tensor


class CAM(Localizer):
    """A classifier whose features show where its class is: the baseline that FAM's paper is measured against.

    Args:
        config: Every choice, see :meth:`famcli_models.FAMConfig.cam`; the default is a 1,000-class MobileNetV1.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: As in :class:`famcli_models.FAM`.
        classifier: ``(B, C)`` to ``(B, L)``, instead of a new one.
    """

    method: ClassVar[Method] = "cam"

    def __init__(
        self,
        config: FAMConfig | None = None,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
        classifier: nn.Linear | None = None,
    ) -> None:
        config = config or FAMConfig.cam()
        super().__init__(config, class_names, provenance, backbone=backbone)
        self.classifier = classifier or nn.Linear(self.channels, config.num_classes)

    @classmethod
    def of(cls, model: Localizer) -> CAM:
        """The CAM of a model's own features and classifier, which it shares; at Zhou's threshold.

        Args:
            model: A FAM whose classifier knows averaged features: the backbone's own, kept as it was pretrained. A CAM
                is given back as it is.

        Raises:
            ConfigError: The classifier was trained on o, FAM's object feature, which is no average of X.
        """
        if isinstance(model, CAM):
            return model
        own = model.provenance.get("classifier") == "pretrained" and model.config.classifier == "frozen"
        if not own or model.provenance.get(BACKBONE_TRAINING) == "trained":
            msg = (
                "this FAM has no CAM, because its backbone and classifier are not both as they were pretrained; "
                "train one with 'fam train --method cam --data ...' and give its run folder as --model"
            )
            raise ConfigError(msg)
        config = replace(model.config, method=cls.method, tau=CAM_TAU)
        cam = cls(config, model.class_names, model.provenance, backbone=model.backbone, classifier=model.classifier)
        cam.training = model.training  # train() would reach into the shared modules
        return cam

    def class_maps(self, X: Tensor, labels: Tensor) -> Tensor:
        """Maps of given classes.

        Args:
            X: ``(B, C, H, W)``.
            labels: ``(B,)`` the class wanted for each image.

        Returns:
            ``(B, H, W)`` in [0, 1], min-max scaled per image.
        """
        return class_activation_maps(X, self.classifier.weight[labels])

    def head(self, features: Features) -> CAMOutput:
        """Everything behind the backbone: X ``(B, C, H, W)`` to :class:`CAMOutput`; earlier maps are not read."""
        X = features.X
        logits = self.classifier(X.mean(dim=(2, 3)))
        return CAMOutput(self.class_maps(X, logits.argmax(dim=1))[:, None], logits)


def class_activation_maps(X: Tensor, weights: Tensor) -> Tensor:
    """One map for each image.

    Args:
        X: ``(B, C, H, W)`` features.
        weights: ``(B, C)`` classifier weights of the class wanted for each image.

    Returns:
        ``(B, H, W)``, min-max scaled per image.
    """
    return min_max(torch.einsum("bchw,bc->bhw", X, weights))


def min_max(maps: Tensor) -> Tensor:
    """Scale each of the maps ``(B, H, W)`` to [0, 1]."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = high - low
    return torch.where(span < FLAT, 0.0, (maps - low) / span.clamp(min=FLAT))
