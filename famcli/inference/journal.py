"""The journal of a prediction run: finished images as JSON lines, which makes a long run resumable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from famcli.outputs.prediction import Record
from famcli_models.errors import DataError

SUFFIX = ".partial"  # of the journal, behind the name of the results
VERSION = 3  # of the journal; the first had none


class Journal:
    """Records on disk beside the results, one a line, after a header of all that has to be the same for a run to go on.

    The lines are always a prefix of the run's sorted list of images, so that going on means counting them.
    """

    def __init__(self, out: Path, header: Mapping[str, Any]) -> None:
        self.path = out.with_name(out.name + SUFFIX)
        self.header = json.loads(json.dumps({"journal": VERSION, **header}))
        self.done = 0  # records that were there before

    def resume(self, names: Sequence[str]) -> None:
        """Take up an interrupted run over these sorted images; a last line that was cut short is dropped."""
        again = "start again without --resume"
        if not self.path.is_file():
            raise DataError(f"nothing to resume: '{self.path}' does not exist; {again}")
        with self.path.open("r+b") as file:
            lines = file.read().split(b"\n")[:-1]
            try:
                header, *records = map(json.loads, lines)
                done = [record["file_name"] for record in records]
                version = header.get("journal")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"'{self.path}' is no file of an interrupted run, or is damaged; {again}") from error
            reason = None
            if version != VERSION:
                reason = "was written by another version of fam"
            elif header != self.header:
                changed = ", ".join(sorted(key for key in self.header if header.get(key) != self.header[key]))
                reason = f"is of a run with other options ({changed or 'header'})"
            elif done != list(names[: len(done)]):
                reason = "is of a run whose images have changed"
            if reason is not None:
                raise DataError(f"'{self.path}' {reason}; {again}")
            file.truncate(sum(len(line) + 1 for line in lines))
        self.done = len(done)

    def keep(self, records: Iterable[Record]) -> Iterator[Record]:
        """Give each record on when the operating system has it; a journal that was not resumed begins anew."""
        try:
            if not self.done:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps(self.header) + "\n", encoding="utf-8")
            file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            for record in records:
                try:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                    file.flush()
                except OSError as error:  # a full disk
                    raise self._unwritable(error) from error
                yield record

    def records(self) -> Iterator[Record]:
        """All records from the beginning, one at a time."""
        with self.path.open(encoding="utf-8") as file:
            next(file, None)  # the header
            yield from map(json.loads, file)

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(f"cannot write '{self.path}': {error.strerror or error}; choose another --out")
