"""Networks and labelled images to outcomes: what FAM, CAM and two rivals without a network did on each image.

The protocols here are those of one box an image (:mod:`famcli.evaluation.boxrules`); maps at many thresholds, as
wsolevaluation scores them, are counted in :mod:`famcli.evaluation.counting`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from famcli.data.sample import MAX_CLASSES, Sample, check_labels
from famcli.evaluation.boxrules import BoxRules
from famcli.evaluation.external import Found
from famcli.evaluation.inference import SHOWN_CLASSES, Look, Networks, Seen
from famcli.evaluation.perimage import NOWHERE, Outcomes
from famcli.results.images import RIGHT_IOU
from famcli_models.boxes import FloatArray, box_iou
from famcli_models.localization import localize, localize_at
from famcli_models.methods.method import Method

CENTRE_SIDE = 0.7  # the centre box takes this share of each side
RIVALS = {"centre": f"centre box, {CENTRE_SIDE:.0%} of each side", "whole": "whole image"}  # titles by method
TAUS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of curves, and those an oracle chooses from
UNNAMED = MAX_CLASSES  # the place of a class that was not named at all: behind all that can be


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was done on n images.

    Attributes:
        samples: The images that were scored, in the order of the split.
        sizes: ``(h, w)`` of each original.
        truths: Boxes ``(N, 4)`` of each image that counted, in the protocol's frame.
        outcomes: By method, what is measured first; then ``centre`` and ``whole``.
        maps: By method, the maps of the images, ``(n, h, w)`` float32 in [0, 1].
        classes: The most probable classes of each image, index and probability; empty where there are none.
        rules: The protocol.
        side: Pixels of the network's input, which is the frame of a cropped protocol.
    """

    samples: list[Sample]
    sizes: list[tuple[int, int]]
    truths: list[FloatArray]
    outcomes: dict[str, Outcomes]
    maps: dict[str, npt.NDArray[np.float32]]
    classes: list[tuple[tuple[int, float], ...]]
    rules: BoxRules
    side: int


def evaluate(
    networks: Networks,
    samples: Sequence[Sample],
    look: Look,
    on_images: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Measure networks, a centre box and the whole image on labelled images with boxes.

    Args:
        networks: What is measured, and its rival.
        samples: Images with labels and boxes.
        look: How the networks look, and by what rules boxes are compared.
        on_images: Called with the number of images that were done since the last call.

    Raises:
        DataError: An image cannot be read, or a label is outside the networks' classes.
    """
    if look.same_classes:
        for network in (networks.fam, networks.cam):
            if network is not None:
                check_labels(samples, network.config.num_classes)
    side = networks.first.config.size
    present = {name: n for name, n in (("FAM", networks.fam), ("CAM", networks.cam)) if n is not None}
    taus = np.array(sorted({*TAUS, *(n.config.tau for n in present.values())}))
    rows: dict[str, list[_Boxes]] = {name: [] for name in (*present, "centre", "whole")}
    maps: dict[str, list[np.ndarray]] = {name: [] for name in present}
    ranks: dict[str, list[int]] = {name: [] for name in present}
    kept: list[Seen] = []
    truths: list[FloatArray] = []
    for seen, boxes, truth in _scored(networks, samples, look, taus, side):
        for name, found in boxes.items():
            rows[name].append(found)
        for name, M in seen.maps.items():
            maps[name].append(M)
        for name, place in seen.ranks.items():
            ranks[name].append(place)
        kept.append(Seen(seen.sample, seen.size_hw, {}, {}, seen.classes))
        truths.append(truth)
        on_images(1)
    nothing = np.array([np.nan])
    outcomes = {
        name: _joined(name, taus if name in present else nothing, found, ranks.get(name) or None, look.rules.strict)
        for name, found in rows.items()
    }
    return Evaluation(
        [s.sample for s in kept],
        [s.size_hw for s in kept],
        truths,
        outcomes,
        {name: np.stack(found) for name, found in maps.items() if found},
        [s.classes for s in kept],
        look.rules,
        side,
    )


def best_tau(networks: Networks, samples: Sequence[Sample], look: Look) -> float | None:
    """The τ of the CAM with the most right boxes on some images: those of a split to choose on, as train-fullsup.

    Returns:
        ``None`` if none of the images could be read.

    Raises:
        DataError: See :func:`evaluate`.
    """
    found = evaluate(Networks(None, networks.cam), samples, look).outcomes["CAM"]
    return float(found.taus[found.best()]) if len(found.ious) else None


def count_right(network: Method, samples: Sequence[Sample], device: str, batch_size: int = 32) -> int:
    """Images that are right by protocol ``fam`` at the network's own τ; classes are not asked for."""
    look = Look(device=device, batch_size=batch_size, same_classes=True)
    networks = Networks(network, None) if not network.class_conditional else Networks(None, network)
    right = 0
    for batch in look.at(networks, samples):
        for seen in batch:
            (M,) = seen.maps.values()
            regions = localize(M, seen.size_hw, network.config.tau).regions
            right += bool(regions) and bool(box_iou(regions[0].xyxy, seen.sample.boxes).max() >= RIGHT_IOU)
    return right


def evaluate_found(
    found: Sequence[Found],
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    rules: BoxRules,
    side: int,
    same_classes: bool,
) -> Evaluation:
    """Measure boxes that were found elsewhere: of each image the box of the highest score.

    Classes are in the order of their best scores, each once; the box serves them all.

    Args:
        found: Boxes, labels and scores of each sample.
        samples: Images with labels and boxes.
        sizes: ``(h, w)`` of each original.
        rules: The protocol.
        side: Pixels of the frame of a cropped protocol.
        same_classes: Score classes too.
    """
    rows: dict[str, list[_Boxes]] = {"predictions": [], "centre": [], "whole": []}
    ranks: list[int] = []
    most = 0  # classes that were named of one image
    classes: list[tuple[tuple[int, float], ...]] = []
    truths = [rules.truth(sample.boxes, size_hw, side) for sample, size_hw in zip(samples, sizes, strict=True)]
    for entry, sample, size_hw, truth in zip(found, samples, sizes, truths, strict=True):
        order = np.argsort(-entry.scores, kind="stable")
        best = order[:1]
        boxes = rules.to_frame(entry.boxes[best], size_hw, side)
        score = float(entry.scores[best[0]]) if len(best) else 0.0
        rows["predictions"].append(_compare(boxes if len(boxes) else None, truth, score))
        for name, box in _rivals(rules.frame_hw(size_hw, side)).items():
            rows[name].append(_compare(box, truth))
        named: dict[int, float] = {}
        for i in order.tolist():
            named.setdefault(int(entry.labels[i]), float(entry.scores[i]))
        if same_classes:
            ranks.append(list(named).index(sample.label) if sample.label in named else UNNAMED)
            most = max(most, len(named))
        # Only what can be read as a class of the data and its probability; scores of other tools may be anything.
        probable = all(0 <= score <= 1 for score in named.values())
        known = [(label, score) for label, score in named.items() if label >= 0]
        classes.append(tuple(known[:SHOWN_CLASSES]) if same_classes and probable else ())
    nothing = np.array([np.nan])
    outcomes = {
        name: _joined(name, nothing, boxes, ranks if name == "predictions" and ranks else None, rules.strict)
        for name, boxes in rows.items()
    }
    outcomes["predictions"] = replace(outcomes["predictions"], top5=most > 1)
    return Evaluation(list(samples), list(sizes), truths, outcomes, {}, classes, rules, side)


@dataclass(frozen=True, slots=True)
class _Boxes:
    """One image at T thresholds: IoUs ``(T,)``, boxes ``(T, 4)`` and means of the map in the box's region ``(T,)``."""

    ious: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.floating]
    foreground: npt.NDArray[np.float32]


