"""What a value of a JSON file has to be: checks that are put together, and say where a value is wrong.

A check takes a value and its place in the file, and gives the value back in the form that the program keeps it in.
"""

from __future__ import annotations

import json
import math
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

Check = Callable[[Any, str], Any]

LARGEST = sys.float_info.max
WHOLE = 2**53  # up to here every reader of JSON keeps whole numbers exactly


class MismatchError(ValueError):
    """A value is not what its place in the file asks for; the text is half a sentence that follows the file's name."""


def mismatch(value: Any, where: str, expected: str) -> MismatchError:
    """Say what was found and what is allowed."""
    found = "nothing there" if value is MISSING else reprlib.repr(value)
    return MismatchError(f"{where or 'the file'} has to be {expected}, not {found}")


MISSING: Any = object()


def parse(data: bytes) -> Any:
    """JSON of UTF-8; NaN and Infinity, which JSON does not have, are refused.

    Raises:
        ValueError: It is no such JSON, or nested too deeply.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError as error:
        msg = "nested too deeply"
        raise ValueError(msg) from error


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


def text(value: Any, where: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise mismatch(value, where, "a text")
    return value


def flag(value: Any, where: str) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise mismatch(value, where, "true or false")
    return value


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number in a range."""
    limits = "a number" if math.isinf(low) else f"a number from {low:g} to {high:g}"

    def check(value: Any, where: str) -> float:
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not real or not -LARGEST <= value <= LARGEST or not low <= value <= high:  # a NaN fails as well
            raise mismatch(value, where, limits)
        return float(value)

    return check


def whole(low: int = 0, high: int = WHOLE) -> Check:
    """A whole number in a range."""

    def check(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise mismatch(value, where, f"a whole number from {low:,} to {high:,}")
        return value

    return check


def one_of(names: Collection[str]) -> Check:
    """One of some texts."""

    def check(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in names:
            raise mismatch(value, where, f"one of {', '.join(map(repr, names))}")
        return value

    return check


def optional(inner: Check) -> Check:
    """``null``, or what the inner check says."""
    return lambda value, where: None if value is None else inner(value, where)


def sequence(inner: Check, least: int = 0, most: int | None = None) -> Check:
    """A list of values alike, as a tuple."""
    size = f"exactly {least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"

    def check(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) < least or (most is not None and len(value) > most):
            raise mismatch(value, where, f"a list of {size} values")
        return tuple(inner(item, f"{where}[{i}]") for i, item in enumerate(value))

    return check


def mapping(inner: Check) -> Check:
    """An object whose values are alike."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise mismatch(value, where, "an object")
        return {key: inner(item, f"{where}[{reprlib.repr(key)}]") for key, item in value.items()}

    return check


def anything(value: Any, where: str) -> Any:
    """Any JSON value; lists become tuples."""
    if isinstance(value, (list, tuple)):
        return sequence(anything)(value, where)
    if isinstance(value, dict):
        return mapping(anything)(value, where)
    if isinstance(value, float):
        return number()(value, where)
    return value


def record(make: Callable[..., Any], required: Mapping[str, Check], others: Mapping[str, Check] | None = None) -> Check:
    """An object with named values; names that are not known are left out, for a later version may have more.

    Args:
        make: Called with the values by name.
        required: Checks by name.
        others: Checks of names that may be absent; ``make`` then has its own default.
    """

    def check(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise mismatch(value, where, "an object")
        dot = f"{where}." if where else ""
        found = {name: inner(value.get(name, MISSING), dot + name) for name, inner in required.items()}
        for name, inner in (others or {}).items():
            if name in value:
                found[name] = inner(value[name], dot + name)
        return make(**found)

    return check


def facts(required: Mapping[str, Check], others: Mapping[str, Check]) -> Check:
    """An object that keeps all of its names, of which some are checked."""
    known = record(dict, required, others)

    def check(value: Any, where: str) -> dict[str, Any]:
        checked = known(value, where)
        return {name: checked[name] if name in checked else anything(value[name], f"{where}.{name}") for name in value}

    return check
