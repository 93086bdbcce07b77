"""How much memory decoded images may take at once, in all threads and worker processes together."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int64
from multiprocessing.context import BaseContext

from famcli_models.errors import ConfigError, DataError, shown

DEFAULT = 1 << 30  # bytes
PAUSE = 0.01  # seconds until it is tried again
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


class Memory:
    """Bytes that images may take at once while they are decoded and resized.

    Threads share it, and processes if it is made with their ``context``. Each process has a place of its own, so that
    what one takes that dies can be given back.
    """

    def __init__(self, limit: int = DEFAULT, context: BaseContext | None = None, places: int = 1) -> None:
        self.limit, self.place = limit, 0
        self.taken = (c_int64 * places)() if context is None else context.RawArray("q", places)
        self.lock = threading.Lock() if context is None else context.Lock()

    @contextmanager
    def take(self, size: int, what: str) -> Iterator[None]:
        """Take so many bytes until the end of the context, as soon as they are free; ``what`` is the image, in words.

        Raises:
            DataError: They are more than there are.
        """
        if size > self.limit:
            raise DataError(
                f"too large ({what} takes {shown_size(size)} to decode, of {shown_size(self.limit)}); make it smaller "
                "first, or allow more with --memory"
            )
        while not self._took(size):
            time.sleep(PAUSE)
        try:
            yield
        finally:
            with self.lock:
                self.taken[self.place] -= size

    def _took(self, size: int) -> bool:
        with self.lock:
            free = sum(self.taken) + size <= self.limit
            if free:
                self.taken[self.place] += size
            return free


class _Here:
    """The memory of this process."""

    memory = Memory()


def memory_here() -> Memory:
    """What all images of this process are decoded in."""
    return _Here.memory


def set_memory(memory: Memory, place: int = 0) -> None:
    """Let this process, the one of a place, decode in it."""
    memory.place, _Here.memory = place, memory


def parse_size(text: str) -> int:
    """Bytes of a text such as ``2GiB``, ``500M`` or ``1073741824``; units are powers of 1,024."""
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ")) if match else 0
    if not 1 << 20 <= size <= 1 << 50:
        raise ConfigError(f"{shown(text)} is no amount of memory of at least 1MiB, such as 500MiB or 2GiB")
    return size


def shown_size(size: int) -> str:
    """Bytes in MiB or GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.0f} MiB"
