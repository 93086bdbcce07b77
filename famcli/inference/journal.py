"""The journal of a prediction run: finished images as JSON lines, which makes a long run resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from famcli.outputs.prediction import Record
from famcli_models.errors import DataError


class Spool:
    """Records on disk, one a line, after a header line that says what run they are of.

    The lines are always a prefix of the run's sorted list of images, so that going on means counting them.

    Args:
        path: The file; it is created when the spool is entered.
        header: Everything that has to be the same for a run to be continued.

    Attributes:
        done: Records that were there when the spool was opened.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = json.loads(json.dumps(header))
        self.done = 0
        self._file: IO[str] | None = None

    def resume(self, names: Sequence[str]) -> None:
        """Take up an interrupted run; a last line cut short by the interruption is dropped.

        Args:
            names: The sorted images of this run.

        Raises:
            DataError: The file is absent, or is of a run with other options or other images.
        """
        again = "start again without --resume"
        if not self.path.is_file():
            msg = f"nothing to resume: '{self.path}' does not exist; {again}"
            raise DataError(msg)
        with self.path.open("r+b") as file:
            lines = file.read().split(b"\n")[:-1]
            try:
                header, *records = map(json.loads, lines or [b"{}"])
                done = [record["file_name"] for record in records]
            except (ValueError, KeyError, TypeError) as error:
                msg = f"'{self.path}' is no file of an interrupted run, or is damaged; {again}"
                raise DataError(msg) from error
            if header != self.header:
                old = header if isinstance(header, dict) else {}
                changed = sorted(k for k in self.header if old.get(k) != self.header[k])
                msg = f"'{self.path}' is of a run with other options ({', '.join(changed) or 'header'}); {again}"
                raise DataError(msg)
            if done != list(names[: len(done)]):
                msg = f"the images have changed since '{self.path}' was written; {again}"
                raise DataError(msg)
            file.truncate(sum(len(line) + 1 for line in lines))
        self.done = len(done)

    def __enter__(self) -> Spool:
        """Open for appending; a spool that was not resumed begins anew."""
        try:
            if not self.done:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps(self.header) + "\n", encoding="utf-8")
            self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; it stays on disk until it is removed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, record: Record) -> None:
        """Add a record and hand it to the operating system."""
        if self._file is None:
            msg = "the spool is not open"
            raise RuntimeError(msg)
        try:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:  # a full disk
            raise _unwritable(self.path, error) from error

    def records(self) -> Iterator[Record]:
        """All records from the beginning, one at a time."""
        with self.path.open(encoding="utf-8") as file:
            next(file, None)  # the header
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write '{path}': {error.strerror or error}; choose another --out")
