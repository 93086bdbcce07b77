"""The journal of a prediction run: finished images as JSON lines, one file a rank, which makes a run resumable."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from famcli.inference.ranks import Rank, RankFiles
from famcli.outputs.prediction import Record
from famcli_models.errors import DataError

SUFFIX = ".partial"  # of the journal of a run in one process, behind the name of the results
VERSION = 5  # of the journal; the first had none
AGAIN = "start again without --resume"
SHOWN = 20  # shards in a message
IN_MEMORY = 64 << 20  # bytes of records


def journal_path(out: Path, rank: Rank) -> Path:
    """Where finished images are kept while a run goes on."""
    return RankFiles.beside(out, rank).partial if rank.count > 1 else out.with_name(out.name + SUFFIX)


class Journal:
    """Records on disk beside the results, one a line, after a header of all that has to be the same for a run to go on.

    The lines are always a prefix of the rank's sorted list of images, so that going on means counting them.
    """

    def __init__(self, out: Path, header: Mapping[str, Any], rank: Rank) -> None:
        self.out, self.rank = out, rank
        self.files = RankFiles.beside(out, rank) if rank.count > 1 else None
        self.path = journal_path(out, rank)
        self.header = json.loads(json.dumps({"journal": VERSION, **header, "shard": [rank.index, rank.count]}))
        self.advice = AGAIN  # where another run's journal is in the way
        self.done = 0  # records that were there before
        self.finished = False  # all that the rank has to make are there

    @contextmanager
    def open(self, names: Sequence[str], resume: bool) -> Iterator[None]:
        """Begin a run over these sorted images, or take up an interrupted one.

        Of what is taken up, a last line that was cut short is dropped.
        """
        if resume and self.files and self.files.done.is_file():
            self.path, self.finished = self.files.done, True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            if resume:
                file.seek(0)
                file.truncate(self._read(file, names))
            else:
                file.truncate(0)
                if self.files:
                    self.files.done.unlink(missing_ok=True)
            self._file = file
            yield
        finally:
            with suppress(OSError):  # what a full disk did not take, it does not take now
                file.close()

    def _read(self, file: IO[bytes], names: Sequence[str]) -> int:
        """Count the records of an earlier run; gives the bytes of what is whole."""
        size = self.check_header(file.readline())
        for line in file if size else ():
            if not line.endswith(b"\n"):
                break
            try:
                name = json.loads(line)["file_name"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"'{self.path}' is damaged; {self.advice}") from error
            if self.done >= len(names) or name != names[self.done]:
                raise DataError(f"'{self.path}' is of a run whose images have changed; {self.advice}")
            self.done += 1
            size += len(line)
        return size

    def check_header(self, line: bytes) -> int:
        """The length of a header that fits this run; 0 of one that was cut short, before any record."""
        if not line.endswith(b"\n"):
            return 0
        try:
            header = json.loads(line)
            version = header.get("journal")
        except (ValueError, AttributeError) as error:
            raise DataError(f"'{self.path}' is no file of an interrupted run, or is damaged; {self.advice}") from error
        if version != VERSION:
            raise DataError(f"'{self.path}' was written by another version of fam; {self.advice}")
        changed = sorted(key for key in {*header, *self.header} if header.get(key) != self.header.get(key))
        if changed == ["images"]:
            raise DataError(f"'{self.path}' is of a run whose images have changed; {self.advice}")
        if changed:
            raise DataError(f"'{self.path}' is of a run with other options ({', '.join(changed)}); {self.advice}")
        return len(line)

    def keep(self, records: Iterable[Record]) -> Iterator[Record]:
        """Give each record on when the operating system has it."""
        if not os.fstat(self._file.fileno()).st_size:
            self._write(json.dumps(self.header))
        for record in records:
            self._write(json.dumps(record, ensure_ascii=False))
            yield record

    def _write(self, line: str) -> None:
        try:
            self._file.write(f"{line}\n".encode("utf-8", "backslashreplace"))
            self._file.flush()
        except OSError as error:  # a full disk
            if not os.fstat(self._file.fileno()).st_size:
                self.path.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(f"cannot write '{self.path}': {error.strerror or error}; choose another --out")

    def finish(self) -> None:
        """Mark the records of a rank as all that it has to make."""
        if self.files and not self.finished:
            os.fsync(self._file.fileno())
            self.files.finish()
            self.path, self.finished = self.files.done, True

    def records(self) -> Iterator[Record]:
        """All records from the beginning, one at a time."""
        with self.path.open(encoding="utf-8") as file:
            next(file, None)  # the header
            yield from map(json.loads, file)

    def remove(self) -> None:
        """Remove it when the results are written."""
        if self.files:
            self.files.remove()
        else:
            self.path.unlink(missing_ok=True)


class TransientJournal:
    """Records of results beside which nothing can lie: in memory, or if they are many in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self.close = self._file.close

    def keep(self, records: Iterable[Record]) -> Iterator[Record]:
        """Give each record on when it is kept."""
        for record in records:
            try:
                self._file.write(f"{json.dumps(record)}\n".encode())
            except OSError as error:
                why = f"there is no room for more than {IN_MEMORY >> 20} MiB of results ({error.strerror or error})"
                raise DataError(f"{why}; name a file with --out, or a folder with the variable TMPDIR") from error
            yield record

    def records(self) -> Iterator[Record]:
        """All records from the beginning, one at a time."""
        place = 0
        while True:
            self._file.seek(place)
            line = self._file.readline()
            if not line:
                return
            place = self._file.tell()
            yield json.loads(line)


