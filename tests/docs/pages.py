"""The commands of the README, the documentation and the models' cards, as they stand in the pages.

A block of ``sh`` or ``console`` is run by ``test_commands.py`` unless a comment in front of it says why not::

    <!-- not run: downloads 1.15 GB -->

In front of a block ``<!-- with: photos, cub -->`` says what has to be there from this block on, and ``before:`` what is
typed ahead of it to get there; ``<!-- file: lse.py -->`` puts a block of any language into a file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "famcli_models/weights").rglob("README.md")),
    )
}
SHELLS = {"sh", "console"}
LANGUAGES = {*SHELLS, "python", "text", "json", "toml", "yaml"}
BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- (not run|with|before|file): (.*) -->")
OPERATOR = re.compile(r"[();<>|&]+")


@dataclass(frozen=True)
class Block:
    """A block of a page."""

    line: int
    language: str
    text: str
    marks: list[tuple[str, str]] = field(default_factory=list)  # the comments in front of it

    @property
    def runs(self) -> bool:
        """Whether it is typed into a shell, and nothing speaks against it here."""
        return self.language in SHELLS and "not run" not in dict(self.marks)

    @property
    def typed(self) -> str:
        """What a reader types."""
        return "".join(line for line, typed in self._told_apart() if typed)

    @property
    def shown(self) -> list[str]:
        """The lines that a terminal shows in return."""
        return [line.rstrip() for line, typed in self._told_apart() if not typed]

    def _told_apart(self) -> Iterator[tuple[str, bool]]:
        """The lines of a console, and whether each is typed: after a dollar sign, or after a line that goes on."""
        goes_on = False
        for line in self.text.splitlines(keepends=True):
            typed = goes_on or line.startswith("$ ") or self.language == "sh"
            goes_on = typed and line.endswith("\\\n")
            yield line.removeprefix("$ ") if typed else line, typed


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = PAGES[page].read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        yield Block(line, match[2], match[3], COMMENT.findall(match[1]))


def commands(page: str) -> list[Block]:
    """The blocks of a page that are typed into a shell."""
    return [block for block in blocks(page) if block.language in SHELLS]


def arguments(script: str) -> Iterator[list[str]]:
    """The arguments of each ``fam`` in a script, however it is started."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        for i, word in enumerate(words):
            if word in {"fam", ".venv/bin/fam", "lse.py"} or words[i - 1 : i + 1] == ["-m", "famcli"]:
                end = (j for j, later in enumerate(words[i:], i) if OPERATOR.fullmatch(later))
                yield words[i + 1 : next(end, len(words))]
