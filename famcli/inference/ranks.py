"""Several processes that share the images of a run: which one this is, and how rank 0 waits for the others.

They talk through files beside the result, which all of them see: no ports, no library of a launcher's.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from famcli_models.errors import ConfigError, DataError, shown
from famcli_models.locks import only_writer

REMINDER = 30.0  # seconds between two lines that say whom rank 0 waits for
PATIENCE = 1800.0  # seconds in which none of those whom it waits for has written anything, after which it gives up
LAUNCH = 60.0  # seconds within which a launcher has started all ranks
# What launchers set in each process: index, number of processes, and who does so. The first that is there counts: an
# mpirun below Slurm starts its processes by srun, and torchrun may be what srun or mpirun starts.
VARIABLES = (
    ("RANK", "WORLD_SIZE", "torchrun"),  # accelerate launch too
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE", "mpirun"),  # MPICH and Intel MPI
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun"),
)
# The same among the processes on one machine, which may each take a GPU of their own.
LOCAL_VARIABLES = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
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

    def share(self, total: int, batch: int = 1) -> slice:
        """The part of so many images that is this process's: without gaps between ranks, in their order.

        A block, and not every n-th, so that each process opens its own folders and archives only, and reads them in
        order; and so that what the ranks have made, one behind the other, is what a single process makes. Shares begin
        at whole batches: with some engines the last digits of an image depend on the batch that it is in.
        """
        batches = -(-total // batch)
        first, last = (index * batches // self.count * batch for index in (self.index, self.index + 1))
        return slice(first, min(last, total))

    @property
    def joins(self) -> bool:
        """Whether this process puts together what all have made."""
        return self.index == 0 and bool(self.launcher)

    def all(self) -> list[Rank]:
        """All ranks, this one included."""
        return [replace(self, index=index) for index in range(self.count)]

    def __str__(self) -> str:
        """As messages call it."""
        return f"rank {self.index} of {self.count}" if self.launcher else f"shard {self.index}/{self.count}"


def local_index(environ: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those of its launcher on the same machine, from 0; 0 without a launcher."""
    if Rank.from_environment(environ).count == 1:
        return 0
    numbers = (environ.get(name, "") for name in LOCAL_VARIABLES)
    return next((int(number) for number in numbers if re.fullmatch("[0-9]{1,9}", number)), 0)


def _is_step(number: str) -> bool:
    return number.isdecimal() and int(number) < SLURM_RESERVED_STEPS


@dataclass(frozen=True, slots=True)
class RankFiles:
    """What a rank has beside the result: at any time one of three files, or none before it begins."""

    partial: Path  # what it has made so far
    done: Path  # the same file, whole
    failed: Path  # a sentence: why it has ended

    @classmethod
    def beside(cls, out: Path, rank: Rank) -> RankFiles:
        """Files of a rank of several, beside the result that all of them make."""
        stem = f"{out.name}.{rank.index}-of-{rank.count}"
        return cls(*(out.with_name(f"{stem}.{ending}") for ending in ("partial", "done", "failed")))

    def finish(self) -> None:
        """Mark what this rank has made as whole."""
        self.partial.replace(self.done)

    def remove(self) -> None:
        """Begin anew, or clean up when the result is written."""
        for path in (self.partial, self.done, self.failed):
            path.unlink(missing_ok=True)

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """If an error ends this rank, leave it for rank 0, which then waits no longer."""
        self.failed.unlink(missing_ok=True)
        try:
            yield
        except Exception as error:
            with suppress(OSError):
                self.failed.parent.mkdir(parents=True, exist_ok=True)
                self.failed.write_text(f"{error}\n", encoding="utf-8", errors="backslashreplace")
            raise


@contextmanager
def alone(out: Path, rank: Rank) -> Iterator[None]:
    """Keep other runs from writing the same results, or the same share of them; a failure is left for rank 0.

    Raises:
        DataError: Another run is at it, or there can be no files there.
    """
    with ExitStack() as held:
        if rank.count > 1:
            held.enter_context(only_writer(RankFiles.beside(out, rank).partial))
        if rank.count == 1 or rank.joins:
            held.enter_context(only_writer(out))
        if rank.count > 1 and rank.launcher:
            held.enter_context(RankFiles.beside(out, rank).noting_failure())
        yield


def forget_earlier(out: Path, rank: Rank, started: float) -> None:
    """Remove what an earlier launch has left of the other ranks; ``started`` is the file system's time of this one.

    Each rank removes its own when it begins, but rank 0 might come before another has begun.
    """
    for other in rank.all():
        files = RankFiles.beside(out, other)
        for path in (files.done, files.failed):
            with suppress(FileNotFoundError):
                if other != rank and path.stat().st_mtime < started - LAUNCH:
                    path.unlink()


def wait_for_others(out: Path, rank: Rank, say: Callable[[str], object] = lambda _: None) -> None:
    """Wait until every rank is done, and say now and then for whom.

    Raises:
        DataError: One of them has failed, or for half an hour none has written anything.
    """
    last, moved, reminded = -1, time.monotonic(), time.monotonic()
    pause = 0.05
    while True:
        waited = [other for other in rank.all() if not RankFiles.beside(out, other).done.exists()]
        if not waited:
            return
        alone = f"finish it alone with --shard I/{rank.count} --resume in a shell, then join with --join"
        for other in waited:
            with suppress(FileNotFoundError):
                reason = RankFiles.beside(out, other).failed.read_text(encoding="utf-8").strip()
                raise DataError(f"{other} has failed ({reason}); what is done is kept: {alone}")
        now, written = time.monotonic(), sum(_size(RankFiles.beside(out, other).partial) for other in waited)
        names = ", ".join(str(other.index) for other in waited)
        if written != last:
            last, moved = written, now
        elif now - moved > PATIENCE:
            minutes = f"{PATIENCE / 60:.0f} minutes"
            raise DataError(f"rank {names} of {rank.count} wrote nothing for {minutes}; what is done is kept: {alone}")
        if now - reminded >= REMINDER:
            say(f"waiting for rank {names} of {rank.count}")
            reminded = now
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
