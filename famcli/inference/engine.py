"""The interface of an inference engine, the table of engines, and the one loop that runs a model over images.

The loop has three stages, each a function of its own that shares nothing with the others but numpy arrays: *load* reads
and resizes an image, *infer* is the network on a batch, *finish* makes of an image's map what is wanted, boxes for
example. Loading and finishing run on threads beside the network, and only a few batches are ever in memory.
"""

from __future__ import annotations

import itertools
import pkgutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from famcli.outputs.prediction import PartMaps
from famcli_models.config import MethodConfig
from famcli_models.errors import FamError, UnknownNameError

T = TypeVar("T")
Loaded = TypeVar("Loaded")
Inferred = TypeVar("Inferred")
Finished = TypeVar("Finished")


class Inference(NamedTuple):
    """What a model says of a batch of B images."""

    maps: np.ndarray  # (B, h, w) float32 in [0, 1] at feature resolution, in the frame of the input
    probabilities: np.ndarray  # (B, L) float32, the softmax over the classes
    parts: Sequence[PartMaps] | None = None  # of each image, if asked for


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
            ConfigError: There is not enough memory for the batch.
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
    with ``amp`` the network runs in bfloat16.
    """
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES)
    engine: Engine = pkgutil.resolve_name(ENGINES[name].opener)(folder, method, device, amp=amp)
    return engine


@dataclass(frozen=True, slots=True)
class Failed(Generic[T]):
    """An image that could not be loaded or finished, and why."""

    item: T
    error: FamError | OSError


def run_images(
    items: Iterable[T],
    load: Callable[[T], Loaded],
    infer: Callable[[Sequence[tuple[T, Loaded]]], Iterable[Inferred]],
    finish: Callable[[T, Loaded, Inferred], Finished],
    *,
    batch_size: int = 16,
    workers: int = 2,
) -> Iterator[Finished | Failed[T]]:
    """Run a model over any number of images, in their order, with flat memory.

    ``infer`` runs in the calling thread, ``load`` and ``finish`` on ``workers`` threads. An image for which one of them
    raises a ``FamError`` or an ``OSError`` gives a :class:`Failed`; what ``infer`` raises ends the run.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="fam") as pool:
        loading: deque[tuple[T, Future[Loaded | Failed[T]]]] = deque()
        finishing: list[Future[Finished | Failed[T]]] = []
        try:
            while True:
                # Two batches ahead: while one is in the network the next is decoded.
                for item in itertools.islice(source, 2 * batch_size - len(loading)):
                    loading.append((item, pool.submit(_guarded, load, item)))
                if not loading:
                    break
                batch = [loading.popleft() for _ in range(min(batch_size, len(loading)))]
                loaded = [(item, future.result()) for item, future in batch]
                good = [(item, value) for item, value in loaded if not isinstance(value, Failed)]
                results = iter(infer(good) if good else ())
                submitted = [
                    pool.submit(_guarded, lambda _, failed=value: failed, item)
                    if isinstance(value, Failed)
                    else pool.submit(_guarded, finish, item, value, next(results))
                    for item, value in loaded
                ]
                yield from (future.result() for future in finishing)  # of the batch before, finished meanwhile
                finishing = submitted
            yield from (future.result() for future in finishing)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _guarded(function: Callable[..., Finished], item: T, *rest: object) -> Finished | Failed[T]:
    try:
        return function(item, *rest)
    except (FamError, OSError) as error:
        return Failed(item, error)


def all_finished(results: Iterable[Finished | Failed[T]]) -> list[Finished]:
    """The results of :func:`run_images` where none may fail; the first failure is raised."""
    finished = []
    for result in results:
        if isinstance(result, Failed):
            raise result.error
        finished.append(result)
    return finished
