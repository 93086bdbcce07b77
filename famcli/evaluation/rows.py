"""From per-image results to rows of a result: metrics with intervals, differences, classes, sizes, error types."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from famcli.data.sample import Sample
from famcli.evaluation.bootstrap import Bootstrap, wilson
from famcli.evaluation.metrics.coco import average_precision
from famcli.evaluation.perimage import FIXED_BOXES, BoxScores, PerImage
from famcli.results.images import Box, BoxResult, ImageResult, byte_map, error_type
from famcli.results.schema import SIZES, ClassRow, Difference, Number, Row, SizeScore
from famcli_models.boxes import FloatArray, box_area

COMPARED = ("gt_known", "top1_loc", "top1_cls", "mean_iou", "max_box_acc", "max_box_acc_v2")
ORACLE = "oracle"  # a threshold that was chosen on the very images that are scored


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row, and what its numbers were taken from."""

    row: Row
    resampled: Mapping[str, FloatArray]  # by metric (R,) its value in each resample, in [0, 1]
    boxes: BoxScores | None = None  # of protocols with one box an image: what the row was counted from
    at: int = 0  # index of the row's threshold in the boxes
    kinds: Sequence[str] = field(default=(), repr=False)  # the error type of each image
    # Of protocols over maps: of each image the box (4,) at the best τ for δ = 0.5, and the truth (N, 4) beside it.
    best: Sequence[tuple[FloatArray, FloatArray]] = field(default=(), repr=False)


def score_row(
    found: PerImage,
    method: str,
    title: str,
    at: int,
    tau_from: str,
    bootstrap: Bootstrap,
    masks: Mapping[str, Number] | None = None,
    coco: Mapping[str, float] | None = None,
) -> ScoredRow:
    """Score one way of making boxes at one threshold.

    An oracle chooses its threshold anew in each resample, so that its luck is part of the interval. ``at`` is the index
    of the threshold; ``tau_from`` says how it was chosen: ``fixed``, ``train-fullsup``, ``oracle``, or nothing where
    there is none. ``masks`` and ``coco`` are more metrics of the row.
    """
    boxes = found.scores[method]
    scores = boxes.scores(at)
    names = list(scores)
    if tau_from == ORACLE:
        each = [boxes.scores(t) for t in range(len(boxes.taus))]
        means = {name: bootstrap.means(np.stack([s[name] for s in each], axis=1)) for name in names}
        best = means["gt_known"].argmax(axis=1)
        resampled = {name: m[np.arange(len(m)), best] for name, m in means.items()}
    else:
        means_at = bootstrap.means(np.stack([scores[name] for name in names], axis=1))
        resampled = dict(zip(names, means_at.T, strict=True))
    metrics = {name: bootstrap.number(scores[name].mean(), resampled[name]) for name in names}
    _check(metrics)
    ranks = boxes.ranks.tolist() if boxes.ranks is not None else [None] * len(found.samples)
    corners = boxes.boxes[:, at].astype(np.float64)
    each_box = zip(corners, found.truths, ranks, strict=True)
    kinds = [error_type(box, truth, rank, strict=boxes.strict) for box, truth, rank in each_box]
    frames = [found.rules.frame_hw(size_hw, found.side) for size_hw in found.sizes]
    tau, ious = float(boxes.taus[at]), boxes.ious[:, at]
    row = Row(
        method=method,
        title=title,
        metrics={**metrics, **(masks or {})},
        tau=None if np.isnan(tau) else tau,
        tau_from=tau_from,
        empty=100 * float((ious < 0).mean()),
        iou_histogram=tuple(np.histogram(ious.clip(0), 10, (0, 1))[0].tolist()),
        coco=coco,
        curve=tuple((100 * boxes.right().mean(axis=0)).tolist()) if len(boxes.taus) > 1 else None,
        kinds=None if method in FIXED_BOXES else dict(Counter(kinds)),
        sizes=score_sizes(found.truths, frames, corners, boxes.right()[:, at]),
    )
    return ScoredRow(row, resampled, boxes, at, kinds)


def score_sizes(
    truths: Sequence[FloatArray],
    frames_hw: Sequence[tuple[int, int]],
    boxes: npt.NDArray[np.floating],
    right: npt.NDArray[np.bool_],
) -> tuple[SizeScore, ...]:
    """GT-known and the median ratio of predicted to true area by the share of its frame that an object covers.

    The object of an image is the largest of its ``truths`` ``(N, 4)``; where there is none of the ``boxes`` ``(n, 4)``,
    it is NaN. An oracle's threshold is that of all images, in each bin.
    """
    true = np.array([box_area(truth).max() for truth in truths])
    bins = np.digitize(100 * true / np.prod(frames_hw, axis=1), SIZES[1:-1])
    ratios = np.divide((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), true, out=np.full(len(true), np.nan), where=true > 0)
    found = []
    for number in range(len(SIZES) - 1):
        here = bins == number
        known = ratios[here & ~np.isnan(ratios)]
        ratio = float(np.median(known)) if len(known) else None
        found.append(SizeScore(int(here.sum()), wilson(right[here]) if here.any() else None, ratio))
    return tuple(found)


