"""Model and dataset to localization numbers, beside the rivals that every such number needs.

The protocol is the paper's: M upsampled bilinearly to the original image, threshold τ, largest component;
a box is right when its IoU with any of the image's boxes is at least 0.5 (half-open boxes, no +1).
GT-known Loc asks for the box alone, Top-1 and Top-5 Loc for the class among the best 1 or 5 too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from famcli.data.sample import Sample, check_labels, read_sample
from famcli.data.transforms import Normalize, squash
from famcli.mapscores import Scored
from famcli.predict import pick_device
from famcli_models.boxes import FloatArray, box_iou
from famcli_models.cam import class_activation_maps
from famcli_models.fam import FAM
from famcli_models.localization import localize

IOU_RIGHT = 0.5
CENTRE_SIDE = 0.7  # the centre box takes this share of each side
CAM_TAUS = tuple(round(0.05 * i, 2) for i in range(1, 20))


@dataclass(frozen=True, slots=True)
class Row:
    """Scores of one way of making boxes, in percent; a score that does not apply is ``None``.

    Attributes:
        method: For example ``FAM``.
        tau: Threshold on the map.
        tau_from: How it was chosen; ``oracle`` means on the very images it is reported for.
        gt_known: GT-known Loc.
        top1_loc: Top-1 Loc.
        top5_loc: Top-5 Loc.
        top1_cls: Top-1 Cls.
        top5_cls: Top-5 Cls.
        mean_iou: Mean over images of the best IoU with any of the boxes, times 100.
        empty: Share of images without a box.
    """

    method: str
    tau: float | None
    tau_from: str
    gt_known: float
    top1_loc: float | None
    top5_loc: float | None
    top1_cls: float | None
    top5_cls: float | None
    mean_iou: float
    empty: float


def evaluate(
    model: FAM,
    samples: Sequence[Sample],
    device: str = "auto",
    batch_size: int = 32,
    workers: int = 2,
    on_image: Callable[[], None] = lambda: None,
    same_classes: bool = True,
) -> list[Row]:
    """Score a model on labelled images with boxes.

    The rows are FAM at its own τ; CAM from the same features and classifier, if that classifier is the
    backbone's own, at its best τ for these images; a centre box; and the whole image.

    Args:
        model: The model; it is moved to the device.
        samples: Images with labels and boxes.
        device: See :func:`famcli.predict.pick_device`.
        batch_size: Images per forward pass.
        workers: Threads that decode.
        on_image: Called after each image.
        same_classes: The labels are classes of the model. If not, only boxes are scored, and CAM takes the class
            that its own classifier predicts.

    Raises:
        DataError: An image cannot be read, or a label is outside the model's classes.
    """
    if same_classes:
        check_labels(samples, model.config.num_classes)
    has_cam = model.provenance.get("classifier") == "pretrained" and model.config.classifier == "frozen"
    where = pick_device(device)
    model = model.to(where).eval()
    ranks: dict[str, list[Tensor]] = {"FAM": [], "CAM": []}
    ious: dict[str, list[float]] = {"FAM": [], "centre": [], "whole": []}
    cam_ious: list[list[float]] = []
    for batch, sizes, images in _batches(model, samples, batch_size, workers, where):
        labels = torch.tensor([s.label for s in batch], device=where)
        with torch.inference_mode():
            X = model.features(images)
            out = model.head(X)
            if has_cam:
                cam_logits = model.classifier(X.mean(dim=(2, 3)))
                chosen = labels if same_classes else cam_logits.argmax(dim=1)
                cams = class_activation_maps(X, model.classifier.weight[chosen]).cpu().numpy()
        maps = out.M[:, 0].cpu().numpy()
        if same_classes:
            ranks["FAM"].append(_rank(out.logits, labels))
            if has_cam:
                ranks["CAM"].append(_rank(cam_logits, labels))
        for i, (sample, size_hw) in enumerate(zip(batch, sizes, strict=True)):
            h, w = size_hw
            ious["FAM"].append(_best_iou(maps[i], size_hw, model.config.tau, sample.boxes))
            margin = (1 - CENTRE_SIDE) / 2
            centre = (w * margin, h * margin, w * (1 - margin), h * (1 - margin))
            ious["centre"].append(float(box_iou(centre, sample.boxes).max()))
            ious["whole"].append(float(box_iou((0, 0, w, h), sample.boxes).max()))
            if has_cam:
                cam_ious.append([_best_iou(cams[i], size_hw, tau, sample.boxes) for tau in CAM_TAUS])
            on_image()
    rows = [_row("FAM", model.config.tau, "fixed", np.array(ious["FAM"]), _joined(ranks["FAM"]))]
    if has_cam:
        grid = np.array(cam_ious)
        best = int((grid >= IOU_RIGHT).mean(axis=0).argmax())
        rows.append(_row("CAM", CAM_TAUS[best], "oracle", grid[:, best], _joined(ranks["CAM"])))
    rows.append(_row(f"centre box, {CENTRE_SIDE:.0%} of each side", None, "", np.array(ious["centre"]), None))
    rows.append(_row("whole image", None, "", np.array(ious["whole"]), None))
    return rows


def foreground_maps(
    model: FAM, samples: Sequence[Sample], device: str = "auto", batch_size: int = 32, workers: int = 2
) -> Iterator[Scored]:
    """A model's maps **M**, to be scored by a protocol over maps; the other arguments are as in :func:`evaluate`.

    Raises:
        DataError: An image cannot be read.
    """
    where = pick_device(device)
    model = model.to(where).eval()
    for batch, sizes, images in _batches(model, samples, batch_size, workers, where):
        with torch.inference_mode():
            maps = model(images).M[:, 0].float().cpu().numpy()
        for sample, size_hw, M in zip(batch, sizes, maps, strict=True):
            yield Scored(sample.name, M, sample.boxes, sample.size_hw or size_hw)


def _batches(
    model: FAM, samples: Sequence[Sample], batch_size: int, workers: int, device: torch.device
) -> Iterator[tuple[Sequence[Sample], list[tuple[int, int]], Tensor]]:
    """Samples, original sizes and normalised images, batch by batch."""
    size, normalize = model.config.size, Normalize(model.config.mean, model.config.std)

    def load(sample: Sample) -> tuple[tuple[int, int], np.ndarray]:
        picture = read_sample(sample, size)
        return picture.size_hw, squash(picture.image, size)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            sizes, views = zip(*pool.map(load, batch), strict=True)
            yield batch, list(sizes), normalize(views, device)


def _joined(ranks: list[Tensor]) -> Tensor | None:
    return torch.cat(ranks) if ranks else None


def _rank(logits: Tensor, labels: Tensor) -> Tensor:
    """Place of the right class, 0 for the best; a tie counts against the model."""
    right = logits.gather(1, labels[:, None])
    return (logits >= right).sum(dim=1).cpu() - 1


def _best_iou(M: np.ndarray, size_hw: tuple[int, int], tau: float, boxes: FloatArray) -> float:
    """Best IoU of the largest region with any box; -1 if no pixel passes τ."""
    regions = localize(M, size_hw, tau).regions
    return float(box_iou(regions[0].xyxy, boxes).max()) if regions else -1.0


def _row(method: str, tau: float | None, tau_from: str, ious: np.ndarray, ranks: Tensor | None) -> Row:
    right = ious >= IOU_RIGHT

    def percent(mask: np.ndarray) -> float:
        return round(100 * float(mask.mean()), 2)

    top1 = ranks.numpy() < 1 if ranks is not None else None
    top5 = ranks.numpy() < 5 if ranks is not None else None
    return Row(
        method=method,
        tau=tau,
        tau_from=tau_from,
        gt_known=percent(right),
        top1_loc=None if top1 is None else percent(right & top1),
        top5_loc=None if top5 is None else percent(right & top5),
        top1_cls=None if top1 is None else percent(top1),
        top5_cls=None if top5 is None else percent(top5),
        mean_iou=percent(ious.clip(0)),
        empty=percent(ious < 0),
    )
