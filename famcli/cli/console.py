"""The only printer: results to stdout, talk to stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from famcli_models.errors import short


def visible(text: str) -> str:
    """Untrusted text that neither breaks its line nor talks to the terminal: what is not printable is escaped."""
    return short(text, len(text))


class Console:
    """Where every command writes."""

    def __init__(self) -> None:
        self.quiet = False  # say nothing but errors
        self.as_json = False  # results and errors are JSON on stdout

    def result(self, text: str) -> None:
        """A result for people or pipes, one line on stdout: UTF-8 whatever the locale, as JSON demands.

        The odd bytes of a file name that is no Unicode are written as JSON escapes.
        """
        sys.stdout.flush()
        sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()

    def result_json(self, value: Any) -> None:
        """A result as JSON on stdout."""
        self.result(json.dumps(value, ensure_ascii=False, indent=2))

    def result_file(self, path: Path) -> None:
        """A result that is a file, as it is, on stdout."""
        sys.stdout.flush()
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    def say(self, text: str) -> None:
        """A remark on stderr, unless quiet; it may have several lines."""
        if not self.quiet:
            sys.stderr.write("\n".join(map(visible, text.split("\n"))) + "\n")

    def warn(self, text: str) -> None:
        """Something that went wrong while the rest went on; on stderr, always."""
        sys.stderr.write(f"fam: {visible(text)}\n")

    def error(self, text: str) -> None:
        """Why a command ended; on stderr, and as JSON on stdout if results are JSON."""
        self.warn(f"error: {text}")
        if self.as_json:
            self.result_json({"error": text})

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A Markdown table on stdout: readable as it is, and ready to be pasted."""
        lines = [list(columns), *([visible(cell) for cell in row] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        lines.insert(1, ["-" * width for width in widths])
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.result(f"| {' | '.join(cells)} |")

    @contextmanager
    def progress(
        self, what: str, total: int | None, done: int = 0, *, in_bytes: bool = False, hidden: bool = False
    ) -> Iterator[Callable[..., None]]:
        """A bar with rate and time left on stderr, if that is a terminal; gives a function to call after each image.

        It is ``hidden`` where results go to the same terminal while it is shown.

        With ``in_bytes`` the function takes a number of bytes, and a total of ``None`` is one that nobody knows.
        """
        # Imported here: the bar costs what all of --help may cost.
        from rich import progress as bars
        from rich.console import Console as RichConsole
        from rich.text import Text

        class Rate(bars.TextColumn):
            def render(self, task: Any) -> Text:
                return Text(f"{task.speed:.1f}/s" if task.speed else "")

        counts = (
            (bars.DownloadColumn(), bars.TransferSpeedColumn()) if in_bytes else (bars.MofNCompleteColumn(), Rate(""))
        )
        bar = bars.Progress(
            *(bars.TextColumn("{task.description}"), bars.BarColumn(), *counts, bars.TimeRemainingColumn(compact=True)),
            console=RichConsole(stderr=True),
            disable=hidden or self.quiet or total == 0 or not sys.stderr.isatty(),
        )
        with bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda n=1: bar.advance(task, n)


console = Console()
