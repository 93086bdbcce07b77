"""Extension: images without labels join the training under the class that a pretrained classifier gives them.

What the classifier is sure of is taken for the truth ("pseudo-labels", Lee 2013). No label that the images come with is
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from famcli.data.sample import Sample, read_sample
from famcli.inference.engine import run_images
from famcli.inference.torch_engine import TorchEngine
from famcli_models.errors import ConfigError
from famcli_models.methods.method import Method
from famcli_models.preprocess import resize

BATCH = 32


def pseudo_label(
    model: Method, samples: Sequence[Sample], least: float, device: str = "auto", workers: int = 2
) -> list[Sample]:
    """Give images the class that a model's pretrained classifier is sure of.

    Args:
        model: A model whose backbone and classifier are as they were pretrained: the classifier reads the mean of X.
        samples: Images; their labels are not looked at.
        least: Probability below which an image is left out.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        workers: Threads for decoding.

    Returns:
        The images that are left, in order, with the model's classes. One that cannot be read is left out.

    Raises:
        ConfigError: The classifier is not the backbone's own.
    """
    if model.provenance.get("classifier") != "pretrained":
        msg = "unlabelled images need a classifier that knows classes: give backbone_weights that have one, of as many"
        raise ConfigError(msg)
    engine, size = TorchEngine(model, device, fold=False), model.config.size

    def infer(batch: Sequence[tuple[Sample, np.ndarray]]) -> list[tuple[float, int]]:
        X = engine.features(np.stack([view for _, view in batch])).X
        with torch.inference_mode():
            confidence, classes = model.classifier(X.mean(dim=(2, 3))).softmax(dim=1).max(dim=1)
        return list(zip(confidence.tolist(), classes.tolist(), strict=True))

    def finish(sample: Sample, _view: np.ndarray, found: tuple[float, int]) -> Sample | None:
        return replace(sample, label=found[1]) if found[0] >= least else None

    results = run_images(
        samples,
        lambda sample: resize(read_sample(sample, size).image, size),
        infer,
        finish,
        batch_size=BATCH,
        workers=max(1, workers),
    )
    return [result for result in results if isinstance(result, Sample)]
