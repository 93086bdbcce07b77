"""Ctrl-C and a scheduler's SIGTERM, turned into a wish that a loop asks for between its steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 1.0  # seconds: torchrun passes on the Ctrl-C that the terminal has already sent to all


class Interrupt:
    """From the first question on, the first signal is remembered and the second one interrupts at once.

    Before that question there is nothing to finish, and the first signal interrupts.

    Args:
        on_first: Called at the first signal.

    Attributes:
        wanted: A signal has come.
        forced: A second one has come, and whatever was being done is half done.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.on_first = on_first
        self.wanted = self.forced = self._asked = False
        self._since = 0.0
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

    def __call__(self) -> bool:
        """Whether a signal has come."""
        self._asked = True
        return self.wanted

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        if not self._asked:
            raise KeyboardInterrupt
        if self.wanted and time.monotonic() - self._since > SAME:
            self.forced = True
            raise KeyboardInterrupt
        if not self.wanted:
            self.wanted, self._since = True, time.monotonic()
            self.on_first()
