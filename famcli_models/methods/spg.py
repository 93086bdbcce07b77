"""Self-Produced Guidance (SPG; Zhang et al., ECCV 2018): CAM whose layers learn masks from each other.

Beside the class maps S (logits y are their means) three branches give a mask each, as logits: B1 from an early layer,
B2 from a later one, and C from the features that S is made of. A map a of the object becomes a target T(a; h, l): 1
where ``a > h``, 0 where ``a < l``, and ignored between. With S_y min-max scaled and everything at the size of the input

    L = CE(y) + w (BCE(B2, T(S_y; h_1, l_1)) + BCE(B1, T(σ(B2); h_2, l_2)) + BCE(C, T((σ(B1) + σ(B2)) / 2; h_3, l_3)))

and no gradient passes through a target. The map is that of S: the branches guide training and are left out after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.backbones import Layers
from famcli_models.config import Ranges, require
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.cam import CAM, CAMConfig
from famcli_models.methods.method import Batch, min_max

# Of B1 and B2: InceptionV3 as in the authors' code, VGG16 and ResNet50 as in wsolevaluation. Ours: MobileNetV1 at
# ResNet50's places in their stage, and other networks at the ends of the two stages before that of X.
LAYERS = Layers(
    {
        "vgg16": ("features_23", "features_29"),  # pool4, conv5_3
        "resnet50": ("layer3.0", "layer3"),
        "inceptionv3": ("Mixed_5d", "Mixed_6d"),
        "mobilenetv1": ("blocks.3.0", "blocks.3.5"),  # separable blocks 6 and 11
    },
    stages=(-2, -1),
)
WIDTH = 512  # channels of the branches
LEAST, AT = 30, 224  # pixels of foreground, of an image of 224 x 224, below which h falls
FALLBACK = 0.7  # share of the maximum that it falls to


@dataclass(frozen=True, kw_only=True)
class SPGConfig(CAMConfig):
    """Settings of SPG.

    Attributes:
        method: ``spg``.
        head_channels: Of the convolutions before S, those of InceptionV3. wsolevaluation has 512 for VGG16 and none (0)
            for ResNet50.
        head_dropout: In training; the authors' code leaves it on in evaluation by mistake.
        high: h of the targets of B2, B1 and C; the authors' values.
        low: l of them. The values that wsolevaluation's search found differ widely from backbone to backbone.
        guidance: w; 0 is a CAM with that head.
    """

    method: str = "spg"
    head_channels: int = 1024
    head_dropout: float = 0.5
    high: tuple[float, ...] = (0.7, 0.5, 0.7)
    low: tuple[float, ...] = (0.05, 0.05, 0.1)
    guidance: float = 1.0

    RANGES: ClassVar[Ranges] = {**CAMConfig.RANGES, "guidance": (0, 1e3)}
    OF_TRAINING: ClassVar[frozenset[str]] = CAMConfig.OF_TRAINING | {"high", "low", "guidance"}

    def __post_init__(self) -> None:
        """Check every field's type and range."""
        for name in ("high", "low"):
            given: Any = getattr(self, name)
            good = isinstance(given, (list, tuple)) and len(given) == 3
            good = good and all(isinstance(share, (int, float)) and 0 <= share <= 1 for share in given)
            require(good, name, given, "three numbers in [0, 1]")
            object.__setattr__(self, name, tuple(map(float, given)))
        require(all(low <= high for low, high in zip(self.low, self.high, strict=True)), "low", self.low, "below high")
        super().__post_init__()


class SPGOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        X: ``(B, D, H, W)`` features that S is made of, whose mean the classifier sees.
        logits: ``(B, L)`` class scores.
        masks: ``(B, 3, h, w)`` logits of B2, B1 and C at the size of the input; in evaluation mode ``(B, 0)``.
    """

    X: Tensor
    logits: Tensor
    masks: Tensor


class SPG(CAM):
    """A CAM that learns with masks; arguments are those of :class:`famcli_models.CAM`."""

    config_class = SPGConfig
    title = "SPG"
    reads = LAYERS
    needs_images = True
    config: SPGConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        early, late = self.backbone.tapped_channels  # type: ignore[misc]  # nn.Module types it as a Tensor
        self.early, self.late = (_convolution(channels) for channels in (early, late))
        self.shared = nn.Sequential(_convolution(WIDTH), nn.Conv2d(WIDTH, 1, 1))
        self.last = nn.Sequential(_convolution(self.classifier.in_features), nn.Conv2d(WIDTH, 1, 1))

    def head(self, features: Features, labels: Tensor | None = None) -> SPGOutput:  # type: ignore[override]
        """CAM's head, and in training the masks."""
        X, logits = super().head(features, labels)
        if not self.training:
            return SPGOutput(X, logits, logits[:, :0])
        early, late = features.tapped
        masks = self.shared(self.late(late)), self.shared(self.early(early)), self.last(X)
        return SPGOutput(X, logits, torch.cat([self._at_input(mask) for mask in masks], dim=1))

    def loss(self, output: SPGOutput, batch: Batch) -> Losses:
        """L of the module's docstring, of an output in training mode."""
        B2, B1, C = output.masks.unbind(dim=1)  # (B, h, w)
        with torch.no_grad():
            S = torch.einsum("bchw,bc->bhw", output.X, self.classifier.weight[batch.labels])
            S = min_max(self._at_input(S[:, None])[:, 0])
            sources = S, B2.sigmoid(), (B1.sigmoid() + B2.sigmoid()) / 2
            limits = zip(sources, self.config.high, self.config.low, strict=True)
            targets = [mask_target(a, high, low) for a, high, low in limits]
        terms = {"cla": classification_loss(output.logits, batch.labels, batch.class_weight)}
        for name, mask, (target, counts) in zip(("b2", "b1", "c"), (B2, B1, C), targets, strict=True):
            terms[name] = mask_loss(mask, target, counts)
        guidance = terms["b2"] + terms["b1"] + terms["c"]
        return Losses(terms["cla"] + self.config.guidance * guidance, terms)

    def term_weights(self) -> dict[str, float]:
        """1, and w for each mask."""
        return {"cla": 1.0, **dict.fromkeys(("b2", "b1", "c"), self.config.guidance)}

    def _at_input(self, maps: Tensor) -> Tensor:
        """Maps ``(B, 1, H, W)`` at the size of the input."""
        return F.interpolate(maps, size=(self.config.size, self.config.size), mode="bilinear", align_corners=False)


def mask_target(a: Tensor, high: float, low: float) -> tuple[Tensor, Tensor]:
    """T(a; h, l).

    Where fewer than 30 pixels (of an image of 224 x 224, and in proportion of another) exceed h, it falls to 0.7 of the
    maximum, for that image alone.

    Args:
        a: ``(B, h, w)`` in [0, 1].
        high: h.
        low: l; below it the target is 0 whatever h has become.

    Returns:
        The target ``(B, h, w)``, 0 or 1, and which pixels of it count.
    """
    least = LEAST * a.shape[1] * a.shape[2] / AT**2
    few = (a > high).sum(dim=(1, 2), keepdim=True) < least
    threshold = torch.where(few, FALLBACK * a.amax(dim=(1, 2), keepdim=True), high)
    foreground, background = (a > threshold) & (a >= low), a < low
    return foreground.to(a.dtype), foreground | background


def mask_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Binary cross entropy ``(B, h, w)``, averaged over the pixels that count; 0 without any."""
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (each * counts).sum() / counts.sum().clamp(min=1)


def _convolution(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 3, padding=1), nn.ReLU())
