"""A stranger's text, made fit for one line of a table, a list or a sentence."""

from __future__ import annotations

SHORT = 80  # letters of a name in a list
LONG = 1000  # letters of a fact on a card


def one_line(value: object, most: int = SHORT) -> str:
    """Text without what would command a terminal or begin another line, cut if it is long.

    Args:
        value: Whatever a file holds.
        most: Letters, of which the last says that there were more.
    """
    try:
        text = value if isinstance(value, str) else str(value)
    except (RecursionError, ValueError):  # nested too deep, or a number of thousands of digits
        return "…"
    # Cut before it is looked at, too: it may be as long as a file can be.
    plain = " ".join("".join(c if c.isprintable() else " " for c in text[: 10 * most]).split())
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def names(value: object, most: int = 20) -> list[str]:
    """The names in a field that should be a name or a list of names; what is none of these is left out."""
    given = value if isinstance(value, list) else [value]
    return [one_line(name) for name in given[:most] if isinstance(name, str) and name.strip()]
