"""The interface of an inference engine, and the table of engines."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from famcli.outputs.prediction import PartMaps
from famcli_models.config import MethodConfig
from famcli_models.errors import ConfigError, UnknownNameError


class Inference(NamedTuple):
    """What a model says of a batch of B images."""

    maps: np.ndarray  # (B, h, w) float32 in [0, 1] at feature resolution, in the frame of the input
    probabilities: np.ndarray  # (B, L) float32, the softmax over the classes
    parts: Sequence[PartMaps] | None = None  # of each image, if asked for


class OutOfMemoryError(ConfigError):
    """There is not enough memory on the device for a batch; a smaller one may fit."""


@runtime_checkable
class Engine(Protocol):
    """A trained model that runs somewhere."""

    config: MethodConfig  # input size, threshold and number of classes among other settings
    class_names: tuple[str, ...]
    num_parts: int  # 0 if the model gives none
    map_title: str  # what its maps are called
    class_conditional: bool  # they depend on the class that is asked for

    def infer(
        self,
        views: Sequence[np.ndarray],
        labels: Sequence[int | None] | None = None,
        *,
        flip: bool = False,
        parts: bool = False,
    ) -> Inference:
        """Run the model on a batch.

        Args:
            views: The images at one or more input sizes, each ``(B, side, side, 3)`` uint8 RGB; maps and probabilities
                are averaged over them.
            labels: The class of each image whose map is wanted, where it is known and maps depend on it; else that of
                the most probable class.
            flip: Also average over the mirrored images.
            parts: Give the parts.

        Raises:
            OutOfMemoryError: There is not enough memory for the batch.
        """


def input_sides(config: MethodConfig, scales: Iterable[float]) -> list[int]:
    """Sides of the input at multiples of the model's, in order; maps have whole cells at each."""
    return sorted({max(config.stride, round(config.size * scale / config.stride) * config.stride) for scale in scales})


@dataclass(frozen=True, slots=True)
class EngineRow:
    """A row of :data:`ENGINES`."""

    opener: str  # module:function, imported on first use, which takes what open_engine takes but for the name
    summary: str


ENGINES: MutableMapping[str, EngineRow] = {
    "torch": EngineRow("famcli.inference.torch_engine:open_engine", "PyTorch, on any device"),
}


def open_engine(
    folder: Path, method: str | None = None, device: str = "auto", *, amp: bool = False, name: str = "torch"
) -> Engine:
    """The engine of a name in :data:`ENGINES` for a checkpoint.

    ``method`` is as :func:`famcli_models.load_model` takes it, ``device`` a name of the engine's own, or ``auto``;
    with ``amp`` the backbone runs in float16.
    """
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES)
    engine: Engine = pkgutil.resolve_name(ENGINES[name].opener)(folder, method, device, amp=amp)
    return engine
