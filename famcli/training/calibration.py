"""Class probabilities that mean what they say: a temperature for the softmax, fitted to labels of images (Guo 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from famcli.data.sample import Sample, read_sample
from famcli.inference.engine import Failed, run_images
from famcli.inference.torch_engine import TorchEngine
from famcli_models.methods.method import Method
from famcli_models.preprocess import resize

BATCH, WORKERS = 32, 2
TEMPERATURES = torch.logspace(-1.5, 1.5, 301)  # 0.03 to 32


def class_scores(model: Method, samples: Sequence[Sample], device: str = "auto") -> tuple[Tensor, Tensor]:
    """Class scores ``(N, L)`` and labels ``(N,)`` of the images that can be read, in float32 on the CPU."""
    engine, size = TorchEngine(model, device, fold=False), model.config.size
    results = run_images(
        samples,
        lambda sample: resize(read_sample(sample, size).image, size),
        lambda batch: engine.output(np.stack([view for _, view in batch])).logits.cpu(),
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
