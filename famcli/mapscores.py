"""Many maps to one number: each is read, stretched and counted in one of several processes, and forgotten.

A process holds one map at a time and gives back counts alone, so memory does not grow with the number of images.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from famcli.boxaccuracy import INTERVAL, SIDE, BoxCounts, score_map, thresholds, truth_boxes
from famcli.data.sample import Sample
from famcli.data.sizes import read_size
from famcli.maps import find_maps, read_map
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError

CHUNK = 16  # images a task: enough that its counts are cheap to send, few enough for a lively bar
AHEAD = 4  # tasks in flight for each process


@dataclass(frozen=True, slots=True)
class Scored:
    """One image to be scored.

    Attributes:
        name: Its id, for messages.
        scores: ``(h, w)`` map, or the file it is in.
        boxes: ``(N, 4)`` half-open xyxy in original pixels, N > 0.
        size_hw: ``(h, w)`` of the original image.
    """

    name: str
    scores: Path | np.ndarray
    boxes: FloatArray
    size_hw: tuple[int, int]


def from_folder(folder: Path, samples: Sequence[Sample]) -> Iterator[Scored]:
    """Samples with the maps that another tool has written; a map is opened when it is counted.

    Raises:
        DataError: See :func:`famcli.maps.find_maps`; or the dataset does not state the size of an image, and its
            file cannot be read.
    """
    for sample, path in zip(samples, find_maps(folder, [s.name for s in samples]), strict=True):
        yield Scored(sample.name, path, sample.boxes, sample.size_hw or _size_of(sample))


def _size_of(sample: Sample) -> tuple[int, int]:
    try:
        return read_size(sample.path)
    except DataError as error:
        msg = f"'{sample.name}': the dataset does not state its size (image_sizes.txt), and {sample.path}: {error}"
        raise DataError(msg) from error


def finished(scores: FloatArray) -> bool:
    """Whether a map from a file is in the benchmark's own form: 224x224, values in [0, 1].

    wsolevaluation's evaluation.py takes such maps as they are. Those that its main program wrote have been resized
    and stretched already, and doing it again would change nothing.
    """
    return scores.shape == (SIDE, SIDE) and bool(scores.min() >= 0) and bool(scores.max() <= 1)


def count(
    images: Iterable[Scored],
    interval: float = INTERVAL,
    processes: int | None = None,
    on_image: Callable[[int], None] = lambda _: None,
) -> BoxCounts:
    """Count right images at every threshold, for MaxBoxAcc and MaxBoxAccV2 at once.

    The result does not depend on the number of processes: counts are whole numbers.

    Args:
        images: The images; taken as they are needed.
        interval: From one threshold to the next.
        processes: How many work; all cores if not given. With one, the work is done here.
        on_image: Called with the number of images that were done since the last call.

    Raises:
        DataError: A map cannot be read, an image has no box, or a process was killed.
    """
    total = BoxCounts(thresholds(interval))
    workers = processes or _cores()
    stream = iter(images)
    chunks = iter(lambda: list(islice(stream, CHUNK)), [])
    parts = (count_chunk(chunk, interval) for chunk in chunks) if workers == 1 else _spread(chunks, interval, workers)
    for part in parts:
        total.merge(part)
        on_image(part.images)
    return total


def count_chunk(images: list[Scored], interval: float) -> BoxCounts:
    """Counts of some images."""
    counts = BoxCounts(thresholds(interval))
    for image in images:
        if not len(image.boxes):
            msg = f"'{image.name}' has no box, so nothing can be right or wrong: leave it out of the split"
            raise DataError(msg)
        if isinstance(image.scores, Path):
            raw = read_map(image.scores)
            as_is = finished(raw)
            scores = raw if as_is else score_map(raw)
            counts.as_is += as_is
        else:
            scores = score_map(image.scores)
        counts.add(scores, truth_boxes(image.boxes, image.size_hw))
    return counts


def _spread(chunks: Iterator[list[Scored]], interval: float, workers: int) -> Iterator[BoxCounts]:
    # Spawned, because a fork beside torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_alone) as pool:
        try:
            waiting: deque[Future[BoxCounts]] = deque()
            for chunk in chunks:
                waiting.append(pool.submit(count_chunk, chunk, interval))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            msg = "a process that scored maps was killed, perhaps for its memory; try again with --processes 1"
            raise DataError(msg) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _alone() -> None:
    cv2.setNumThreads(1)  # each core has a process of its own


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