def _check(metrics: Mapping[str, Number]) -> None:
    """A class-agnostic box serves every class, so asking for the class too can only lose images."""
    for k in ("1", "5"):
        loc, cls = metrics.get(f"top{k}_loc"), metrics.get(f"top{k}_cls")
        if loc is not None and cls is not None and loc.value > min(cls.value, metrics["gt_known"].value) + 1e-9:
            raise AssertionError(f"Top-{k} Loc {loc.value} exceeds Top-{k} Cls or GT-known: please report this fault")


def differences(rows: Sequence[ScoredRow], bootstrap: Bootstrap) -> tuple[Difference, ...]:
    """The first row less each of the others, on the same images and in the same resamples."""
    first, found = rows[0], []
    for other in rows[1:]:
        for name in COMPARED:
            if name in first.resampled and name in other.resampled:
                low, high = bootstrap.interval(first.resampled[name] - other.resampled[name])
                value = first.row.metrics[name].value - other.row.metrics[name].value
                found.append(Difference(first.row.title, other.row.title, name, Number(value, 100 * low, 100 * high)))
    return tuple(found)


def class_rows(first: ScoredRow, labels: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[ClassRow, ...]:
    """Scores of the first row, class by class."""
    if first.boxes is None:
        return ()
    scores = first.boxes.scores(first.at)
    rows = []
    for label in np.unique(labels).tolist():
        here = labels == label
        percent = {name: 100 * float(values[here].mean()) for name, values in scores.items()}
        name = names[label] if 0 <= label < len(names) else str(label)
        classes = percent.get("top1_loc"), percent.get("top1_cls")
        rows.append(ClassRow(label, name, int(here.sum()), percent["gt_known"], *classes, percent["mean_iou"]))
    return tuple(rows)


def detection_scores(found: PerImage, method: str, at: int) -> FloatArray:
    """Scores ``(n,)`` of boxes with their class: mean of the map in the region, times the probability of the class."""
    return found.scores[method].foreground[:, at].astype(np.float64) * found.confidence


def box_precision(found: PerImage, method: str, at: int, classes_of_images: Sequence[int]) -> dict[str, float]:
    """COCO's average precision of the one box of each image; of an image, the class is one of the model's."""
    boxes = found.scores[method]
    classes = boxes.ranks is not None
    truth_labels = [of if classes else 0 for of in classes_of_images]
    labels = [of[0][0] if classes and of else 0 for of in found.classes]
    corners = boxes.boxes[:, at].astype(np.float64)
    return average_precision(found.truths, truth_labels, corners, labels, detection_scores(found, method, at))


def image_results(found: PerImage, rows: Sequence[ScoredRow]) -> Iterator[ImageResult]:
    """The images one by one, with the box of each row."""
    scores = {r.row.title: detection_scores(found, r.row.method, r.at) for r in rows if r.row.method not in FIXED_BOXES}
    ranks = rows[0].boxes.ranks if rows[0].boxes is not None else None
    for i, (sample, size_hw) in enumerate(zip(found.samples, found.sizes, strict=True)):
        results: dict[str, BoxResult] = {}
        for r in rows:
            title, boxes = r.row.title, found.scores[r.row.method]
            box = boxes.boxes[i, r.at].astype(np.float64)
            if np.isnan(box).any():
                results[title] = BoxResult(None, None, None, r.kinds[i])
                continue
            corners = found.rules.to_photo(box, size_hw, found.side)[0]
            score = float(scores[title][i]) if title in scores else None
            results[title] = BoxResult(as_box(corners), float(boxes.ious[i, r.at]), score, r.kinds[i])
        maps, place = {name: of[i] for name, of in found.maps.items()}, None if ranks is None else int(ranks[i])
        yield image_result(sample, size_hw, results, maps, found.classes[i], place, found.rules.first_only)


def image_result(
    sample: Sample,
    size_hw: tuple[int, int],
    found: Mapping[str, BoxResult],
    maps: Mapping[str, np.ndarray],
    classes: tuple[tuple[int, float], ...] = (),
    rank: int | None = None,
    first_only: bool = False,
) -> ImageResult:
    """One scored image; ``found`` is by title of a row, ``maps`` by its method."""
    return ImageResult(
        name=sample.name,
        path=os.path.abspath(sample.path),
        label=sample.label,
        width=size_hw[1],
        height=size_hw[0],
        truth=tuple(as_box(box) for box in (sample.boxes[:1] if first_only else sample.boxes)),
        classes=classes,
        rank=rank,
        found=found,
        maps={name: byte_map(M) for name, M in maps.items()},
    )


def as_box(corners: npt.NDArray[np.float64]) -> Box:
    """Corners ``(4,)`` as numbers."""
    x0, y0, x1, y1 = corners.tolist()
    return x0, y0, x1, y1
