"""Class Activation Maps (Zhou et al., CVPR 2016): what a linear classifier behind a global average responds to.

``image -> backbone -> X -> mean over the pixels -> classifier``, and the map of a class is the sum of the channels of
X, weighed by that class's row of the classifier. The bias adds the same number to every pixel and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from famcli_models.config import MethodConfig, Ranges
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.methods.method import BACKBONE_TRAINING, Method, min_max, wanted_classes

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class CAMConfig(MethodConfig):
    """Settings of CAM: those of every method, and the threshold of its own paper.

    Attributes:
        method: ``cam``.
        tau: Threshold τ on the map, min-max scaled image by image: a fifth of its maximum (Zhou et al., section 3.2).
        head_channels: Two 3x3 convolutions of so many channels between X and the classifier, as ACoL, SPG and I²C
            have them; 0 for none, which is CAM of a network that ends in an average.
        head_dropout: Before each of them and before the classifier.
    """

    method: str = "cam"
    tau: float = 0.2
    head_channels: int = 0
    head_dropout: float = 0.0

    RANGES: ClassVar[Ranges] = {**MethodConfig.RANGES, "head_channels": (0, 8192), "head_dropout": (0, 0.95)}
    OF_TRAINING: ClassVar[frozenset[str]] = MethodConfig.OF_TRAINING | {"head_dropout"}

    # Version 0.1 wrote FAM's fields into the configs of CAM too.
    NOT_READ: ClassVar[frozenset[str]] = frozenset(
        {"num_templates", "num_parts", "similarity", "pooling", "memory", "sparsity", "diversity", "importance"}
        | {"lambda_spa", "lambda_div", "value_bias", "object_scale", "fine_channels", "fine_layers"}
    )


class CAMOutput(NamedTuple):
    """What one forward pass gives, frozen; a plain tuple to tracers and exporters.

    Attributes:
        X: ``(B, C, H, W)`` features that the classifier sees the mean of, so that the map of any class is made of them.
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
        convolutions: Instead of new ones.
        classifier: ``(B, C)`` to ``(B, L)``, likewise.

    Attributes:
        convolutions: X to the features that the classifier sees the mean of.
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
        convolutions: nn.Module | None = None,
        classifier: nn.Linear | None = None,
    ) -> None:
        super().__init__(config, class_names, provenance, backbone=backbone)
        width = self.config.head_channels
        self.convolutions = convolutions or map_convolutions(self.channels, width, self.config.head_dropout)
        self.classifier = classifier or nn.Linear(width or self.channels, self.config.num_classes)

    @property
    def before_average(self) -> nn.Module:
        """X to the features that the classifier sees the mean of."""
        return self.convolutions

    @classmethod
    def from_model(cls, model: Method) -> CAM:
        """The CAM of a model's own features and classifier, which it shares; at CAM's own threshold.

        Args:
            model: One whose classifier knows averaged features: the backbone's own, kept as it was pretrained. A CAM
                is given back as it is.

        Raises:
            ConfigError: The classifier was trained on something else than the average of X, or the backbone changed.
        """
        if cls is not CAM:  # another way to train one
            return super().from_model(model)  # type: ignore[return-value]
        if type(model) is cls:
            return model
        cls.require_pretrained(model)
        return cls.sharing(model)

    @classmethod
    def require_pretrained(cls, model: Method) -> None:
        """Refuse a model whose backbone or classifier were trained, with a sentence on what to do instead."""
        own = model.provenance.get("classifier") == "pretrained" and model.config.classifier == "frozen"
        if not own or model.provenance.get(BACKBONE_TRAINING) == "trained":
            raise ConfigError(
                f"this {model.title} has no {cls.title}, because its backbone and classifier are not both as they were "
                f"pretrained; train one with 'fam train --method {cls.name()} --data ...' and give its run folder as "
                "--model"
            )

    @classmethod
    def sharing(cls, model: Method, **settings: Any) -> Self:
        """A model on the modules of another whose classifier knows averaged features; at this method's own threshold.

        ``settings`` are further fields of the config that are not the other's.
        """
        convolutions, kind = (model.before_average, CAMConfig) if isinstance(model, CAM) else (None, MethodConfig)
        shared = {f.name: getattr(model.config, f.name) for f in fields(kind)}
        of_the_map = {"tau": cls.config_class.tau, "box_score": ()}  # that of the model is fitted to other maps
        config = cls.config_class(**{**shared, "method": cls.name(), **of_the_map, **settings})
        modules: dict[str, Any] = {"backbone": model.backbone, "classifier": model.classifier}
        made = cls(config, model.class_names, model.provenance, convolutions=convolutions, **modules)
        made.training = model.training  # train() would reach into the shared modules
        return made

    @property
    def head_width(self) -> int:
        """Those of the convolutions before the classifier."""
        return self.config.head_channels

    def head(self, features: Features, labels: Tensor | None = None) -> CAMOutput:
        """Everything behind the backbone: X ``(B, C, H, W)`` to :class:`CAMOutput`; earlier maps are not read."""
        del labels
        X = self.convolutions(features.X)
        return CAMOutput(X, self.classifier(X.mean(dim=(2, 3))))

    def maps(self, output: CAMOutput, labels: Tensor | None = None) -> Tensor:
        """Maps ``(B, H, W)`` of given classes ``(B,)``, or of the most probable ones, min-max scaled per image."""
        return class_activation_maps(output.X, self.classifier.weight[wanted_classes(output.logits, labels)])


def smoothing(backbone: str) -> nn.Module:
    """What ACoL and I²C pass X through first: a 3x3 mean on VGG16, nothing on others."""
    return nn.AvgPool2d(3, stride=1, padding=1) if backbone == "vgg16" else nn.Identity()


def map_convolutions(channels: int, width: int, dropout: float = 0.0) -> nn.Module:
    """The head of ACoL, SPG, DANet and I²C before its class maps: two 3x3 convolutions with ReLU to ``width`` channels.

    A linear classifier behind their mean is their 1x1 convolution to class maps and the mean of these. With a width of
    0 there are none.
    """
    if not width:
        return nn.Identity()
    layers: list[nn.Module] = []
    for before in (channels, width):
        layers += [nn.Dropout(dropout), nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(dropout))


def class_activation_maps(X: Tensor, weights: Tensor) -> Tensor:
    """One map for each image.

    Args:
        X: ``(B, C, H, W)`` features.
        weights: ``(B, C)`` classifier weights of the class wanted for each image.

    Returns:
        ``(B, H, W)``, min-max scaled per image.
    """
    return min_max(torch.einsum("bchw,bc->bhw", X, weights))
