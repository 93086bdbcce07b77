"""Names of splits: the paper's, and what others call the same three."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

TRAIN: Final = "train-weaksup"
FULLSUP: Final = "train-fullsup"
TEST: Final = "test"
SPLITS: Final = (TRAIN, FULLSUP, TEST)
BENCHMARK_NAMES: Final = {TRAIN: "train", FULLSUP: "val", TEST: "test"}  # wsolevaluation's folders
_ALIASES: Final = {
    TRAIN: ("train", "training"),
    FULLSUP: ("val", "valid", "validation", "dev"),
    TEST: ("testing",),
}
_KNOWN: Final = {alias: split for split, aliases in _ALIASES.items() for alias in (split, *aliases)}


def find_split(name: str) -> str | None:
    """The paper's name of a split, whatever the case; ``None`` if it is no known name."""
    return _KNOWN.get(name.lower())


def split_name(name: str) -> str:
    """The paper's name of a split; a name that is not known stays as it is."""
    return find_split(name) or name


def in_order(splits: Iterable[str]) -> list[str]:
    """Each split once: the paper's three in its order, then others by name."""
    found = set(splits)
    return [s for s in SPLITS if s in found] + sorted(found.difference(SPLITS))
