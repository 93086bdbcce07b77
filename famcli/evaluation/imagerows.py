"""Per-image results of an evaluation, for ``images.jsonl`` and reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from famcli.data.sample import Sample
from famcli.evaluation.metrics.box import SIDE
from famcli.evaluation.onebox import Evaluation
from famcli.evaluation.rows import Entry, detection_scores, kinds
from famcli.evaluation.thresholds import Raw, Sweep
from famcli.results.images import Box, BoxResult, ImageResult, byte_map, error_type
from famcli_models.boxes import FloatArray, box_iou, rescale_boxes


def of_evaluation(evaluation: Evaluation, entries: Sequence[Entry]) -> Iterator[ImageResult]:
    """Of a protocol with one box an image."""
    shown = [(e, e.outcomes) for e in entries if e.outcomes is not None]
    names = {e.row.title: kinds(e, evaluation) for e, _ in shown}
    scores = {e.row.title: detection_scores(e, evaluation) for e, _ in shown if e.row.method not in {"centre", "whole"}}
    ranks = entries[0].outcomes.ranks if entries[0].outcomes is not None else None
    images = zip(evaluation.samples, evaluation.sizes, evaluation.classes, strict=True)
    for i, (sample, size_hw, classes) in enumerate(images):
        found: dict[str, BoxResult] = {}
        for e, outcomes in shown:
            title, box = e.row.title, outcomes.boxes[i, e.at].astype(np.float64)
            if np.isnan(box).any():
                found[title] = BoxResult(None, None, None, names[title][i])
                continue
            corners = evaluation.rules.to_photo(box, size_hw, evaluation.side)[0]
            score = float(scores[title][i]) if title in scores else None
            found[title] = BoxResult(_box(corners), float(outcomes.ious[i, e.at]), score, names[title][i])
        truth = sample.boxes[:1] if evaluation.rules.first_only else sample.boxes
        rank = None if ranks is None else int(ranks[i])
        maps = {name: of[i] for name, of in evaluation.maps.items()}
        yield _image(sample, size_hw, truth, found, maps, classes, rank)


def of_sweep(sweep: Sweep, maps: Mapping[str, Sequence[Raw]], entries: Sequence[Entry]) -> Iterator[ImageResult]:
    """Of a protocol over many thresholds: boxes at the best τ for δ = 0.5, in the benchmark's frame."""
    measured = [e for e in entries if e.row.method in maps and e.row.at_delta is not None]
    streams = {e.row.title: sweep.boxes(maps[e.row.method], e.row) for e in measured}
    for i, (sample, size_hw) in enumerate(zip(sweep.samples, sweep.sizes, strict=True)):
        found = {}
        for title, stream in streams.items():
            box, truth = next(stream)
            iou = float(box_iou(box, truth).max())
            corners = rescale_boxes(box, (SIDE, SIDE), size_hw)[0]
            found[title] = BoxResult(_box(corners), iou, None, error_type(box, truth, None))
        yield _image(sample, size_hw, sample.boxes, found, {name: of[i] for name, of in maps.items()})


def _image(
    sample: Sample,
    size_hw: tuple[int, int],
    truth: FloatArray,
    found: Mapping[str, BoxResult],
    maps: Mapping[str, Raw],
    classes: tuple[tuple[int, float], ...] = (),
    rank: int | None = None,
) -> ImageResult:
    """The result of an image; maps that are files of another tool stay where they are."""
    return ImageResult(
        name=sample.name,
        path=os.path.abspath(sample.path),
        label=sample.label,
        width=size_hw[1],
        height=size_hw[0],
        truth=tuple(map(_box, truth)),
        classes=classes,
        rank=rank,
        found=found,
        maps={name: byte_map(M) for name, M in maps.items() if not isinstance(M, Path)},
    )


def _box(corners: npt.NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = corners.tolist()
    return x0, y0, x1, y1
