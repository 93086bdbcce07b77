"""The interface of an inference engine, what engines have in common, and the table of engines."""

from __future__ import annotations

import os
import pkgutil
import platform
import shutil
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from famcli.inference.pipeline import run_images, spread
from famcli.outputs.prediction import PartMaps
from famcli_models.checkpoint import GRAPH_FILE, read_config
from famcli_models.config import MethodConfig, check_side
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.graph import GraphFacts
from famcli_models.localization import CONSTANT, upsample

UNKNOWN = -1  # the label of an image whose class is not known
MOST_FITTED = 2000  # images of a first pass: their features, 14x14 of 1,024 channels, take 0.8 GB
Out = TypeVar("Out")
T = TypeVar("T")
Say = Callable[[str], object]


class Inference(NamedTuple):
    """What a model says of a batch of B images."""

    maps: np.ndarray  # (B, h, w) float32 in [0, 1] at feature resolution, in the frame of the input
    probabilities: np.ndarray  # (B, L) float32, the softmax over the classes
    parts: Sequence[PartMaps] | None = None  # of each image, if asked for
    boxes: np.ndarray | None = None  # (B, 4) half-open xyxy in shares of the input, of methods that give them


class OutOfMemoryError(ConfigError):
    """There is not enough memory on the device for a batch; a smaller one may fit."""


