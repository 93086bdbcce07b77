"""Labelled images to batches: random views, fresh for every epoch, or features computed once for a frozen backbone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from famcli.data import quiet_decoders
from famcli.data.images import DECODE_MARGIN, read_picture
from famcli.data.memory import Memory, memory_here, set_memory
from famcli.data.sample import Sample
from famcli.training.environment import SIGNALS
from famcli.training.monitor import Progress, no_progress
from famcli.training.sampler import Order, View
from famcli_models.errors import DataError
from famcli_models.fusion import fold_norms
from famcli_models.methods.method import Method, run_trunks
from famcli_models.preprocess import RandomCrop, normalize

CACHE_BYTES = 4 * 2**30  # of features, where a recipe leaves their number to it
MAX_UNREADABLE = 100  # in a row; then it is not the images that are wrong


class ImageBatch(NamedTuple):
    """What one forward pass takes."""

    inputs: Tensor  # views (B, size, size, 3) uint8, or their features X (B, C, H, W)
    targets: Tensor  # of the map, (B, h, w) float32, cut as the view; zeros without targets
    labels: Tensor  # (B,)
    images: list[int]  # their numbers
    unreadable: dict[int, str]  # number and reason; the next image stands in
    earlier: tuple[Tensor, ...] = ()  # with X, the maps of earlier layers that the model reads
    boxes: Tensor | None = None  # of a first stage, (B, 4) in shares of the view


class Views(Dataset[ImageBatch]):
    """Random training views of labelled images; the same view for the same seed, epoch and image.

    ``map_hw`` is the size of the model's map; ``targets`` are maps ``(h, w)`` of the whole images in [0, 1], or none;
    ``boxes`` ``(n, 4)`` are in shares of the whole images.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int,
        map_hw: tuple[int, int],
        seed: int,
        targets: Sequence[np.ndarray] | None = None,
        boxes: np.ndarray | None = None,
    ) -> None:
        # Flat arrays: a million Python objects would be copied, page by page, into every loading process.
        self.paths = np.array([os.fsencode(sample.path) for sample in samples])
        self.labels = np.array([sample.label for sample in samples])
        self.size, self.map_hw, self.seed, self.targets, self.boxes = size, map_hw, seed, targets, boxes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, view: View) -> ImageBatch:
        """One view, as a batch of one without its first dimension."""
        epoch, image = view
        unreadable: dict[int, str] = {}
        while True:
            try:
                picture = read_picture(self._path(image), at_least=DECODE_MARGIN * self.size).image
                break
            except DataError as error:
                unreadable[image] = str(error)
                if len(unreadable) == min(MAX_UNREADABLE, len(self)):
                    first = f"the first is {self._path(view[1])}: {unreadable[view[1]]}"
                    raise DataError(f"{len(unreadable)} images in a row cannot be read, {first}") from error
                image = (image + 1) % len(self)
        crop = RandomCrop.draw(self.size, np.random.default_rng((self.seed, epoch, image)))
        target = np.zeros(self.map_hw, np.float32)
        if self.targets is not None:
            target = crop.crop_map(self.targets[image], self.map_hw)
        pixels = torch.from_numpy(np.ascontiguousarray(crop.crop_image(picture)))
        box = None if self.boxes is None else torch.from_numpy(crop.crop_box(self.boxes[image]))
        label = torch.tensor(self.labels[image])
        return ImageBatch(pixels, torch.from_numpy(target), label, [image], unreadable, boxes=box)

    def _path(self, image: int) -> Path:
        return Path(os.fsdecode(self.paths[image]))


def load_batches(
    views: Views, lists: Iterable[list[View]], workers: int, pin: bool = False
) -> Generator[ImageBatch, None, None]:
    """The batches of lists of views; the loading processes live until the last one, or until the generator is closed.

    With no ``workers`` this process decodes. ``pin`` puts the batches into page-locked memory, from which they reach a
    GPU sooner.
    """
    loader = DataLoader(
        views,
        batch_sampler=lists,
        num_workers=workers,
        pin_memory=pin,
        collate_fn=_collate,
        worker_init_fn=partial(_begin, Memory(memory_here().limit, multiprocessing.get_context(), max(1, workers))),
        generator=torch.Generator().manual_seed(0),  # for the workers' seeds, which nothing uses
    )
    batches: Any = None
    try:
        with _signals_held():
            batches = iter(loader)
        yield from batches
    except DataError as error:  # from a process it comes wrapped in that process's traceback
        msg = str(error).strip().splitlines()[-1].removeprefix(f"{DataError.__module__}.DataError: ")
        raise DataError(msg) from error
    finally:
        if workers and batches is not None:
            _end_workers(batches)


