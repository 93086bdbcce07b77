"""Which of several processes this one is: from the environment of a launcher, or from ``--shard I/N``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from famcli_models.errors import ConfigError, shown

# What launchers set in each process: index, number of processes, and who does so. The first that is there counts: an
# mpirun below Slurm starts its processes by srun, and torchrun may be what srun or mpirun starts.
VARIABLES = (
    ("RANK", "WORLD_SIZE", "torchrun"),  # accelerate launch too
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE", "mpirun"),  # MPICH and Intel MPI
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun"),
)
# The shell of an sbatch script or of salloc has SLURM_PROCID and SLURM_NTASKS too, but is alone. It is no step that
# srun has started: it has none, or one with a number from here on.
SLURM_RESERVED_STEPS = 0xFFFFFFF0


@dataclass(frozen=True, slots=True)
class Rank:
    """One of several processes that share the images of a run.

    Attributes:
        index: From 0.
        count: How many processes there are.
        launcher: Who started them together, so that rank 0 can wait for the others; empty for shards that are started
            one by one.
    """

    index: int = 0
    count: int = 1
    launcher: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Rank:
        """What ``torchrun``, ``accelerate launch``, ``srun`` or ``mpirun`` says; without one the only process.

        Raises:
            ConfigError: The variables of a launcher contradict each other.
        """
        for index, count, launcher in VARIABLES:
            given = {name: environ[name] for name in (index, count) if environ.get(name)}
            if launcher == "srun" and (count not in given or not _is_step(environ.get("SLURM_STEP_ID", ""))):
                continue
            if given:
                return cls._checked(given.get(index, ""), given.get(count, ""), launcher, f"{index} and {count}")
        return cls()

    @classmethod
    def from_text(cls, text: str) -> Rank:
        """Shard ``I/N``, numbered from 0, of ``--shard``.

        Raises:
            ConfigError: It is none.
        """
        index, _, count = text.partition("/")
        return cls._checked(index, count, "", "--shard")

    @classmethod
    def _checked(cls, index: str, count: str, launcher: str, given: str) -> Rank:
        numbers = [int(value) for value in (index, count) if re.fullmatch("[0-9]{1,9}", value.strip())]
        if len(numbers) != 2 or numbers[0] >= numbers[1]:
            if launcher:
                values = f"{shown(index)} and {shown(count)}"
                raise ConfigError(
                    f"{given} are {values}: a launcher sets both, the first a number from 0 and below the second; "
                    "unset both to run in one process"
                )
            either = "write it as I/N, the shards numbered from 0: 0/4, 1/4, 2/4 and 3/4 are four"
            raise ConfigError(f"{given} {shown(f'{index}/{count}' if count else index)} is no shard; {either}")
        return cls(numbers[0], numbers[1], launcher)

    def share(self, total: int) -> slice:
        """The part of so many things that is this process's: without gaps between ranks, in their order.

        A block, and not every n-th, so that each process opens its own folders and archives only, and reads them in
        order; and so that what the ranks have made, one behind the other, is what a single process makes.
        """
        return slice(self.index * total // self.count, (self.index + 1) * total // self.count)

    def __str__(self) -> str:
        """As messages call it."""
        return f"rank {self.index} of {self.count}" if self.launcher else f"shard {self.index}/{self.count}"


def _is_step(number: str) -> bool:
    return number.isdecimal() and int(number) < SLURM_RESERVED_STEPS
