"""Train and measure rows of the ablations; the features of a frozen backbone are shared by all rows of a seed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from ablation_results import Result
from ablation_rows import Row

from famcli.data.dataset import open_dataset
from famcli.data.sample import Sample, read_sample
from famcli.inference.torch_engine import TorchEngine
from famcli.results.images import RIGHT_IOU
from famcli.training.config import TrainConfig
from famcli.training.data import open_data
from famcli.training.environment import make_accelerator
from famcli.training.loading import CachedFeatures, Views, map_size
from famcli.training.loop import Training, fit
from famcli.training.recipe import load_recipe
from famcli_models.boxes import box_iou
from famcli_models.errors import FamError
from famcli_models.features import Features
from famcli_models.localization import localize
from famcli_models.losses import diversity_loss
from famcli_models.methods.fam import FAM
from famcli_models.preprocess import resize

CPU = torch.device("cpu")
BATCH = 48  # test images a forward pass
Batch = tuple[Features, Sequence[Sample], list[tuple[int, int]]]  # features, samples, (h, w) of the originals


@dataclass(slots=True)
class Bench:
    """Trains rows on the CPU.

    Attributes:
        weights: File of the backbone's weights.
        root: Folder that holds the prepared data sets; if not given they are found by their names.
    """

    weights: str
    root: Path | None = None
    _of: tuple[str | int, ...] = ()  # what the features below belong to
    _cached: CachedFeatures | None = None
    _features: list[Batch] = field(default_factory=list)

    def result(self, row: Row, seed: int) -> Result:
        """Train a row with a seed as ``fam train`` does, and measure the model of the last step."""
        settings = [f"seed={seed}", f"backbone_weights={self.weights}"]
        data, test = (str(self.root / name) if self.root else name for name in (row.data, row.test))
        recipe = load_recipe(row.recipe, [*row.overrides, *settings, f"data=[{json.dumps(data)}]"])
        images = open_data(recipe.run)
        recipe = recipe.with_classes(images.num_classes, bool(images.class_names))
        tests = open_dataset(test).samples("test", with_boxes=True)
        torch.manual_seed(seed)  # as fam train does before it makes the model
        model = FAM.from_backbone(recipe.model, self.weights, images.class_names or None)
        of = (row.data, row.test, seed, recipe.model.size, recipe.train.cached_views)
        if recipe.train.cached_views and of != self._of:
            self._of, self._cached = of, cache(model, images.samples, recipe.train)
            self._features = list(features_of(model, tests))
        began = time.monotonic()
        try:
            training = train(model, images.samples, recipe.train, self._cached if recipe.train.cached_views else None)
        except FamError as error:  # a loss that is not finite is a result
            seconds = round(time.monotonic() - began, 1)
            return Result(row.recipe, row.changes, seed, {}, math.nan, seconds, str(error), row.data, row.test)
        seconds = round(time.monotonic() - began, 1)
        scores = measure(model, self._features if recipe.train.cached_views else features_of(model, tests))
        rounded = {name: round(value, 4) for name, value in scores.items()}
        train_top1 = round(100 * training.history[-1].measures["top1"], 2)
        return Result(row.recipe, row.changes, seed, rounded, train_top1, seconds, "", row.data, row.test)


def cache(model: FAM, samples: Sequence[Sample], config: TrainConfig) -> CachedFeatures:
    """The features of the training views, as ``fam train`` makes them."""
    views = Views(samples, model.config.size, map_size(model, model.config.size, CPU), config.seed)
    cached = CachedFeatures(model, views, config.batch_size, CPU, 0, config.cached_views)
    # Half as fast again on a CPU; the same numbers up to rounding.
    cached.rounds = [[X.contiguous(memory_format=torch.channels_last), *rest] for X, *rest in cached.rounds]
    return cached


def train(model: FAM, samples: Sequence[Sample], config: TrainConfig, cached: CachedFeatures | None = None) -> Training:
    """Train as ``fam train`` does, on features that other runs have used too if there are some."""
    training = Training(model, samples, config, make_accelerator("cpu"))
    for _ in fit(training, 0, cached.batches(training.order, 0) if cached is not None else None):
        pass
    return training


def features_of(model: FAM, samples: Sequence[Sample]) -> Iterator[Batch]:
    """The features of test images, the whole image resized to the model's input."""
    engine, size = TorchEngine(model, CPU, fold=False), model.config.size
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        pictures = [read_sample(sample, size) for sample in batch]
        views = np.stack([resize(picture.image, size) for picture in pictures])
        yield engine.features(views), batch, [picture.size_hw for picture in pictures]


@torch.inference_mode()
def measure(model: FAM, batches: Iterable[Batch]) -> dict[str, float]:
    """Scores on test images by protocol ``fam`` at the model's own τ, as :class:`ablation_results.Result` has them."""
    found: dict[str, list[float]] = {}
    tau = model.config.tau
    for features, samples, sizes in batches:
        out = model.head(features)
        known = out.logits.argmax(dim=1) == torch.tensor([sample.label for sample in samples])
        for i, (sample, size_hw) in enumerate(zip(samples, sizes, strict=True)):
            regions = localize(out.M[i, 0].numpy(), size_hw, tau).regions
            right = bool(regions) and bool(box_iou([regions[0].xyxy], sample.boxes).max() >= RIGHT_IOU)
            of_image = {
                "gt_known": 100.0 * right,
                "top1_loc": 100.0 * (right and bool(known[i])),
                "top1_cls": 100.0 * bool(known[i]),
                "empty": 100.0 * (not regions),
                "foreground": 100 * float((out.M[i] > tau).float().mean()),
                "mean_m": float(out.M[i].mean()),
                "part_similarity": float(diversity_loss(out.A[i].flatten(1)[None])),
            }
            for name, value in of_image.items():
                found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
