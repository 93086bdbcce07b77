"""What every method here is: a backbone, a head that gives a map and the class, and a checkpoint folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from famcli_models.backbones import Backbone
from famcli_models.checkpoint import GOLDEN, Checkpoint, read_checkpoint, resolve, write_checkpoint
from famcli_models.config import FAMConfig, Method
from famcli_models.errors import ConfigError, ShapeError, WeightsError
from famcli_models.features import Features
from famcli_models.pretrained import BackboneWeights, load_trunk, read_backbone_weights

if TYPE_CHECKING:
    from typing_extensions import Self


class Localizer(nn.Module):
    """Images to a map of the object and class scores, as :class:`famcli_models.FAM` and :class:`famcli_models.CAM` do.

    Args:
        config: Every choice.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: A module that maps images to :class:`Features`, with an attribute ``channels`` (and
            ``earlier_channels``, if the features have earlier maps), instead of ``config.backbone``; such a model
            cannot be loaded back by name.

    Attributes:
        method: ``config.method`` of such a model.
        channels: C.
        classifier: ``(B, C)`` to logits ``(B, L)``.

    Raises:
        ConfigError: The config is of another method, or the names are not as many as its classes.
    """

    method: ClassVar[Method]
    classifier: nn.Linear

    def __init__(
        self,
        config: FAMConfig,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if config.method != self.method:
            msg = f"a config with method '{config.method}' does not make a {type(self).__name__}; set '{self.method}'"
            raise ConfigError(msg)
        self.config = config
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
            earlier=self.method == "fam" and config.fine_channels > 0,
        )
        self.channels = int(self.backbone.channels)  # type: ignore[arg-type]  # nn.Module types it as Tensor | Module

    @property
    def earlier_channels(self) -> tuple[int, ...]:
        """Channels of the earlier maps that the backbone gives beside X."""
        return tuple(self.backbone.earlier_channels)  # type: ignore[arg-type]  # likewise

    def features(self, images: Tensor) -> Features:
        """Backbone features: normalised images ``(B, 3, h, w)`` to X ``(B, C, H, W)`` and what goes with it."""
        found: Features = self.backbone(images)
        return found

    def head(self, features: Features) -> Any:
        """Everything behind the backbone: its features to the method's output."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Any:
        """Localize and classify a batch.

        Args:
            images: ``(B, 3, h, w)`` RGB, scaled to [0, 1] and normalised with ``config.mean`` and
                ``config.std``; any height and width, the map's frame is the input's.

        Returns:
            What ``head`` gives.

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
    ) -> Self:
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
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> Self:
        """A trained model in evaluation mode, on the CPU, in float32.

        Args:
            name_or_path: The name of a packaged checkpoint, or the path of a checkpoint folder.

        Raises:
            UnknownNameError: It is neither.
            WeightsError: The folder is damaged, its config and weights do not belong together, or it is of
                another method.
            ConfigError: The config has unknown fields or values out of range.
        """
        folder = resolve(name_or_path)
        stored = read_checkpoint(folder)
        config = FAMConfig.from_dict(stored.config)
        if config.method != cls.method:
            own = config.method.upper()
            msg = f"'{folder}' is a {own} checkpoint, not a {cls.__name__}; famcli_models.load_model reads both"
            raise WeightsError(msg)
        model = cls(config, stored.class_names, stored.provenance)
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
        provenance = {name: value for name, value in self.provenance.items() if name != GOLDEN}  # of other weights
        kind = torch.float16 if half else torch.float32
        tensors = {name: t.to(kind) if t.is_floating_point() else t for name, t in self.state_dict().items()}
        odd = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if odd:
            msg = f"{odd[0]} has values that are not finite{' in float16' if half else ''}; nothing was saved"
            raise WeightsError(msg)
        write_checkpoint(Path(path), Checkpoint(self.config.to_dict(), self.class_names, provenance, tensors))
