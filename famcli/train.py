"""Training on image labels alone: a config, one epoch, and the loop around it.

Boxes are never read here. Every random choice comes from the seed, the epoch and the image's number, so
that a run on the same machine and versions repeats exactly.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from famcli.data.images import read_picture
from famcli.data.readers import Sample
from famcli.data.transforms import Normalize, RandomCrop
from famcli.predict import pick_device
from famcli_models.errors import ConfigError, DataError, FamError
from famcli_models.fam import FAM
from famcli_models.losses import balanced_class_weight, fam_loss

SLOW = 0.1  # share of the learning rate for a "slow" classifier


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
        part_spread: Standard deviation factor of the initial part filters; parts that start alike stay alike.
        seed: Of everything random.
    """

    epochs: int = 12
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    backbone: Literal["frozen", "trained"] = "frozen"
    backbone_lr: float = 0.01
    class_balanced: bool = False
    lambda_target: float = 0.0
    part_spread: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low in (("epochs", 1), ("batch_size", 1), ("lr", 0), ("weight_decay", 0), ("backbone_lr", 0)):
            if getattr(self, name) < low:
                msg = f"{name} is {getattr(self, name)}; it must be at least {low}"
                raise ConfigError(msg)
        if self.backbone not in ("frozen", "trained"):
            msg = f"backbone is '{self.backbone}'; it must be frozen or trained"
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


class Views(Dataset[tuple[np.ndarray, np.ndarray, int]]):
    """Random training views of labelled images; the same view for the same seed, epoch and image.

    An item is the view ``(size, size, 3)`` uint8, the target of M seen through the same crop ``(H, W)``
    float32 (zeros without targets), and the label.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int,
        map_hw: tuple[int, int],
        seed: int,
        targets: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.samples = samples
        self.size = size
        self.map_hw = map_hw
        self.seed = seed
        self.targets = targets
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        crop = RandomCrop.draw(self.size, rng)
        target = np.zeros(self.map_hw, np.float32)
        if self.targets is not None:
            target = crop.of_map(self.targets[index], self.map_hw)
        return crop.of_picture(read_sample(sample, self.size)), target, sample.label


def read_sample(sample: Sample, size: int) -> Image.Image:
    """The picture of a sample, at least twice ``size`` where it is that large.

    Raises:
        DataError: The image cannot be read; the message names it.
    """
    try:
        return read_picture(sample.path, at_least=2 * size).image
    except DataError as error:
        msg = f"{sample.path}: {error}"
        raise DataError(msg) from error


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
    """One pass over normalised images ``(B, 3, h, w)``, targets of M ``(B, H, W)`` and labels ``(B,)``.

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
    for step, (images, targets, labels) in enumerate(batches):
        lr = rate()
        for group in optimizer.param_groups:
            group["lr"] = lr * group["share"]
        with torch.set_grad_enabled(any(p.requires_grad for p in model.backbone.parameters())):
            X = model.features(images)
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
    if max(labels) >= model.config.num_classes:
        msg = f"labels go up to {max(labels)}, but the model has {model.config.num_classes} classes"
        raise DataError(msg)
    torch.manual_seed(config.seed)
    model = model.to(where).train()
    if config.part_spread != 1:
        with torch.no_grad():
            model.part_attention.discovery.weight.mul_(config.part_spread)
    optimizer = torch.optim.AdamW(parameter_groups(model, config), lr=config.lr)
    counts = torch.bincount(torch.tensor(labels), minlength=model.config.num_classes)
    class_weight = balanced_class_weight(counts).to(where) if config.class_balanced else None
    views = Views(samples, model.config.size, map_size(model, where), config.seed, targets)
    order = torch.Generator().manual_seed(config.seed)
    loader = DataLoader(
        views,
        config.batch_size,
        shuffle=True,
        generator=order,
        num_workers=workers,
        drop_last=len(samples) > config.batch_size,
        collate_fn=_collate,
    )
    steps = len(loader) * config.epochs
    taken = itertools.count()
    normalize = Normalize(model.config.mean, model.config.std)

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for images, maps, y in loader:
            yield normalize(images, where), maps.to(where), y.to(where)

    history = []
    for number in range(1, config.epochs + 1):
        started = time.monotonic()
        views.epoch = number  # before the workers of this epoch are made
        means = train_one_epoch(
            model,
            batches(),
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


def map_size(model: FAM, device: torch.device) -> tuple[int, int]:
    """``(H, W)`` of M for the model's input size."""
    size = model.config.size
    with torch.no_grad():
        X = model.features(torch.zeros(1, 3, size, size, device=device))
    return X.shape[-2], X.shape[-1]


def _collate(items: list[tuple[np.ndarray, np.ndarray, int]]) -> tuple[Tensor, Tensor, Tensor]:
    views, maps, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(views)), torch.from_numpy(np.stack(maps)), torch.tensor(labels)
