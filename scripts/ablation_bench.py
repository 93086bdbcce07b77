"""Train and measure rows of the ablations; the features of a frozen backbone are shared by all rows of a seed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ablation_results import Result
from ablation_rows import Row
from famcli.data.squash import squash
from famcli.data.transforms import Normalize
from torch import nn

from famcli.data.dataset import open_dataset
from famcli.data.sample import Sample, read_sample
from famcli.evaluation.inference import rank
from famcli.results.images import RIGHT_IOU
from famcli.training.accelerator import make_accelerator
from famcli.training.config import TrainConfig
from famcli.training.data import gather
from famcli.training.loading import CachedFeatures, Views, map_size
from famcli.training.loop import fit
from famcli.training.recipe import load_recipe
from famcli.training.sampler import Order
from famcli.training.step import Training
from famcli_models.boxes import box_iou
from famcli_models.errors import FamError
from famcli_models.features import Features
from famcli_models.localization import localize
from famcli_models.losses import diversity_loss
from famcli_models.methods.fam import FAM

CPU = torch.device("cpu")
LOOK_AT = 48  # test images a forward pass
Seen = tuple[Features, Sequence[Sample], list[tuple[int, int]]]  # features, samples, (h, w) of the originals


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
    _seen: list[Seen] = field(default_factory=list)

    def result(self, row: Row, seed: int) -> Result:
        """Train a row with a seed as ``fam train`` does, and measure the model of the last step."""
        settings = [f"seed={seed}", f"backbone_weights={self.weights}"]
        data, test = (str(self.root / name) if self.root else name for name in (row.data, row.test))
        recipe = load_recipe(row.recipe, [*row.overrides, *settings, f"data=[{json.dumps(data)}]"])
        material = gather(recipe.run)
        recipe = recipe.with_classes(material.num_classes, bool(material.class_names))
        tests = open_dataset(test).samples("test", with_boxes=True)
        torch.manual_seed(seed)  # as fam train does before it makes the model
        model = FAM.from_backbone(recipe.model, self.weights, material.class_names or None)
        of = (row.data, row.test, seed, recipe.model.size, recipe.train.cached_views)
        if recipe.train.cached_views and of != self._of:
            self._of, self._cached = of, cache(model, material.samples, recipe.train)
            self._seen = list(look(model, tests))
        began = time.monotonic()
        try:
            if recipe.train.cached_views and self._cached is not None:
                training = fit_cached(model, material.samples, recipe.train, self._cached)
            else:
                training = fit(model, material.samples, recipe.train, make_accelerator("cpu"), workers=0)
        except FamError as error:  # a loss that is not finite is a result
            seconds = round(time.monotonic() - began, 1)
            return Result(row.recipe, row.changes, seed, {}, math.nan, seconds, str(error), row.data, row.test)
        seconds = round(time.monotonic() - began, 1)
        scores = measure(model, self._seen if recipe.train.cached_views else look(model, tests))
        rounded = {name: round(value, 4) for name, value in scores.items()}
        train_top1 = round(100 * training.history[-1].top1, 2)
        return Result(row.recipe, row.changes, seed, rounded, train_top1, seconds, "", row.data, row.test)


def cache(model: FAM, samples: Sequence[Sample], config: TrainConfig) -> CachedFeatures:
    """The features of the training views, as ``fam train`` makes them."""
    views = Views(samples, model.config.size, map_size(model, CPU), config.seed)
    cached = CachedFeatures(model, views, config.batch_size, CPU, 0, config.cached_views)
    # Half as fast again on a CPU; the same numbers up to rounding.
    cached.rounds = [[X.contiguous(memory_format=torch.channels_last), *rest] for X, *rest in cached.rounds]
    return cached


def fit_cached(model: FAM, samples: Sequence[Sample], config: TrainConfig, cached: CachedFeatures) -> Training:
    """The loop of :func:`famcli.training.loop.fit` on features that other runs have used too."""
    torch.manual_seed(config.seed)
    nn.init.normal_(model.part_attention.discovery.weight, std=config.part_std)
    order = Order(images=len(samples), batch_size=config.batch_size, epochs=config.epochs, seed=config.seed)
    names = [sample.name for sample in samples]
    training = Training(model, config, order, names, make_accelerator("cpu"), from_features=True)
    batches = cached.batches(order, 0)
    model.train()
    while training.step < order.steps:
        training.take_step(batches, lambda: False)
        if training.step % order.epoch_steps == 0:
            training.end_epoch()
    model.eval()
    return training


def look(model: FAM, samples: Sequence[Sample]) -> Iterator[Seen]:
    """The features of test images, the whole image squashed to the model's input."""
    model.eval()
    config = model.config
    for start in range(0, len(samples), LOOK_AT):
        batch = samples[start : start + LOOK_AT]
        pictures = [read_sample(sample, config.size) for sample in batch]
        views = [squash(picture.image, config.size) for picture in pictures]
        with torch.inference_mode():
            features = model.features(Normalize(config.mean, config.std)(views, CPU))
        yield features, batch, [picture.size_hw for picture in pictures]


@torch.inference_mode()
def measure(model: FAM, seen: Iterable[Seen]) -> dict[str, float]:
    """Scores on test images by protocol ``fam`` at the model's own τ, as :class:`ablation_results.Result` has them."""
    found: dict[str, list[float]] = {}
    tau = model.config.tau
    for features, samples, sizes in seen:
        out = model.head(features)
        known = rank(out.logits, torch.tensor([sample.label for sample in samples])) == 0
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