def _scored(
    networks: Networks, samples: Sequence[Sample], look: Look, taus: FloatArray, side: int
) -> Iterator[tuple[Seen, dict[str, _Boxes], FloatArray]]:
    """Images in their order; boxes are found on threads while the next batch is in the network."""

    def score(seen: Seen) -> tuple[Seen, dict[str, _Boxes], FloatArray]:
        frame_hw = look.rules.frame_hw(seen.size_hw, side)
        truth = look.rules.truth(seen.sample.boxes, seen.size_hw, side)
        boxes = {name: _at_all(M, frame_hw, taus, truth) for name, M in seen.maps.items()}
        boxes |= {name: _compare(box, truth) for name, box in _rivals(frame_hw).items()}
        return seen, boxes, truth

    waiting: deque[list[Future[tuple[Seen, dict[str, _Boxes], FloatArray]]]] = deque()
    with ThreadPoolExecutor(look.workers, thread_name_prefix="boxes") as pool:
        for batch in look.at(networks, samples):
            waiting.append([pool.submit(score, seen) for seen in batch])
            if len(waiting) > 1:
                yield from (future.result() for future in waiting.popleft())
        while waiting:
            yield from (future.result() for future in waiting.popleft())


def _at_all(M: np.ndarray, frame_hw: tuple[int, int], taus: FloatArray, truth: FloatArray) -> _Boxes:
    regions = localize_at(M, frame_hw, taus.tolist())
    boxes = np.array([r.xyxy if r else [np.nan] * 4 for r in regions])
    there = ~np.isnan(boxes[:, 0])
    ious = np.full(len(taus), NOWHERE)
    if there.any():
        ious[there] = box_iou(boxes[there], truth).max(axis=1)
    return _Boxes(ious, boxes.astype(np.float32), np.array([r.foreground if r else 0 for r in regions], np.float32))


def _compare(box: npt.ArrayLike | None, truth: FloatArray, score: float = 1.0) -> _Boxes:
    """One box of a score, or none, with the truth."""
    if box is None:
        return _Boxes(np.array([NOWHERE]), np.full((1, 4), np.nan), np.zeros(1, np.float32))
    iou = box_iou(box, truth).max(axis=1)
    return _Boxes(iou, np.asarray(box, np.float64).reshape(1, 4), np.array([score], np.float32))


def _rivals(frame_hw: tuple[int, int]) -> dict[str, tuple[float, ...]]:
    """Boxes that need no network."""
    h, w = frame_hw
    margin = (1 - CENTRE_SIDE) / 2
    return {"centre": (w * margin, h * margin, w * (1 - margin), h * (1 - margin)), "whole": (0.0, 0.0, w, h)}


def _joined(
    method: str, taus: FloatArray, found: Sequence[_Boxes], ranks: Sequence[int] | None, strict: bool
) -> Outcomes:
    count = len(taus)
    return Outcomes(
        method,
        taus,
        np.array([f.ious for f in found]).reshape(-1, count),
        np.array([f.boxes for f in found]).reshape(-1, count, 4),
        np.array([f.foreground for f in found]).reshape(-1, count),
        None if ranks is None else np.array(ranks, np.int64),
        strict,
    )
