"""The errors a caller may catch, as a tree.

::

    FamError                 anything wrong that a user can put right
    ├── ConfigError          a configuration value or file is not allowed (also a ValueError)
    ├── DataError            an image, a list or a dataset cannot be used
    ├── ShapeError           a tensor or array has the wrong shape (also a ValueError)
    ├── UnknownNameError     a name is in no table
    └── WeightsError         a weights file or checkpoint cannot be used

Every message says what was given, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence

SHOWN_NAMES = 12  # of a table of names, in a message
SHOWN_LENGTH = 200  # characters of untrusted text, in a message
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def short(text: str, limit: int = SHOWN_LENGTH) -> str:
    """Untrusted text, fit for a message: one line, nothing unprintable, and not endless."""
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:limit])
    return f"{visible}..." if len(text) > limit else visible


def escaped(text: str) -> str:
    """Untrusted lines, fit for a terminal: control characters but tabs and line feeds are JSON's escapes."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown(value: object) -> str:
    """An untrusted value as Python writes it, fit for a message: not endless, however large or deep it is."""
    try:
        return short(_SHORT.repr(value))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return f"of type {type(value).__name__}, too long to be shown"


def near_names(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """At most three of the known names that are nearly this one, whatever their case, the nearest first.

    ``cutoff`` is the share of letters that are the same, as ``difflib`` counts them.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=3, cutoff=cutoff)
    return [n for close in dict.fromkeys(near) for n in names if n.lower() == close]


def listed(names: Sequence[str]) -> str:
    """The first of many untrusted names, fit for a message, and how many more there are."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(short(name, 80) for name in names[:SHOWN_NAMES]) + more


class FamError(Exception):
    """Base of every error that this project raises on purpose; the command line prints it and exits 1."""


class ConfigError(FamError, ValueError):
    """A configuration value or file is not allowed."""


class DataError(FamError):
    """An image, a list of images or a dataset cannot be used."""


class ShapeError(FamError, ValueError):
    """A tensor or array has the wrong shape."""


class UnknownNameError(FamError):
    """A name that is in no table.

    Args:
        kind: What was looked for, for example ``"backbone"``.
        name: What was given.
        known: The names that would have worked.
        hint: A sentence to add, saying what else is possible.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        name = short(name)
        near = near_names(name, names)
        word = "did you mean" if near else "known"
        text = f"unknown {kind} '{name}' ({word}: {listed(near or names) or 'none'})"
        super().__init__(f"{text}; {hint}" if hint else text)


class WeightsError(FamError):
    """A weights file or a checkpoint folder cannot be used."""
