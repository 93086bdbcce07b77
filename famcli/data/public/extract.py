"""Extracts tar archives below one folder and nowhere else; an interrupted extraction goes on where it was.

Only plain files are taken: tarfile's data filter refuses a member that would leave the folder, and links and devices
are refused here, as is an archive that unpacks to more bytes than a limit.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from famcli.data.sources import BoundedHeader
from famcli_models.errors import DataError, short, shown

LEDGER, TEMPORARY = ".fam-extracted", ".fam-extracting"
# What tarfile raises: the last two for numbers of sparse files and names that are none, and headers within headers.
DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, RecursionError)
Place = Callable[[str], "str | None"]


def extract(archive: Path, out: Path, place: Place, limit: int, step: Callable[[], object] = lambda: None) -> None:
    """Extract a tar (plain, gz, bz2 or xz, whatever its name says); a file that is there with its size is passed over.

    ``place`` turns the name of a member into the path below ``out`` to write it to, or ``None`` to leave it out;
    ``step`` is called after each file.
    """
    with _opened(archive) as tar:
        for member, name in _members(tar, archive, limit):
            relative = place(name)
            if relative is not None:
                _write(tar, member, out, relative)
                step()


def extract_nested(
    archive: Path, out: Path, place: Place, limit: int, step: Callable[[int], object] = lambda _: None
) -> None:
    """Extract a tar of tars, as ILSVRC's training images are, without writing the inner ones to disk.

    ``place`` gives the folder of an inner tar's files, whose number ``step`` is called with. A ledger notes each
    finished inner tar with that number; while as many files are there it is passed over unread.
    """
    ledger = out / f"{LEDGER}-{archive.name}.txt"
    finished = set(ledger.read_text(encoding="utf-8").splitlines()) if ledger.is_file() else set()
    with _opened(archive) as outer:
        for member, name in _members(outer, archive, limit):
            folder = place(name)
            if folder is None:
                continue
            if f"{name}\t{member.size}\t{_files_in(out / folder)}" not in finished:
                with tarfile.open(fileobj=_content(outer, member), mode="r:", tarinfo=BoundedHeader) as inner:
                    for image, image_name in _members(inner, archive, limit):
                        _write(inner, image, out, f"{folder}/{image_name}")
                ledger.parent.mkdir(parents=True, exist_ok=True)
                with ledger.open("a", encoding="utf-8") as lines:
                    lines.write(f"{name}\t{member.size}\t{_files_in(out / folder)}\n")
            step(_files_in(out / folder))


def read_members(archive: Path, wanted: Callable[[str], bool], limit: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted members of a tar, without writing anything."""
    with _opened(archive) as tar:
        for member, name in _members(tar, archive, limit):
            if wanted(name):
                yield name, _content(tar, member).read()


def _members(tar: tarfile.TarFile, archive: Path, limit: int) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """The files of a tar with their names, without a leading ``./``."""
    total = 0
    for member in tar:
        if member.isdir():
            continue
        total += max(member.size, tarfile.BLOCKSIZE)  # so that empty files are limited too
        if total > limit:
            much = f"more than {limit / 1e9:.1f} GB, which no such dataset does"
            raise DataError(f"'{archive}' is refused: it unpacks to {much}")
        if not member.isreg():
            raise DataError(f"'{archive}' is refused: its member {shown(member.name)} is a link or a device")
        yield member, member.name.removeprefix("./")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", tar.extractfile(member))  # only folders and links have none


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, out: Path, relative: str) -> None:
    """Write a member whole, or not at all; leaner than ``write_atomic``, because ILSVRC has 1.3 million."""
    target = out / tarfile.data_filter(member.replace(name=relative, deep=False), str(out)).name
    if target.is_file() and target.stat().st_size == member.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / TEMPORARY
    temporary.unlink(missing_ok=True)  # left by a run that was killed
    try:
        with temporary.open("xb") as file:
            shutil.copyfileobj(_content(tar, member), file, 1 << 20)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _files_in(folder: Path) -> int:
    return sum(not name.startswith(".") for name in os.listdir(folder)) if folder.is_dir() else 0


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """An opened tar; whatever is wrong with it, or with the disk, becomes a sentence."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError("this Python cannot extract archives safely: update it to 3.10.12, 3.11.4, 3.12 or newer")
    try:
        with tarfile.open(archive, tarinfo=BoundedHeader) as tar:
            yield tar
    except tarfile.FilterError as error:
        raise DataError(f"'{archive}' is refused: its member {error}") from error
    except DAMAGED as error:
        kept = "get it again; what was extracted is kept"
        raise DataError(f"'{archive}' is damaged or cut off ({short(str(error), 400)}): {kept}") from error
    except OSError as error:
        msg = f"cannot extract '{archive}': {error.strerror or error}; the same command goes on once that is put right"
        raise DataError(msg) from error
