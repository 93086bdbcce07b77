"""Strings to HTML: the only place where text becomes markup, so that nothing from data is ever taken for code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

# No character of HTML: controls, halves of surrogate pairs (odd bytes of a file name), and what Unicode reserves.
_NOT_HTML = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# "</script>" and "<!--" would end or change a block, the last two end a line in old browsers.
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def text(value: object) -> str:
    """Any value as text for an element or a quoted attribute."""
    return escape(_NOT_HTML.sub("\ufffd", str(value)))


def json_block(name: str, value: Any) -> str:
    """A block of data that a script reads with ``JSON.parse``; nothing in it is ever run.

    Args:
        name: The element's id, from the program and not from data.
        value: Anything that JSON can say; floats are finite.
    """
    content = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: odd file names are escapes too
    for character, written in _IN_SCRIPT.items():
        content = content.replace(character, written)
    return f'<script type="application/json" id="{name}">{content}</script>\n'


def lines_block(name: str, lines: Iterable[str]) -> str:
    """A block of lines of base64 and spaces, which a script reads only when it needs them."""
    return f'<script type="text/plain" id="{name}">' + "\n".join(lines) + "</script>\n"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", *, numbers_from: int = 1, name: str = ""
) -> str:
    """A table in a box that scrolls sideways by itself, and by the keyboard.

    Args:
        columns: Titles, markup.
        rows: Cells, markup; the first of each row is its header.
        caption: What it shows, plain text.
        numbers_from: Columns from this one on hold numbers.
        name: Id of the table.
    """
    kinds = ["" if i < numbers_from else ' class="number"' for i in range(len(columns))]
    head = "".join(f'<th scope="col"{kind}>{title}</th>' for title, kind in zip(columns, kinds, strict=True))
    body = []
    for first, *rest in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>\n')
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    label = text(caption or "table")
    identity = f' id="{name}"' if name else ""
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table{identity}>'
        f"{title}<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(body)}</tbody></table></div>\n"
    )


def numbers_of(chart: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The text alternative of a chart: its numbers, folded."""
    return f"<details><summary>Numbers of this chart</summary>\n{table(columns, rows, chart)}</details>\n"
