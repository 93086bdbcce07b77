"""Maps at many thresholds to rows of a result: MaxBoxAcc, MaxBoxAccV2, PxAP and pIoU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.data.masks import MaskSource
from famcli.data.sample import Sample
from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.counting import Counts, Scored, Wanted, count, read_scores
from famcli.evaluation.metrics.box import (
    DELTAS,
    SIDE,
    V1_DELTA,
    BoxAccuracy,
    IntArray,
    box_at,
    inclusive_iou,
    truth_boxes,
)
from famcli.evaluation.metrics.mask import MaskCounts
from famcli.evaluation.onebox import CENTRE_SIDE, RIVALS
from famcli.evaluation.rows import Entry, number
from famcli.results.schema import Number, Row
from famcli_models.boxes import FloatArray

METRIC = {1: "max_box_acc", 2: "max_box_acc_v2"}
Raw = Path | np.ndarray


@dataclass(frozen=True, slots=True)
class Sweep:
    """Images with their truth, and how their maps are scored.

    Attributes:
        samples: Images with boxes.
        sizes: ``(h, w)`` of each original.
        masks: Where the masks of each image are, or ``None``.
        version: 1 or 2, of MaxBoxAcc; ``None`` where only masks count.
        interval: From one threshold to the next.
        processes: How many work; all cores if not given.
        on_image: Told the number of images that were done since the last call.
    """

    samples: Sequence[Sample]
    sizes: Sequence[tuple[int, int]]
    masks: Sequence[MaskSource | None]
    version: int | None
    interval: float
    processes: int | None = None
    on_image: Callable[[int], None] = lambda _: None

    def count(self, maps: Sequence[Raw]) -> Counts:
        """Count all maps, one for each image: an array, or the file it is in.

        Raises:
            DataError: See :func:`famcli.evaluation.counting.count`.
        """
        wanted = Wanted(self.interval, self.version is not None, self.version)
        return count(self._images(maps), wanted, self.processes, self.on_image)

    def _images(self, maps: Sequence[Raw]) -> Iterator[Scored]:
        for sample, size_hw, raw, masks in zip(self.samples, self.sizes, maps, self.masks, strict=True):
            if self.version is not None or masks is not None:
                yield Scored(sample.name, raw, sample.boxes, size_hw, masks)

    def truths(self) -> Iterator[IntArray]:
        """Boxes of each image in the benchmark's frame."""
        for sample, size_hw in zip(self.samples, self.sizes, strict=True):
            yield truth_boxes(sample.boxes, size_hw)

    def entry(self, method: str, counts: Counts, bootstrap: Bootstrap) -> Entry:
        """The row of one way of making maps; the best τ is chosen anew in each resample."""
        if self.version is None:
            return Entry(Row(method=method, title=method, metrics=mask_metrics(counts.masks)), {})
        version = self.version
        accuracy = counts.boxes.accuracy(version)
        deltas = (V1_DELTA,) if version == 1 else DELTAS
        columns = len(counts.boxes.taus)
        best = []
        for i in range(len(deltas)):
            bits = np.array([packed[i] for packed in counts.right])
            best.append(bootstrap.means(np.unpackbits(bits, axis=1, count=columns)).max(axis=1))
        resampled = np.mean(best, axis=0)
        row = Row(
            method=method,
            title=method,
            metrics={METRIC[version]: number(accuracy.value / 100, resampled, bootstrap), **mask_metrics(counts.masks)},
            tau=accuracy.tau[V1_DELTA] if version == 1 else None,
            tau_from="oracle",
            empty=100 * accuracy.empty / accuracy.images,
            at_delta=_at_delta(accuracy, deltas),
            curve=tuple(accuracy.curve[V1_DELTA]),
        )
        return Entry(row, {METRIC[version]: resampled})

    def rivals(self, bootstrap: Bootstrap) -> list[Entry]:
        """Boxes that need no map, in the benchmark's frame: the centre box, and the whole image."""
        if self.version is None:
            return []
        low, high = int(SIDE * (1 - CENTRE_SIDE) / 2), int(SIDE * (1 + CENTRE_SIDE) / 2)
        centre, whole = (low, low, high, high), (0, 0, SIDE - 1, SIDE - 1)
        boxes = {"centre": centre, "whole": whole}
        return [self._of_box(name, RIVALS[name], box, bootstrap) for name, box in boxes.items()]

    def _of_box(self, method: str, title: str, box: tuple[int, ...], bootstrap: Bootstrap) -> Entry:
        version = self.version or 1
        deltas = (V1_DELTA,) if version == 1 else DELTAS
        ious = np.array([inclusive_iou([box], truth).max() for truth in self.truths()])
        right = ious[:, None] >= np.array(deltas)
        resampled = bootstrap.means(right).mean(axis=1)
        row = Row(
            method=method,
            title=title,
            metrics={METRIC[version]: number(right.mean(), resampled, bootstrap)},
            empty=0.0,
            at_delta={f"{d:g}": {"value": 100 * float(right[:, i].mean())} for i, d in enumerate(deltas)},
        )
        return Entry(row, {METRIC[version]: resampled})

    def boxes(self, maps: Sequence[Raw], row: Row) -> Iterator[tuple[FloatArray, FloatArray]]:
        """The box ``(4,)`` of each image at the row's best τ for δ = 0.5, and the truth ``(N, 4)`` it is compared with.

        Both are half-open, in the benchmark's 224x224 pixels: with one added to the far corners, the common IoU is
        the benchmark's.
        """
        version = self.version or 1
        tau = (row.at_delta or {})[f"{V1_DELTA:g}"]["tau"]
        for raw, truth in zip(maps, self.truths(), strict=True):
            far = np.array([0, 0, 1, 1])
            yield np.array(box_at(read_scores(raw)[0], truth, tau, version), np.float64) + far, truth + far


def mask_metrics(counts: MaskCounts) -> dict[str, Number]:
    """PxAP and pIoU, if any image has masks."""
    if not counts.images:
        return {}
    accuracy = counts.accuracy()
    return {"pxap": Number(accuracy.pxap), "piou": Number(accuracy.piou)}


def _at_delta(accuracy: BoxAccuracy, deltas: Sequence[float]) -> dict[str, dict[str, float]]:
    return {f"{d:g}": {"value": accuracy.at_delta[d], "tau": accuracy.tau[d]} for d in deltas}