def open_shards(out: Path, header: Mapping[str, Any], first: Rank) -> list[Journal]:
    """The finished journals of all ranks, which have to be of the run with this header."""
    journals = [Journal(out, header, rank) for rank in first.all()]
    for journal in journals:
        journal.path, journal.advice = (
            RankFiles.beside(out, journal.rank).done,
            "join shards of one and the same command",
        )
        with journal.path.open("rb") as file:
            journal.check_header(file.readline())
    return journals


def _shard_counts(out: Path) -> set[int]:
    """In how many processes the runs are that have journals beside these results; usually one run or none."""
    pattern = re.compile(re.escape(out.name) + r"\.[0-9]+-of-([0-9]+)\.(?:partial|done|failed)")
    names = os.listdir(out.parent) if out.parent.is_dir() else []
    return {int(match[1]) for match in map(pattern.fullmatch, names) if match}


def is_begun(out: Path, rank: Rank | None) -> bool:
    """Whether there is a run to resume, as this rank, or to join; one in another number of processes is refused."""
    counts = _shard_counts(out) | ({1} if journal_path(out, Rank()).is_file() else set())
    if rank and counts and rank.count not in counts:
        numbers, this = " and in ".join(map(str, sorted(counts))), "this is 1" if rank.count == 1 else f"this is {rank}"
        raise DataError(f"the run of '{out}' was in {numbers} processes and {this}: resume it in as many, or {AGAIN}")
    return bool(counts)


def find_shards(out: Path) -> Rank:
    """The shards whose journals lie beside these results, which are whole, as the first of them.

    Raises:
        DataError: There are none, there are some of several runs, or some are not done; with what to do.
    """
    counts = _shard_counts(out)
    if not counts:
        raise DataError(f"no shard of '{out}' is here: make them with the same command and --shard 0/N, 1/N ...")
    if len(counts) > 1:
        listed = " and in ".join(map(str, sorted(counts)))
        raise DataError(f"beside '{out}' are shards of runs in {listed}: remove those that you do not mean")
    first = Rank(0, counts.pop())
    missing = [rank for rank in first.all() if not RankFiles.beside(out, rank).done.is_file()]
    if missing:
        states = ("not finished" if RankFiles.beside(out, rank).partial.is_file() else "missing" for rank in missing)
        commands = "; ".join(
            f"--shard {rank.index}/{rank.count} --resume ({state})"
            for rank, state in zip(missing[:SHOWN], states, strict=False)
        )
        more = f"; and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        what = f"{len(missing)} of {first.count} shards of '{out}' are not done"
        raise DataError(f"{what}; run the same command with, in place of --join: {commands}{more}")
    return first
