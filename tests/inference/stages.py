"""Stages for the loop over images, where worker processes find them; run as a program it loops until it is ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count

import numpy as np

from famcli.inference.pipeline import run_images
from famcli_models.errors import DataError

SIDE = 40
UNREADABLE, UNFINISHABLE, KILLS_LOADING, KILLS_FINISHING, BUG = 5, 7, 1001, 1002, 1003


def load(item: int) -> np.ndarray:
    if item == UNREADABLE:
        raise DataError("no 5")
    if item == KILLS_LOADING:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == BUG:
        raise ZeroDivisionError
    return np.full((SIDE, SIDE), item)


def infer(batch: Sequence[tuple[int, np.ndarray]]) -> list[np.ndarray]:
    return [2 * loaded for _, loaded in batch]


def finish(item: int, loaded: np.ndarray, inferred: np.ndarray) -> tuple[int, int, int]:
    if item == UNFINISHABLE:
        raise DataError("no 7")
    if item == KILLS_FINISHING:
        os._exit(3)
    return item, int(loaded[-1, -1]), int(inferred.mean())


class Deadly:
    """Ends the process that it arrives in."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (4,)

    def __call__(self, item: int) -> np.ndarray:
        raise NotImplementedError


def slow(item: int) -> np.ndarray:
    time.sleep(0.01)
    return load(item)


if __name__ == "__main__":
    for result in run_images(count(10_000), slow, infer, finish, batch_size=4, workers=2, shared_bytes=100):
        sys.stdout.write(f"{result}\n")
        sys.stdout.flush()
