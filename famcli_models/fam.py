"""Foreground Activation Maps (Meng et al., ICCV 2021): configuration, network and output.

``image -> backbone -> X -> (M -> X̃ -> A -> P -> t -> o) -> h(o)``; the letters are those of
:mod:`famcli_models.attention`, with L the number of classes and ``y = h(o)`` the logits ``(B, L)``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from famcli_models.attention import ConvolutionAttention, ObjectAwareAttention, PartAwareAttention
from famcli_models.backbones import HALF, RGB, Backbone, BackboneWeights, load_trunk, read_backbone_weights
from famcli_models.checkpoint import Checkpoint, read_checkpoint, resolve, write_checkpoint
from famcli_models.errors import ConfigError, ShapeError, WeightsError

Similarity = Literal["softmax", "ratio", "ratio-relu"]
Pooling = Literal["foreground", "features"]
Classifier = Literal["trained", "slow", "frozen"]
STRIDES = (8, 16, 32)
_CHOICES = {"similarity": get_args(Similarity), "pooling": get_args(Pooling), "classifier": get_args(Classifier)}
_RANGES: Mapping[str, tuple[float, float]] = {
    "num_classes": (1, 100_000),
    "num_templates": (1, 256),
    "num_parts": (1, 256),
    "size": (16, 4096),
    "lambda_spa": (0, 1e6),
    "lambda_div": (0, 1e6),
    "object_scale": (1e-3, 1e3),
}


@dataclass(frozen=True, kw_only=True)
class FAMConfig:
    """Every choice of a FAM, JSON-able; the defaults follow the paper wherever its text can be followed.

    :meth:`paper` gives the paper's printed reading of equations (1) and (7) instead.

    Attributes:
        backbone: A row of ``BACKBONES`` or the name of a timm model.
        num_classes: L.
        num_templates: N, the number of memory keys and values.
        num_parts: K.
        similarity: Equation (1): ``softmax``; ``ratio``, as printed; ``ratio-relu``, the ratio kept non-negative.
        pooling: Equation (7): over ``foreground`` features X̃, or over ``features`` X, as printed.
        memory: Foreground memory on; off is Table 2's three 1x1 convolutions.
        sparsity: Use the sparsity loss, equation (4).
        diversity: Use the diversity loss, equation (8).
        importance: Learn the importance of parts, equation (9); off weighs every part 1/K.
        lambda_spa: λ_spa of equation (11).
        lambda_div: λ_div of equation (11).
        tau: Threshold τ on the raw sigmoid map; not specific to a dataset.
        classifier: h is ``trained``, ``slow`` (a tenth of the learning rate) or ``frozen``.
        value_bias: Extension: a bias for each foreground classifier.
        object_scale: Extension: h is applied to this times o. A starts near 1/2, so 2 lets a pretrained
            classifier see features of the size it knows.
        stride: Pixels of the input per pixel of X.
        dilation: See :class:`famcli_models.backbones.Backbone`.
        same_padding: Likewise.
        frozen_norm: Likewise.
        size: Side of the square input, in pixels.
        mean: Input normalisation, for values in [0, 1], RGB.
        std: Likewise.

    Raises:
        ConfigError: A value is not allowed; the message names the field and what is.
    """

    backbone: str = "mobilenetv1"
    num_classes: int = 1000
    num_templates: int = 3
    num_parts: int = 5
    similarity: Similarity = "softmax"
    pooling: Pooling = "foreground"
    memory: bool = True
    sparsity: bool = True
    diversity: bool = True
    importance: bool = True
    lambda_spa: float = 0.04
    lambda_div: float = 0.01
    tau: float = 0.5
    classifier: Classifier = "trained"
    value_bias: bool = False
    object_scale: float = 1.0
    stride: int = 16
    dilation: bool = True
    same_padding: bool = False
    frozen_norm: bool = True
    size: int = 224
    mean: RGB = HALF
    std: RGB = HALF

    def __post_init__(self) -> None:
        """Check every field's type and range."""
        for f in fields(self):
            value = getattr(self, f.name)
            kind = type(f.default)
            good = isinstance(value, (int, float)) if kind is float else type(value) is kind
            if kind is tuple:
                good = isinstance(value, (tuple, list)) and len(value) == 3 and all(map(_is_number, value))
                if good:  # JSON gives a list
                    object.__setattr__(self, f.name, tuple(float(v) for v in value))
            _require(good and not (kind is float and isinstance(value, bool)), f.name, value, f"a {kind.__name__}")
        for name, allowed in _CHOICES.items():
            _require(getattr(self, name) in allowed, name, getattr(self, name), " or ".join(allowed))
        for name, (low, high) in _RANGES.items():
            _require(low <= getattr(self, name) <= high, name, getattr(self, name), f"in [{low:g}, {high:g}]")
        _require(0 <= self.tau < 1, "tau", self.tau, "in [0, 1)")
        _require(self.stride in STRIDES, "stride", self.stride, f"one of {STRIDES}")
        _require(min(self.std) > 0, "std", self.std, "positive")

    @classmethod
    def paper(cls, **overrides: Any) -> FAMConfig:
        """The printed equations: ``ratio`` in (1) and ``features`` in (7); findings on both are on the method page."""
        return cls(**{"similarity": "ratio", "pooling": "features", **overrides})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FAMConfig:
        """The config of a JSON object.

        Raises:
            ConfigError: A field is unknown or a value is not allowed.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            msg = f"unknown field {', '.join(map(repr, unknown))} in a FAM config; it was made by another version"
            raise ConfigError(msg)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict that :meth:`from_dict` reads back to an equal config."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        msg = f"{name} is {value!r}; it must be {allowed}"
        raise ConfigError(msg)


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
