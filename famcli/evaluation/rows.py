"""Outcomes to rows of a result: metrics with intervals, paired differences, classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.metrics.coco import average_precision
from famcli.evaluation.onebox import Evaluation
from famcli.evaluation.perimage import Outcomes
from famcli.results.images import error_type
from famcli.results.schema import ClassRow, Difference, Number, Row
from famcli_models.boxes import FloatArray

COMPARED = ("gt_known", "top1_loc", "top1_cls", "mean_iou", "max_box_acc", "max_box_acc_v2")
BINS = 10  # of the histogram of IoUs, from 0 to 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A row, and what its intervals were taken from.

    Attributes:
        row: The row.
        resampled: By metric ``(R,)`` its value in each resample, in [0, 1].
        outcomes: Of protocols with one box an image: what the row was counted from.
        at: Index of the row's threshold in the outcomes.
    """

    row: Row
    resampled: Mapping[str, FloatArray]
    outcomes: Outcomes | None = None
    at: int = 0


def entry(title: str, outcomes: Outcomes, at: int, tau_from: str, bootstrap: Bootstrap) -> Entry:
    """Score outcomes at one threshold.

    An oracle chooses its threshold anew in each resample, so that its luck is part of the interval.

    Args:
        title: What tables call the row.
        outcomes: What was done.
        at: Index of the threshold.
        tau_from: How it was chosen: ``fixed``, ``train-fullsup``, ``oracle``, or empty where there is none.
        bootstrap: The resamples.
    """
    scores = outcomes.scores(at)
    names = list(scores)
    if tau_from == "oracle":
        each = [outcomes.scores(t) for t in range(len(outcomes.taus))]
        means = {name: bootstrap.means(np.stack([s[name] for s in each], axis=1)) for name in names}
        best = means["gt_known"].argmax(axis=1)
        resampled = {name: m[np.arange(len(m)), best] for name, m in means.items()}
    else:
        means_at = bootstrap.means(np.stack([scores[name] for name in names], axis=1))
        resampled = dict(zip(names, means_at.T, strict=True))
    metrics = {name: number(scores[name].mean(), resampled[name], bootstrap) for name in names}
    _check(metrics)
    tau = float(outcomes.taus[at])
    ious = outcomes.ious[:, at]
    row = Row(
        method=outcomes.method,
        title=title,
        metrics=metrics,
        tau=None if np.isnan(tau) else tau,
        tau_from=tau_from,
        empty=100 * float((ious < 0).mean()),
        iou_histogram=tuple(np.histogram(ious.clip(0), BINS, (0, 1))[0].tolist()),
        curve=tuple((100 * outcomes.right().mean(axis=0)).tolist()) if len(outcomes.taus) > 1 else None,
    )
    return Entry(row, resampled, outcomes, at)


def number(mean: float, resampled: FloatArray, bootstrap: Bootstrap) -> Number:
    """A share, and its values in the resamples, in percent."""
    low, high = bootstrap.interval(resampled)
    return Number(100 * float(mean), 100 * low, 100 * high)


def _check(metrics: Mapping[str, Number]) -> None:
    """A class-agnostic box serves every class, so asking for the class too can only lose images."""
    for k in ("1", "5"):
        loc, cls = metrics.get(f"top{k}_loc"), metrics.get(f"top{k}_cls")
        if loc is not None and cls is not None and loc.value > min(cls.value, metrics["gt_known"].value) + 1e-9:
            msg = (
                f"Top-{k} Loc {loc.value} is more than Top-{k} Cls or GT-known: the program is wrong, please report it"
            )
            raise AssertionError(msg)


def differences(entries: Sequence[Entry], bootstrap: Bootstrap) -> tuple[Difference, ...]:
    """The first row less each of the others, on the same images and in the same resamples."""
    first, found = entries[0], []
    for other in entries[1:]:
        for name in COMPARED:
            if name in first.resampled and name in other.resampled:
                low, high = bootstrap.interval(first.resampled[name] - other.resampled[name])
                value = first.row.metrics[name].value - other.row.metrics[name].value
                found.append(Difference(first.row.title, other.row.title, name, Number(value, 100 * low, 100 * high)))
    return tuple(found)


def class_rows(first: Entry, labels: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[ClassRow, ...]:
    """Scores of the first row, class by class."""
    if first.outcomes is None:
        return ()
    scores = first.outcomes.scores(first.at)
    rows = []
    for label in np.unique(labels).tolist():
        here = labels == label
        percent = {name: 100 * float(values[here].mean()) for name, values in scores.items()}
        rows.append(
            ClassRow(
                label,
                names[label] if 0 <= label < len(names) else str(label),
                int(here.sum()),
                percent["gt_known"],
                percent.get("top1_loc"),
                percent.get("top1_cls"),
                percent["mean_iou"],
            )
        )
    return tuple(rows)


def detection_scores(found: Entry, evaluation: Evaluation) -> FloatArray:
    """Scores ``(n,)`` of the boxes as ``fam predict`` gives them.

    The mean of the map in the region times the class's probability, or the mean alone where classes do not apply.
    """
    if found.outcomes is None:
        return np.zeros(0)
    foreground = found.outcomes.foreground[:, found.at].astype(np.float64)
    if found.outcomes.ranks is None or found.outcomes.method == "predictions":  # whose scores are complete
        return foreground
    return foreground * np.array([classes[0][1] if classes else 0.0 for classes in evaluation.classes])


def with_detections(found: Entry, evaluation: Evaluation) -> Entry:
    """The entry with COCO's average precision; for the row that is measured."""
    outcomes = found.outcomes
    if outcomes is None:
        return found
    classes = outcomes.ranks is not None
    truth_labels = [sample.label if classes else 0 for sample in evaluation.samples]
    labels = [of[0][0] if classes and of else 0 for of in evaluation.classes]
    boxes = outcomes.boxes[:, found.at].astype(np.float64)
    coco = average_precision(evaluation.truths, truth_labels, boxes, labels, detection_scores(found, evaluation))
    return replace(found, row=replace(found.row, coco=coco))


def with_kinds(found: Entry, evaluation: Evaluation) -> Entry:
    """The entry with the numbers of its images by kind."""
    return replace(found, row=replace(found.row, kinds=dict(Counter(kinds(found, evaluation)))))


def kinds(found: Entry, evaluation: Evaluation) -> list[str]:
    """The kind of each image, see :mod:`famcli.results.images`."""
    outcomes = found.outcomes
    if outcomes is None:
        return []
    boxes = outcomes.boxes[:, found.at].astype(np.float64)
    ranks = outcomes.ranks.tolist() if outcomes.ranks is not None else [None] * len(boxes)
    rows = zip(boxes, evaluation.truths, ranks, strict=True)
    return [
        error_type(None if np.isnan(box).any() else box, truth, place, strict=outcomes.strict)
        for box, truth, place in rows
    ]
