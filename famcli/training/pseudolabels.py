"""Extension: images without labels join the training under the class that a pretrained classifier gives them.

What the classifier is sure of is taken for the truth ("pseudo-labels", Lee 2013). No label that the images come with is
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from famcli.data.sample import Sample, read_sample
from famcli.data.squash import squash
from famcli.data.transforms import Normalize
from famcli.inference.device import pick_device
from famcli_models.errors import ConfigError, DataError
from famcli_models.methods.method import Localizer

BATCH = 32


def pseudo_label(
    model: Localizer, samples: Sequence[Sample], least: float, device: str = "auto", workers: int = 2
) -> list[Sample]:
    """Give images the class that a model's pretrained classifier is sure of.

    Args:
        model: A model whose backbone and classifier are as they were pretrained: the classifier reads the mean of X.
        samples: Images; their labels are not looked at.
        least: Probability below which an image is left out.
        device: See :func:`famcli.inference.device.pick_device`.
        workers: Threads for decoding.

    Returns:
        The images that are left, in order, with the model's classes. One that cannot be read is left out.

    Raises:
        ConfigError: The classifier is not the backbone's own.
    """
    if model.provenance.get("classifier") != "pretrained":
        msg = "unlabelled images need a classifier that knows classes: give backbone_weights that have one, of as many"
        raise ConfigError(msg)
    where = pick_device(device)
    model = model.to(where).eval()
    normalize = Normalize(model.config.mean, model.config.std)
    found: list[Sample] = []

    def view(sample: Sample) -> tuple[Sample, np.ndarray] | None:
        try:
            return sample, squash(read_sample(sample, model.config.size).image, model.config.size)
        except DataError:
            return None

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(samples), BATCH):
            batch = [pair for pair in pool.map(view, samples[start : start + BATCH]) if pair is not None]
            if not batch:
                continue
            with torch.inference_mode():
                X = model.features(normalize([pixels for _, pixels in batch], where)).X
                sure, classes = model.classifier(X.mean(dim=(2, 3))).softmax(dim=1).max(dim=1)
            for (sample, _), probability, label in zip(batch, sure.tolist(), classes.tolist(), strict=True):
                if probability >= least:
                    found.append(replace(sample, label=label))
    return found
