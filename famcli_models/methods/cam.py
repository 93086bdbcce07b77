"""Class Activation Maps (Zhou et al., CVPR 2016): what a linear classifier behind a global average responds to.

``image -> backbone -> X -> mean over the pixels -> classifier``, and the map of a class is the sum of the channels of
X, weighed by that class's row of the classifier. The bias adds the same number to every pixel and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from famcli_models.config import MethodConfig
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.methods.method import BACKBONE_TRAINING, Method, min_max


@dataclass(frozen=True, kw_only=True)
class CAMConfig(MethodConfig):
    """Settings of CAM: those of every method, and the threshold of its own paper.

    Attributes:
        method: ``cam``.
        tau: Threshold τ on the map, min-max scaled image by image: a fifth of its maximum (Zhou et al., section 3.2).
    """

    method: str = "cam"
    tau: float = 0.2

    # Version 0.1 wrote FAM's fields into the configs of CAM too.
    NOT_READ: ClassVar[frozenset[str]] = frozenset(
        {"num_templates", "num_parts", "similarity", "pooling", "memory", "sparsity", "diversity", "importance"}
        | {"lambda_spa", "lambda_div", "value_bias", "object_scale", "fine_channels", "fine_layers"}
    )


class CAMOutput(NamedTuple):
    """What one forward pass gives, frozen; a plain tuple to tracers and exporters.

    Attributes:
        X: ``(B, C, H, W)`` features, which the map of any class is made of.
        logits: ``(B, L)`` class scores before the softmax.
    """

    X: Tensor
    logits: Tensor


class CAM(Method):
    """A classifier whose features show where its class is: the baseline that FAM's paper is measured against.

    Args:
        config: Every choice; the default is a 1,000-class MobileNetV1.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: As in :class:`famcli_models.FAM`.
        classifier: ``(B, C)`` to ``(B, L)``, instead of a new one.
    """

    config_class = CAMConfig
    title = "CAM"
    map_title = "Class Activation Maps"
    class_conditional = True
    learns_map = False
    rescaled = True
    config: CAMConfig

    def __init__(
        self,
        config: CAMConfig | None = None,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
        classifier: nn.Linear | None = None,
    ) -> None:
        super().__init__(config, class_names, provenance, backbone=backbone)
        self.classifier = classifier or nn.Linear(self.channels, self.config.num_classes)

    @classmethod
    def from_model(cls, model: Method) -> CAM:
        """The CAM of a model's own features and classifier, which it shares; at CAM's own threshold.

        Args:
            model: One whose classifier knows averaged features: the backbone's own, kept as it was pretrained. A CAM
                is given back as it is.

        Raises:
            ConfigError: The classifier was trained on something else than the average of X, or the backbone changed.
        """
        if isinstance(model, cls):
            return model
        own = model.provenance.get("classifier") == "pretrained" and model.config.classifier == "frozen"
        if not own or model.provenance.get(BACKBONE_TRAINING) == "trained":
            raise ConfigError(
                f"this {model.title} has no CAM, because its backbone and classifier are not both as they were "
                "pretrained; train one with 'fam train --method cam --data ...' and give its run folder as --model"
            )
        shared = {f.name: getattr(model.config, f.name) for f in fields(MethodConfig)}
        of_the_map = {"tau": CAMConfig.tau, "box_score": ()}  # that of the model is fitted to other maps
        config = CAMConfig(**{**shared, "method": "cam", **of_the_map})
        cam = cls(config, model.class_names, model.provenance, backbone=model.backbone, classifier=model.classifier)
        cam.training = model.training  # train() would reach into the shared modules
        return cam

    def head(self, features: Features, labels: Tensor | None = None) -> CAMOutput:
        """Everything behind the backbone: X ``(B, C, H, W)`` to :class:`CAMOutput`; earlier maps are not read."""
        del labels
        return CAMOutput(features.X, self.classifier(features.X.mean(dim=(2, 3))))

    def maps(self, output: CAMOutput, labels: Tensor | None = None) -> Tensor:
        """Maps ``(B, H, W)`` of given classes ``(B,)``, or of the most probable ones, min-max scaled per image."""
        chosen = output.logits.argmax(dim=1) if labels is None else labels
        return class_activation_maps(output.X, self.classifier.weight[chosen])


def class_activation_maps(X: Tensor, weights: Tensor) -> Tensor:
    """One map for each image.

    Args:
        X: ``(B, C, H, W)`` features.
        weights: ``(B, C)`` classifier weights of the class wanted for each image.

    Returns:
        ``(B, H, W)``, min-max scaled per image.
    """
    return min_max(torch.einsum("bchw,bc->bhw", X, weights))
