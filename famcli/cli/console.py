"""The only printer: results to stdout, talk to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from famcli_models.errors import escaped, short

LONGEST = 2000  # characters of a line on stderr
LINE_SECONDS = 30  # from one line of progress to the next, off a terminal


def visible(text: str, limit: int | None = None) -> str:
    """Untrusted text that neither breaks its line nor talks to the terminal: what is not printable is escaped."""
    text = text if limit is None else text[: limit + 1]
    clean = short(text, len(text))
    return clean if limit is None or len(clean) <= limit else f"{clean[: limit - 3]}..."


class Console:
    """Where every command writes."""

    def __init__(self) -> None:
        self.quiet = False  # say nothing but errors
        self.as_json = False  # results and errors are JSON on stdout
        self.debug = False  # errors keep their tracebacks

    def open_closed(self) -> None:
        """Give standard streams that the caller has closed a place, so that no file gets their numbers.

        Writing results there is an error, as it is for other programs; what is said is lost.
        """
        streams = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_RDWR))
        for name, mode, flags in streams:
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))

    def drop_unwritten(self) -> None:
        """Give up what a stream cannot take, which the interpreter would try, and say, again at its end."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def result(self, text: str) -> None:
        """A result for people or pipes, one line on stdout: UTF-8 whatever the locale, as JSON demands.

        The odd bytes of a file name that is no Unicode are written as JSON escapes, and so are control characters if a
        terminal would obey them.
        """
        with _standard_output() as stdout:
            text = escaped(text) if stdout.isatty() else text
            stdout.write(f"{text}\n".encode("utf-8", "backslashreplace"))

    def result_json(self, value: Any) -> None:
        """A result as JSON on stdout."""
        self.result(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))

    def result_file(self, path: Path) -> None:
        """A result that is a file, as it is, on stdout."""
        with _standard_output() as stdout, path.open("rb") as file:
            shutil.copyfileobj(file, stdout)

    def say(self, text: str) -> None:
        """A remark on stderr, unless quiet; it may have several lines."""
        if not self.quiet:
            sys.stderr.write("\n".join(visible(line, LONGEST) for line in text.split("\n")) + "\n")

    def warn(self, text: str) -> None:
        """Something that went wrong while the rest went on; on stderr, always."""
        sys.stderr.write(visible(f"fam: {text}", LONGEST) + "\n")

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
        """Rate and time left on stderr, a bar or off a terminal a line now and then; gives a function to call an image.

        It is ``hidden`` where results go to the same terminal while it is shown.

        With ``in_bytes`` the function takes a number of bytes, and a total of ``None`` is one that nobody knows.
        """
        if hidden or self.quiet or total == 0:
            yield lambda n=1: None  # noqa: ARG005
            return
        if not sys.stderr.isatty():
            yield _Lines(self.say, what, total, done, "MB" if in_bytes else "")
            return
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
        )
        with bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda n=1: bar.advance(task, n)


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    """Standard output for bytes; an error of it says so."""
    try:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OSError(error.errno, f"standard output cannot be written to: {error.strerror}") from error


class _Lines:
    """Progress off a terminal: a line every :data:`LINE_SECONDS`, so none of a short run."""

    def __init__(self, say: Callable[[str], None], what: str, total: int | None, done: int, unit: str) -> None:
        self.say, self.what, self.total, self.unit = say, what, total, unit
        self.before = self.done = done
        self.started = self.said = time.monotonic()

    def __call__(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.said < LINE_SECONDS:
            return
        self.said = now
        rate = (self.done - self.before) / (now - self.started)
        line = f"{self.what}: {self._shown(self.done)}"
        if self.total is not None:
            line += f" of {self._shown(self.total)}"
        line += f", {self._shown(rate, 1)}/s"
        if self.total is not None and rate:
            line += f", {timedelta(seconds=round(max(0, self.total - self.done) / rate))} left"
        self.say(line)

    def _shown(self, number: float, digits: int = 0) -> str:
        return f"{number / 1e6:,.1f} {self.unit}" if self.unit else f"{number:,.{digits}f}"


console = Console()
