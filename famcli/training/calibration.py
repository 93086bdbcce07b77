"""Probabilities and scores that can be used, fitted at the end of training to labels of images alone.

The temperature of the softmax (Guo 2017) makes the probability of a class that of its being right. The score of a box
is fitted to how well boxes agree with the targets, see :mod:`famcli.inference.scores`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from famcli.data.sample import Sample, read_sample
from famcli.inference.pipeline import Failed, run_images
from famcli.inference.scores import certainty
from famcli.inference.torch_engine import TorchEngine
from famcli_models.boxes import box_iou
from famcli_models.localization import localize
from famcli_models.methods.method import Method
from famcli_models.preprocess import resize

BATCH, WORKERS = 32, 2
TARGET_TAU = 0.5  # targets are nearly 0 or 1
RIDGE = 1e-5
TEMPERATURES = torch.logspace(-1.5, 1.5, 301)  # 0.03 to 32


def class_scores(model: Method, samples: Sequence[Sample], device: str = "auto") -> tuple[Tensor, Tensor]:
    """Class scores ``(N, L)`` and labels ``(N,)`` of the images that can be read, in float32 on the CPU."""
    engine, size = TorchEngine(model, device, fold=False), model.config.size
    results = run_images(
        samples,
        lambda sample: resize(read_sample(sample, size).image, size),
        lambda batch: engine.run(np.stack([view for _, view in batch])).logits.cpu(),
        lambda sample, _view, logits: (logits, sample.label),
        batch_size=BATCH,
        workers=WORKERS,
    )
    found = [result for result in results if not isinstance(result, Failed)]
    scores = [logits for logits, _ in found]
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    return torch.stack(scores) if scores else torch.zeros(0, model.config.num_classes), labels


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature at which the labels ``(N,)`` are likeliest, given class scores ``(N, L)``.

    A few images that are all right say little of how seldom the next one is wrong: as Platt (1999) does, the labels
    count as right with a probability of (N + 1) / (N + 2).
    """
    doubt = 1 / (len(labels) + 2)
    losses = [F.cross_entropy(logits / t, labels, label_smoothing=doubt) for t in TEMPERATURES] if len(labels) else []
    return float(TEMPERATURES[int(torch.stack(losses).argmin())]) if losses else 1.0


def fit_box_score(
    model: Method, images: Sequence[tuple[Sample, np.ndarray]], device: str = "auto"
) -> tuple[float, ...]:
    """Weights of :func:`famcli.inference.scores.box_score`, given images and their targets, made from image labels.

    Logistic regression of the overlap (IoU) of the largest box with that of the target.
    """
    engine, config = TorchEngine(model, device, fold=False), model.config

    def infer(batch: Sequence[tuple[int, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        found = engine.infer([np.stack([view for _, view in batch])])
        return list(zip(found.maps, found.probabilities, strict=True))

    def finish(number: int, _: np.ndarray, found: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float] | None:
        M, probabilities = found
        target = images[number][1]
        frame = target.shape[0], target.shape[1]
        boxes, truth = localize(M, frame, config.tau).regions, localize(target, frame, TARGET_TAU).regions
        overlap = box_iou(boxes[0].xyxy, truth[0].xyxy).item() if boxes and truth else 0.0
        return (overlap, boxes[0].foreground, certainty(probabilities, config.temperature)) if boxes else None

    def load(number: int) -> np.ndarray:
        return resize(read_sample(images[number][0], config.size).image, config.size)

    results = run_images(range(len(images)), load, infer, finish, batch_size=BATCH, workers=WORKERS)
    found = [result for result in results if result is not None and not isinstance(result, Failed)]
    if not found:  # a model that finds nothing, or images that cannot be read
        return ()
    rows = torch.tensor(found, dtype=torch.float64)
    overlaps, numbers = rows[:, 0], F.pad(rows[:, 1:], (1, 0), value=1.0)  # (N,) and (N, 3): 1, foreground, certainty
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(numbers @ weights, overlaps) + RIDGE * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return tuple(weights.tolist())


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error (Naeini 2015): |share of right images - mean probability|, over bins of the latter.

    Args:
        probabilities: ``(N, L)``.
        labels: ``(N,)``.
        bins: Of equal width in [0, 1].
    """
    best, classes = probabilities.max(dim=1)
    gap = (classes == labels).double() - best.double()
    of_bin = (best * bins).long().clamp(max=bins - 1)
    return float(torch.zeros(bins, dtype=torch.float64).index_add(0, of_bin, gap).abs().sum() / max(1, len(labels)))
