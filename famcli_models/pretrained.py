"""Pretrained weights of backbones: from the Hugging Face Hub or a file, into a network that was cut.

Only safetensors are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from famcli_models.backbones import BACKBONES, Backbone
from famcli_models.config import HALF, RGB
from famcli_models.errors import UnknownNameError, WeightsError
from famcli_models.files import sha256_file

ASK_SECONDS = 10.0  # to wait for the Hub's first answer


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
    path = Path(source)
    if source == "imagenet":
        path = _download(backbone, hub_id, row.revision if row else None)
    digest = sha256_file(path) if path.is_file() else ""
    if source == "imagenet" and row and row.sha256 not in (None, digest):
        msg = f"{hub_id} gave a file with SHA-256 {digest}, not {row.sha256}; delete it from the cache and try again"
        raise WeightsError(msg)
    tensors, metadata = _read(path)
    mean, std = (row.mean, row.std) if row else (cfg.mean, cfg.std)
    prefix = str(getattr(cfg, "classifier", None) or "classifier")
    folded = "features.conv1.dw.weight" in tensors
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
        same_padding=folded or "SAME" in metadata.get("padding", "") or (row is not None and row.same_padding),
        source=label,
        sha256=digest,
    )


def load_trunk(backbone: Backbone, weights: BackboneWeights) -> None:
    """Copy pretrained weights into a cut network and its head; every parameter must be there, with its shape.

    Raises:
        WeightsError: A tensor is missing or has another shape: these are weights of another network.
    """
    given = {_flat(name): tensor for name, tensor in weights.tensors.items()}
    parts = (backbone.net, backbone.head)
    loaded = {}
    for name, tensor in [pair for part in parts for pair in part.state_dict().items()]:
        found = given.get(_flat(name))
        if found is None and name.endswith("num_batches_tracked"):
            found = tensor
        if found is None or found.shape != tensor.shape:
            what = "is missing" if found is None else f"has shape {tuple(found.shape)}, not {tuple(tensor.shape)}"
            raise WeightsError(f"weights from {weights.source} do not fit this backbone: {name} {what}")
        loaded[name] = found
    for part in parts:
        part.load_state_dict({name: loaded[name] for name in part.state_dict()}, strict=True)


def _flat(name: str) -> str:
    """A name that a tensor has in a whole network and in a cut one, which timm may wrap or flatten."""
    return name.removeprefix("model.").removeprefix("body.").replace(".", "_")


def _download(backbone: str, hub_id: str | None, revision: str | None) -> Path:
    if not hub_id:
        raise WeightsError(f"no public ImageNet weights are known for '{backbone}'; pass a safetensors file or 'none'")
    # Imported here: only this branch needs it, and it costs a third of a second.
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    name = "model.safetensors"
    cached = try_to_load_from_cache(hub_id, name, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        get_hf_file_metadata(
            hf_hub_url(hub_id, name, revision=revision), timeout=ASK_SECONDS
        )  # asks once, downloads not
        return Path(hf_hub_download(hub_id, name, revision=revision))
    except Exception as error:
        raise WeightsError(
            f"cannot download {hub_id}/{name} ({type(error).__name__}); connect to the network, or start offline: from "
            "a packaged model (without --backbone), a safetensors file (--init FILE) or nothing (--init none)"
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read backbone weights '{path}': {error}; a safetensors file is needed") from error


def _classifier(tensors: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor] | None:
    weight, bias = tensors.get(f"{prefix}.weight"), tensors.get(f"{prefix}.bias")
    if weight is None or bias is None or weight[0].numel() != weight.shape[1]:
        return None
    weight = weight.flatten(1)  # of some networks it is a 1x1 convolution
    first = 1 if weight.shape[0] == 1001 else 0  # TensorFlow's row 0 is "background"
    return weight[first:], bias[first:]


def _unfold_mobilenet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MobileNetV1 with folded batch norms to timm's names; each norm becomes an identity plus the bias."""
    eps = 1e-5  # timm's batch-norm epsilon: variance 1 - eps divides by exactly one
    out = {name: tensor for name, tensor in tensors.items() if name.startswith("classifier.")}

    def put(conv: str, norm: str, source: str) -> None:
        if f"{source}.weight" not in tensors or f"{source}.bias" not in tensors:
            raise WeightsError(f"the MobileNetV1 weights are not complete: {source}.weight or .bias is missing")
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
