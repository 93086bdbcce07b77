"""Foreground Activation Maps (Meng et al., ICCV 2021): network and output.

``image -> backbone -> X -> (M -> X̃ -> A -> P -> t -> o) -> h(o)``; the letters are those of
:mod:`famcli_models.attention`, with L the number of classes and ``y = h(o)`` the logits ``(B, L)``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from famcli_models.attention import ConvolutionAttention, ObjectAwareAttention, PartAwareAttention
from famcli_models.backbones import Backbone
from famcli_models.checkpoint import Checkpoint, read_checkpoint, resolve, write_checkpoint
from famcli_models.config import FAMConfig
from famcli_models.errors import ConfigError, ShapeError, WeightsError
from famcli_models.pretrained import BackboneWeights, load_trunk, read_backbone_weights


class FAMOutput(NamedTuple):
    """What one forward pass gives, frozen; a plain tuple to tracers and exporters.

    Attributes:
        M: ``(B, 1, H, W)`` foreground map in (0, 1) at feature resolution, in the frame of the input.
        A: ``(B, K, H, W)`` part maps in (0, 1), likewise.
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


class FAM(nn.Module):
    """The full model: one forward pass gives the foreground map, the parts and the class.

    Args:
        config: Every choice; the default is a 1,000-class MobileNetV1.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: A module with an attribute ``channels`` that maps images to X, instead of
            ``config.backbone``; such a model cannot be loaded back by name.
    """

    def __init__(
        self,
        config: FAMConfig | None = None,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config = config or FAMConfig()
        self.class_names = tuple(class_names) if class_names else tuple(str(i) for i in range(config.num_classes))
        if len(self.class_names) != config.num_classes:
            msg = f"{len(self.class_names)} class names for {config.num_classes} classes"
            raise ConfigError(msg)
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.backbone = backbone or Backbone(
            config.backbone,
            config.stride,
            dilation=config.dilation,
            same_padding=config.same_padding,
            frozen_norm=config.frozen_norm,
        )
        C = int(self.backbone.channels)  # type: ignore[arg-type]  # nn.Module types every attribute as Tensor | Module
        self.object_attention: nn.Module = (
            ObjectAwareAttention(C, config.num_templates, config.similarity, config.value_bias)
            if config.memory
            else ConvolutionAttention(C, config.num_templates)
        )
        self.part_attention = PartAwareAttention(C, config.num_parts, config.pooling, config.importance)
        self.classifier = nn.Linear(C, config.num_classes)  # h(·|σ)

    def features(self, images: Tensor) -> Tensor:
        """Backbone features: normalised images ``(B, 3, h, w)`` to X ``(B, C, H, W)``."""
        X: Tensor = self.backbone(images)
        return X

    def head(self, X: Tensor) -> FAMOutput:
        """Everything behind the backbone: X ``(B, C, H, W)`` to :class:`FAMOutput`."""
        M = self.object_attention(X)
        A, P, t, o = self.part_attention(X, M)
        return FAMOutput(M, A, P, t, o, self.classifier(o * self.config.object_scale))

    def forward(self, images: Tensor) -> FAMOutput:
        """Localize and classify a batch.

        Args:
            images: ``(B, 3, h, w)`` RGB, scaled to [0, 1] and normalised with ``config.mean`` and
                ``config.std``; any height and width, the map's frame is the input's.

        Raises:
            ShapeError: ``images`` is not a batch of three-channel images.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if images.ndim != 4 or (not tracing and images.shape[1] != 3):
            msg = f"images have shape {tuple(images.shape)}; expected (B, 3, h, w)"
            raise ShapeError(msg)
        return self.head(self.features(images))

    @classmethod
    def from_backbone(
        cls,
        config: FAMConfig,
        weights: str | BackboneWeights = "imagenet",
        class_names: Sequence[str] | None = None,
    ) -> FAM:
        """A new model on a pretrained backbone; its classifier too where the classes are the same in number.

        Args:
            config: The model; its normalisation and padding are replaced by those of the weights.
            weights: ``imagenet``, ``none``, the path of a safetensors file, or weights read before.
            class_names: One name a class.

        Raises:
            WeightsError: The weights cannot be read or do not fit.
        """
        if weights == "none":
            return cls(config, class_names, {"backbone_weights": "none"})
        if isinstance(weights, str):
            weights = read_backbone_weights(config.backbone, weights)
        config = replace(config, mean=weights.mean, std=weights.std, same_padding=weights.same_padding)
        provenance = {"backbone_weights": weights.source, "backbone_sha256": weights.sha256}
        model = cls(config, class_names, provenance)
        load_trunk(model.backbone, weights)  # type: ignore[arg-type]
        if weights.classifier is not None and weights.classifier[0].shape == model.classifier.weight.shape:
            with torch.no_grad():
                model.classifier.weight.copy_(weights.classifier[0])
                model.classifier.bias.copy_(weights.classifier[1])
            model.provenance["classifier"] = "pretrained"
        return model

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> FAM:
        """A trained model in evaluation mode, on the CPU, in float32.

        Args:
            name_or_path: The name of a packaged checkpoint, or the path of a checkpoint folder.

        Raises:
            UnknownNameError: It is neither.
            WeightsError: The folder is damaged, or its config and weights do not belong together.
            ConfigError: The config has unknown fields or values out of range.
        """
        folder = resolve(name_or_path)
        stored = read_checkpoint(folder)
        model = cls(FAMConfig.from_dict(stored.config), stored.class_names, stored.provenance)
        expected = model.state_dict()
        wrong = sorted(expected.keys() ^ stored.tensors.keys()) or sorted(
            name for name, tensor in expected.items() if tensor.shape != stored.tensors[name].shape
        )
        if wrong:
            msg = f"config and weights of '{folder}' do not belong together: {len(wrong)} tensors, first {wrong[0]}"
            raise WeightsError(msg)
        model.load_state_dict(dict(stored.tensors), strict=True)
        return model.eval()

    def save_pretrained(self, path: str | os.PathLike[str], *, half: bool = False) -> None:
        """Write a self-describing checkpoint folder that :meth:`from_pretrained` reads back.

        Args:
            path: The folder; made if absent, its two files replaced if there.
            half: Store float16 (half the size) instead of float32 (exact).

        Raises:
            WeightsError: A weight is not finite, or too large for float16.
        """
        kind = torch.float16 if half else torch.float32
        tensors = {name: t.to(kind) if t.is_floating_point() else t for name, t in self.state_dict().items()}
        odd = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if odd:
            msg = f"{odd[0]} has values that are not finite{' in float16' if half else ''}; nothing was saved"
            raise WeightsError(msg)
        write_checkpoint(Path(path), Checkpoint(self.config.to_dict(), self.class_names, self.provenance, tensors))
