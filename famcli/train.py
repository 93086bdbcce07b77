"""Training on image labels alone: a config, one epoch, and the loop around it.

Boxes are never read here. Every random choice comes from the seed, the epoch and the image's number, so
that a run on the same machine and versions repeats exactly.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli.data.readers import Sample, check_labels
from famcli.features import CachedFeatures, FreshFeatures, Views, map_size
from famcli.predict import pick_device
from famcli_models.config import check_fields
from famcli_models.errors import ConfigError, FamError
from famcli_models.fam import FAM
from famcli_models.losses import balanced_class_weight, fam_loss

BackboneTraining = Literal["frozen", "trained"]
SLOW = 0.1  # share of the learning rate for a "slow" classifier

_RANGES = {
    "epochs": (1, 100_000),
    "batch_size": (1, 100_000),
    "lr": (0.0, 100.0),
    "weight_decay": (0.0, 100.0),
    "warmup": (0.0, 1.0),
    "backbone_lr": (0.0, 100.0),
    "lambda_target": (0.0, 1e6),
    "cached_views": (0, 1000),
    "part_std": (0.0, 1e3),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train; the model's own choices are in ``FAMConfig``.

    The paper names no optimiser, schedule, batch size or number of epochs; these are ours.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images a step.
        lr: Peak learning rate of AdamW for the attention modules.
        weight_decay: Of AdamW; not on biases.
        warmup: Share of all steps in which the rate rises linearly; then it falls to 0 as a cosine.
        backbone: ``frozen``, or ``trained`` at ``backbone_lr`` times the rate.
        backbone_lr: See above.
        class_balanced: Weigh the classes by inverse frequency in equation (10).
        lambda_target: Extension: weight of the term that draws M to targets made from image labels alone.
        cached_views: With a frozen backbone, compute the features of this many random views of each image
            once, keep them in memory in float16, and take them in turn, one an epoch; 0 computes anew.
        part_std: Standard deviation of the initial part filters, 0 for torch's default; parts that start
            alike stay alike.
        seed: Of everything random.
    """

    epochs: int = 12
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    backbone: BackboneTraining = "frozen"
    backbone_lr: float = 0.01
    class_balanced: bool = False
    lambda_target: float = 0.0
    cached_views: int = 0
    part_std: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field's type and range."""
        check_fields(self, {"backbone": get_args(BackboneTraining)}, _RANGES)
        if self.cached_views and self.backbone != "frozen":
            msg = "cached_views needs backbone = 'frozen': the features of a trained backbone change at every step"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is logged after each epoch.

    Attributes:
        number: From 1.
        terms: Mean of each loss term.
        foreground: Mean of M; near 0 or 1 means a map that has collapsed.
        spread: Mean over images of the standard deviation of M; near 0 likewise.
        top1: Share of training views classified right.
        seconds: Wall time.
    """

    number: int
    terms: Mapping[str, float]
    foreground: float
    spread: float
    top1: float
    seconds: float


def parameter_groups(model: FAM, config: TrainConfig) -> list[dict[str, Any]]:
    """AdamW's groups: attention modules, classifier and backbone at their rates, no decay on vectors.

    Freezes what is frozen. Each group keeps its share of the peak rate as ``share``.
    """
    classifier = {"trained": 1.0, "slow": SLOW, "frozen": 0.0}[model.config.classifier]
    shares = {"classifier": classifier, "backbone": config.backbone_lr if config.backbone == "trained" else 0.0}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        share = shares.get(name.split(".")[0], 1.0)
        parameter.requires_grad_(share > 0)
        if share > 0:
            groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": p, "share": share, "weight_decay": config.weight_decay if decay else 0.0}
        for (share, decay), p in groups.items()
    ]


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise, then a cosine to 0."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def train_one_epoch(
    model: FAM,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    rate: Callable[[], float],
    class_weight: Tensor | None,
    lambda_target: float,
    on_image: Callable[[int], None],
) -> dict[str, float]:
    """One pass over features X ``(B, C, H, W)``, targets of M ``(B, H, W)`` and labels ``(B,)``.

    Args:
        model: In training mode.
        batches: The data.
        optimizer: With a ``share`` in each group, see :func:`parameter_groups`.
        rate: Called once a step: the learning rate.
        class_weight: ``(L,)`` or ``None``.
        lambda_target: Weight of the target term; 0 leaves it out.
        on_image: Called after each step with the number of images.

    Returns:
        Means over the epoch of the terms and of what :class:`Epoch` reports.

    Raises:
        FamError: The loss is not finite.
    """
    sums: dict[str, float] = {}
    seen = 0
    for step, (X, targets, labels) in enumerate(batches):
        lr = rate()
        for group in optimizer.param_groups:
            group["lr"] = lr * group["share"]
        out = model.head(X)
        losses = fam_loss(out, labels, model.config, class_weight)
        total, terms = losses.total, dict(losses.terms)
        if lambda_target:
            terms["target"] = target_loss(out.M, targets)
            total = total + lambda_target * terms["target"]
        if not torch.isfinite(total):
            msg = f"the loss is {total.item()} at step {step} of this epoch; lower the learning rate"
            raise FamError(msg)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        with torch.no_grad():
            logged = {
                **terms,
                "foreground": out.M.mean(),
                "spread": out.M.flatten(1).std(dim=1).mean(),
                "top1": (out.logits.argmax(dim=1) == labels).float().mean(),
            }
            for name, value in logged.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(labels)
        seen += len(labels)
        on_image(len(labels))
    return {name: value / seen for name, value in sums.items()}


def fit(
    model: FAM,
    samples: Sequence[Sample],
    config: TrainConfig,
    device: str = "auto",
    workers: int = 2,
    targets: Sequence[np.ndarray] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_image: Callable[[int], None] = lambda _: None,
) -> list[Epoch]:
    """Train a model in place.

    Args:
        model: A model on a backbone, see :meth:`FAM.from_backbone`.
        samples: Images with labels; their boxes, if any, are not looked at.
        config: How to train.
        device: See :func:`famcli.predict.pick_device`.
        workers: Processes that decode.
        targets: For each sample a map ``(h, w)`` in [0, 1] of the whole image that M is drawn to with
            weight ``config.lambda_target``, see :mod:`famcli.targets`.
        on_epoch: Called after each epoch, for example to save the model.
        on_image: Called after each step with the number of images.

    Returns:
        One entry an epoch.

    Raises:
        DataError: An image cannot be read or a label is outside the model's classes.
        FamError: The loss is not finite.
    """
    where = pick_device(device)
    labels = [sample.label for sample in samples]
    check_labels(samples, model.config.num_classes)
    torch.manual_seed(config.seed)
    model = model.to(where).train()
    if config.part_std:
        nn.init.normal_(model.part_attention.discovery.weight, std=config.part_std)
    optimizer = torch.optim.AdamW(parameter_groups(model, config), lr=config.lr)
    counts = torch.bincount(torch.tensor(labels), minlength=model.config.num_classes)
    class_weight = balanced_class_weight(counts).to(where) if config.class_balanced else None
    views = Views(samples, model.config.size, map_size(model, where), config.seed, targets)
    features: FreshFeatures | CachedFeatures = (
        CachedFeatures(model, views, config.batch_size, where, workers, config.cached_views)
        if config.cached_views
        else FreshFeatures(model, views, config.batch_size, where, workers)
    )
    steps = len(features) * config.epochs
    taken = itertools.count()

    history = []
    for number in range(1, config.epochs + 1):
        started = time.monotonic()
        means = train_one_epoch(
            model,
            features.epoch(number),
            optimizer,
            lambda: config.lr * rate_at(next(taken), steps, config.warmup),
            class_weight,
            config.lambda_target if targets is not None else 0.0,
            on_image,
        )
        seen = {name: means.pop(name) for name in ("foreground", "spread", "top1")}
        history.append(Epoch(number, means, **seen, seconds=time.monotonic() - started))
        on_epoch(history[-1])
    model.eval()
    return history


def target_loss(M: Tensor, targets: Tensor) -> Tensor:
    """Extension: binary cross entropy of M ``(B, 1, H, W)`` with targets ``(B, H, W)`` in [0, 1]."""
    eps = torch.finfo(M.dtype).eps
    return F.binary_cross_entropy(M[:, 0].clamp(eps, 1 - eps), targets)
