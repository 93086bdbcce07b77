"""Background Activation Suppression (BAS; Wu, Zhai and Cao, CVPR 2022): a mask that leaves its class nothing outside.

A convolution on a feature F ``(B, c, h, w)`` gives a mask in (0, 1) for each class; m is that of y. Class scores S are
the means of class maps after a ReLU, S_e those of F (1 - m), and

    Loss = CE(S) + w CE(mean of the class maps times m) + S_e[y] / S[y] + λ mean(m).

The layers behind F and S[y] are constants in the third term, so that it moves the mask alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.backbones import Layers
from famcli_models.config import MethodConfig, Ranges
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.method import Batch, Method, min_max, run_constant, wanted_classes

READS = Layers(
    {
        "vgg16": ("features_22",),  # conv4_3 before pool4
        "resnet50": ("layer3",),
        "inceptionv3": ("Mixed_6e",),
        "mobilenetv1": ("blocks.3.5",),  # separable block 11
    },
    stages=(-1,),
)


@dataclass(frozen=True, kw_only=True)
class BASConfig(MethodConfig):
    """Settings of BAS; the defaults are the authors' for MobileNetV1 on CUB, whose λ is that for ILSVRC too.

    Attributes:
        method: ``bas``.
        tau: Threshold τ on the map: theirs for CUB is 0.15, and 0.1 for InceptionV3; for ILSVRC 0.3 to 0.5.
        area: λ; theirs is 0.7, 1.5, 1.2 and 1.0 for VGG16, MobileNetV1, ResNet50 and InceptionV3 on CUB, and 1, 1.5, 2
            and 2.5 on ILSVRC.
        masked_weight: w; theirs is 0 for VGG16 and 0.5 for the others.
        classes: The map is the mean mask of so many of the most probable classes, or of all if there are fewer; theirs
            is 80 for VGG16 on CUB.
    """

    method: str = "bas"
    tau: float = 0.15
    area: float = 1.5
    masked_weight: float = 0.5
    classes: int = 200

    RANGES: ClassVar[Ranges] = {
        **MethodConfig.RANGES,
        "area": (0, 1e3),
        "masked_weight": (0, 1e3),
        "classes": (1, 100_000),
    }
    OF_TRAINING: ClassVar[frozenset[str]] = MethodConfig.OF_TRAINING | {"area", "masked_weight"}


class BASOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        masks: ``(B, L, h, w)`` in (0, 1), one a class.
        logits: ``(B, L)`` S, the means of the class maps.
        masked_logits: ``(B, L)`` in training those of the class maps times m.
        erased_logits: ``(B, L)`` in training S_e, those of what is outside m.
        m: ``(B, 1, h, w)`` in training the mask of y.
    """

    masks: Tensor
    logits: Tensor
    masked_logits: Tensor
    erased_logits: Tensor
    m: Tensor


class BAS(Method):
    """A classifier with a mask for each class; the map is their mean and of no class.

    Args:
        config: Every choice; the default is a 1,000-class MobileNetV1.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: As in :class:`famcli_models.FAM`, with one map in ``Features.tapped``.
    """

    config_class = BASConfig
    title = "BAS"
    map_title = "Background Activation Suppression"
    learns_map = False
    rescaled = True
    reads = READS
    needs_images = True
    config: BASConfig

    def __init__(
        self,
        config: BASConfig | None = None,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__(config, class_names, provenance, backbone=backbone)
        classes = self.config.num_classes
        self.mask = nn.Conv2d(self.backbone.tapped_channels[0], classes, 3, padding=1)  # type: ignore[index, arg-type]
        self.classifier = nn.Linear(self.channels, classes)  # of each cell: a 1x1 convolution
        self.outside = Factor()
        self.backbone.insert(READS, lambda: self.outside)  # type: ignore[operator]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> BASOutput:
        """See :meth:`Method.forward`; in training the backbone runs once more, on what is outside m."""
        out: BASOutput = super().forward(images, labels)
        return out._replace(erased_logits=self.erased_scores(images, out.m)) if self.training else out

    def head(self, features: Features, labels: Tensor | None = None) -> BASOutput:
        """Everything behind the backbone but S_e: X ``(B, C, H, W)`` and F to :class:`BASOutput`."""
        (feature,) = features.tapped
        masks = self.mask(feature).sigmoid()
        maps = class_maps(features.X, self.classifier.weight, self.classifier.bias)
        logits = maps.mean(dim=(2, 3))
        if not self.training:
            return BASOutput(masks, logits, logits, torch.zeros_like(logits), masks[:, :1])
        y = wanted_classes(logits, labels)
        m = masks[torch.arange(len(y), device=y.device), y][:, None]
        masked = maps * F.adaptive_avg_pool2d(m, (maps.shape[-2], maps.shape[-1]))
        return BASOutput(masks, logits, masked.mean(dim=(2, 3)), torch.zeros_like(logits), m)

    def erased_scores(self, images: Tensor, m: Tensor) -> Tensor:
        """S_e ``(B, L)`` of F (1 - m), by a network whose weights are constants: gradients flow through m alone."""
        self.outside.factor = 1 - m
        try:
            X = run_constant(self.backbone, images).X
        finally:
            self.outside.factor = None
        return class_maps(X, self.classifier.weight.detach(), self.classifier.bias.detach()).mean(dim=(2, 3))

    def maps(self, output: BASOutput, labels: Tensor | None = None) -> Tensor:
        """The mean mask of the most probable classes ``(B, h, w)``, min-max scaled per image; of no class."""
        del labels
        masks, most = output.masks, self.config.classes
        if most < self.config.num_classes:
            best = output.logits.topk(most, dim=1).indices
            masks = masks.gather(1, best[:, :, None, None].expand(-1, -1, *masks.shape[2:]))
        return min_max(masks.mean(dim=1))

    def loss(self, output: BASOutput, batch: Batch) -> Losses:
        """The sum of the module's docstring."""
        S, S_e = (scores.gather(1, batch.labels[:, None])[:, 0] for scores in (output.logits, output.erased_logits))
        S = S.detach()
        terms = {
            "cla": classification_loss(output.logits, batch.labels, batch.class_weight),
            "masked_cla": classification_loss(output.masked_logits, batch.labels, batch.class_weight),
            "outside": torch.where(S_e < S, S_e / S.clamp(min=1e-8), 0.0).mean(),
            "area": output.m.mean(),
        }
        weights = self.term_weights()
        return Losses(torch.stack([weights[name] * term for name, term in terms.items()]).sum(), terms)

    def term_weights(self) -> dict[str, float]:
        """1, w, 1 and λ."""
        return {"cla": 1.0, "masked_cla": self.config.masked_weight, "outside": 1.0, "area": self.config.area}


def class_maps(X: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """X ``(B, C, H, W)`` to class maps ``(B, L, H, W)``, none of whose values is negative."""
    return F.conv2d(X, weight[:, :, None, None], bias).relu()


class Factor(nn.Module):
    """A feature times ``factor`` where there is one, and else as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.factor: Tensor | None = None

    def forward(self, feature: Tensor) -> Tensor:
        """``(B, c, h, w)`` to the same."""
        return feature if self.factor is None else feature * self.factor
