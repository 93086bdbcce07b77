"""Foreground Activation Maps (Meng et al., ICCV 2021): network and output.

``image -> backbone -> X -> (M -> X̃ -> A -> P -> t -> o) -> h(o)``; the letters are those of
:mod:`famcli_models.attention`, with L the number of classes and ``y = h(o)`` the logits ``(B, L)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.attention import ConvolutionAttention, ObjectAwareAttention, PartAwareAttention
from famcli_models.config import FAMConfig, Method
from famcli_models.features import Features
from famcli_models.fine import FineFeatures
from famcli_models.methods.method import Localizer


class FAMOutput(NamedTuple):
    """What one forward pass gives, frozen; a plain tuple to tracers and exporters.

    Attributes:
        M: ``(B, 1, H, W)`` foreground map in (0, 1) at feature resolution, in the frame of the input;
            ``(B, 1, 2H, 2W)`` or nearly so with ``fine_channels``.
        A: ``(B, K, H, W)`` part maps in (0, 1), in the same frame.
        P: ``(B, K, C)`` part features.
        t: ``(B, K)`` importance weights, summing to 1.
        o: ``(B, C)`` object feature.
        logits: ``(B, L)`` class scores before the softmax.
    """

    M: Tensor
    A: Tensor
    P: Tensor
    t: Tensor
    o: Tensor
    logits: Tensor


class FAM(Localizer):
    """The full model: one forward pass gives the foreground map, the parts and the class.

    Args:
        config: Every choice; the default is a 1,000-class MobileNetV1.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: A module that maps images to :class:`famcli_models.features.Features`, with an attribute
            ``channels`` (and ``earlier_channels``, if the features have earlier maps), instead of
            ``config.backbone``; such a model cannot be loaded back by name.
    """

    method: ClassVar[Method] = "fam"

    def __init__(
        self,
        config: FAMConfig | None = None,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
    ) -> None:
        config = config or FAMConfig()
        super().__init__(config, class_names, provenance, backbone=backbone)
        C, D = self.channels, config.fine_channels
        self.fine = FineFeatures(C, self.earlier_channels, D, config.fine_layers) if D else None
        self.object_attention: nn.Module = (
            ObjectAwareAttention(D or C, config.num_templates, config.similarity, config.value_bias)
            if config.memory
            else ConvolutionAttention(D or C, config.num_templates)
        )
        self.part_attention = PartAwareAttention(C, config.num_parts, config.pooling, config.importance)
        self.classifier = nn.Linear(C, config.num_classes)  # h(·|σ)

    def head(self, features: Features) -> FAMOutput:
        """Everything behind the backbone: X ``(B, C, H, W)``, and what goes with it, to :class:`FAMOutput`."""
        X = features.X
        if self.fine is None:
            M = at_X = self.object_attention(X)
        else:
            M = self.object_attention(self.fine(features))  # (B, 1, 2H, 2W)
            # The mean of M in each cell of X; at the edge a cell may be half there, or there in M alone.
            at_X = F.avg_pool2d(M, 2, ceil_mode=True)[..., : X.shape[-2], : X.shape[-1]]
        A, P, t, o = self.part_attention(X, at_X)
        return FAMOutput(M, A, P, t, o, self.classifier(o * self.config.object_scale))
