"""The one loop that runs a model over images.

It has three stages, each a function of its own that shares nothing with the others but numpy arrays: *load* reads and
resizes an image, *infer* is the network on a batch, *finish* makes of an image's map what is wanted, boxes for example.
Loading and finishing run beside the network on workers, which are threads, or the processes of
:mod:`famcli.inference.processes`; only a few batches are ever in memory.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np

from famcli_models.errors import DataError, FamError, short

T = TypeVar("T")
Loaded = TypeVar("Loaded")
Inferred = TypeVar("Inferred")
Finished = TypeVar("Finished")
ENOUGH = 256  # images: with fewer, the second in which processes start is not won back
MANY_CORES = 8  # of a CPU: with fewer, the network needs them all
MOST_PROCESSES = 24  # 15 gave 4,500 photographs/s of 227x227, and the calling thread has 0.2 ms to do for each


@dataclass(frozen=True, slots=True)
class Failed(Generic[T]):
    """An image that could not be loaded or finished, and why."""

    item: T
    error: FamError | OSError


class Workers(NamedTuple):
    """What loads and finishes images: so many threads, or processes."""

    number: int
    processes: bool = False

    @classmethod
    def beside(cls, *, network_on_cpu: bool, cores: int | None = None) -> Workers:
        """As many as the network leaves room for; whether they are processes is decided here and nowhere else.

        A network on the CPU takes 10 ms or more of a core for an image and the workers 1 to 3 ms, so that two threads
        are enough until there are many cores: two are what one interpreter lock lets work. Beside a GPU each core but
        that of the calling thread has a process.
        """
        cores = available_cores() if cores is None else cores
        if network_on_cpu:
            return cls(cores // 4, processes=True) if cores >= MANY_CORES else cls(min(2, cores))
        return cls(min(MOST_PROCESSES, max(2, cores - 1)), processes=cores > 2)


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Batch(Protocol):
    """Images on their way: being loaded from the beginning, then waiting for the network, then being finished."""

    def loaded(self) -> list[tuple[Any, Any]]:
        """Each image, and what was loaded of it, or a :class:`Failed`."""

    def finish(self, inferred: Iterator[Any]) -> None:
        """Begin to finish the images that did not fail, each with what the network says of it."""

    def is_done(self) -> bool:
        """Whether all are finished."""

    def finished(self) -> list[Any]:
        """What was made of each image, or a :class:`Failed`."""


class Crew(Protocol):
    """Workers at work."""

    ahead: int  # batches that are loaded before the network takes the first of them
    behind: int  # batches that may be unfinished when the network takes the next
    call: Callable[..., Future[Any]]  # how the network is run on a batch

    def begin(self, items: Sequence[Any]) -> Batch:
        """Begin to load images."""

    def close(self) -> None:
        """End all workers; what they have not begun is left."""


def run_images(
    items: Iterable[T],
    load: Callable[[T], Loaded],
    infer: Callable[[Sequence[tuple[T, Loaded]]], Iterable[Inferred]],
    finish: Callable[[T, Loaded, Inferred], Finished],
    *,
    batch_size: int = 16,
    workers: int = 2,
    shared_bytes: int = 0,
) -> Iterator[Finished | Failed[T]]:
    """Run a model over any number of images, in their order, with flat memory.

    ``load`` and ``finish`` run on ``workers``, ``infer`` in the calling thread. An image for which one of these two
    raises a ``FamError`` or an ``OSError`` gives a :class:`Failed`, as one of which ``infer`` says so; what ``infer``
    raises ends the run.

    Workers are threads, or, given ``shared_bytes`` and at least :data:`ENOUGH` images, processes with so much shared
    memory for the arrays of an image. Then ``load``, ``finish``, items and results are pickled, and ``infer`` runs in a
    thread of its own; what it gets of an image is there until it returns.
    """
    source = iter(items)
    first = list(itertools.islice(source, ENOUGH)) if shared_bytes else []
    source = itertools.chain(first, source)
    if len(first) == ENOUGH:
        from famcli.inference.processes import Processes

        crew: Crew = Processes(load, finish, workers, batch_size, shared_bytes)
    else:
        crew = _Threads(load, finish, workers)
    loading: deque[Batch] = deque()
    running: deque[tuple[Batch, Future[Iterable[Inferred]]]] = deque()
    finishing: deque[Batch] = deque()
    try:
        while True:
            while len(loading) < crew.ahead and (some := list(itertools.islice(source, batch_size))):
                loading.append(crew.begin(some))
            if loading:
                batch = loading.popleft()
                good = [(item, value) for item, value in batch.loaded() if not isinstance(value, Failed)]
                running.append((batch, crew.call(infer, good) if good else at_once(list)))
            # While the network has one batch, the next is ready for it.
            while running and (len(running) > 1 or not loading or running[0][1].done()):
                batch, inferred = running.popleft()
                batch.finish(iter(inferred.result()))
                finishing.append(batch)
            over = not (loading or running)
            while finishing and (len(finishing) > crew.behind or over or finishing[0].is_done()):
                yield from finishing.popleft().finished()
            if over:
                break
    finally:
        crew.close()


def at_once(function: Callable[..., Finished], *arguments: Any) -> Future[Finished]:
    """The result of a call in the calling thread."""
    future: Future[Finished] = Future()
    future.set_result(function(*arguments))
    return future


class _Threads:
    """Workers that are threads: an image is a task."""

    ahead, behind = 2, 1  # while one batch is in the network, the next is loaded and the last is finished

    def __init__(self, load: Callable[..., Any], finish: Callable[..., Any], count: int) -> None:
        self.load, self.finish, self.call = load, finish, at_once
        self.pool = ThreadPoolExecutor(count, thread_name_prefix="fam")

    def begin(self, items: Sequence[Any]) -> _ThreadBatch:
        return _ThreadBatch(self, items)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


class _ThreadBatch:
    def __init__(self, crew: _Threads, items: Sequence[Any]) -> None:
        self.crew, self.items = crew, items
        self.futures: list[Future[Any]] = [crew.pool.submit(guarded, crew.load, item) for item in items]

    def loaded(self) -> list[tuple[Any, Any]]:
        self.values = [future.result() for future in self.futures]
        return list(zip(self.items, self.values, strict=True))

    def finish(self, inferred: Iterator[Any]) -> None:
        submit, finish = self.crew.pool.submit, self.crew.finish
        for i, (item, value) in enumerate(zip(self.items, self.values, strict=True)):
            if not isinstance(value, Failed):
                self.futures[i] = submit(guarded, finish, item, value, next(inferred))
        del self.values

    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)

    def finished(self) -> list[Any]:
        return [future.result() for future in self.futures]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, from all over the sequence."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]


def guarded(function: Callable[..., Finished], item: T, *rest: object) -> Finished | Failed[T]:
    """The result of a stage for an image, or its failure, in this stage or the one before."""
    if rest and isinstance(rest[-1], Failed):
        return rest[-1]
    try:
        return function(item, *rest)
    except (FamError, OSError) as error:
        return Failed(item, error)
    except (MemoryError, cv2.error) as error:
        return Failed(item, DataError(f"too large for the memory ({short(str(error)) or 'there is no more'})"))


def all_finished(results: Iterable[Finished | Failed[T]]) -> list[Finished]:
    """The results of :func:`run_images` where none may fail; the first failure is raised."""
    finished = []
    for result in results:
        if isinstance(result, Failed):
            raise result.error
        finished.append(result)
    return finished
