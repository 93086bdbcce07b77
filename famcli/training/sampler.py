"""Which images are in which step, on which process: a function of the seed alone.

Nothing is remembered between steps, so a run can begin at any of them, and one process has in a step what several
have together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from famcli_models.errors import ConfigError

View = tuple[int, int]  # epoch, from 1, and number of the image; an epoch after the last is another view of it


@dataclass(frozen=True, kw_only=True)
class Order:
    """The images of every step of one process; what is left over at the end of an epoch is dropped.

    ``batch_size`` counts the images a step of all processes together, ``accumulate`` each process's forward passes.
    With ``paired_by``, the label of each image, images come in pairs of one label, the two of a pair one after the
    other, and an image that is left alone comes with another view of one of its label, be it itself.
    """

    images: int
    batch_size: int
    epochs: int
    seed: int
    accumulate: int = 1
    processes: int = 1
    process: int = 0
    paired_by: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Check that a step can be shared."""
        least = self.shares * self._together
        if self.batch_size % least or self.images < least:
            pairs = " in pairs" if self.paired_by else ""
            raise ConfigError(
                f"{min(self.batch_size, self.images)} images a step cannot be shared evenly{pairs} by {self.processes} "
                f"processes with {self.accumulate} forward passes each; set batch_size to a multiple of {least}"
            )

    @property
    def shares(self) -> int:
        """Forward passes in a step, on all processes."""
        return self.accumulate * self.processes

    @property
    def size(self) -> int:
        """Images a step."""
        least = self.shares * self._together
        return min(self.batch_size, self.images) // least * least

    @property
    def epoch_steps(self) -> int:
        """Steps in an epoch."""
        return self.images // self.size

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epoch_steps * self.epochs

    def batches(self, start: int = 0) -> Iterator[list[View]]:
        """What this process passes forward, from a step on: ``accumulate`` lists a step."""
        begun, taken = divmod(start, self.epoch_steps)
        for epoch in range(begun + 1, self.epochs + 1):
            groups = self._groups(epoch)
            for chosen in groups.split(self.size // self._together)[taken : self.epoch_steps]:
                for part in range(self.accumulate):
                    mine = chosen[part * self.processes + self.process :: self.shares]
                    yield [(number, image) for number, image in mine.flatten(0, 1).tolist()]
            taken = 0

    @property
    def _together(self) -> int:
        """Images that stay together."""
        return 2 if self.paired_by else 1

    def _groups(self, epoch: int) -> Tensor:
        """The views of an epoch in random order, ``(n, together, 2)``."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.images, generator=generator)
        views = torch.stack([torch.full_like(order, epoch), order], dim=1)
        if not self.paired_by:
            return views[:, None]
        labels = torch.as_tensor(self.paired_by)[order]
        counts = labels.unique(return_counts=True)[1].tolist()
        pairs = []
        for alike in views[labels.argsort(stable=True)].split(counts):
            other = alike[: len(alike) % 2] + torch.tensor([self.epochs, 0])  # of the first, for one left alone
            pairs.append(torch.cat([alike, other]).view(-1, 2, 2))
        joined = torch.cat(pairs)
        return joined[torch.randperm(len(joined), generator=generator)]
