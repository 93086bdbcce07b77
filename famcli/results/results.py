"""The result card: everything that a reader needs beside a number, as ``results.json``.

The page "Results" of the documentation says what each key means. What was not measured is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT, FORMAT_VERSION = "fam-results", 1

# Names and titles of the metrics, in the order of tables; all in percent.
METRICS: Mapping[str, str] = {
    "gt_known": "GT-known",
    "top1_loc": "Top-1 Loc",
    "top5_loc": "Top-5 Loc",
    "top1_cls": "Top-1 Cls",
    "top5_cls": "Top-5 Cls",
    "mean_iou": "mean IoU",
    "max_box_acc": "MaxBoxAcc",
    "max_box_acc_v2": "MaxBoxAccV2",
    "pxap": "PxAP",
    "piou": "pIoU",
}


@dataclass(frozen=True, slots=True)
class Number:
    """A measured value with its interval.

    Attributes:
        value: In percent.
        low: Lower end of the 95 % bootstrap interval over images; ``None`` if there is none.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Scores of one way of making boxes.

    Attributes:
        method: ``FAM``, ``CAM``, ``centre``, ``whole``, ``maps`` or ``predictions``.
        title: What tables call it.
        metrics: Measured numbers by a name of :data:`METRICS`.
        tau: Threshold on the map; ``None`` where there is none, or one for each δ (see ``at_delta``).
        tau_from: How it was chosen: ``fixed``, ``train-fullsup``, or ``oracle``, on the very images scored.
        empty: Share of images without a box, percent.
        at_delta: Of MaxBoxAcc and MaxBoxAccV2: for each δ, as text, its accuracy ``value`` and its ``tau``.
        iou_histogram: Numbers of images by best IoU, in ten bins from 0 to 1; without a box in the first.
        coco: COCO's average precisions by name (``AP``, ``AP50``, ``AP75``), in percent.
        curve: GT-known, or accuracy at δ = 0.5, at each of the result's ``taus``, percent; without intervals.
        kinds: Number of images by kind, see :mod:`famcli.evaluation.errortypes`.
    """

    method: str
    title: str
    metrics: Mapping[str, Number]
    tau: float | None = None
    tau_from: str = ""
    empty: float | None = None
    at_delta: Mapping[str, Mapping[str, float]] | None = None
    iou_histogram: tuple[int, ...] | None = None
    coco: Mapping[str, float] | None = None
    curve: tuple[float, ...] | None = None
    kinds: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference on the same images: ``of`` minus ``minus``, titles of rows, in points."""

    of: str
    minus: str
    metric: str
    number: Number


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Scores of the first row's method on one class; ``None`` where it does not apply."""

    label: int
    name: str
    images: int
    gt_known: float
    top1_loc: float | None
    top1_cls: float | None
    mean_iou: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One evaluation.

    A sequence within ``data``, ``source``, ``protocol`` or ``bootstrap`` is a tuple: that is how a file is read.

    Attributes:
        kind: ``evaluation``, or ``smoke check``: a number that says that the program works, and nothing else.
        created: UTC, ISO 8601.
        data: ``name``, ``split``, ``images`` scored, ``images_of_split``, ``boxes``, ``masks`` (images with masks),
            ``partial``, ``sha256`` of names, labels and boxes, ``class_names`` by label, which may be empty.
        source: ``kind`` (``model``, ``maps`` or ``predictions``) and ``name``; of a model also ``method``,
            ``backbone``, ``backbone_weights``, ``weights_sha256``, ``revision``, ``input_size``, ``classifier``,
            ``data``, ``recipe``, ``seed``, ``tuned_on_test``.
        protocol: ``name``, ``interval``, ``crops`` and ``rules``, in words.
        same_classes: The labels are classes of the model.
        rows: The first is what was evaluated, then its rivals.
        taus: Thresholds of the curves.
        differences: Of the first row to its rivals.
        classes: By label; of the first row.
        bootstrap: ``resamples``, ``seed`` and ``level``.
        versions: Of this program and what it computes with.
    """

    kind: str
    created: str
    data: Mapping[str, Any]
    source: Mapping[str, Any]
    protocol: Mapping[str, Any]
    same_classes: bool
    rows: tuple[Row, ...]
    taus: tuple[float, ...] = ()
    differences: tuple[Difference, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    bootstrap: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
