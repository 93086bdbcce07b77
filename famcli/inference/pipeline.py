"""The one loop that runs a model over images.

It has three stages, each a function of its own that shares nothing with the others but numpy arrays: *load* reads and
resizes an image, *infer* is the network on a batch, *finish* makes of an image's map what is wanted, boxes for example.
Loading and finishing run on threads beside the network, and only a few batches are ever in memory.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from famcli_models.errors import FamError

T = TypeVar("T")
Loaded = TypeVar("Loaded")
Inferred = TypeVar("Inferred")
Finished = TypeVar("Finished")


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
