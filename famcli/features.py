"""Labelled images to features X, fresh for every epoch or computed once for a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from famcli.data.readers import Sample, read_sample
from famcli.data.transforms import Normalize, RandomCrop
from famcli_models.fam import FAM

Batch = tuple[Tensor, Tensor, Tensor]  # X (B, C, H, W), targets of M (B, H, W), labels (B,)


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
        return crop.of_picture(read_sample(sample, self.size).image), target, sample.label


class FreshFeatures:
    """New random views in every epoch.

    Args:
        model: Gives the features; gradients reach its backbone where that is trained.
        views: The images.
        batch_size: Images a step; what is left over at the end of an epoch is dropped.
        device: Where the model is.
        workers: Processes that decode.
    """

    def __init__(self, model: FAM, views: Views, batch_size: int, device: torch.device, workers: int) -> None:
        self.model = model
        self.views = views
        self.device = device
        self.trained = any(p.requires_grad for p in model.backbone.parameters())
        self.normalize = Normalize(model.config.mean, model.config.std)
        self.loader = DataLoader(
            views,
            min(batch_size, len(views)),
            shuffle=True,
            generator=torch.Generator().manual_seed(views.seed),
            num_workers=workers,
            drop_last=True,
            collate_fn=_collate,
        )

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self.loader)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1, in random order."""
        self.views.epoch = number  # set before the loader makes this epoch's workers
        for images, targets, labels in self.loader:
            with torch.set_grad_enabled(self.trained):
                X = self.model.features(self.normalize(images, self.device))
            yield X, targets.to(self.device), labels.to(self.device)


class CachedFeatures:
    """A few random views of each image, their features computed once and kept in memory in float16.

    Args:
        model: With a frozen backbone.
        views: The images.
        batch_size: Images a step.
        device: Where the model is.
        workers: Processes that decode.
        rounds: Views of each image.
    """

    def __init__(
        self, model: FAM, views: Views, batch_size: int, device: torch.device, workers: int, rounds: int
    ) -> None:
        self.batch_size = min(batch_size, len(views))
        self.device = device
        self.seed = views.seed
        normalize = Normalize(model.config.mean, model.config.std)
        self.rounds: list[tuple[Tensor, Tensor, Tensor]] = []
        for number in range(1, rounds + 1):
            views.epoch = number
            loader = DataLoader(views, batch_size, num_workers=workers, collate_fn=_collate)
            parts = []
            for images, targets, labels in loader:
                with torch.no_grad():
                    parts.append((model.features(normalize(images, device)).half().cpu(), targets, labels))
            X, targets, labels = (torch.cat(column) for column in zip(*parts, strict=True))
            self.rounds.append((X, targets, labels))

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self.rounds[0][2]) // self.batch_size

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1, in random order."""
        columns = self.rounds[(number - 1) % len(self.rounds)]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(len(columns[2]), generator=generator)
        for step in range(len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            X, targets, labels = (column[chosen].to(self.device) for column in columns)
            yield X.float(), targets, labels


def map_size(model: FAM, device: torch.device) -> tuple[int, int]:
    """``(H, W)`` of M for the model's input size."""
    size = model.config.size
    with torch.no_grad():
        X = model.features(torch.zeros(1, 3, size, size, device=device))
    return X.shape[-2], X.shape[-1]


def _collate(items: list[tuple[np.ndarray, np.ndarray, int]]) -> tuple[Tensor, Tensor, Tensor]:
    views, maps, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(views)), torch.from_numpy(np.stack(maps)), torch.tensor(labels)
