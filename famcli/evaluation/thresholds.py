"""Maps at many thresholds: counted in several processes, and the rows MaxBoxAcc, MaxBoxAccV2, PxAP and pIoU of it.

A process holds one map at a time and gives back counts alone, so memory does not grow with the number of images but
for a few hundred bits of each.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from famcli.data.images import read_size
from famcli.data.masks import MaskSource, read_truth
from famcli.data.sample import Sample
from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.external import read_map
from famcli.evaluation.metrics import box as metric
from famcli.evaluation.metrics.mask import MaskCounts, truth_mask
from famcli.evaluation.perimage import CENTRE_SIDE, FIXED_BOXES, BoxedMap, EvaluationSettings
from famcli.evaluation.rows import ORACLE, ScoredRow, as_box, image_result, score_sizes
from famcli.results.images import BoxResult, ImageResult, error_type
from famcli.results.schema import Number, Row, SizeScore
from famcli_models.boxes import FloatArray, box_iou, rescale_boxes
from famcli_models.errors import DataError

METRIC = {1: "max_box_acc", 2: "max_box_acc_v2"}
Raw = Path | np.ndarray | BoxedMap  # a map (h, w), or the file it is in, or a map with the box that counts

_CHUNK = 16  # images a task: enough that its counts are cheap to send, few enough for a lively bar
_AHEAD = 4  # tasks in flight for each process
_FAR = np.array([0, 0, 1, 1])  # makes inclusive corners half-open
_Task = tuple[Sample, Raw, MaskSource | None]


@dataclass(slots=True)
class Counts:
    """What was counted of many images."""

    boxes: metric.BoxCounts  # right ones by threshold, for MaxBoxAcc and MaxBoxAccV2 at once
    masks: MaskCounts  # pixels by score, of the images with masks
    # Of each image whether it is right at each δ and τ of the version asked for, as bits (δ, T / 8); all that grows.
    right: list[npt.NDArray[np.uint8]] = field(default_factory=list)


def stated_size(sample: Sample) -> tuple[int, int]:
    """``(h, w)`` of an image as its dataset states it, or else as its file has it."""
    if sample.size_hw is not None:
        return sample.size_hw
    try:
        return read_size(sample.path)
    except DataError as error:
        msg = f"'{sample.name}': the dataset does not state its size (image_sizes.txt), and {sample.path}: {error}"
        raise DataError(msg) from error


def count_maps(
    samples: Sequence[Sample],
    maps: Sequence[Raw],
    masks: Sequence[MaskSource | None],
    version: int | None,
    settings: EvaluationSettings,
    on_images: Callable[[int], object] = lambda _: None,
) -> Counts:
    """Count right boxes at every threshold, and pixels in masks; the number of processes does not change the result.

    Each image has a map, and perhaps masks; those that have a size are not opened. ``version`` is 1 or 2, of MaxBoxAcc,
    or none to count masks alone. ``on_images`` is called with the number of images that were done since the last call.
    """
    tasks = [task for task in zip(samples, maps, masks, strict=True) if version is not None or task[2] is not None]
    chunks = [tasks[start : start + _CHUNK] for start in range(0, len(tasks), _CHUNK)]
    count = partial(_count, version=version, interval=settings.interval)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers, total = settings.processes or cores, count([])
    parts = map(count, chunks) if workers == 1 else _spread(count, chunks, workers)
    for chunk, part in zip(chunks, parts, strict=True):
        total.boxes.merge(part.boxes)
        total.masks.merge(part.masks)
        total.right += part.right
        on_images(len(chunk))
    return total


def _count(tasks: Sequence[_Task], version: int | None, interval: float) -> Counts:
    taus = metric.thresholds(interval)
    counts = Counts(metric.BoxCounts(taus), MaskCounts(taus))
    for sample, raw, masks in tasks:
        if version is not None and not len(sample.boxes):
            raise DataError(f"'{sample.name}' has no box, so nothing can be right or wrong: leave it out of the split")
        scores, as_is = read_scores(raw)
        if version is not None:
            right = counts.boxes.add(scores, metric.truth_boxes(sample.boxes, stated_size(sample)))
            counts.boxes.as_is += as_is
            chosen = right[0, [metric.DELTAS.index(metric.V1_DELTA)]] if version == 1 else right[1]
            counts.right.append(np.packbits(chosen, axis=1))
        if masks is not None:
            of_map = read_scores(raw.M)[0] if isinstance(raw, BoxedMap) else scores
            counts.masks.add(of_map, truth_mask(*read_truth(masks, stated_size(sample))))
    return counts


def read_scores(raw: Raw) -> tuple[FloatArray, bool]:
    """A map in the benchmark's frame, and whether its file was so already.

    wsolevaluation's evaluation.py takes maps of 224x224 with values in [0, 1] as they are. Those that its main program
    wrote have been resized and stretched, and doing it again would change nothing. Of a map with a box it is the box.
    """
    if isinstance(raw, BoxedMap):
        return metric.box_map(raw.box), False
    if not isinstance(raw, Path):
        return metric.score_map(raw), False
    scores = read_map(raw)
    as_is = scores.shape == (metric.SIDE, metric.SIDE) and bool(scores.min() >= 0) and bool(scores.max() <= 1)
    return (scores if as_is else metric.score_map(scores)), as_is


def _spread(
    count: Callable[[Sequence[_Task]], Counts], chunks: Sequence[Sequence[_Task]], workers: int
) -> Iterator[Counts]:
    context = multiprocessing.get_context("spawn")  # a fork beside torch's threads may hang
    # Each core has a process of its own, so that OpenCV needs no threads in it.
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            waiting: deque[Future[Counts]] = deque()
            for chunk in chunks:
                waiting.append(pool.submit(count, chunk))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError("a process that scored maps was killed, perhaps for memory; try --processes 1") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def map_row(
    method: str,
    counts: Counts,
    samples: Sequence[Sample],
    maps: Sequence[Raw],
    version: int | None,
    bootstrap: Bootstrap,
) -> ScoredRow:
    """The row of one way of making maps, which were counted; the best τ is chosen anew in each resample."""
    masks = mask_metrics(counts.masks)
    if version is None:
        return ScoredRow(Row(method=method, title=method, metrics=masks), {})
    accuracy, deltas = counts.boxes.accuracy(version), _deltas(version)
    best = []
    for i in range(len(deltas)):
        bits = np.array([packed[i] for packed in counts.right])
        best.append(bootstrap.means(np.unpackbits(bits, axis=1, count=len(counts.boxes.taus))).max(axis=1))
    resampled = np.mean(best, axis=0)
    tau = accuracy.tau[metric.V1_DELTA]
    at_best = [best_box(raw, sample, tau, version) for raw, sample in zip(maps, samples, strict=True)]
    boxes, truths = (list(of) for of in zip(*at_best, strict=True))
    row = Row(
        method=method,
        title=method,
        metrics={METRIC[version]: bootstrap.number(accuracy.value / 100, resampled), **masks},
        tau=tau if version == 1 else None,
        tau_from=ORACLE,
        empty=100 * counts.boxes.empty / counts.boxes.images,
        at_delta={f"{d:g}": {"value": accuracy.at_delta[d], "tau": accuracy.tau[d]} for d in deltas},
        curve=tuple(accuracy.curve[metric.V1_DELTA]),
        sizes=_score_sizes(truths, np.array(boxes)),
    )
    return ScoredRow(row, {METRIC[version]: resampled}, best=at_best)


def fixed_rows(samples: Sequence[Sample], version: int, bootstrap: Bootstrap) -> list[ScoredRow]:
    """Boxes that need no map, in the benchmark's frame: the centre box, and the whole image."""
    low, high = int(metric.SIDE * (1 - CENTRE_SIDE) / 2), int(metric.SIDE * (1 + CENTRE_SIDE) / 2)
    boxes = {"centre": (low, low, high, high), "whole": (0, 0, metric.SIDE - 1, metric.SIDE - 1)}
    truths, deltas, rows = [metric.truth_boxes(s.boxes, stated_size(s)) for s in samples], _deltas(version), []
    for name, box in boxes.items():
        ious = np.array([metric.inclusive_iou([box], truth).max() for truth in truths])
        right = ious[:, None] >= np.array(deltas)
        resampled = bootstrap.means(right).mean(axis=1)
        row = Row(
            method=name,
            title=FIXED_BOXES[name],
            metrics={METRIC[version]: bootstrap.number(right.mean(), resampled)},
            empty=0.0,
            at_delta={f"{d:g}": {"value": 100 * float(right[:, i].mean())} for i, d in enumerate(deltas)},
            sizes=_score_sizes([truth + _FAR for truth in truths], np.array([box + _FAR] * len(truths))),
        )
        rows.append(ScoredRow(row, {METRIC[version]: resampled}))
    return rows