class Engine(ABC, Generic[Out]):
    """A trained model that runs somewhere. A new engine is a subclass, and a row of :data:`ENGINES`.

    What one run of the network gives, ``Out``, is the engine's own.

    Attributes:
        config: Input size, threshold and number of classes among other settings.
        class_names: One name a class.
        provenance: What the weights came from.
        title: The method's name in tables and messages.
        map_title: What its maps are called.
        class_conditional: They depend on the class that is asked for.
        rescaled: They are min-max scaled image by image.
        num_parts: K, or 0 if the model has no parts.
        gives_boxes: It gives a box for each image, which is used instead of those of the map.
        fitted_to_images: It gives maps only after a pass over images, see :func:`fit_to_images`.
        runs_on: In a few words, for people.
        on_cpu: The model takes the cores that images are decoded on.
    """

    config: MethodConfig
    class_names: tuple[str, ...]
    provenance: Mapping[str, Any] = MappingProxyType({})
    title: str
    map_title: str
    class_conditional: bool = False
    rescaled: bool = False
    num_parts: int = 0
    gives_boxes: bool = False
    fitted_to_images: bool = False
    runs_on: str = ""
    on_cpu: bool = True

    @abstractmethod
    def run(self, images: np.ndarray, labels: np.ndarray, *, flipped: bool = False) -> Out:
        """The network on images ``(B, side, side, 3)`` uint8 RGB, or on their mirror images.

        ``labels`` ``(B,)`` are the classes whose maps will be asked for, :data:`UNKNOWN` for the most probable.
        An :class:`OutOfMemoryError` says that there is not enough memory for the batch.
        """

    @abstractmethod
    def scores(self, out: Out) -> np.ndarray:
        """Class scores ``(B, L)`` float32 before the softmax."""

    @abstractmethod
    def maps(self, out: Out, labels: np.ndarray) -> np.ndarray:
        """Maps ``(B, h, w)`` float32 in [0, 1] of classes ``(B,)``, in the frame of what the network was run on."""

    def parts(self, out: Out) -> tuple[np.ndarray, np.ndarray]:
        """Part maps ``(B, K, h, w)``, in the same frame, and their weights ``(B, K)``; for models that have parts."""
        raise NotImplementedError

    def boxes(self, out: Out) -> np.ndarray:
        """Boxes ``(B, 4)``, half-open xyxy in shares of the input, in the same frame; for models that give them."""
        raise NotImplementedError

    def fit(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Add a batch, as :meth:`run` takes it, to the images that maps are fitted to; for models that are."""
        raise NotImplementedError

    def beside(self, method: str) -> Engine[Any] | None:
        """An engine for another method on the same features, which are computed once; none if it has no map of them."""
        del method
        return None

    def infer(
        self,
        views: Sequence[np.ndarray],
        labels: Sequence[int | None] | None = None,
        *,
        flip: bool = False,
        parts: bool = False,
    ) -> Inference:
        """What the model says of a batch.

        Args:
            views: The images at one or more input sizes, each ``(B, side, side, 3)`` uint8 RGB; maps, boxes and
                probabilities are averaged over them.
            labels: The class of each image whose map is wanted, where it is known and maps depend on it; else that of
                the most probable class.
            flip: Also average over the mirrored images.
            parts: Give the parts.

        Raises:
            OutOfMemoryError: There is not enough memory for the batch.
        """
        given = np.array([UNKNOWN if label is None else label for label in labels or [None] * len(views[0])], np.int64)
        ways = [(images, flipped) for images in views for flipped in ((False, True) if flip else (False,))]
        outs = [(self.run(images, given, flipped=flipped), flipped) for images, flipped in ways]
        probabilities = np.mean([self.probabilities(out) for out, _ in outs], axis=0)
        # One class for all views: the known one, or the most probable in their mean.
        chosen = np.where(given == UNKNOWN, probabilities.argmax(axis=1), given)
        maps = mean_maps([_turned(self.maps(out, chosen), flipped) for out, flipped in outs])
        if self.rescaled and len(outs) > 1:  # a mean need not reach 1
            maps = min_max(maps)
        boxes = None
        if self.gives_boxes:
            boxes = np.mean([_turned_boxes(self.boxes(out), flipped) for out, flipped in outs], axis=0)
        found = [(self.parts(out), flipped) for out, flipped in outs] if parts and self.num_parts else []
        if not found:
            return Inference(maps, probabilities, boxes=boxes)
        A = mean_maps([_turned(of_view, flipped) for (of_view, _), flipped in found])
        t = np.mean([weights for (_, weights), _ in found], axis=0).tolist()
        return Inference(maps, probabilities, [PartMaps(tuple(w), of) for w, of in zip(t, A, strict=True)], boxes)

    def probabilities(self, out: Out) -> np.ndarray:
        """Class probabilities ``(B, L)`` of one run: the softmax at the model's temperature."""
        return softmax(self.scores(out) / self.config.temperature)


def _turned(maps: np.ndarray, flipped: bool) -> np.ndarray:
    return maps[..., ::-1] if flipped else maps


def _turned_boxes(boxes: np.ndarray, flipped: bool) -> np.ndarray:
    if not flipped:
        return boxes
    return np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities ``(B, L)`` of class scores."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def mean_maps(views: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the maps of several views, ``(B, ..., h, w)`` each, at the size of the largest."""
    h, w = max((maps.shape[-2:] for maps in views), key=lambda hw: hw[0])

    def enlarged(maps: np.ndarray) -> np.ndarray:
        if maps.shape[-2:] == (h, w):
            return maps
        large = [upsample(one, (h, w)) for one in maps.reshape(-1, *maps.shape[-2:])]
        return np.stack(large).reshape(*maps.shape[:-2], h, w)

    return np.mean([enlarged(maps) for maps in views], axis=0)


def min_max(maps: np.ndarray) -> np.ndarray:
    """Scale each of the maps ``(B, h, w)`` to [0, 1]."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    span = high - low
    return np.where(span < CONSTANT, np.float32(0), (maps - low) / np.maximum(span, np.float32(CONSTANT)))


def fit_to_images(
    engine: Engine[Any],
    items: Sequence[T],
    load: Callable[[T], np.ndarray],
    label: Callable[[T], int | None],
    batch_size: int,
    workers: int,
) -> None:
    """Make the first pass over images, of a model that is fitted to them; images that cannot be read are left out.

    Args:
        engine: The model.
        items: All images; of more than :data:`MOST_FITTED` so many from all over the sequence are taken.
        load: An image to its view at the model's input size.
        label: The class of an image, if it is known.
        batch_size: Images per forward pass.
        workers: Threads that load images.
    """

    def infer(batch: Sequence[tuple[T, np.ndarray]]) -> list[None]:
        labels = [UNKNOWN if (known := label(item)) is None else known for item, _ in batch]
        engine.fit(np.stack([view for _, view in batch]), np.array(labels, np.int64))
        return [None] * len(batch)

    if engine.fitted_to_images:
        chosen = spread(items, MOST_FITTED)
        deque(run_images(chosen, load, infer, lambda *_: None, batch_size=batch_size, workers=workers), maxlen=0)


def input_sides(config: MethodConfig, scales: Iterable[float]) -> list[int]:
    """Sides of the input at multiples of the model's, in order; maps have whole cells at each.

    Raises:
        ConfigError: An input would take too much memory.
    """
    sides = sorted({max(config.stride, round(config.size * scale / config.stride) * config.stride) for scale in scales})
    check_side(sides[-1])
    return sides


@dataclass(frozen=True, slots=True)
class EngineRow:
    """A row of :data:`ENGINES`."""

    opener: str  # module:function (folder, method, device, *, amp), imported on first use
    summary: str


ENGINES: MutableMapping[str, EngineRow] = {
    "onnx": EngineRow("famcli.inference.onnx_engine:open_engine", "ONNX Runtime, CPU"),
    "torch": EngineRow("famcli.inference.torch_engine:open_engine", "PyTorch, any device"),
}
AUTO = "auto"


def open_engine(
    folder: Path,
    method: str | None = None,
    device: str = AUTO,
    *,
    amp: bool = False,
    name: str = AUTO,
    scales: Iterable[float] = (1.0,),
    say: Say | None = None,
) -> Engine[Any]:
    """The engine of a name in :data:`ENGINES` for a checkpoint.

    Args:
        folder: Of the checkpoint.
        method: As :func:`famcli_models.load_model` takes it.
        device: A name of the engine's own, or ``auto``.
        amp: Run the backbone in float16.
        name: By default ``onnx`` on the CPU where the checkpoint has a graph for what is asked for, else ``torch``.
        scales: Input sizes that will be asked for, as multiples of the model's.
        say: Called with a hint where a graph would be faster.
    """
    if name == AUTO:
        name, hint = choose_engine(folder, method, device, amp, scales)
        if hint and say is not None:
            say(hint)
    if name not in ENGINES:
        raise UnknownNameError("engine", name, {AUTO, *ENGINES})
    engine: Engine[Any] = pkgutil.resolve_name(ENGINES[name].opener)(folder, method, device, amp=amp)
    return engine


def choose_engine(
    folder: Path, method: str | None = None, device: str = AUTO, amp: bool = False, scales: Iterable[float] = (1.0,)
) -> tuple[str, str]:
    """The engine that serves best, and a hint if it is for lack of a graph."""
    if amp or device not in {AUTO, "cpu"}:
        return "torch", ""
    if device == AUTO and gpu_present():
        from famcli.inference.torch_engine import pick_device

        if pick_device().type != "cpu":
            return "torch", ""
    stored = read_config(folder)
    facts = GraphFacts.from_provenance(stored["provenance"])
    if facts is None or not (folder / GRAPH_FILE).is_file():
        command = f"fam export '{folder}' --format graph"
        return "torch", f"this model has no {GRAPH_FILE}, so PyTorch runs it; for a faster start: {command}"
    config = MethodConfig.shared(stored["model"])
    fits = all(facts.takes(side, config.stride) for side in input_sides(config, scales))
    return ("onnx" if fits and (method is None or method in facts.methods) else "torch"), ""


def gpu_present() -> bool:
    """Whether there may be a GPU that PyTorch can use; only PyTorch, which takes seconds to load, knows for certain."""
    if find_spec("torch") is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    devices = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")  # NVIDIA, Windows' subsystem for Linux, AMD
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(map(os.path.exists, devices)) or shutil.which("nvidia-smi") is not None
