"""Backbones cut to one feature map, and where their ImageNet weights come from.

The networks are timm's; this file says where each is cut. Any other timm model works by its timm name:
it is cut at its deepest feature map whose stride is not above the one asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from famcli_models.checkpoint import sha256_file
from famcli_models.config import HALF, RGB
from famcli_models.errors import ConfigError, UnknownNameError, WeightsError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class BackboneRow:
    """One row of the table of backbones.

    Attributes:
        timm_name: Architecture in timm.
        layer: The layer X is read from, in words, for stride 16.
        map_224: Side of X for a 224-pixel input at stride 16.
        hub_id: Repository with the ImageNet weights as ``model.safetensors``.
        mean: Input normalisation of those weights, for values in [0, 1].
        std: Likewise.
        out_index: timm's index of the feature map; ``None`` finds it by stride.
        dilates: timm can trade the stride of the last stages for dilation.
    """

    timm_name: str
    layer: str
    map_224: int
    hub_id: str
    mean: RGB
    std: RGB
    out_index: int | None = None
    dilates: bool = False


BACKBONES: Mapping[str, BackboneRow] = {
    "vgg16": BackboneRow(
        "vgg16", "conv5_3 after its ReLU, before pool5", 14, "timm/vgg16.tv_in1k", IMAGENET_MEAN, IMAGENET_STD
    ),
    "resnet50": BackboneRow(
        "resnet50",
        "layer4, its stride replaced by dilation",
        14,
        "timm/resnet50.tv_in1k",
        IMAGENET_MEAN,
        IMAGENET_STD,
        out_index=4,
        dilates=True,
    ),
    "inceptionv3": BackboneRow(
        "inception_v3", "Mixed_6e, the last layer at stride 16", 12, "timm/inception_v3.tv_in1k", HALF, HALF
    ),
    "mobilenetv1": BackboneRow(
        "mobilenetv1_100",
        "the 13th separable block, its stage's stride replaced by dilation",
        14,
        "timm/mobilenetv1_100.ra4_e3600_r224_in1k",
        HALF,
        HALF,
        out_index=4,
        dilates=True,
    ),
}


class Backbone(nn.Module):
    """A timm network cut to one map: images ``(B, 3, h, w)`` to X ``(B, C, H, W)``.

    Args:
        name: A row of :data:`BACKBONES` or the name of a timm model.
        stride: Pixels of the input per pixel of X: 8, 16 or 32; the nearest the network gives.
        dilation: Where a stage's stride is removed, spread its later kernels so that every output sees
            what it saw at stride 32. Without it the kernels keep their size.
        same_padding: TensorFlow's padding (on stride 2 the extra pixel goes bottom and right), which
            weights converted from TensorFlow expect.
        frozen_norm: Batch-norm layers keep their statistics in training mode.

    Attributes:
        channels: C.
        reduction: The stride that the network gave.
        layer: timm's name of the layer X is read from.

    Raises:
        UnknownNameError: No such row and no such timm model.
        ConfigError: The network gives no map at ``stride`` or a smaller one.
    """

    def __init__(
        self,
        name: str,
        stride: int = 16,
        *,
        dilation: bool = True,
        same_padding: bool = False,
        frozen_norm: bool = True,
    ) -> None:
        super().__init__()
        self.net = _create(name, stride, same_padding)
        info: Any = self.net.feature_info
        self.channels: int = info.channels()[-1]
        self.reduction: int = info.reduction()[-1]
        self.layer: str = info.module_name()[-1]
        self.frozen_norm = frozen_norm
        if not dilation:
            _undilate(self.net)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(B, 3, h, w)`` to X ``(B, C, H, W)``."""
        X: Tensor = self.net(images)[-1]
        return X if X.shape[1] == self.channels else X.permute(0, 3, 1, 2)  # some timm models give NHWC

    def train(self, mode: bool = True) -> Backbone:
        """Set training mode; frozen batch-norm layers stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  (torch has no public base)
                    module.eval()
        return self


def _create(name: str, stride: int, same_padding: bool) -> Any:
    """Build the timm network with one output; see :class:`Backbone`."""
    row = BACKBONES.get(name)
    timm_name = row.timm_name if row else name
    if row is None and not timm.is_model(timm_name):
        hint = "or give the name of a timm model"
        raise UnknownNameError("backbone", name, BACKBONES, hint)
    kwargs: dict[str, Any] = {"pad_type": "same"} if same_padding else {}
    if row is None or row.dilates:
        kwargs["output_stride"] = stride
    try:
        if row and row.out_index is not None:
            return _features(timm_name, row.out_index, kwargs)
        try:
            whole = _features(timm_name, None, kwargs)
        except (TypeError, AssertionError, NotImplementedError, RuntimeError):
            # timm networks that cannot be dilated refuse output_stride, each in its own way.
            kwargs.pop("output_stride", None)
            whole = _features(timm_name, None, kwargs)
    except (TypeError, AssertionError, NotImplementedError, RuntimeError, AttributeError) as error:
        msg = f"timm model '{timm_name}' gives no feature maps with {kwargs or 'its defaults'}: {error}"
        raise ConfigError(msg) from error
    reductions: list[int] = whole.feature_info.reduction()
    fitting = [i for i, reduction in enumerate(reductions) if reduction <= stride]
    if not fitting:
        msg = f"backbone '{name}' has strides {reductions}; none is {stride} or less"
        raise ConfigError(msg)
    return _features(timm_name, whole.feature_info.out_indices[fitting[-1]], kwargs)


def _features(timm_name: str, index: int | None, kwargs: Mapping[str, Any]) -> Any:
    chosen: dict[str, Any] = {} if index is None else {"out_indices": (index,)}
    return timm.create_model(timm_name, pretrained=False, features_only=True, **chosen, **kwargs)


def _undilate(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            if not isinstance(module.padding, str):
                module.padding = tuple(p // d for p, d in zip(module.padding, module.dilation, strict=True))
            module.dilation = (1, 1)


@dataclass(frozen=True, slots=True)
class BackboneWeights:
    """Pretrained weights of a backbone, by timm's names.

    Attributes:
        tensors: Every tensor of the file, those behind the cut too.
        classifier: ``(L, C)`` weight and ``(L,)`` bias of the linear classifier behind the global average, if any.
        mean: Input normalisation, for values in [0, 1].
        std: Likewise.
        same_padding: The weights expect TensorFlow's padding.
        source: What was read, for the checkpoint's provenance.
        sha256: Of the file.
    """

    tensors: Mapping[str, Tensor] = field(repr=False)
    classifier: tuple[Tensor, Tensor] | None = field(repr=False)
    mean: RGB
    std: RGB
    same_padding: bool
    source: str
    sha256: str


def read_backbone_weights(backbone: str, source: str) -> BackboneWeights:
    """Read pretrained weights.

    Args:
        backbone: A row of :data:`BACKBONES` or the name of a timm model.
        source: ``imagenet`` (downloaded once from the Hugging Face Hub), or the path of a safetensors
            file with timm's names or with MobileNetV1's batch norms folded into ``features.conv*.{dw,pw}``.

    Raises:
        UnknownNameError: No such backbone.
        WeightsError: The file cannot be fetched or read.
    """
    row = BACKBONES.get(backbone)
    cfg: Any = timm.get_pretrained_cfg(row.hub_id.removeprefix("timm/") if row else backbone)
    if cfg is None and row is None:
        hint = "or give the name of a timm model"
        raise UnknownNameError("backbone", backbone, BACKBONES, hint)
    hub_id = row.hub_id if row else getattr(cfg, "hf_hub_id", None)
    path = _download(backbone, hub_id) if source == "imagenet" else Path(source)
    tensors, metadata = _read(path)
    mean, std = (row.mean, row.std) if row else (cfg.mean, cfg.std)
    prefix = str(getattr(cfg, "classifier", None) or "classifier")
    folded = "features.conv0.weight" in tensors
    if folded:
        tensors, prefix = _unfold_mobilenet(tensors), "classifier"
    if "127.5" in metadata.get("input", ""):
        mean = std = HALF
    label = f"{hub_id} (Hugging Face Hub)" if source == "imagenet" else metadata.get("source", path.name)
    return BackboneWeights(
        tensors=tensors,
        classifier=_classifier(tensors, prefix),
        mean=mean,
        std=std,
        same_padding=folded or "SAME" in metadata.get("padding", ""),
        source=label,
        sha256=sha256_file(path),
    )


def load_trunk(backbone: Backbone, weights: BackboneWeights) -> None:
    """Copy pretrained weights into a cut network; every parameter of the cut must be there, with its shape.

    Raises:
        WeightsError: A tensor is missing or has another shape: these are weights of another network.
    """

    def plain(name: str) -> str:
        return name.replace(".", "_")  # timm's cut networks flatten "features.0" to "features_0"

    given = {plain(name): tensor for name, tensor in weights.tensors.items()}
    state = backbone.net.state_dict()
    loaded = {}
    for name, tensor in state.items():
        found = given.get(plain(name))
        if found is None and name.endswith("num_batches_tracked"):
            found = tensor
        if found is None or found.shape != tensor.shape:
            what = "is missing" if found is None else f"has shape {tuple(found.shape)}, not {tuple(tensor.shape)}"
            msg = f"weights from {weights.source} do not fit this backbone: {name} {what}"
            raise WeightsError(msg)
        loaded[name] = found
    backbone.net.load_state_dict(loaded, strict=True)


def _download(backbone: str, hub_id: str | None) -> Path:
    if not hub_id:
        msg = f"no public ImageNet weights are known for '{backbone}'; pass a safetensors file or 'none'"
        raise WeightsError(msg)
    # Imported here: only this branch needs it, and it costs a third of a second.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(hub_id, "model.safetensors"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        msg = (
            f"cannot download {hub_id}/model.safetensors ({type(error).__name__}); "
            "connect to the network, or pass the path of a safetensors file as backbone weights"
        )
        raise WeightsError(msg) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        msg = f"cannot read backbone weights '{path}': {error}; a safetensors file is needed"
        raise WeightsError(msg) from error


def _classifier(tensors: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor] | None:
    weight, bias = tensors.get(f"{prefix}.weight"), tensors.get(f"{prefix}.bias")
    if weight is None or bias is None or weight.ndim != 2:
        return None
    first = 1 if weight.shape[0] == 1001 else 0  # TensorFlow's row 0 is "background"
    return weight[first:], bias[first:]


def _unfold_mobilenet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MobileNetV1 with folded batch norms to timm's names; each norm becomes an identity plus the bias."""
    eps = 1e-5  # timm's batch-norm epsilon: variance 1 - eps divides by exactly one
    out = {name: tensor for name, tensor in tensors.items() if name.startswith("classifier.")}

    def put(conv: str, norm: str, source: str) -> None:
        if f"{source}.weight" not in tensors or f"{source}.bias" not in tensors:
            msg = f"the MobileNetV1 weights are not complete: {source}.weight or .bias is missing"
            raise WeightsError(msg)
        bias = tensors[f"{source}.bias"]
        out[f"{conv}.weight"] = tensors[f"{source}.weight"]
        out[f"{norm}.weight"], out[f"{norm}.bias"] = torch.ones_like(bias), bias
        out[f"{norm}.running_mean"] = torch.zeros_like(bias)
        out[f"{norm}.running_var"] = torch.full_like(bias, 1 - eps)

    put("conv_stem", "bn1", "features.conv0")
    number = 1
    for stage, depth in enumerate((1, 2, 2, 6, 2)):
        for block in range(depth):
            name = f"blocks.{stage}.{block}"
            put(f"{name}.conv_dw", f"{name}.bn1", f"features.conv{number}.dw")
            put(f"{name}.conv_pw", f"{name}.bn2", f"features.conv{number}.pw")
            number += 1
    return out
