"""The PyTorch engine: a method's network on a device, its batch norms folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from famcli.inference.engine import Inference, OutOfMemoryError
from famcli.inference.ranks import local_index
from famcli.outputs.prediction import PartMaps
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.fusion import fold_norms
from famcli_models.loading import load_model
from famcli_models.methods.method import Method, mean_maps
from famcli_models.preprocess import normalize


def pick_device(name: str = "auto") -> torch.device:
    """A device by name: ``auto`` is CUDA, else MPS, else the CPU; one that is not there is a ``ConfigError``.

    Of several processes on one machine each gets a GPU of its own, as far as there are as many.
    """
    if name == "auto" and torch.cuda.is_available() and (local := local_index()):
        name = f"cuda:{local % torch.cuda.device_count()}"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.split(":")[0]
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device '{name}'; use auto, cpu, cuda, cuda:N or mps") from error
    if not present.get(kind) or (kind == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device '{name}' is not available here; use --device auto or cpu")
    return device


class TorchEngine:
    """See :class:`famcli.inference.engine.Engine`; the model is moved to the device and set to evaluation mode.

    ``amp`` runs the backbone in float16, what follows it in float32. ``fold`` makes batch norms a part of convolutions,
    which is faster and changes maps by rounding alone. ``beside`` is an engine whose backbone, and features of the same
    batch, the model may share.
    """

    def __init__(
        self,
        model: Method,
        device: str | torch.device = "auto",
        *,
        amp: bool = False,
        fold: bool = True,
        beside: TorchEngine | None = None,
    ) -> None:
        self.device = pick_device(device) if isinstance(device, str) else device
        self.amp = amp
        self.model = model.to(self.device).eval()
        if fold:  # a model in training keeps its layout, and with it its rounding
            self.model = self.model.to(memory_format=torch.channels_last)
        shared = beside is not None and beside.model.backbone is model.backbone
        self.trunk: Trunk = beside.trunk if beside and shared else Trunk(model, fold)
        self.config, self.class_names = model.config, model.class_names
        self.num_parts, self.map_title = model.num_parts, model.map_title
        self.class_conditional = model.class_conditional

    def features(self, images: np.ndarray, *, flipped: bool = False) -> Features:
        """Features of images ``(B, side, side, 3)`` uint8 RGB, or of their mirror images, in float32."""
        with torch.inference_mode():
            return self.trunk.features(images, flipped, self.device, amp=self.amp)

    @torch.inference_mode()
    def output(self, images: np.ndarray, *, flipped: bool = False) -> Any:
        """The method's output for images ``(B, side, side, 3)`` uint8 RGB, or for their mirror images."""
        return self.model.head(self.features(images, flipped=flipped))

    @torch.inference_mode()
    def infer(
        self,
        views: Sequence[np.ndarray],
        labels: Sequence[int | None] | None = None,
        *,
        flip: bool = False,
        parts: bool = False,
    ) -> Inference:
        """See :meth:`famcli.inference.engine.Engine.infer`."""
        ways = [(images, flipped) for images in views for flipped in ((False, True) if flip else (False,))]
        try:
            outputs = [(self.output(images, flipped=flipped), flipped) for images, flipped in ways]
        except torch.OutOfMemoryError as error:
            msg = f"out of memory on {self.device} with {len(views[0])} images a batch; lower --batch-size"
            raise OutOfMemoryError(msg) from error
        probabilities = torch.stack([self.model.probabilities(out) for out, _ in outputs]).mean(dim=0)
        wanted = None
        if self.model.class_conditional:  # one class for all views: the known one, or the most probable in their mean
            best = probabilities.argmax(dim=1).tolist()
            given = labels if labels is not None else [None] * len(best)
            chosen = [b if label is None else label for b, label in zip(best, given, strict=True)]
            wanted = torch.tensor(chosen, device=self.device)
        maps = self.model.merge([_turned(self.model.maps(out, wanted), flipped) for out, flipped in outputs])
        return Inference(maps.cpu().numpy(), probabilities.cpu().numpy(), self._parts(outputs) if parts else None)

    def _parts(self, outputs: Iterable[tuple[Any, bool]]) -> list[PartMaps] | None:
        """Part maps and weights of each image, averaged over the views."""
        pairs = [(self.model.parts(out), flipped) for out, flipped in outputs]
        found = [(_turned(pair[0], flipped), pair[1]) for pair, flipped in pairs if pair is not None]
        if not found:
            return None
        A = mean_maps([maps for maps, _ in found]).cpu().numpy()
        t = torch.stack([weights for _, weights in found]).mean(dim=0).cpu().tolist()
        return [PartMaps(tuple(of_image), parts) for of_image, parts in zip(t, A, strict=True)]


class Trunk:
    """A backbone, and its features of the last batch, so that engines that share a backbone run it once."""

    def __init__(self, model: Method, fold: bool) -> None:
        self.backbone = fold_norms(model.backbone) if fold else model.backbone
        self.config = model.config
        self._last: dict[bool, tuple[np.ndarray, Features]] = {}

    def features(self, images: np.ndarray, flipped: bool, device: torch.device, *, amp: bool) -> Features:
        """Of images ``(B, side, side, 3)`` uint8 RGB, or of their mirror images."""
        last = self._last.get(flipped)
        if last is None or last[0] is not images:
            batch = normalize(torch.from_numpy(images).to(device), self.config.mean, self.config.std)
            last = self._last[flipped] = images, self._run(batch.flip(3) if flipped else batch, amp)
        return last[1]

    def _run(self, batch: Tensor, amp: bool) -> Features:
        # Not bfloat16: its 8 bits, in the first convolution alone, move boxes of the packaged model by 78 pixels.
        with torch.autocast(batch.device.type, torch.float16, enabled=amp):
            features: Features = self.backbone(batch).to(torch.float32)
        if amp and not all(bool(m.isfinite().all()) for m in features.maps):
            return self._run(batch, amp=False)  # a network with values above 65,504
        return features


def _turned(maps: Tensor, flipped: bool) -> Tensor:
    return maps.flip(-1) if flipped else maps


def open_engine(folder: Path, method: str | None, device: str, *, amp: bool) -> TorchEngine:
    """See :func:`famcli.inference.engine.open_engine`."""
    return TorchEngine(load_model(folder, method), device, amp=amp)