def _begin(memory: Memory, worker: int) -> None:
    """Begin a process that decodes: it shares the memory with the others.

    Signals to a group reach every process of a run; only the main one acts on them, and ends the others.
    """
    set_memory(memory, worker)
    quiet_decoders()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait while processes are started, which must neither die of them nor be half started."""
    if threading.current_thread() is not threading.main_thread():  # it gets none, and may set no handlers
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS}
    # The new processes inherit the mask too, until they ignore the signals; Windows has none.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def _end_workers(batches: Any) -> None:
    """End the loading processes; left to the garbage collector that would take five seconds for each of them."""
    try:
        batches._shutdown_workers()  # noqa: SLF001  (torch has no public way)
    finally:
        for process in batches._workers:  # noqa: SLF001
            process.kill()  # torch sends SIGTERM to one that does not end in time, which it ignores


def _collate(items: list[ImageBatch]) -> ImageBatch:
    inputs, targets, labels = (torch.stack(column) for column in list(zip(*items, strict=True))[:3])
    unreadable = {number: reason for item in items for number, reason in item.unreadable.items()}
    boxes = [item.boxes for item in items if item.boxes is not None]
    images = [item.images[0] for item in items]
    return ImageBatch(inputs, targets, labels, images, unreadable, boxes=torch.stack(boxes) if boxes else None)


class CachedFeatures:
    """Features of ``rounds`` random views of each image, computed once and kept in memory in float16, taken in turn.

    The backbone is frozen. What computes them is a copy with its batch norms folded, channels last: twice as fast.
    """

    def __init__(
        self,
        model: Method,
        views: Views,
        batch_size: int,
        device: torch.device,
        workers: int,
        rounds: int,
        progress: Progress = no_progress,
    ) -> None:
        mean, std = model.config.mean, model.config.std
        trunks = [fold_norms(model.get_submodule(name)).eval() for name in model.trunks]
        trunks = [trunk.to(memory_format=torch.channels_last) for trunk in trunks]
        self.rounds: list[list[Tensor]] = []  # of each round the maps, targets and labels of all images
        self.unreadable: dict[int, str] = {}
        with progress("features", rounds * len(views)) as step:
            for number in range(1, rounds + 1):
                each = [(number, image) for image in range(len(views))]
                lists = [each[at : at + batch_size] for at in range(0, len(each), batch_size)]
                columns: list[Tensor] = []
                with closing(load_batches(views, lists, workers)) as batches:
                    for numbers, batch in zip(lists, batches, strict=True):
                        self.unreadable |= batch.unreadable
                        with torch.no_grad():
                            pixels = normalize(batch.inputs.to(device), mean, std)
                            pixels = pixels.contiguous(memory_format=torch.channels_last)
                            found = run_trunks(trunks, pixels).to(torch.float16)
                        rows = [*found.maps, batch.targets, batch.labels]
                        columns = columns or [_empty(len(views), row) for row in rows]
                        first = numbers[0][1]
                        for column, row in zip(columns, rows, strict=True):
                            column[first : first + len(row)] = row
                        step(len(numbers))
                self.rounds.append(columns)

    def batches(self, order: Order, start: int) -> Generator[ImageBatch, None, None]:
        """The features of the views in order, from a step on."""
        for views in order.batches(start):
            epoch, images = views[0][0], [image for _, image in views]
            X, *earlier, targets, labels = (column[images] for column in self.rounds[(epoch - 1) % len(self.rounds)])
            yield ImageBatch(X.float(), targets, labels, images, {}, tuple(m.float() for m in earlier))


def _empty(count: int, row: Tensor) -> Tensor:
    """Memory for the rows of all images, laid out as the first ones are; filled, not joined, which would take twice."""
    each = row[0]
    return torch.empty_strided((count, *each.shape), (each.numel(), *each.stride()), dtype=row.dtype)


def fitting_views(model: Method, size: int, images: int, device: torch.device) -> int:
    """Views of each image that :class:`CachedFeatures` may keep: two, or as many as :data:`CACHE_BYTES` hold."""
    with torch.no_grad():
        maps = model.eval().features(torch.zeros(1, 3, size, size, device=device)).maps
    each = 2 * sum(values.numel() for values in maps)  # float16
    return min(2, CACHE_BYTES // (each * images))


def map_size(model: Method, size: int, device: torch.device) -> tuple[int, int]:
    """``(h, w)`` of the map for views of a size; leaves the model as it is, batch-norm statistics included."""
    training = model.training
    model.eval()
    with torch.no_grad():
        M = model.maps(model(torch.zeros(1, 3, size, size, device=device)))
    model.train(training)
    return M.shape[-2], M.shape[-1]