def _score_sizes(truths: Sequence[FloatArray], boxes: FloatArray) -> tuple[SizeScore, ...]:
    """Scores by size at δ = 0.5 of boxes ``(n, 4)``, all half-open in the benchmark's frame."""
    right = np.array([box_iou(b, of).max() >= metric.V1_DELTA for b, of in zip(boxes, truths, strict=True)])
    return score_sizes(truths, [(metric.SIDE, metric.SIDE)] * len(truths), boxes, right)


def _deltas(version: int) -> tuple[float, ...]:
    return (metric.V1_DELTA,) if version == 1 else metric.DELTAS


def mask_metrics(counts: MaskCounts) -> dict[str, Number]:
    """PxAP and pIoU, if any image has masks."""
    if not counts.images:
        return {}
    accuracy = counts.accuracy()
    return {"pxap": Number(accuracy.pxap), "piou": Number(accuracy.piou)}


def map_images(
    samples: Sequence[Sample], maps: Mapping[str, Sequence[Raw]], rows: Sequence[ScoredRow]
) -> Iterator[ImageResult]:
    """The images one by one, with the box of each row of ``maps`` at its best τ for δ = 0.5."""
    at_best = {scored.row.title: scored.best for scored in rows if scored.best}
    for i, sample in enumerate(samples):
        size_hw, found = stated_size(sample), {}
        for title, (box, truth) in ((title, best[i]) for title, best in at_best.items()):
            corners, iou = rescale_boxes(box, (metric.SIDE, metric.SIDE), size_hw)[0], float(box_iou(box, truth).max())
            found[title] = BoxResult(as_box(corners), iou, None, error_type(box, truth, None))
        raws = {name: raw for name, of in maps.items() if not isinstance(raw := of[i], Path)}
        arrays = {name: raw.M if isinstance(raw, BoxedMap) else raw for name, raw in raws.items()}
        yield image_result(sample, size_hw, found, arrays)


def best_box(raw: Raw, sample: Sample, tau: float, version: int) -> tuple[FloatArray, FloatArray]:
    """The box ``(4,)`` of a map at one threshold, and the truth ``(N, 4)`` it is compared with.

    Both are half-open, in the benchmark's 224x224 pixels: with one added to the far corners, the common IoU is the
    benchmark's.
    """
    truth = metric.truth_boxes(sample.boxes, stated_size(sample))
    return np.array(metric.box_at(read_scores(raw)[0], truth, tau, version), np.float64) + _FAR, truth + _FAR
