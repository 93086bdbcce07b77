"""How large a number in a file of labels or boxes may be, so that none overflows or asks for all memory."""

from __future__ import annotations

from typing import Any

MAX_CLASSES = 100_000  # the most that a model can have
MAX_PIXEL = 10**9  # no coordinate of an image that can be read comes near


def bounded(value: Any, top: float = MAX_PIXEL) -> float:
    """A number of a file, checked.

    Args:
        value: Text, or what a parser made of it.
        top: The largest value, of either sign.

    Raises:
        ValueError: It is no number, not finite, or beyond ``top``; the message says so in short.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) <= top:  # also what is not a number
        msg = f"{short(value)} is not a number up to {top:,.0f}"
        raise ValueError(msg)
    return number


def short(value: Any) -> str:
    """A value from a file as it is shown in a message, whatever its length."""
    text = repr(value) if isinstance(value, str) else f"{value}"
    return text if len(text) <= 60 else f"{text[:50]}..."
