"""A result as a page of Markdown, ``results.md``, and its tables for model cards.

The paper's numbers stand in a table of their own, and each says that it is not measured here.
"""

from __future__ import annotations

import re

from famcli.results import tables
from famcli.results.schema import Results
from famcli.results.tables import Table

_SPECIAL = re.compile(r"[\\`*_\[\]<>|#&~]")
_PAPER = (
    "The paper gives no intervals. It took the numbers of other methods from other papers, whose crops and thresholds "
    "may differ; what it does not say about its own is decided here as under “How it was measured”."
)


def markdown(results: Results) -> str:
    """The result as a page of Markdown, ending with a line break."""
    parts = [f"# {_literal(tables.title(results))}"]
    parts += [f"**{head}: {sentence}**" for head, sentence in tables.warnings(results)]
    parts += [table(tables.scores(results)), _reading(results)]
    for heading, found, note in (
        ("Thresholds", tables.deltas(results), ""),
        ("Paired differences", tables.differences(results), "In points, on the same images."),
        ("Beside the paper", tables.beside_paper(results), _PAPER),
    ):
        if found.rows:
            parts += [f"## {heading}", table(found), note]
    parts.append("## How it was measured")
    for group, facts in tables.facts(results):
        parts += [f"### {group}", "\n".join(f"- {_literal(name)}: {_literal(value)}" for name, value in facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(found: Table, digits: int = 2) -> str:
    """A table in Markdown; texts in it are taken literally."""
    lines = [[_literal(column) for column in found.columns], [":--", *["--:"] * (len(found.columns) - 1)]]
    lines += found.lines(digits, _literal)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reading(results: Results) -> str:
    words = "All numbers are in percent."
    level = results.bootstrap.get("level")
    if level:
        how = ", ".join(f"{key} {results.bootstrap[key]}" for key in ("resamples", "seed") if key in results.bootstrap)
        words += (
            f" In brackets: {100 * level:g} % bootstrap interval over images{f' ({how})' if how else ''};"
            " it does not cover another training seed."
        )
    return words


def _literal(text: str) -> str:
    """A text in a line of Markdown, taken literally."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
