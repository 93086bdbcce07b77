"""Many maps to one number: each is read, stretched and counted in one of several processes, and forgotten.

A process holds one map at a time and gives back counts alone, so memory does not grow with the number of images.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from famcli.data.images import read_size
from famcli.data.masks import MaskSource, read_truth
from famcli.data.sample import Sample
from famcli.evaluation.maps import read_map
from famcli.evaluation.metrics.box import (
    DELTAS,
    INTERVAL,
    SIDE,
    V1_DELTA,
    BoxCounts,
    score_map,
    thresholds,
    truth_boxes,
)
from famcli.evaluation.metrics.mask import MaskCounts, truth_mask
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
        masks: Where its masks are, if they are to be counted too.
    """

    name: str
    scores: Path | np.ndarray
    boxes: FloatArray
    size_hw: tuple[int, int]
    masks: MaskSource | None = None


@dataclass(slots=True)
class Counts:
    """What was counted of many images.

    Attributes:
        boxes: Right boxes by threshold.
        masks: Pixels by score, of the images with masks.
        right: For each image, in order, whether it is right at each δ and τ of one version, as packed bits
            ``(δ, T / 8)``; empty unless asked for. It is all that grows with the number of images.
    """

    boxes: BoxCounts
    masks: MaskCounts
    right: list[npt.NDArray[np.uint8]] = field(default_factory=list)

    def merge(self, other: Counts) -> None:
        """Add what was counted of the images that follow."""
        self.boxes.merge(other.boxes)
        self.masks.merge(other.masks)
        self.right += other.right


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to count.

    Attributes:
        interval: From one threshold to the next.
        boxes: Count boxes; if not, masks alone.
        keep: The version whose right boxes are kept for each image: 1 or 2; ``None`` keeps none.
    """

    interval: float = INTERVAL
    boxes: bool = True
    keep: int | None = None

    def nothing(self) -> Counts:
        """No image yet."""
        taus = thresholds(self.interval)
        return Counts(BoxCounts(taus), MaskCounts(taus))


def stated_size(sample: Sample) -> tuple[int, int]:
    """``(h, w)`` of an image as its dataset states it, or else as its file has it.

    Raises:
        DataError: The dataset does not state it, and the file cannot be read.
    """
    if sample.size_hw is not None:
        return sample.size_hw
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
    wanted: Wanted = Wanted(),
    processes: int | None = None,
    on_image: Callable[[int], None] = lambda _: None,
) -> Counts:
    """Count right images at every threshold, for MaxBoxAcc and MaxBoxAccV2 at once, and pixels in masks.

    The result does not depend on the number of processes: counts are whole numbers.

    Args:
        images: The images; taken as they are needed.
        wanted: What to count.
        processes: How many work; all cores if not given. With one, the work is done here.
        on_image: Called with the number of images that were done since the last call.

    Raises:
        DataError: A map or mask cannot be read, an image has no box, or a process was killed.
    """
    total = wanted.nothing()
    workers = processes or _cores()
    stream = iter(images)
    chunks = iter(lambda: list(islice(stream, CHUNK)), [])
    done: deque[int] = deque()

    def noted() -> Iterator[list[Scored]]:
        for chunk in chunks:
            done.append(len(chunk))
            yield chunk

    parts = (count_chunk(chunk, wanted) for chunk in noted()) if workers == 1 else _spread(noted(), wanted, workers)
    for part in parts:
        total.merge(part)
        on_image(done.popleft())
    return total


def count_chunk(images: list[Scored], wanted: Wanted) -> Counts:
    """Counts of some images."""
    counts = wanted.nothing()
    for image in images:
        if wanted.boxes and not len(image.boxes):
            msg = f"'{image.name}' has no box, so nothing can be right or wrong: leave it out of the split"
            raise DataError(msg)
        scores, as_is = read_scores(image.scores)
        if wanted.boxes:
            right = counts.boxes.add(scores, truth_boxes(image.boxes, image.size_hw))
            counts.boxes.as_is += as_is
            if wanted.keep is not None:
                chosen = right[0, [DELTAS.index(V1_DELTA)]] if wanted.keep == 1 else right[1]
                counts.right.append(np.packbits(chosen, axis=1))
        if image.masks is not None:
            instances, ignore = read_truth(image.masks, image.size_hw)
            counts.masks.add(scores, truth_mask(instances, ignore))
    return counts


def read_scores(raw: Path | np.ndarray) -> tuple[FloatArray, bool]:
    """A map in the benchmark's frame, and whether it was so already; see :func:`finished`.

    Raises:
        DataError: It is a file and cannot be read.
    """
    if not isinstance(raw, Path):
        return score_map(raw), False
    scores = read_map(raw)
    as_is = finished(scores)
    return (scores if as_is else score_map(scores)), as_is


def _spread(chunks: Iterator[list[Scored]], wanted: Wanted, workers: int) -> Iterator[Counts]:
    # Spawned, because a fork beside torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_alone) as pool:
        try:
            waiting: deque[Future[Counts]] = deque()
            for chunk in chunks:
                waiting.append(pool.submit(count_chunk, chunk, wanted))
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
