"""Which images are in which step, on which process: a function of the seed alone.

Nothing is remembered between steps, so a run can begin at any of them, and one process has in a step what several
have together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from famcli_models.errors import ConfigError

View = tuple[int, int]  # epoch, from 1, and number of the image


@dataclass(frozen=True, kw_only=True)
class Order:
    """The images of every step of one process; what is left over at the end of an epoch is dropped.

    ``batch_size`` counts the images a step of all processes together, ``accumulate`` each process's forward passes.
    """

    images: int
    batch_size: int
    epochs: int
    seed: int
    accumulate: int = 1
    processes: int = 1
    process: int = 0

    def __post_init__(self) -> None:
        """Check that a step can be shared."""
        if self.batch_size % self.shares or self.images < self.shares:
            raise ConfigError(
                f"{min(self.batch_size, self.images)} images a step cannot be shared evenly by {self.processes} "
                f"processes with {self.accumulate} forward passes each; set batch_size to a multiple of {self.shares}"
            )

    @property
    def shares(self) -> int:
        """Forward passes in a step, on all processes."""
        return self.accumulate * self.processes

    @property
    def size(self) -> int:
        """Images a step."""
        return min(self.batch_size, self.images) // self.shares * self.shares

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
        for step in range(start, self.steps):
            epoch, place = step // self.epoch_steps + 1, step % self.epoch_steps
            order = _shuffled(self.images, self.seed, epoch)
            chosen = order[place * self.size : (place + 1) * self.size].tolist()
            for part in range(self.accumulate):
                yield [(epoch, image) for image in chosen[part * self.processes + self.process :: self.shares]]


@lru_cache(maxsize=2)
def _shuffled(images: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(images, generator=generator)
