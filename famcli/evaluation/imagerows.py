"""Evaluations as records of their images, for reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from famcli.evaluation.metrics.box import SIDE
from famcli.evaluation.onebox import Evaluation
from famcli.evaluation.rows import Entry, detection_scores, kinds
from famcli.evaluation.thresholds import Raw, Sweep
from famcli.results.images import Box, BoxResult, ImageResult, byte_map, error_type
from famcli_models.boxes import FloatArray, box_iou, rescale_boxes


def of_evaluation(evaluation: Evaluation, entries: Sequence[Entry]) -> Iterator[ImageResult]:
    """Records of a protocol with one box an image."""
    shown = [e for e in entries if e.outcomes is not None]
    names = {e.row.title: kinds(e, evaluation) for e in shown}
    scores = {e.row.title: detection_scores(e, evaluation) for e in shown if e.row.method not in {"centre", "whole"}}
    ranks = entries[0].outcomes.ranks if entries[0].outcomes is not None else None
    rows = zip(evaluation.samples, evaluation.sizes, evaluation.classes, strict=True)
    for i, (sample, size_hw, classes) in enumerate(rows):
        found: dict[str, BoxResult] = {}
        for e in shown:
            if e.outcomes is None:
                continue
            title, box = e.row.title, e.outcomes.boxes[i, e.at].astype(np.float64)
            if np.isnan(box).any():
                found[title] = BoxResult(None, None, None, names[title][i])
                continue
            corners = evaluation.rules.to_photo(box, size_hw, evaluation.side)[0]
            score = float(scores[title][i]) if title in scores else None
            found[title] = BoxResult(_box(corners), float(e.outcomes.ious[i, e.at]), score, names[title][i])
        yield ImageResult(
            name=sample.name,
            path=os.path.abspath(sample.path),
            label=sample.label,
            width=size_hw[1],
            height=size_hw[0],
            truth=_boxes(sample.boxes[:1] if evaluation.rules.first_only else sample.boxes),
            classes=classes,
            rank=None if ranks is None else int(ranks[i]),
            found=found,
            maps={name: byte_map(maps[i]) for name, maps in evaluation.maps.items()},
        )


def of_sweep(sweep: Sweep, maps: Mapping[str, Sequence[Raw]], entries: Sequence[Entry]) -> Iterator[ImageResult]:
    """Records of a protocol over many thresholds: boxes at the best τ for δ = 0.5, in the benchmark's frame."""
    measured = [e for e in entries if e.row.method in maps and e.row.at_delta is not None]
    streams = {e.row.title: sweep.boxes(maps[e.row.method], e.row) for e in measured}
    for i, (sample, size_hw) in enumerate(zip(sweep.samples, sweep.sizes, strict=True)):
        found = {}
        for title, stream in streams.items():
            box, truth = next(stream)
            iou = float(box_iou(box, truth).max())
            corners = rescale_boxes(box, (SIDE, SIDE), size_hw)[0]
            found[title] = BoxResult(_box(corners), iou, None, error_type(box, truth, None))
        small = {name: of[i] for name, of in maps.items()}
        yield ImageResult(
            name=sample.name,
            path=os.path.abspath(sample.path),
            label=sample.label,
            width=size_hw[1],
            height=size_hw[0],
            truth=_boxes(sample.boxes),
            classes=(),
            rank=None,
            found=found,
            maps={name: byte_map(raw) for name, raw in small.items() if not isinstance(raw, Path)},
        )


def _box(corners: npt.NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = corners.tolist()
    return x0, y0, x1, y1


def _boxes(boxes: FloatArray) -> tuple[Box, ...]:
    return tuple(_box(box) for box in boxes)
