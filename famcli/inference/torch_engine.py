"""The PyTorch engine: a method's network on a device, its batch norms folded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from famcli.inference.engine import AUTO, Engine, OutOfMemoryError
from famcli.inference.ranks import local_index
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.fusion import fold_norms
from famcli_models.loading import load_model
from famcli_models.methods import METHODS
from famcli_models.methods.method import Method, run_trunks
from famcli_models.preprocess import normalize


def pick_device(name: str = AUTO) -> torch.device:
    """A device by name: ``auto`` is CUDA, else MPS, else the CPU; one that is not there is a ``ConfigError``.

    Of several processes on one machine each gets a GPU of its own, as far as there are as many.
    """
    if name == AUTO and torch.cuda.is_available() and (local := local_index()):
        name = f"cuda:{local % torch.cuda.device_count()}"
    if name == AUTO:
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


class TorchEngine(Engine[Any]):
    """See :class:`famcli.inference.engine.Engine`; the model is moved to the device and set to evaluation mode.

    ``amp`` runs the backbone in float16, what follows it in float32. ``fold`` makes batch norms a part of convolutions,
    which is faster and changes maps by rounding alone. ``trunk`` is that of another engine of the same backbone.
    """

    def __init__(
        self,
        model: Method,
        device: str | torch.device = AUTO,
        *,
        amp: bool = False,
        fold: bool = True,
        trunk: Trunk | None = None,
    ) -> None:
        self.device = pick_device(device) if isinstance(device, str) else device
        self.amp, self.fold = amp, fold
        self.model = model.to(self.device).eval()
        if fold:  # a model in training keeps its layout, and with it its rounding
            self.model = self.model.to(memory_format=torch.channels_last)
        self.trunk = trunk or Trunk(model, fold)
        self.config, self.class_names, self.provenance = model.config, model.class_names, model.provenance
        self.title, self.map_title, self.num_parts = model.title, model.map_title, model.num_parts
        self.class_conditional, self.rescaled = model.class_conditional, model.rescaled
        self.gives_boxes, self.fitted_to_images = model.gives_boxes, model.fitted_to_images
        self.on_cpu = self.device.type == "cpu"
        self.runs_on = f"PyTorch on {'the CPU' if self.on_cpu else self.device}"

    def beside(self, method: str) -> TorchEngine | None:
        """See :meth:`Engine.beside`."""
        try:
            other = METHODS[method].from_model(self.model)
        except ConfigError:
            return None
        return TorchEngine(other, self.device, amp=self.amp, fold=self.fold, trunk=self.trunk)

    def features(self, images: np.ndarray, *, flipped: bool = False) -> Features:
        """Features of images ``(B, side, side, 3)`` uint8 RGB, or of their mirror images, in float32."""
        with torch.inference_mode():
            return self.trunk.features(images, flipped, self.device, amp=self.amp)

    @torch.inference_mode()
    def run(self, images: np.ndarray, labels: np.ndarray | None = None, *, flipped: bool = False) -> Any:
        """See :meth:`Engine.run`; the method's output, in float32."""
        wanted = None if labels is None else torch.from_numpy(labels).to(self.device)
        try:
            return self.model.head(self.features(images, flipped=flipped), wanted)
        except torch.OutOfMemoryError as error:
            msg = f"out of memory on {self.device} with {len(images)} images a batch; lower --batch-size"
            raise OutOfMemoryError(msg) from error

    def scores(self, out: Any) -> np.ndarray:
        """See :meth:`Engine.scores`."""
        return out.logits.cpu().numpy()

    @torch.inference_mode()
    def maps(self, out: Any, labels: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.maps`."""
        return self.model.maps(out, torch.from_numpy(labels).to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def parts(self, out: Any) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Engine.parts`."""
        A, t = self.model.parts(out)  # type: ignore[misc]  # asked of models that have parts
        return A.cpu().numpy(), t.cpu().numpy()

    @torch.inference_mode()
    def boxes(self, out: Any) -> np.ndarray:
        """See :meth:`Engine.boxes`."""
        return self.model.boxes(out).cpu().numpy()  # type: ignore[union-attr]  # asked of models that give them

    @torch.inference_mode()
    def fit(self, images: np.ndarray, labels: np.ndarray) -> None:
        """See :meth:`Engine.fit`."""
        self.model.fit(self.run(images, labels), torch.from_numpy(labels).to(self.device))


class Trunk:
    """A model's trunks, all or those of some names, and their features of the last batch.

    So engines that share a backbone run it once.
    """

    def __init__(self, model: Method, fold: bool, names: Sequence[str] | None = None) -> None:
        trunks = [model.get_submodule(name) for name in names or model.trunks]
        self.trunks = [fold_norms(trunk) for trunk in trunks] if fold else trunks
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
        # Not bfloat16: its 8 bits, in the first convolution alone, move boxes of fam-mobilenetv1-ilsvrc by 78 pixels.
        with torch.autocast(batch.device.type, torch.float16, enabled=amp):
            features = run_trunks(self.trunks, batch).to(torch.float32)
        if amp and not all(bool(m.isfinite().all()) for m in features.maps):
            return self._run(batch, amp=False)  # a network with values above 65,504
        return features


def open_engine(folder: Path, method: str | None, device: str, *, amp: bool) -> TorchEngine:
    """See :func:`famcli.inference.engine.open_engine`."""
    return TorchEngine(load_model(folder, method), device, amp=amp)
