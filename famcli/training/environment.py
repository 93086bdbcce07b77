"""What a run runs on: processes and devices (Hugging Face Accelerate's), signals, and the facts kept of each session.

Whoever launches the processes (``torchrun``, ``accelerate launch``) says how many there are.
"""

from __future__ import annotations

import datetime as dt
import math
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, KwargsHandler, gather_object

from famcli.checkpoints.doctor import package_versions
from famcli.inference.torch_engine import pick_device
from famcli_models.errors import ConfigError, DataError, FamError

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours: Accelerate's
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = dt.timedelta(hours=1)  # of a process with one that is slower, with its targets for example
SAME = 1.0  # seconds: torchrun and timeout send a process what its group has been sent already


def make_accelerator(device: str = "auto", precision: str = "fp32", *, in_stages: bool = False) -> Accelerator:
    """The processes and devices of this run; several processes take one GPU each, or the CPU.

    ``in_stages``: some parameters have no gradient in some steps.
    """
    where = pick_device(device)
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)
    # One process may train several times, with another precision each time.
    AcceleratorState._reset_state()  # noqa: SLF001  (Accelerate has no public way)
    try:
        settings: list[KwargsHandler] = [InitProcessGroupKwargs(timeout=PATIENCE)]
        if in_stages:
            settings.append(DistributedDataParallelKwargs(find_unused_parameters=True))
        accelerator = Accelerator(
            mixed_precision=PRECISIONS[precision], cpu=where.type == "cpu", kwargs_handlers=settings
        )
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"cannot train on '{where}' in {precision}: {error}") from error
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("fp16 needs a GPU; on the CPU use precision = 'bf16' or 'fp32'")
    return accelerator


@contextmanager
def connected() -> Iterator[None]:
    """What gloo and NCCL say of a process that has ended or cannot be reached, as one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not any(library in str(error).lower() for library in ("gloo", "nccl")):
            raise
        raise FamError(
            f"no connection to another process of this run ({error}). If it has ended, its own output says why, and "
            "the run goes on from its last save with --resume; if it was never reached, set GLOO_SOCKET_IFNAME, and "
            "with GPUs NCCL_SOCKET_IFNAME, on each machine to the network interface that the others know"
        ) from error


def agree(what: str, mine: object) -> None:
    """Make sure that all processes have the same; a ``DataError`` in all of them names those that do not."""
    theirs = gather_object([mine])
    if others := [str(process) for process, other in enumerate(theirs) if other != theirs[0]]:
        msg = f"process {', '.join(others)} of this run has other {what} than process 0; give every machine the same"
        raise DataError(msg)


def leave(accelerator: Accelerator) -> None:
    """End together with the other processes; one that just exits may abort while it still talks to them."""
    accelerator.wait_for_everyone()
    accelerator.end_training()


class Interrupt:
    """Ctrl-C and a scheduler's SIGTERM as a wish to stop, which a loop reads between its steps.

    While ``patient`` is not set there is no step to finish, and the first signal interrupts at once. From then on it
    sets ``wanted`` and calls ``on_first``, and a second one interrupts.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.on_first = on_first
        self.patient = self.wanted = False
        self._since = -math.inf
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        """Take over the signals; Python lets only the main thread do so."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._since <= SAME:
            return
        self._since = now
        if self.wanted or not self.patient:
            raise KeyboardInterrupt
        self.wanted = True
        self.on_first()


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """JSON-able facts for the run folder; nothing of the environment variables is among them."""
    device = accelerator.device
    return {
        "started": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": ["fam", *sys.argv[1:]],
        "versions": package_versions(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the source that runs, if it runs from a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # Tracked: an installed copy may well lie inside somebody else's checkout.
        for arguments in (["ls-files", "--error-unmatch", "environment.py"], ["rev-parse", "HEAD"]):
            done = subprocess.run([*git, *arguments], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603  (no user input)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
